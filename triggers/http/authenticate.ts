/** Who a request acts for, by the function's `auth`. */

import type { IncomingHttpHeaders } from 'node:http';
import type { AuthMode } from '../../invoker/index.ts';
import type { Identity } from '../../runtime/index.ts';
import { ANONYMOUS, type TokenVerifier, unauthorized } from './tokens.ts';

const BEARER = /^Bearer +([^\s]+) *$/i;

/**
 * `required`: a valid token, or UNAUTHORIZED. `optional`: anonymous without a token, but a bad token is refused, because
 * its sender believes to be somebody. `none`: nothing is looked at, and the function may use `Authorization` as it likes.
 */
export function authenticate(
  mode: AuthMode,
  headers: IncomingHttpHeaders,
  verifier: TokenVerifier,
): Identity | Promise<Identity> {
  if (mode === 'none') return ANONYMOUS;
  const token = tokenOf(headers);
  if (token !== undefined) return verifier.verify(token);
  if (mode === 'optional') return ANONYMOUS;
  throw unauthorized('this function needs a token: send the header "Authorization: Bearer <JWT>"');
}

/** `Authorization: Bearer`, else `apikey` as Supabase's clients send it. */
function tokenOf(headers: IncomingHttpHeaders): string | undefined {
  const bearer = headers.authorization === undefined ? null : BEARER.exec(headers.authorization);
  if (bearer !== null) return bearer[1];
  const { apikey } = headers;
  return typeof apikey === 'string' && apikey !== '' ? apikey : undefined;
}
