/** What a node answered, as a value or as an error. */

import type { FailedRun } from '../types/client.d.ts';
import { errorOf, FunctionAnswerError, type PosternClientError } from './errors.ts';

/** Where somebody else than a node seems to answer: enough to tell who. */
const MAX_TOLD_CHARS = 200;

/** The body by its type: JSON as its value, text as a string, else bytes; null for an empty one. */
export async function bodyOf(response: Response): Promise<unknown> {
  const type = response.headers.get('content-type')?.split(';', 1)[0]?.trim().toLowerCase() ?? '';
  const bytes = new Uint8Array(await response.arrayBuffer());
  if (bytes.length === 0) return null;
  const isJson = type === 'application/json' || type.endsWith('+json');
  if (!isJson && !type.startsWith('text/')) return bytes;
  const text = new TextDecoder().decode(bytes);
  return isJson ? jsonOrText(text) : text;
}

/** Of an answer with an error status. `from` is the function, where it may be its own. */
export function failureOf(response: Response, body: unknown, url: string, from?: string): PosternClientError {
  const { status } = response;
  const retryAfterMs = retryAfterOf(response);
  const known = nodeError(body);
  if (known !== undefined) return errorOf(known.message, { ...known, status, retryAfterMs });
  const requestId = response.headers.get('x-request-id') ?? undefined;
  if (from !== undefined) {
    return new FunctionAnswerError(`${from} answered ${status}`, {
      code: 'FUNCTION_ANSWERED_ERROR',
      status,
      requestId,
      retryAfterMs,
      body,
    });
  }
  const told = typeof body === 'string' ? body : (JSON.stringify(body) ?? '');
  return errorOf(`${url} answered ${status}: ${told.slice(0, MAX_TOLD_CHARS)}`, {
    code: 'UNEXPECTED_ANSWER',
    status,
    requestId,
  });
}

interface NodeError {
  readonly code: string;
  readonly message: string;
  readonly requestId: string;
  readonly details: Readonly<Record<string, unknown>> | undefined;
  readonly run: FailedRun | undefined;
}

/** The body of docs/errors.md; undefined for any other. */
function nodeError(body: unknown): NodeError | undefined {
  if (typeof body !== 'object' || body === null) return undefined;
  const { error: _, message, code, request_id: requestId, details, ...rest } = body as Record<string, unknown>;
  if (typeof message !== 'string' || typeof code !== 'string' || typeof requestId !== 'string') return undefined;
  return {
    code,
    message,
    requestId,
    details: typeof details === 'object' && details !== null ? (details as Record<string, unknown>) : undefined,
    run: typeof rest.id === 'string' && typeof rest.stdout === 'string' ? (rest as unknown as FailedRun) : undefined,
  };
}

/** Nodes say it in seconds. */
function retryAfterOf({ headers }: Response): number | undefined {
  const seconds = headers.get('retry-after');
  return seconds !== null && /^\d{1,6}$/.test(seconds) ? Number(seconds) * 1_000 : undefined;
}

function jsonOrText(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
