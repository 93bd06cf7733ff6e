/**
 * Which pages of other origins may call functions and read the answer. Never with credentials: Postern reads no cookie.
 *
 * `auto`, the default: every origin for functions with `auth: required`, since a page that has no token gets nothing
 * from them and one that has could send it from anywhere; none for the others, which a visitor's browser could reach
 * inside a private network. A list of origins (or `['*']`) is for every function; an empty list turns it off.
 *
 * A function's own CORS headers win, and where no origin is allowed here it answers its preflights itself.
 */

import type { IncomingHttpHeaders } from 'node:http';
import type { AuthMode } from '../../invoker/index.ts';

export type CorsPolicy = 'auto' | readonly string[];

const MAX_AGE_SECONDS = '600';
const HEADER_LIST = /^[!#$%&'*+\-.^_`|~0-9A-Za-z, ]{0,1000}$/;

/** Whether answers differ by the `Origin` of the request: then each says so, that of a request without one too. */
export function variesByOrigin(policy: CorsPolicy): boolean {
  return policy !== 'auto' && policy.length > 0 && !policy.includes('*');
}

/** Headers for the answer, or null where the request is of this origin or its origin is not allowed. */
export function corsHeaders(
  policy: CorsPolicy,
  mode: AuthMode,
  headers: IncomingHttpHeaders,
): Record<string, string> | null {
  const { origin } = headers;
  if (origin === undefined) return null;
  const allowed = policy === 'auto' ? (mode === 'required' ? '*' : null) : allowedBy(policy, origin);
  if (allowed === null) return null;
  return {
    'access-control-allow-origin': allowed,
    'access-control-expose-headers':
      'x-request-id, retry-after, x-relay-error, ratelimit-limit, ratelimit-remaining, ratelimit-reset, idempotent-replayed',
  };
}

export function isPreflight(method: string, headers: IncomingHttpHeaders): boolean {
  return method === 'OPTIONS' && headers.origin !== undefined && headers['access-control-request-method'] !== undefined;
}

/** What a preflight is told besides `corsHeaders`: any method, and the headers that it asked for. */
export function preflightHeaders(headers: IncomingHttpHeaders, methods: string): Record<string, string> {
  const asked = headers['access-control-request-headers'];
  return {
    'access-control-allow-methods': methods,
    'access-control-max-age': MAX_AGE_SECONDS,
    ...(typeof asked === 'string' && HEADER_LIST.test(asked) ? { 'access-control-allow-headers': asked } : {}),
  };
}

function allowedBy(origins: readonly string[], origin: string): string | null {
  if (origins.includes('*')) return '*';
  return origins.includes(origin) ? origin : null;
}
