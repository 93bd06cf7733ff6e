/// <reference lib="esnext.disposable" />
/**
 * Functions inside of a program of yours, without a server or a database: `createRuntime` of "postern", in Node. Guests run
 * in executor processes of their own, as on a server. See docs/embedding.md.
 */

export interface RuntimeOptions {
  /** Executor processes; one for each core where absent. */
  readonly executors?: number;
  /** Hosts that functions may reach with `http.fetch`, as in a configuration's `http.allow`; none where absent. */
  readonly http?: { readonly allow?: readonly string[] };
}

export type RuntimeLanguage = 'javascript' | 'js' | 'typescript' | 'ts' | 'python' | 'py' | 'assemblyscript' | 'as';

export interface InvokeRequest {
  /** 'javascript' where absent. */
  readonly language?: RuntimeLanguage;
  readonly source: string;
  /** The export, or the function of a plain script, that gets the event. 'handler' where absent. */
  readonly handler?: string;
  /** What JSON can say. null where absent. */
  readonly event?: unknown;
  /** Wall clock, from the handler's start on: 1 to 300,000. 10,000 where absent. */
  readonly timeoutMs?: number;
  /** 16 MB to 512 MB (1 MB = 1,048,576 bytes). 128 MB where absent. */
  readonly memoryBytes?: number;
  /** Metered instructions. 10 billion where absent. */
  readonly cpu?: number | 'unlimited';
  /** Modules in memory, for `require('name')` and `import … from 'name'`. Nothing outside of them is found. */
  readonly dependencies?: Readonly<Record<string, { readonly source: string }>>;
  /** What `env(name)` reads. Taken for secrets: they are redacted in logs and errors. */
  readonly env?: Readonly<Record<string, string>>;
}

export interface RuntimeLogLine {
  readonly level: 'DEBUG' | 'INFO' | 'WARN' | 'ERROR';
  readonly message: string;
  /** ISO 8601, UTC. */
  readonly timestamp: string;
  readonly fields?: Readonly<Record<string, unknown>>;
}

export interface RuntimeUsage {
  readonly durationMs: number;
  /** Time that the guest ran on a core. */
  readonly cpuMs: number;
  /** Metered instructions. */
  readonly fuel: number;
  readonly peakMemoryBytes: number;
  readonly hostCalls: number;
}

export interface InvokeResult<Value = unknown> {
  /** By JSON's rules; null for undefined. A returned Response is `{ statusCode, headers, body }`. */
  readonly value: Value;
  readonly logs: readonly RuntimeLogLine[];
  readonly usage: RuntimeUsage;
  readonly invocationId: string;
}

export interface Runtime extends AsyncDisposable {
  /**
   * Runs a function once, in a sandbox that nothing else has used. Resolves when all of it is over, `waitUntil` included.
   * Rejects with an `InvokeError`.
   */
  invoke<Value = unknown>(request: InvokeRequest): Promise<InvokeResult<Value>>;
  /** Ends what runs, which rejects with `RuntimeClosedError`, and the executors. Safe twice. */
  close(): Promise<void>;
}

/** Rejects with `InvalidRequestError` for options that can't be. */
export function createRuntime(options?: RuntimeOptions): Promise<Runtime>;

/** Why an invocation has no value. Where none of the classes below says it: the executor process ended, or no room. */
export class InvokeError extends Error {
  /** Stable: see docs/errors.md. */
  readonly code: string;
  /** What it had logged, and used; empty and absent where it did not start. */
  readonly logs: readonly RuntimeLogLine[];
  readonly usage: RuntimeUsage | undefined;
}

/** Over `timeoutMs`, in a loop, a regular expression, a host call, or a promise that never settles. */
export class FunctionTimeoutError extends InvokeError {}
/** Over `memoryBytes`. */
export class FunctionMemoryError extends InvokeError {}
/** Over `cpu`. */
export class FunctionCpuError extends InvokeError {}
/** A WebAssembly trap, or the engine's own failure. */
export class FunctionPanicError extends InvokeError {}
/** The function threw; `message` is its own. */
export class FunctionError extends InvokeError {
  /** The thrown error's name, such as 'TypeError'. */
  readonly guestName: string;
  /** With positions in `source`. */
  readonly guestStack: string | undefined;
}
/** What it returned can't be said in JSON, or is larger than 6 MB. */
export class InvalidResultError extends InvokeError {}
/** The source can't be parsed, or bundled, or its top level failed. */
export class InvalidSourceError extends InvokeError {
  readonly file: string | undefined;
  /** 1-based, as `column`. */
  readonly line: number | undefined;
  readonly column: number | undefined;
}
/** The request itself is wrong: `message` names the field, what was given and what is allowed. */
export class InvalidRequestError extends InvokeError {}
/** `close` was called before, or meanwhile. */
export class RuntimeClosedError extends InvokeError {}
