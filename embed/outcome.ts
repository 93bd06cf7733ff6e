/** From the record of an invocation to what its caller gets: a result, or an error of the class that says what happened. */

import type { FunctionResponse, InvocationRecord } from '../invoker/index.ts';
import { type ErrorRecord, type LogLine, PosternError } from '../runtime/index.ts';
import type { InvokeResult, RuntimeLogLine } from '../types/runtime.d.ts';
import {
  FunctionCpuError,
  FunctionError,
  FunctionMemoryError,
  FunctionPanicError,
  FunctionTimeoutError,
  InvalidResultError,
  InvokeError,
  type InvokeErrorOptions,
} from './errors.ts';

const CLASSES: Partial<Record<ErrorRecord['code'], typeof InvokeError>> = {
  FUNCTION_TIMEOUT: FunctionTimeoutError,
  FUNCTION_OUT_OF_MEMORY: FunctionMemoryError,
  FUNCTION_CPU_LIMIT: FunctionCpuError,
  FUNCTION_PANIC: FunctionPanicError,
  INVALID_RESULT: InvalidResultError,
};

/** Throws an InvokeError. */
export function resultOf({ result, logs: lines }: InvocationRecord): InvokeResult {
  const { response, usage, invocationId, error } = result;
  const logs = lines.map(toLogLine);
  if (response === undefined) {
    throw toInvokeError(error ?? { code: 'INTERNAL_ERROR', message: 'there is no result' }, { logs, usage });
  }
  return { value: valueIn(response), logs, usage, invocationId };
}

/** Of what never started. */
export function refusalOf(error: unknown): InvokeError {
  if (error instanceof InvokeError) return error;
  return toInvokeError(PosternError.from(error).toRecord(), { cause: error });
}

function toInvokeError({ code, message, name, stack }: ErrorRecord, options: InvokeErrorOptions): InvokeError {
  if (code === 'FUNCTION_ERROR') {
    return new FunctionError(message, { ...options, guestName: name ?? 'Error', guestStack: stack });
  }
  return new (CLASSES[code] ?? InvokeError)(code, message, options);
}

function valueIn(response: FunctionResponse): unknown {
  if (response.kind === 'value') return JSON.parse(response.json);
  const { status, headers, body } = response;
  return { statusCode: status, headers: Object.fromEntries(headers), body };
}

function toLogLine({ level, message, fields, timeMs }: LogLine): RuntimeLogLine {
  return {
    level,
    message,
    timestamp: new Date(timeMs).toISOString(),
    ...(fields === undefined ? {} : { fields: JSON.parse(fields) as Record<string, unknown> }),
  };
}
