/** Why an invocation has no value, as classes; declared for users in `types/runtime.d.ts`. */

import type { RuntimeLogLine, RuntimeUsage } from '../types/runtime.d.ts';

export interface InvokeErrorOptions {
  readonly cause?: unknown;
  readonly logs?: readonly RuntimeLogLine[];
  readonly usage?: RuntimeUsage | undefined;
}

export class InvokeError extends Error {
  override readonly name: string = 'InvokeError';
  readonly code: string;
  readonly logs: readonly RuntimeLogLine[];
  readonly usage: RuntimeUsage | undefined;

  constructor(code: string, message: string, options: InvokeErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.logs = options.logs ?? [];
    this.usage = options.usage;
  }
}

export class FunctionTimeoutError extends InvokeError {
  override readonly name = 'FunctionTimeoutError';
}

export class FunctionMemoryError extends InvokeError {
  override readonly name = 'FunctionMemoryError';
}

export class FunctionCpuError extends InvokeError {
  override readonly name = 'FunctionCpuError';
}

export class FunctionPanicError extends InvokeError {
  override readonly name = 'FunctionPanicError';
}

export class FunctionError extends InvokeError {
  override readonly name = 'FunctionError';
  readonly guestName: string;
  readonly guestStack: string | undefined;

  constructor(
    message: string,
    options: InvokeErrorOptions & { readonly guestName: string; readonly guestStack: string | undefined },
  ) {
    super('FUNCTION_ERROR', message, options);
    this.guestName = options.guestName;
    this.guestStack = options.guestStack;
  }
}

export class InvalidResultError extends InvokeError {
  override readonly name = 'InvalidResultError';
}

export interface SourcePlace {
  readonly file: string;
  readonly line: number;
  readonly column: number;
}

export class InvalidSourceError extends InvokeError {
  override readonly name = 'InvalidSourceError';
  readonly file: string | undefined;
  readonly line: number | undefined;
  readonly column: number | undefined;

  constructor(message: string, place: SourcePlace | undefined, cause?: unknown) {
    super('INVALID_FUNCTION', message, { cause });
    this.file = place?.file;
    this.line = place?.line;
    this.column = place?.column;
  }
}

export class InvalidRequestError extends InvokeError {
  override readonly name = 'InvalidRequestError';

  constructor(message: string, cause?: unknown) {
    super('INVALID_REQUEST', message, { cause });
  }
}

export class RuntimeClosedError extends InvokeError {
  override readonly name = 'RuntimeClosedError';

  constructor() {
    super('RUNTIME_CLOSED', 'the runtime is closed');
  }
}
