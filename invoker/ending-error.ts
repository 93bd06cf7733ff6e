/** What is said of an invocation that did not end well. */

import { type ErrorRecord, HostCallError } from '../runtime/index.ts';
import type { FunctionVersion } from './catalog.ts';
import type { Outcome } from './invocation.ts';
import type { Ending } from './outcome.ts';

/** For delivery, which is at least once. Callers are told it only of what has not run: see `details.hasRun`. */
const RETRY_SOON = { retryAfterMs: 1_000 } as const;

const CODES = {
  ok: 'INTERNAL_ERROR',
  exception: 'FUNCTION_ERROR',
  panic: 'FUNCTION_PANIC',
  exceeded_time: 'FUNCTION_TIMEOUT',
  exceeded_memory: 'FUNCTION_OUT_OF_MEMORY',
  exceeded_cpu: 'FUNCTION_CPU_LIMIT',
  invalid_result: 'INVALID_RESULT',
  canceled: 'CANCELED',
  overloaded: 'OVERLOADED',
  not_found: 'FUNCTION_NOT_FOUND',
  executor_lost: 'EXECUTOR_LOST',
  internal_error: 'INTERNAL_ERROR',
} as const satisfies Record<Outcome, ErrorRecord['code']>;

export function toError(ending: Ending, version: FunctionVersion, hasRun: boolean): ErrorRecord {
  const code = ending.code ?? CODES[ending.outcome];
  const { name, config } = version;
  const message = ((): string => {
    switch (ending.outcome) {
      case 'exceeded_time':
        return `function "${name}" ran longer than its timeout of ${config.timeoutMs} ms`;
      case 'exceeded_memory':
        return `function "${name}" needs more than its memory limit of ${config.memoryBytes / 1024 / 1024} MB`;
      case 'exceeded_cpu':
        return `function "${name}" used more than its CPU limit of ${config.cpu} instructions`;
      case 'panic':
        return `function "${name}" was stopped by the engine: ${ending.message || 'a trap'}`;
      case 'invalid_result':
        return `the result of function "${name}" is not valid: ${ending.message || 'it can not be represented'}`;
      case 'overloaded':
        return ending.message || 'the node has no room for this invocation';
      case 'executor_lost':
        return `the executor of function "${name}" ended: ${ending.message}`;
      case 'canceled':
        return `the caller of function "${name}" went away`;
      default:
        return ending.message ?? '';
    }
  })();
  return {
    code,
    message: version.redact(message),
    ...(ending.name === undefined ? {} : { name: ending.name }),
    ...(ending.stack === undefined ? {} : { stack: version.redact(ending.stack) }),
    ...(ending.details === undefined ? {} : { details: ending.details }),
    ...(code === 'OVERLOADED' ? { details: { ...RETRY_SOON, ...(hasRun ? { hasRun } : {}) } } : {}),
  };
}

/** Whether the commit has happened may be unknown; if it has, the event is gone, and no attempt to retry it finds it. */
export function commitError(error: unknown): ErrorRecord {
  if (!(error instanceof HostCallError)) {
    return { code: 'INTERNAL_ERROR', message: 'the effects of the function could not be committed' };
  }
  const message = `the effects of the function could not be committed: ${error.message}`;
  return { code: 'FUNCTION_ERROR', name: error.name, message };
}
