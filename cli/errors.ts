import { PosternError } from '../runtime/index.ts';

/** Why a command ended. The exit codes are a promise: 0 done, 1 the operation failed, 2 wrong usage. */

export const EXIT = { done: 0, failed: 1, usage: 2 } as const;

/** The command line itself is wrong: says what was given and what is allowed. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** The operation was tried and failed. `code` is the server's where it has one; `hint` says what to do about it. */
export class OperationError extends Error {
  override readonly name = 'OperationError';
  readonly code: string;
  readonly hint: string | undefined;
  readonly details: Readonly<Record<string, unknown>> | undefined;
  /** The result that was printed says it: `--json` prints one value. */
  readonly told: boolean;

  constructor(
    code: string,
    message: string,
    options: {
      readonly hint?: string;
      readonly details?: Readonly<Record<string, unknown>>;
      readonly cause?: unknown;
      readonly told?: boolean;
    } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.hint = options.hint;
    this.details = options.details;
    this.told = options.told ?? false;
  }
}

/** Another process of ours failed and has said why; this one ends as it did. */
export class EndedAs extends Error {
  override readonly name = 'EndedAs';
  readonly exitCode: number;

  constructor(exitCode: number, options: { readonly cause: unknown }) {
    super(`ended with code ${exitCode}`, options);
    this.exitCode = exitCode;
  }
}

export interface DescribedError {
  readonly code: string;
  readonly message: string;
  readonly hint: string | undefined;
  readonly details: Readonly<Record<string, unknown>> | undefined;
}

/** Whatever was thrown, for `--json` and for a person. */
export function describeError(error: unknown): DescribedError {
  if (error instanceof UsageError)
    return { code: 'USAGE', message: error.message, hint: undefined, details: undefined };
  if (error instanceof OperationError)
    return { code: error.code, message: error.message, hint: error.hint, details: error.details };
  if (error instanceof PosternError) {
    const { inputs: _, ...details } = error.details ?? {};
    return { code: error.code, message: error.message, hint: undefined, details };
  }
  const known = error as { code?: unknown; message?: unknown; remedy?: unknown };
  return {
    code: typeof known?.code === 'string' ? known.code : 'FAILED',
    message: typeof known?.message === 'string' && known.message !== '' ? known.message : String(error),
    hint: typeof known?.remedy === 'string' ? known.remedy : undefined,
    details: undefined,
  };
}
