/** The one place where an error becomes an HTTP answer (SPEC 4). */

import { STATUS_CODES } from 'node:http';
import { ERROR_CODES, type ErrorCode, PosternError } from '../runtime/index.ts';

export const HTTP_STATUS = {
  FUNCTION_TIMEOUT: 504,
  FUNCTION_OUT_OF_MEMORY: 507,
  FUNCTION_CPU_LIMIT: 504,
  FUNCTION_PANIC: 500,
  FUNCTION_ERROR: 500,
  INVALID_RESULT: 500,
  FUNCTION_NOT_FOUND: 404,
  UNAUTHORIZED: 401,
  FORBIDDEN: 403,
  POLICY_REFUSED: 403,
  INVALID_SIGNATURE: 401,
  INVALID_BODY: 400,
  CONFLICT: 409,
  PAYLOAD_TOO_LARGE: 413,
  INVALID_FUNCTION: 422,
  INVALID_REQUEST: 400,
  NOT_FOUND: 404,
  RATE_LIMITED: 429,
  IDEMPOTENCY_KEY_IN_USE: 409,
  IDEMPOTENCY_KEY_REUSED: 422,
  IDEMPOTENCY_KEY_SPENT: 409,
  OVERLOADED: 503,
  EXECUTOR_LOST: 503,
  // nginx's number for "the client closed the request": nobody reads it, but it stands in access logs.
  CANCELED: 499,
  DATABASE_UNAVAILABLE: 503,
  JWKS_UNAVAILABLE: 503,
  STORAGE_UNAVAILABLE: 503,
  // A matter of configuration: no other node and no later moment mends it, so no 503.
  SECRET_UNREADABLE: 500,
  SESSION_NOT_FOUND: 404,
  SESSION_BUSY: 409,
  SESSION_TOO_LARGE: 413,
  SESSION_OUTDATED: 410,
  SESSION_UNREADABLE: 500,
  INTERNAL_ERROR: 500,
} as const satisfies Record<ErrorCode, number>;

const TELLS_DETAILS: ReadonlySet<ErrorCode> = new Set(['INVALID_FUNCTION', 'POLICY_REFUSED']);
/** Somebody else is at it, and will be done. */
const RETRIED_SOON: ReadonlySet<ErrorCode> = new Set(['IDEMPOTENCY_KEY_IN_USE', 'SESSION_BUSY']);
const DEFAULT_RETRY_AFTER_MS = 1_000;
const MAX_MESSAGE_CHARS = 4_000;

export interface ErrorBody {
  /** Status line, e.g. `504 Gateway Timeout`. */
  readonly error: string;
  readonly message: string;
  readonly code: ErrorCode;
  readonly request_id: string;
  /** For INVALID_FUNCTION: file, line, column, text, problems. For POLICY_REFUSED: rule, given, allowed. */
  readonly details?: Readonly<Record<string, unknown>>;
}

export interface ErrorAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: ErrorBody;
}

/** What the caller is told. Whatever is the host's fault is told by its code alone. */
export function errorAnswer(thrown: unknown, requestId: string): ErrorAnswer {
  const error = toPosternError(thrown);
  const { code } = error;
  const status = HTTP_STATUS[code];
  const headers: Record<string, string> = {};
  // RFC 9110 wants a challenge with every 401. A token would not help where a signature is wrong.
  if (status === 401) headers['www-authenticate'] = code === 'INVALID_SIGNATURE' ? 'Signature' : 'Bearer';
  if (!mayHaveRun(error)) {
    // supabase-js tells by it that the function was not reached (FunctionsRelayError) from what a function answered.
    if (status === 503) headers['x-relay-error'] = 'true';
    if (status === 429 || status === 503 || RETRIED_SOON.has(code)) headers['retry-after'] = retryAfterSeconds(error);
  }
  const body: ErrorBody = {
    error: `${status} ${STATUS_CODES[status] ?? 'Client Closed Request'}`,
    message: messageOf(error),
    code,
    request_id: requestId,
  };
  if (error.details === undefined) return { status, headers, body };
  const { run, hasRun: _, ...details } = error.details;
  const told = TELLS_DETAILS.has(code) ? { details } : {};
  return { status, headers, body: { ...body, ...told, ...(run as object | undefined) } };
}

/** What was thrown by us, by Fastify, by the database driver or by a defect, as one of ours. */
export function toPosternError(thrown: unknown): PosternError {
  if (thrown instanceof PosternError) return thrown;
  const { code, statusCode } = (thrown ?? {}) as { code?: unknown; statusCode?: unknown };
  if (typeof code === 'string' && code.startsWith('FST_')) return fromFastify(code, statusCode, thrown);
  if (isDatabaseUnreachable(thrown)) {
    return new PosternError('DATABASE_UNAVAILABLE', 'the database can not be reached', { cause: thrown });
  }
  return PosternError.from(thrown);
}

function messageOf(error: PosternError): string {
  const { text: known } = ERROR_CODES[error.code];
  const told = error.details?.hasRun === true ? `the run has begun, and what it did is done: ${known}` : known;
  const text = error.fault === 'host' ? told : error.message;
  return text.length > MAX_MESSAGE_CHARS ? `${text.slice(0, MAX_MESSAGE_CHARS)}…` : text;
}

/** Who is told to try again would do for a second time what was done already. */
function mayHaveRun({ code, details }: PosternError): boolean {
  return code === 'EXECUTOR_LOST' || details?.hasRun === true;
}

function retryAfterSeconds(error: PosternError): string {
  const ms = error.details?.retryAfterMs;
  return String(Math.max(1, Math.ceil((typeof ms === 'number' ? ms : DEFAULT_RETRY_AFTER_MS) / 1_000)));
}

function fromFastify(code: string, statusCode: unknown, cause: unknown): PosternError {
  switch (code) {
    case 'FST_ERR_CTP_BODY_TOO_LARGE':
      return new PosternError('PAYLOAD_TOO_LARGE', 'the body is too large', { cause });
    case 'FST_ERR_CTP_INVALID_CONTENT_LENGTH':
      return new PosternError('INVALID_BODY', 'the body is not as long as Content-Length says', { cause });
    case 'FST_ERR_CTP_INVALID_MEDIA_TYPE':
      return new PosternError('INVALID_BODY', 'the Content-Type is none that is taken here: send application/json', {
        cause,
      });
    case 'FST_ERR_BAD_URL':
      return new PosternError('INVALID_REQUEST', 'the path is not valid', { cause });
    default:
      return typeof statusCode === 'number' && statusCode < 500
        ? new PosternError('INVALID_REQUEST', 'the request is not valid', { cause })
        : PosternError.from(cause);
  }
}

const UNREACHABLE_CODES = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'ETIMEDOUT',
  'EPIPE',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
]);
// Classes of SQLSTATE: connection exceptions, out of resources (too many connections), shut down by an administrator.
const UNREACHABLE_STATE = /^(?:08|53|57P)/;
// node-postgres gives these no code.
const UNREACHABLE_TEXT =
  /^(?:Connection terminated|timeout exceeded when trying to connect|Query read timeout|Client has encountered a connection error)/;

function isDatabaseUnreachable(thrown: unknown): boolean {
  if (!(thrown instanceof Error)) return false;
  const { code, severity } = thrown as { code?: unknown; severity?: unknown };
  // A statement with a wrong number of parameters; as FATAL it is a pooler's word for "no connection".
  if (code === '08P01') return severity === 'FATAL';
  if (typeof code === 'string')
    return UNREACHABLE_CODES.has(code) || (code.length === 5 && UNREACHABLE_STATE.test(code));
  return UNREACHABLE_TEXT.test(thrown.message);
}
