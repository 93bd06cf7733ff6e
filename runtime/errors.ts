/**
 * Errors that cross folders, processes and rows. Inside a process `instanceof` tells them apart; elsewhere they travel
 * as an `ErrorRecord`. HTTP status codes appear only in `server/`.
 */

/** Whose doing it was. `guest` and `limit` are shown to the function's owner, `caller` to the caller, `host` to neither. */
export type Fault = 'guest' | 'limit' | 'caller' | 'host';

/** Every code, its fault, whether trying again may help, and what it says. `docs/errors.md` is checked against it. */
export const ERROR_CODES = {
  FUNCTION_TIMEOUT: { fault: 'limit', retryable: true, text: 'over the wall-clock timeout' },
  FUNCTION_OUT_OF_MEMORY: { fault: 'limit', retryable: true, text: 'over the memory limit' },
  FUNCTION_CPU_LIMIT: { fault: 'limit', retryable: true, text: 'over the CPU limit' },
  FUNCTION_PANIC: { fault: 'guest', retryable: true, text: 'WebAssembly trap, stack overflow or engine panic' },
  FUNCTION_ERROR: { fault: 'guest', retryable: true, text: 'uncaught error in the function' },
  INVALID_RESULT: { fault: 'guest', retryable: true, text: 'the result can not be represented or is too large' },
  FUNCTION_NOT_FOUND: { fault: 'caller', retryable: false, text: 'unknown function' },
  UNAUTHORIZED: { fault: 'caller', retryable: false, text: 'no, bad or expired token' },
  FORBIDDEN: { fault: 'caller', retryable: false, text: 'not allowed' },
  POLICY_REFUSED: { fault: 'caller', retryable: false, text: "against a rule of the API key's policy" },
  INVALID_SIGNATURE: { fault: 'caller', retryable: false, text: 'bad signature or timestamp on a webhook' },
  INVALID_BODY: { fault: 'caller', retryable: false, text: 'body is not JSON where JSON is said' },
  CONFLICT: {
    fault: 'caller',
    retryable: false,
    text: 'delivery is running or had another body; session lost by its run',
  },
  PAYLOAD_TOO_LARGE: { fault: 'caller', retryable: false, text: 'body is too large' },
  INVALID_FUNCTION: { fault: 'caller', retryable: false, text: 'manifest or code refused' },
  INVALID_REQUEST: { fault: 'caller', retryable: false, text: 'request to the control API refused' },
  NOT_FOUND: { fault: 'caller', retryable: false, text: 'no such route or thing' },
  RATE_LIMITED: { fault: 'caller', retryable: true, text: 'over a rate limit' },
  IDEMPOTENCY_KEY_IN_USE: {
    fault: 'caller',
    retryable: true,
    text: 'a request with this Idempotency-Key is still running',
  },
  IDEMPOTENCY_KEY_REUSED: {
    fault: 'caller',
    retryable: false,
    text: 'this Idempotency-Key was sent with another request',
  },
  IDEMPOTENCY_KEY_SPENT: {
    fault: 'caller',
    retryable: false,
    text: 'the function ran for this Idempotency-Key, its answer was too large to keep',
  },
  OVERLOADED: {
    fault: 'host',
    retryable: true,
    text: 'node at its limit, shutting down, or too old for what is deployed',
  },
  EXECUTOR_LOST: { fault: 'host', retryable: true, text: 'the executor process of the invocation ended' },
  CANCELED: { fault: 'caller', retryable: false, text: 'the caller went away' },
  DATABASE_UNAVAILABLE: { fault: 'host', retryable: true, text: "Postern's own database can not be reached" },
  JWKS_UNAVAILABLE: { fault: 'host', retryable: true, text: 'the issuer of tokens can not be asked for its keys' },
  STORAGE_UNAVAILABLE: { fault: 'host', retryable: true, text: 'large outputs can not be stored or read just now' },
  SECRET_UNREADABLE: {
    fault: 'host',
    retryable: true,
    text: 'a secret of the function opens with no master key of this node',
  },
  SESSION_NOT_FOUND: { fault: 'caller', retryable: false, text: 'no such session, or it has expired' },
  SESSION_BUSY: { fault: 'caller', retryable: true, text: 'another run of the session has not ended' },
  SESSION_TOO_LARGE: { fault: 'limit', retryable: false, text: 'what the session holds is over its limit' },
  SESSION_OUTDATED: { fault: 'caller', retryable: false, text: 'the session was made by another engine' },
  SESSION_UNREADABLE: { fault: 'host', retryable: false, text: 'what the session holds can not be read' },
  INTERNAL_ERROR: { fault: 'host', retryable: true, text: 'a defect in Postern' },
} as const satisfies Record<string, { fault: Fault; retryable: boolean; text: string }>;

export type ErrorCode = keyof typeof ERROR_CODES;

/** The plain form of an error: what goes over a pipe, into a row, into a log. */
export interface ErrorRecord {
  readonly code: ErrorCode;
  readonly message: string;
  /** The guest error's own name, e.g. `TypeError`. */
  readonly name?: string;
  /** The guest's stack with source positions; for the log, never for a caller. */
  readonly stack?: string;
  /**
   * Machine-readable facts: file, line, column, limit, allowed, used, retryAfterMs … `hasRun: true` where code has run before
   * an error that may come without that: its caller is not told to try again.
   */
  readonly details?: Readonly<Record<string, unknown>>;
}

export interface PosternErrorOptions {
  readonly cause?: unknown;
  readonly guestName?: string;
  readonly guestStack?: string;
  readonly details?: Readonly<Record<string, unknown>>;
}

/** Any failure that Postern names. `code` is stable; `message` names the thing and may be shown to whom the fault says. */
export class PosternError extends Error {
  override readonly name = 'PosternError';
  readonly code: ErrorCode;
  readonly guestName: string | undefined;
  readonly guestStack: string | undefined;
  readonly details: Readonly<Record<string, unknown>> | undefined;

  constructor(code: ErrorCode, message: string, options: PosternErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.guestName = options.guestName;
    this.guestStack = options.guestStack;
    this.details = options.details;
  }

  get fault(): Fault {
    return ERROR_CODES[this.code].fault;
  }

  get retryable(): boolean {
    return ERROR_CODES[this.code].retryable;
  }

  toRecord(): ErrorRecord {
    return {
      code: this.code,
      message: this.message,
      ...(this.guestName === undefined ? {} : { name: this.guestName }),
      ...(this.guestStack === undefined ? {} : { stack: this.guestStack }),
      ...(this.details === undefined ? {} : { details: this.details }),
    };
  }

  static fromRecord(record: ErrorRecord): PosternError {
    return new PosternError(record.code, record.message, {
      ...(record.name === undefined ? {} : { guestName: record.name }),
      ...(record.stack === undefined ? {} : { guestStack: record.stack }),
      ...(record.details === undefined ? {} : { details: record.details }),
    });
  }

  /** Whatever was thrown, as a PosternError; what is not one becomes INTERNAL_ERROR with the original as `cause`. */
  static from(thrown: unknown): PosternError {
    if (thrown instanceof PosternError) return thrown;
    const text = thrown instanceof Error ? thrown.message : String(thrown);
    return new PosternError('INTERNAL_ERROR', text, { cause: thrown });
  }
}

export function isErrorCode(value: unknown): value is ErrorCode {
  return typeof value === 'string' && Object.hasOwn(ERROR_CODES, value);
}
