export type { CorsPolicy } from './cors.ts';
export {
  DEPTH_HEADER,
  type HttpCatalog,
  type HttpTriggerOptions,
  httpTrigger,
  MAX_BODY_BYTES,
} from './http-trigger.ts';
export { RemoteKeySet, type RemoteKeySetOptions } from './remote-key-set.ts';
export { MAX_RESPONSE_BYTES } from './response.ts';
export { ANONYMOUS, TOKEN_ROLES, TokenVerifier, type TokenVerifierOptions } from './tokens.ts';
