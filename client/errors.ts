/** Why a call failed, as classes by code; declared for users in `types/client.d.ts`. */

import type { FailedRun } from '../types/client.d.ts';

export interface ErrorFields {
  readonly code: string;
  readonly status: number;
  readonly requestId?: string | undefined;
  readonly details?: Readonly<Record<string, unknown>> | undefined;
  readonly run?: FailedRun | undefined;
  readonly retryAfterMs?: number | undefined;
  readonly cause?: unknown;
}

export class PosternClientError extends Error {
  override readonly name: string = 'PosternClientError';
  readonly code: string;
  readonly status: number;
  readonly requestId: string | undefined;
  readonly details: Readonly<Record<string, unknown>> | undefined;
  readonly run: FailedRun | undefined;
  readonly retryAfterMs: number | undefined;

  constructor(message: string, fields: ErrorFields) {
    super(message, fields.cause === undefined ? undefined : { cause: fields.cause });
    this.code = fields.code;
    this.status = fields.status;
    this.requestId = fields.requestId;
    this.details = fields.details;
    this.run = fields.run;
    this.retryAfterMs = fields.retryAfterMs;
  }
}

export class ConnectionError extends PosternClientError {
  override readonly name = 'ConnectionError';
}

export class TimeoutError extends PosternClientError {
  override readonly name = 'TimeoutError';
}

export class MemoryError extends PosternClientError {
  override readonly name = 'MemoryError';
}

export class CpuError extends PosternClientError {
  override readonly name = 'CpuError';
}

export class FunctionError extends PosternClientError {
  override readonly name = 'FunctionError';
}

export class FunctionAnswerError extends PosternClientError {
  override readonly name = 'FunctionAnswerError';
  readonly body: unknown;

  constructor(message: string, fields: ErrorFields & { readonly body: unknown }) {
    super(message, fields);
    this.body = fields.body;
  }
}

export class PolicyError extends PosternClientError {
  override readonly name = 'PolicyError';
  readonly rule: string;
  readonly given: unknown;
  readonly allowed: unknown;

  constructor(message: string, fields: ErrorFields) {
    super(message, fields);
    this.rule = String(fields.details?.rule ?? '');
    this.given = fields.details?.given;
    this.allowed = fields.details?.allowed;
  }
}

export class RateLimitedError extends PosternClientError {
  override readonly name = 'RateLimitedError';
}

export class SessionError extends PosternClientError {
  override readonly name = 'SessionError';
}

export class UnavailableError extends PosternClientError {
  override readonly name = 'UnavailableError';
}

export class UnauthorizedError extends PosternClientError {
  override readonly name = 'UnauthorizedError';
}

export class ForbiddenError extends PosternClientError {
  override readonly name = 'ForbiddenError';
}

export class NotFoundError extends PosternClientError {
  override readonly name = 'NotFoundError';
}

export class InvalidRequestError extends PosternClientError {
  override readonly name = 'InvalidRequestError';
}

/** A code that is not here has no class of its own: its errors are `PosternClientError`. */
const CLASSES: Readonly<Record<string, new (message: string, fields: ErrorFields) => PosternClientError>> = {
  FUNCTION_TIMEOUT: TimeoutError,
  CLIENT_TIMEOUT: TimeoutError,
  FUNCTION_OUT_OF_MEMORY: MemoryError,
  FUNCTION_CPU_LIMIT: CpuError,
  FUNCTION_ERROR: FunctionError,
  FUNCTION_PANIC: FunctionError,
  INVALID_RESULT: FunctionError,
  POLICY_REFUSED: PolicyError,
  RATE_LIMITED: RateLimitedError,
  OVERLOADED: UnavailableError,
  EXECUTOR_LOST: UnavailableError,
  DATABASE_UNAVAILABLE: UnavailableError,
  JWKS_UNAVAILABLE: UnavailableError,
  STORAGE_UNAVAILABLE: UnavailableError,
  SESSION_NOT_FOUND: SessionError,
  SESSION_BUSY: SessionError,
  SESSION_TOO_LARGE: SessionError,
  SESSION_OUTDATED: SessionError,
  SESSION_UNREADABLE: SessionError,
  UNREACHABLE: ConnectionError,
  UNAUTHORIZED: UnauthorizedError,
  FORBIDDEN: ForbiddenError,
  FUNCTION_NOT_FOUND: NotFoundError,
  NOT_FOUND: NotFoundError,
  INVALID_REQUEST: InvalidRequestError,
  INVALID_BODY: InvalidRequestError,
  INVALID_FUNCTION: InvalidRequestError,
  PAYLOAD_TOO_LARGE: InvalidRequestError,
};

export function errorOf(message: string, fields: ErrorFields): PosternClientError {
  return new (Object.hasOwn(CLASSES, fields.code) ? CLASSES[fields.code]! : PosternClientError)(message, fields);
}
