import { limitError } from '../limit-error.ts';
import { invalidRequest } from './http-errors.ts';

/** What the guest's face sends, checked: `{url, method, headers: [name, value][], bodyBase64, redirect}`. */

/** Name in lower case, value. */
export type RequestHeader = readonly [name: string, value: string];

export interface GuestRequest {
  readonly url: URL;
  readonly method: string;
  readonly headers: readonly RequestHeader[];
  readonly body: Buffer | null;
  readonly redirect: 'follow' | 'manual' | 'error';
}

export interface RequestLimits {
  readonly maxRequestBytes: number;
  readonly maxHeaders: number;
  readonly maxHeaderBytes: number;
}

const MAX_URL_LENGTH = 16 * 1024;
/** What DNS can ask for; longer ones are not even asked. */
const MAX_HOST_LENGTH = 253;
const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
/** Horizontal tab, visible ASCII, space and Latin-1: what goes into a header as bytes. No CR, LF, NUL, DEL. */
export const HEADER_VALUE = /^[\t\x20-\x7e\x80-\xff]*$/;
const METHODS_REFUSED: ReadonlySet<string> = new Set(['CONNECT', 'TRACE', 'TRACK']);

/** What frames a message, speaks to proxies, or tells a server who is asking: the host's to say. */
const REFUSED_HEADERS: ReadonlySet<string> = new Set([
  'expect',
  'forwarded',
  'keep-alive',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'via',
  'http2-settings',
  'x-real-ip',
  'x-client-ip',
  'true-client-ip',
  'cf-connecting-ip',
]);
const REFUSED_PREFIXES = ['proxy-', 'x-forwarded-', 'x-postern-', ':'];

export function parseGuestRequest(payload: Record<string, unknown>, limits: RequestLimits): GuestRequest {
  const { url, method, headers, bodyBase64, redirect } = payload;
  const body = decodeBody(bodyBase64, limits);
  const parsedUrl = parseGuestUrl(url);
  return {
    url: parsedUrl,
    method: checkMethod(method, body),
    headers: checkHeaders(headers, parsedUrl, body, limits),
    body,
    redirect: redirect === 'manual' || redirect === 'error' ? redirect : 'follow',
  };
}

/** base: the URL that redirected here. */
export function parseGuestUrl(text: unknown, base?: URL): URL {
  if (typeof text !== 'string') throw invalidRequest('the URL is not text');
  if (text.length > MAX_URL_LENGTH)
    throw limitError('HTTP_URL_LIMIT', 'the URL is too long', { allowed: MAX_URL_LENGTH, used: text.length });
  if (!URL.canParse(text, base)) throw invalidRequest('the URL is not valid');
  const url = new URL(text, base);
  if (url.protocol !== 'https:' && url.protocol !== 'http:')
    throw invalidRequest(`the scheme ${url.protocol} is not available`);
  if (url.username !== '' || url.password !== '')
    throw invalidRequest('a URL with credentials is refused; send an Authorization header');
  if (url.hostname.length > MAX_HOST_LENGTH)
    throw invalidRequest(`the host has ${url.hostname.length} characters, and ${MAX_HOST_LENGTH} are allowed`);
  url.hash = '';
  return url;
}

function checkMethod(value: unknown, body: Buffer | null): string {
  const method = value === undefined ? 'GET' : value;
  if (typeof method !== 'string' || method.length > 32 || !TOKEN.test(method))
    throw invalidRequest('the method is not valid');
  const upper = method.toUpperCase();
  if (METHODS_REFUSED.has(upper)) throw invalidRequest(`the method ${upper} is refused`);
  if (body !== null && (upper === 'GET' || upper === 'HEAD')) throw invalidRequest(`a ${upper} request has no body`);
  return upper;
}

function decodeBody(value: unknown, limits: RequestLimits): Buffer | null {
  if (value === undefined || value === null) return null;
  if (typeof value !== 'string') throw invalidRequest('the body is not base64');
  const bytes = Math.floor((value.length * 3) / 4);
  if (bytes - 2 > limits.maxRequestBytes) {
    throw limitError('HTTP_REQUEST_LIMIT', `a request body may have ${limits.maxRequestBytes} bytes`, {
      allowed: limits.maxRequestBytes,
      used: bytes,
    });
  }
  if (value.length % 4 !== 0 || !/^[A-Za-z0-9+/]*={0,2}$/.test(value)) throw invalidRequest('the body is not base64');
  return Buffer.from(value, 'base64');
}

function checkHeaders(value: unknown, url: URL, body: Buffer | null, limits: RequestLimits): [string, string][] {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value)) throw invalidRequest('the headers are not a list');
  if (value.length > limits.maxHeaders) {
    throw limitError('HTTP_HEADERS_LIMIT', `a request may have ${limits.maxHeaders} headers`, {
      allowed: limits.maxHeaders,
      used: value.length,
    });
  }
  const headers: [string, string][] = [];
  let bytes = 0;
  for (const pair of value as unknown[]) {
    const [name, text] = checkHeader(pair);
    bytes += name.length + text.length + 4;
    if (bytes > limits.maxHeaderBytes) {
      throw limitError('HTTP_HEADERS_LIMIT', `the headers of a request may have ${limits.maxHeaderBytes} bytes`, {
        allowed: limits.maxHeaderBytes,
      });
    }
    if (!isRedundant(name, text, url, body)) headers.push([name, text]);
  }
  return headers;
}

function checkHeader(pair: unknown): [string, string] {
  if (!Array.isArray(pair) || pair.length !== 2) throw invalidRequest('a header is not a pair');
  const [given, text] = pair as unknown[];
  if (typeof given !== 'string' || !TOKEN.test(given)) throw invalidRequest('a header has an invalid name');
  const name = given.toLowerCase();
  if (REFUSED_HEADERS.has(name) || REFUSED_PREFIXES.some((prefix) => name.startsWith(prefix))) {
    throw invalidRequest(`the header ${name} is refused`);
  }
  if (typeof text !== 'string' || !HEADER_VALUE.test(text))
    throw invalidRequest(`the header ${name} has an invalid value`);
  return [name, text];
}

/** Clients set these out of habit; they are left out where they say what is so anyway, and refused where they lie. */
function isRedundant(name: string, text: string, url: URL, body: Buffer | null): boolean {
  switch (name) {
    case 'host':
      if (text.toLowerCase() === url.host) return true;
      throw invalidRequest('the header host differs from the URL');
    case 'content-length':
      if (text.trim() === String(body?.length ?? 0)) return true;
      throw invalidRequest('the header content-length differs from the body');
    case 'connection':
      if (/^(keep-alive|close)$/i.test(text.trim())) return true;
      throw invalidRequest('the header connection is refused');
    default:
      return false;
  }
}
