/** Who a request acts for, by the function's `auth`. */

import type { IncomingHttpHeaders } from 'node:http';
import type { AuthMode } from '../../invoker/index.ts';
import { ANONYMOUS, type Identity } from '../../runtime/index.ts';
import { API_KEY_PREFIX } from './api-key-store.ts';
import { type ApiKey, ApiKeys, ITSELF, OWN_CODE } from './api-keys.ts';
import { type TokenVerifier, unauthorized } from './tokens.ts';

/** What credentials are checked against. */
export interface Credentials {
  readonly tokens: TokenVerifier;
  readonly keys: Pick<ApiKeys, 'admit' | 'confirm'>;
}

export interface Caller {
  readonly identity: Identity;
  /** Null for a token and for nobody. */
  readonly apiKey: ApiKey | null;
}

const NOBODY: Caller = Object.freeze({ identity: ANONYMOUS, apiKey: null });

const BEARER = /^Bearer +([^\s]+) *$/i;

/**
 * `required`: a valid token or API key, or UNAUTHORIZED. `optional`: anonymous without one, but a bad one is refused, because
 * its sender believes to be somebody. `none`: nothing is looked at, and the function may use `Authorization` as it likes.
 * A call with an API key counts against its rate; `announce` gets what the answer says of that, whatever the answer is.
 */
export function authenticate(
  mode: AuthMode,
  functionName: string,
  headers: IncomingHttpHeaders,
  { tokens, keys }: Credentials,
  announce: (headers: Readonly<Record<string, string>>) => void,
): Caller | Promise<Caller> {
  if (mode === 'none') return NOBODY;
  const token = tokenOf(headers);
  if (token === undefined) {
    if (mode === 'optional') return NOBODY;
    throw unauthorized('this function needs a token: send the header "Authorization: Bearer <JWT or API key>"');
  }
  if (ApiKeys.looksLikeKey(token)) {
    const key = keys.admit(token, functionName, announce);
    return key instanceof Promise ? key.then(byKey) : byKey(key);
  }
  const identity = tokens.verify(token);
  return identity instanceof Promise ? identity.then(byToken) : byToken(identity);
}

function byToken(identity: Identity): Caller {
  return { identity, apiKey: null };
}

function byKey(apiKey: ApiKey): Caller {
  return { identity: apiKey.identity, apiKey };
}

const NEEDS = { [OWN_CODE]: 'running code needs an API key with a policy', [ITSELF]: 'this needs an API key' } as const;

/** As `authenticate`, where nothing but an API key will do: for who brings code, or asks what the key is good for. */
export function authenticateKey(
  target: keyof typeof NEEDS,
  headers: IncomingHttpHeaders,
  keys: Pick<ApiKeys, 'admit'>,
  announce: (headers: Readonly<Record<string, string>>) => void,
): ApiKey | Promise<ApiKey> {
  const token = tokenOf(headers);
  if (token === undefined) throw unauthorized(`${NEEDS[target]}: send the header "Authorization: Bearer <API key>"`);
  if (!ApiKeys.looksLikeKey(token))
    throw unauthorized(`${NEEDS[target]}, which begins with "${API_KEY_PREFIX}": the token that was sent is none`);
  return keys.admit(token, target, announce);
}

/** `Authorization: Bearer`, else `apikey` as Supabase's clients send it. */
function tokenOf(headers: IncomingHttpHeaders): string | undefined {
  const { authorization } = headers;
  const bearer = authorization === undefined ? null : BEARER.exec(authorization);
  if (bearer !== null) return bearer[1];
  // Its sender believes to be somebody, also where nobody has to be.
  if (authorization !== undefined && /^Bearer\b/i.test(authorization)) {
    throw unauthorized('the header Authorization is not "Bearer <JWT or API key>"');
  }
  const { apikey } = headers;
  return typeof apikey === 'string' && apikey !== '' ? apikey : undefined;
}
