/** Reads how an executor says that an invocation ended. Its text came from a guest: every field is checked. */

import type { FunctionResponse, Outcome } from './invocation.ts';
import { ENDED } from './protocol/messages.ts';

export interface Answer {
  readonly kind: 'value' | 'http';
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
}

export function readEnding(kind: number, meta: string, body: Buffer): Ending {
  switch (kind) {
    case ENDED.value:
      return { outcome: 'ok', answer: { kind: 'value', meta, body } };
    case ENDED.http:
      return { outcome: 'ok', answer: { kind: 'http', meta, body } };
    case ENDED.afterAnswer:
      return { outcome: 'ok' };
    case ENDED.exception:
      return readException(meta);
    case ENDED.invalid:
      return { outcome: 'invalid_result', message: String(parseObject(meta).message ?? '') };
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
    default:
      return { outcome: 'internal_error', message: 'an executor reported an unknown ending' };
  }
}

function readException(meta: string): Ending {
  const said = parseObject(meta);
  const details: Record<string, unknown> = {};
  if (typeof said.code === 'string') details.guestCode = said.code;
  if (said.retry === false) details.noRetry = true;
  if (typeof said.retryAfterMs === 'number' && said.retryAfterMs >= 0) details.retryAfterMs = said.retryAfterMs;
  return {
    outcome: 'exception',
    message: typeof said.message === 'string' ? said.message : 'the function threw',
    name: typeof said.name === 'string' ? said.name : 'Error',
    ...(typeof said.stack === 'string' && said.stack !== '' ? { stack: said.stack } : {}),
    ...(Object.keys(details).length === 0 ? {} : { details }),
  };
}

/** undefined where the guest's description of a response makes no sense. */
export function readResponse(answer: Answer): FunctionResponse | undefined {
  if (answer.kind === 'value') return { kind: 'value', json: answer.body.toString() };
  const { status, headers, base64 } = parseObject(answer.meta);
  if (typeof status !== 'number' || !Array.isArray(headers) || !headers.every(isHeader)) return undefined;
  const body = base64 === true ? Buffer.from(answer.body.toString('latin1'), 'base64') : answer.body.toString();
  return { kind: 'http', status, headers, body };
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
