/** What a tool says, for a model to read: JSON, and errors with what to do about them. */

import type { CallToolResult } from '@modelcontextprotocol/sdk/types.js';
import { PosternClientError } from '../client/index.ts';

/** By the codes of docs/errors.md and those of the client. */
const HINTS: Readonly<Record<string, string>> = {
  FUNCTION_ERROR: 'mend the code by its message and line, and try again',
  FUNCTION_TIMEOUT: 'it ran over its wall clock: let it do less, or ask for a longer timeout',
  FUNCTION_CPU_LIMIT: 'it computed for too long: let it do less',
  FUNCTION_OUT_OF_MEMORY: 'let it hold less at once, or ask for more memory',
  FUNCTION_PANIC: 'recursion that goes too deep is the usual reason',
  INVALID_RESULT: 'return what JSON can say, at most 6 MB of it',
  INVALID_FUNCTION: 'the code or the configuration is refused: mend what the message names',
  POLICY_REFUSED: 'ask for no more than what is allowed; the operator can change the policy',
  RATE_LIMITED: 'wait, then try again',
  OVERLOADED: 'the node has no room: wait, then try again; where it printed something, it has run in part',
  EXECUTOR_LOST: 'it may have run in part; try again if that does no harm',
  FUNCTION_NOT_FOUND: 'list_functions has the names, if it is offered',
  UNAUTHORIZED: 'the operator has to give this server another key',
  FORBIDDEN: 'the key is not for this; the operator can make one that is',
  UNREACHABLE: 'the Postern node is not there: tell the operator',
};

/** `structured` is for tools that say what they give. */
export function succeeded(value: unknown, structured?: Record<string, unknown>): CallToolResult {
  const text = typeof value === 'string' ? value : JSON.stringify(value);
  const content = [{ type: 'text' as const, text }];
  return structured === undefined ? { content } : { content, structuredContent: structured };
}

/** Of what the client rejected with; anything else is a defect, and thrown on. */
export function failed(error: unknown): CallToolResult {
  if (!(error instanceof PosternClientError)) throw error;
  const { code, message, run, details, requestId, retryAfterMs } = error;
  const told = {
    code,
    message,
    hint: HINTS[code],
    retry_after_ms: retryAfterMs,
    line: run?.line,
    column: run?.column,
    stdout: run?.stdout,
    stderr: run?.stderr,
    details,
    request_id: requestId,
  };
  return { isError: true, content: [{ type: 'text', text: JSON.stringify(told) }] };
}
