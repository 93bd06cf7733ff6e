export {
  type ApiKeyInfo,
  ApiKeyStore,
  DEFAULT_KEY_ROLE,
  DEFAULT_RATE_LIMIT,
  DEFAULT_RATE_WINDOW_SECONDS,
  type NewApiKey,
} from './api-key-store.ts';
export { type ApiKey, ApiKeys, ITSELF } from './api-keys.ts';
export { authenticateKey } from './authenticate.ts';
export { hasMoreValuesThan, parsedJson } from './body.ts';
export type { CorsPolicy } from './cors.ts';
export { DEPTH_HEADER } from './function-call.ts';
export { httpOnly } from './http-only.ts';
export {
  goneOf,
  type HttpCatalog,
  type HttpTriggerOptions,
  httpTrigger,
  MAX_BODY_BYTES,
} from './http-trigger.ts';
export { IDEMPOTENCY_RETENTION, Idempotency } from './idempotency.ts';
export { RateLimiter } from './rate-limiter.ts';
export { rawBodyOf, takeRawBodies } from './raw-body.ts';
export { RemoteKeySet, type RemoteKeySetOptions } from './remote-key-set.ts';
export { MAX_RESPONSE_BYTES } from './response.ts';
export { TOKEN_ROLES, TokenVerifier, type TokenVerifierOptions } from './tokens.ts';
