/** What a function gave back, checked, as what goes over the wire. */

import type { FunctionResponse } from '../../invoker/index.ts';
import { PosternError } from '../../runtime/index.ts';

export const MAX_RESPONSE_BYTES = 6 * 2 ** 20;
const MAX_HEADERS = 200;
const MAX_HEADER_BYTES = 32 * 1024;

const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
// Field values of RFC 9110: no control character but tab, so no line can be ended; above that Latin-1, as Node sends it.
const FIELD_VALUE = /^[\t\x20-\x7e\x80-\xff]*$/;

/**
 * They concern this connection, the message's framing, the id by which the operator finds the request, or whether the
 * function was reached: all ours.
 */
const NOT_THE_GUESTS: ReadonlySet<string> = new Set([
  'connection',
  'content-length',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'x-relay-error',
  'x-request-id',
]);

const BODILESS: ReadonlySet<number> = new Set([204, 205, 304]);

export interface WireResponse {
  readonly status: number;
  /** Lower-case names. */
  readonly headers: ReadonlyMap<string, string | readonly string[]>;
  /** Undefined where the status allows none. */
  readonly body: string | Uint8Array | undefined;
}

/** Throws INVALID_RESULT, naming what is wrong. */
export function toWire(response: FunctionResponse): WireResponse {
  const payload = response.kind === 'value' ? response.json : response.body;
  if (exceeds(payload, MAX_RESPONSE_BYTES)) throw invalid(`the response is larger than ${MAX_RESPONSE_BYTES} bytes`);
  if (response.kind === 'value') return { status: 200, headers: JSON_HEADERS, body: payload };
  const { status } = response;
  // 1xx would be read as the start of another response.
  if (!Number.isInteger(status) || status < 200 || status > 599) {
    throw invalid(`the status ${String(status)} is not one from 200 to 599`);
  }
  const headers = checkHeaders(response.headers);
  if (BODILESS.has(status)) return { status, headers, body: undefined };
  if (!headers.has('content-type')) headers.set('content-type', defaultType(payload));
  return { status, headers, body: payload };
}

const JSON_HEADERS: ReadonlyMap<string, string> = new Map([['content-type', 'application/json; charset=utf-8']]);

function defaultType(payload: string | Uint8Array): string {
  return typeof payload === 'string' ? 'text/plain; charset=utf-8' : 'application/octet-stream';
}

function checkHeaders(given: readonly (readonly [string, string])[]): Map<string, string | string[]> {
  if (given.length > MAX_HEADERS) throw invalid(`${given.length} headers are too many; at most ${MAX_HEADERS}`);
  const dropped = new Set(NOT_THE_GUESTS);
  for (const [name, value] of given) {
    if (name.toLowerCase() === 'connection')
      for (const option of value.split(',')) dropped.add(option.trim().toLowerCase());
  }
  const headers = new Map<string, string | string[]>();
  let bytes = 0;
  for (const [name, value] of given) {
    if (!TOKEN.test(name)) throw invalid(`the header name ${JSON.stringify(name.slice(0, 80))} is not allowed`);
    if (!FIELD_VALUE.test(value))
      throw invalid(`the value of the header '${name}' has a character that is not allowed`);
    bytes += name.length + value.length;
    const key = name.toLowerCase();
    if (!dropped.has(key)) add(headers, key, value.trim());
  }
  if (bytes > MAX_HEADER_BYTES) throw invalid(`the headers are larger than ${MAX_HEADER_BYTES} bytes`);
  return headers;
}

/** Cookies can't be joined by commas (RFC 9110 5.3), everything else can. */
function add(headers: Map<string, string | string[]>, name: string, value: string): void {
  const known = headers.get(name);
  if (name === 'set-cookie') headers.set(name, [...(known ?? []), value]);
  else headers.set(name, known === undefined ? value : `${known as string}, ${value}`);
}

function exceeds(payload: string | Uint8Array, max: number): boolean {
  if (typeof payload !== 'string') return payload.byteLength > max;
  // A UTF-16 unit is at most three bytes of UTF-8: most need no counting.
  return payload.length * 3 > max && Buffer.byteLength(payload) > max;
}

/** Throws INVALID_RESULT, as `toWire`. */
export function bareWire(response: FunctionResponse): WireResponse {
  return { status: 200, headers: JSON_HEADERS, body: bareResultJson(response) };
}

/**
 * What `/invoke/{id}` answers: the result itself as JSON. A response object is the result there, and is written as the
 * handler would have returned it.
 */
function bareResultJson(response: FunctionResponse): string {
  if (exceeds(response.kind === 'value' ? response.json : response.body, MAX_RESPONSE_BYTES)) {
    throw invalid(`the result is larger than ${MAX_RESPONSE_BYTES} bytes`);
  }
  if (response.kind === 'value') return response.json;
  const headers: Record<string, string | string[]> = Object.create(null);
  for (const [name, value] of response.headers) {
    const known = headers[name];
    headers[name] = known === undefined ? value : [known, value].flat();
  }
  const { status, body } = response;
  return typeof body === 'string'
    ? JSON.stringify({ statusCode: status, headers, body })
    : JSON.stringify({
        statusCode: status,
        headers,
        body: Buffer.from(body).toString('base64'),
        isBase64Encoded: true,
      });
}

function invalid(message: string): PosternError {
  return new PosternError('INVALID_RESULT', message);
}
