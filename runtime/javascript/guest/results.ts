/** From what a handler gave back to what goes through the door: JSON text, a response, or an error. */

import { describeThrown } from './describe.ts';
import { FINISH, finish } from './host.ts';
import { bytesToBase64 } from './web/base64.ts';
import { Response, takeResponse, type WireResponse } from './web/index.ts';

const { stringify } = JSON;
const { getPrototypeOf, prototype: ObjectPrototype } = Object;

type Fail = (thrown: unknown) => void;
type Kind = (kind: number) => number;

export function isResponse(value: unknown): value is Response {
  return value instanceof Response;
}

/** An object with a `statusCode` is a response, and the node says whether a valid one; anything else is the body, as JSON. */
export function finishValue(value: unknown, kind: Kind): void {
  if (value !== null && typeof value === 'object' && (value as StatusResult).statusCode !== undefined) {
    requirePlainHeaders((value as StatusResult).headers);
    finish(kind(FINISH.status), '', stringify(withTextBody(value as StatusResult)));
    return;
  }
  if (typeof value === 'function' || typeof value === 'symbol') {
    throw new TypeError(`a handler can't return a ${typeof value}`);
  }
  const json = value === undefined ? 'null' : stringify(value);
  finish(kind(FINISH.value), '', json ?? 'null');
}

interface StatusResult {
  readonly statusCode: unknown;
  readonly headers?: unknown;
  readonly body?: unknown;
}

/** `Headers`, a Map and their like are `{}` as JSON: a response would lose its headers without a word. */
function requirePlainHeaders(headers: unknown): void {
  if (typeof headers !== 'object' || headers === null) return;
  const prototype = getPrototypeOf(headers);
  if (prototype !== ObjectPrototype && prototype !== null) throw new TypeError('headers must be a plain object');
}

function withTextBody(result: StatusResult): object {
  if (!(result.body instanceof Uint8Array)) return result;
  return { ...result, body: bytesToBase64(result.body), isBase64Encoded: true };
}

/** A Response; when its body is a stream the invocation ends once that is read to its end. */
export function finishResponse(response: Response, kind: Kind, fail: Fail): void {
  const taken = takeResponse(response);
  if (taken instanceof Promise) taken.then((wire) => finishWire(wire, kind), fail);
  else finishWire(taken, kind);
}

function finishWire({ status, headers, body }: WireResponse, kind: Kind): void {
  const meta = body.base64 ? { status, headers, base64: true } : { status, headers };
  finish(kind(FINISH.http), stringify(meta), body.text);
}

export function finishInvalid(kind: number, error: unknown): void {
  finish(kind, stringify({ message: describeThrown(error).message }), '');
}

export function finishException(kind: number, thrown: unknown): void {
  finish(kind, stringify({ ...describeThrown(thrown), ...readExtras(thrown) }), '');
}

/** What the author's error says beyond its text. A getter that throws says nothing. */
function readExtras(thrown: unknown): { code?: string; retry?: false; retryAfterMs?: number } {
  try {
    const { code, retry, retryAfterMs } = (thrown ?? {}) as { code?: unknown; retry?: unknown; retryAfterMs?: unknown };
    return {
      ...(typeof code === 'string' ? { code } : {}),
      ...(retry === false ? { retry } : {}),
      ...(typeof retryAfterMs === 'number' ? { retryAfterMs } : {}),
    };
  } catch {
    return {};
  }
}
