/**
 * `import { PosternClient } from 'postern/client'`: calls a Postern node over HTTP, from Node, Deno, Bun or a browser; it needs
 * nothing but `fetch`. Answers are as they are on the wire. See docs/client.md.
 */

export interface ClientOptions {
  /** Of the node, such as `http://127.0.0.1:8787`. */
  readonly url: string;
  /** For `execute` (it needs a policy), `invoke` and `apiKey`. */
  readonly apiKey?: string | undefined;
  /** A user's JWT: `invoke` sends it in place of the API key. */
  readonly token?: string | undefined;
  /** For `deploy`, `functions` and `invocations`. Never in a browser. */
  readonly adminKey?: string | undefined;
  /** What a call may take, attempts and waits between them included: 1 to 2,147,483,647. 120,000 where absent. */
  readonly timeoutMs?: number | undefined;
  /** How often a call is made again that was refused before anything ran. 0 where absent. */
  readonly retries?: number | undefined;
  /** In place of the global one. */
  readonly fetch?: ((url: string, init: RequestInit) => Promise<Response>) | undefined;
}

export interface CallOptions {
  /** Aborted: the call rejects with the signal's reason, and what runs is canceled. */
  readonly signal?: AbortSignal | undefined;
  readonly timeoutMs?: number | undefined;
}

export type CodeLanguage = 'javascript' | 'typescript' | 'python' | 'assemblyscript';

/** See docs/execute.md; the policy of the API key says what is allowed. */
export interface ExecuteRequest {
  readonly code: string;
  /** 'javascript' where absent. */
  readonly language?: CodeLanguage | undefined;
  /** What JSON can say. */
  readonly input?: unknown;
  /** `'5s'`, or milliseconds. */
  readonly timeout?: string | number | undefined;
  /** `'64MB'`, or bytes. */
  readonly memory?: string | number | undefined;
  /** Metered instructions. */
  readonly cpu?: number | undefined;
  readonly http?: { readonly allow: readonly string[] } | undefined;
  readonly env?: readonly string[] | undefined;
  readonly cache?: boolean | undefined;
  /** Keeps what the run was given, so that the operator can replay it; `'failures'`: where it does not end well. */
  readonly record?: boolean | 'failures' | undefined;
  readonly dependencies?: Readonly<Record<string, string | { readonly source: string }>> | undefined;
  /** A new session, one by the token that an answer gave, a copy of one, or one as it was after an earlier run. */
  readonly session?:
    | 'new'
    | (string & {})
    | { readonly fork: string; readonly run?: number | undefined }
    | { readonly rewind: string; readonly run: number }
    | undefined;
}

export interface LogLine {
  readonly level: 'DEBUG' | 'INFO' | 'WARN' | 'ERROR';
  readonly message: string;
  /** ISO 8601, UTC. */
  readonly timestamp: string;
  readonly fields?: unknown;
}

/** What was too large for an answer: `output` has it until it expires. */
export interface OutputRef {
  readonly id: string;
  readonly bytes: number;
  readonly url: string;
  readonly expires_at: string;
}

export interface Run {
  /** Hash of code, language, modules and engine. */
  readonly id: string;
  /** The beginning, where there is a `stdout_ref`; that is null where the rest could not be kept. */
  readonly stdout: string;
  readonly stdout_ref?: OutputRef | null;
  readonly stderr: string;
  readonly stderr_ref?: OutputRef | null;
  readonly logs: readonly LogLine[];
  readonly duration_ms: number;
  readonly usage: {
    readonly cpu: number;
    readonly cpu_ms: number;
    readonly memory_bytes: number;
    readonly host_calls: number;
  };
  readonly cached: boolean;
  /** 'hit', 'stored', 'off', or why the result was not kept. */
  readonly cache: string;
  readonly invocation_id: string;
  /** Of a run in a session: what a next one is begun with, and the number by which this one can be gone back to. */
  readonly session?: { readonly token: string; readonly run: number };
  /** See docs/receipts.md. */
  readonly receipt?: unknown;
}

export interface ExecuteAnswer<Value = unknown> extends Run {
  /** Null where there is a `result_ref`. */
  readonly result: Value;
  readonly result_ref?: OutputRef;
}

/** A run that failed: what the thrown error is called, and where, if they are known. */
export interface FailedRun extends Run {
  readonly name?: string;
  readonly line?: number;
  readonly column?: number;
}

export interface InvokeOptions extends CallOptions {
  /** 'POST' where absent. */
  readonly method?: string | undefined;
  /** What follows the name, with the query: `/orders?limit=1`. */
  readonly path?: string | undefined;
  readonly headers?: Readonly<Record<string, string>> | undefined;
  /** A call with a key that was used before gets the answer of the first. */
  readonly idempotencyKey?: string | undefined;
}

/** Fields of the configuration may stand beside these: see docs/functions.md. */
export interface DeployRequest {
  readonly name?: string;
  readonly source?: string;
  /** Base64 of a WebAssembly module, in place of code. */
  readonly module?: string;
  readonly files?: Readonly<Record<string, string>>;
  readonly main?: string;
  readonly language?: string;
  readonly [field: string]: unknown;
}

export interface Deployment {
  /** Content hash of code, configuration and engine. */
  readonly id: string;
  readonly name: string;
  readonly version: number;
  /** False where this version was there already. */
  readonly created: boolean;
  readonly url: string;
  readonly warnings: readonly string[];
}

export interface FunctionSummary {
  readonly name: string;
  readonly version: number;
  readonly id: string;
  readonly config: Readonly<Record<string, unknown>>;
  readonly next_fires: readonly string[];
  readonly problems: readonly string[];
  readonly created_at: string;
  readonly updated_at: string;
}

export interface InvocationFilter {
  /** 1 to 1,000; 50 where absent. */
  readonly limit?: number | undefined;
  readonly status?: 'ok' | 'error' | undefined;
  /** Started at this time or later (ISO 8601). */
  readonly since?: string | undefined;
  readonly before?: string | undefined;
}

export interface Invocation {
  readonly id: string;
  readonly function: string;
  readonly version: number;
  readonly trigger: string;
  readonly status: 'ok' | 'error';
  readonly outcome: string;
  readonly error: { readonly code: string; readonly message: string | null; readonly stack: string | null } | null;
  readonly started_at: string;
  readonly duration_ms: number;
  readonly request_id: string | null;
  readonly logs: readonly Readonly<Record<string, unknown>>[];
}

/** What an API key is good for. */
export interface ApiKeyInfo {
  readonly id: string;
  readonly role: string;
  /** Null: all of them. */
  readonly functions: readonly string[] | null;
  /** Null: it runs no code of its own. Durations in milliseconds, sizes in bytes. */
  readonly policy: { readonly name: string; readonly rules: Readonly<Record<string, unknown>> } | null;
  readonly rate: { readonly limit: number; readonly window_seconds: number };
  readonly expires_at: string | null;
}

export class PosternClient {
  readonly url: string;
  /** Throws TypeError for options that can't be. */
  constructor(options: ClientOptions);
  /** Runs code. Rejects with a `PosternClientError`, whose `run` has what it printed where it ran at all. */
  execute<Value = unknown>(request: ExecuteRequest, options?: CallOptions): Promise<ExecuteAnswer<Value>>;
  /** What an answer has by reference: a result as its value, text as a string. */
  output<Value = unknown>(ref: { readonly id: string }, options?: CallOptions): Promise<Value>;
  /** Calls a function. What it answers: JSON as its value, text as a string, else bytes; null for nothing. */
  invoke<Value = unknown>(name: string, event?: unknown, options?: InvokeOptions): Promise<Value>;
  deploy(request: DeployRequest, options?: CallOptions): Promise<Deployment>;
  functions(options?: CallOptions): Promise<readonly FunctionSummary[]>;
  /** Newest first, with their log lines. */
  invocations(name: string, filter?: InvocationFilter, options?: CallOptions): Promise<readonly Invocation[]>;
  apiKey(options?: CallOptions): Promise<ApiKeyInfo>;
}

/** Why a call failed. Where none of the classes below says it, the code does: docs/errors.md. */
export class PosternClientError extends Error {
  /** Stable. Besides the node's: UNREACHABLE, CLIENT_TIMEOUT, UNEXPECTED_ANSWER, FUNCTION_ANSWERED_ERROR. */
  readonly code: string;
  /** Of the answer; 0 where there was none. */
  readonly status: number;
  readonly requestId: string | undefined;
  readonly details: Readonly<Record<string, unknown>> | undefined;
  /** Of code that was executed and failed. */
  readonly run: FailedRun | undefined;
  /** What the node asks to wait before the next attempt. */
  readonly retryAfterMs: number | undefined;
}

/** There is no answer: refused, reset, no such host. Whether the call arrived is not known. */
export class ConnectionError extends PosternClientError {}
/** The function or the code ran over its wall clock (FUNCTION_TIMEOUT), or the call over `timeoutMs` (CLIENT_TIMEOUT). */
export class TimeoutError extends PosternClientError {}
export class MemoryError extends PosternClientError {}
export class CpuError extends PosternClientError {}
/** The function or the code threw, trapped, or gave what JSON can't say. `message` is its own. */
export class FunctionError extends PosternClientError {}
/** The function itself answered with an error status. */
export class FunctionAnswerError extends PosternClientError {
  readonly body: unknown;
}
/** A rule of the API key's policy refuses the run. */
export class PolicyError extends PosternClientError {
  readonly rule: string;
  readonly given: unknown;
  readonly allowed: unknown;
}
export class RateLimitedError extends PosternClientError {}
/** Of the session that the run asked for: SESSION_NOT_FOUND, SESSION_BUSY, SESSION_TOO_LARGE and their kin. */
export class SessionError extends PosternClientError {}
/** The node or something that it needs is not there just now. */
export class UnavailableError extends PosternClientError {}
/** No key or token, or none that is good. */
export class UnauthorizedError extends PosternClientError {}
export class ForbiddenError extends PosternClientError {}
export class NotFoundError extends PosternClientError {}
/** The request, the code or the configuration is wrong: `message` says what. */
export class InvalidRequestError extends PosternClientError {}
