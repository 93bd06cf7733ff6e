import { notAllowed } from './http-errors.ts';
import { type GuestRequest, parseGuestUrl } from './http-request.ts';
import { hasSecretReference } from './secret-reference.ts';

const REDIRECTS: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);

/** What may go along to another origin: says nothing about who asks. Any other header may be a credential. */
const HARMLESS_HEADERS: ReadonlySet<string> = new Set([
  'accept',
  'accept-encoding',
  'accept-language',
  'user-agent',
  'range',
]);
/** Describe a body that a redirect to GET has dropped. */
const BODY_HEADERS: ReadonlySet<string> = new Set([
  'content-encoding',
  'content-language',
  'content-location',
  'content-type',
]);

export function isRedirect(status: number): boolean {
  return REDIRECTS.has(status);
}

/**
 * The request that a redirect asks for, as the fetch standard has it, but stricter across origins: only harmless headers
 * go along, and a body never does. The new URL is not yet checked against the allow-list.
 */
export function redirectedRequest(request: GuestRequest, status: number, location: string): GuestRequest {
  const url = parseGuestUrl(location, request.url);
  const toGet =
    ((status === 301 || status === 302) && request.method === 'POST') ||
    (status === 303 && request.method !== 'GET' && request.method !== 'HEAD');
  const sameOrigin = url.origin === request.url.origin;
  if (!sameOrigin && !toGet && request.body !== null) {
    throw notAllowed('a redirect would carry the request body to another origin; use redirect: "manual"');
  }
  const headers = request.headers.filter(
    ([name, value]) =>
      (sameOrigin || (HARMLESS_HEADERS.has(name) && !hasSecretReference(value))) && !(toGet && BODY_HEADERS.has(name)),
  );
  return { ...request, url, headers, ...(toGet ? { method: 'GET', body: null } : {}) };
}
