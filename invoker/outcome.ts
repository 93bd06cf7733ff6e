/** Reads how an executor says that an invocation ended. Its text came from a guest: every field is checked. */

import { type ErrorRecord, MAX_META_BYTES } from '../runtime/index.ts';
import type { FunctionResponse, Outcome } from './invocation.ts';
import { ENDED } from './protocol/messages.ts';
import { mayParse } from './status-result.ts';

export interface Answer {
  readonly kind: 'value' | 'http' | 'status';
  readonly meta: string;
  readonly body: Buffer;
}

export interface Ending {
  readonly outcome: Outcome;
  /** Where `ok`, unless the answer went before. */
  readonly answer?: Answer;
  readonly message?: string;
  readonly name?: string;
  readonly stack?: string;
  readonly details?: Readonly<Record<string, unknown>>;
  /** Where it is not the outcome's own. */
  readonly code?: ErrorRecord['code'];
}

/** A guest that asks for longer has miscounted: an event that waits for years is lost to its owner without a word. */
const MAX_RETRY_AFTER_MS = 24 * 60 * 60 * 1_000;

export function readEnding(kind: number, meta: string, body: Buffer): Ending {
  if (meta.length > MAX_META_BYTES)
    return { outcome: 'internal_error', message: 'an executor said too much of an ending' };
  switch (kind) {
    case ENDED.value:
      return { outcome: 'ok', answer: { kind: 'value', meta, body } };
    case ENDED.http:
      return { outcome: 'ok', answer: { kind: 'http', meta, body } };
    case ENDED.status:
      return { outcome: 'ok', answer: { kind: 'status', meta, body } };
    case ENDED.afterAnswer:
      return { outcome: 'ok' };
    case ENDED.exception:
      return readException(meta);
    case ENDED.invalid:
      return { outcome: 'invalid_result', message: textOf(parseObject(meta).message) };
    case ENDED.time:
      return { outcome: 'exceeded_time' };
    case ENDED.cpu:
      return { outcome: 'exceeded_cpu' };
    case ENDED.memory:
      return { outcome: 'exceeded_memory' };
    case ENDED.panic:
      return { outcome: 'panic', message: meta };
    case ENDED.canceled:
      return { outcome: 'canceled' };
    case ENDED.overloaded:
      return { outcome: 'overloaded', message: meta };
    case ENDED.outdated:
      return { outcome: 'not_found', code: 'SESSION_OUTDATED', message: meta };
    case ENDED.unreadable:
      return { outcome: 'not_found', code: 'SESSION_UNREADABLE', message: meta };
    default:
      return { outcome: 'internal_error', message: 'an executor reported an unknown ending' };
  }
}

function readException(meta: string): Ending {
  const said = parseObject(meta);
  const details: Record<string, unknown> = {};
  if (typeof said.code === 'string') details.guestCode = said.code;
  if (said.retry === false) details.noRetry = true;
  const retryAfterMs = readRetryAfter(said.retryAfterMs);
  if (retryAfterMs !== undefined) details.retryAfterMs = retryAfterMs;
  return {
    outcome: 'exception',
    message: typeof said.message === 'string' ? said.message : 'the function threw',
    name: typeof said.name === 'string' ? said.name : 'Error',
    ...(typeof said.stack === 'string' && said.stack !== '' ? { stack: said.stack } : {}),
    ...(Object.keys(details).length === 0 ? {} : { details }),
  };
}

/** undefined for what is no time to wait: the event then keeps to its own backoff. */
function readRetryAfter(said: unknown): number | undefined {
  if (typeof said !== 'number' || !Number.isFinite(said) || said < 0) return undefined;
  return Math.min(said, MAX_RETRY_AFTER_MS);
}

/** A string says what makes no sense in the guest's description of a response. */
export function readResponse(answer: Answer): FunctionResponse | string {
  if (answer.kind === 'value') return { kind: 'value', json: answer.body.toString() };
  if (answer.kind === 'status') return readStatusResult(answer.body);
  const { status, headers, base64 } = parseObject(answer.meta);
  if (typeof status !== 'number' || !Array.isArray(headers) || !headers.every(isHeader)) return '';
  const body = base64 === true ? Buffer.from(answer.body.toString('latin1'), 'base64') : answer.body.toString();
  return { kind: 'http', status, headers, body };
}

/** `{statusCode, headers?, body?, isBase64Encoded?}`; a body that is no text goes out as JSON. */
function readStatusResult(json: Buffer): FunctionResponse | string {
  if (!mayParse(json)) return 'it is nested too deeply, or has too many headers';
  const { statusCode, headers, body, isBase64Encoded } = parseObject(json.toString());
  const status = readStatus(statusCode);
  if (status === undefined) return 'its statusCode is not a number from 200 to 599';
  const pairs = readHeaders(headers);
  if (typeof pairs === 'string') return pairs;
  if (body === undefined || body === null) return { kind: 'http', status, headers: pairs, body: '' };
  if (isBase64Encoded === true) {
    const bytes = typeof body === 'string' ? decodeBase64(body) : undefined;
    if (bytes === undefined) return 'its body is not base64, as isBase64Encoded says';
    return { kind: 'http', status, headers: pairs, body: bytes };
  }
  if (typeof body === 'string') return { kind: 'http', status, headers: pairs, body };
  const hasType = pairs.some(([name]) => name.toLowerCase() === 'content-type');
  if (!hasType) pairs.push(['content-type', 'application/json; charset=utf-8']);
  try {
    return { kind: 'http', status, headers: pairs, body: JSON.stringify(body) };
  } catch {
    // Nested deeper than the stack allows.
    return '';
  }
}

const STATUS_TEXT = /^[2-5]\d\d$/;

/** Also `'500'`: taken for a body, it would make a success of an error. */
function readStatus(given: unknown): number | undefined {
  if (typeof given === 'string') return STATUS_TEXT.test(given) ? Number(given) : undefined;
  return typeof given === 'number' && Number.isInteger(given) && given >= 200 && given <= 599 ? given : undefined;
}

function readHeaders(headers: unknown): [string, string][] | string {
  if (headers === undefined) return [];
  if (!isRecord(headers)) return 'its headers are not an object';
  const pairs: [string, string][] = [];
  for (const [name, value] of Object.entries(headers)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      // null too: as text it would be 'null'. String() of an object runs what the guest wrote, e.g. `{"toString":1}`.
      if (typeof one === 'object') return `the value of its header ${JSON.stringify(name.slice(0, 80))} is not text`;
      pairs.push([name, String(one)]);
    }
  }
  return pairs;
}

/** Either alphabet, with or without padding. Node drops what is neither, and so decodes less than the length says. */
function decodeBase64(text: string): Buffer | undefined {
  const digits = text.length - (text.endsWith('==') ? 2 : text.endsWith('=') ? 1 : 0);
  const bytes = Buffer.from(text, 'base64');
  return digits % 4 !== 1 && bytes.length === Math.floor((digits * 3) / 4) ? bytes : undefined;
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : '';
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isHeader(value: unknown): value is [string, string] {
  return Array.isArray(value) && value.length === 2 && typeof value[0] === 'string' && typeof value[1] === 'string';
}

function parseObject(json: string): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(json);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}
