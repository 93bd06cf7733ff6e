/** The shape of a checked configuration. Public through `invoker/function-config.ts`; apart so that its parsers can import it. */

export const DATABASE_OPERATIONS = ['INSERT', 'UPDATE', 'DELETE'] as const;
export type DatabaseOperation = (typeof DATABASE_OPERATIONS)[number];

export type TriggerConfig = HttpTriggerConfig | DatabaseTriggerConfig;

export interface HttpTriggerConfig {
  readonly type: 'http';
}

export interface DatabaseTriggerConfig {
  readonly type: 'database';
  readonly schema: string;
  readonly table: string;
  readonly operations: readonly DatabaseOperation[];
  /** UPDATE only of these; empty means any column. */
  readonly columns: readonly string[];
  /** SQL over `old` and `new`, or null. */
  readonly when: string | null;
}

export interface BackoffConfig {
  readonly initialMs: number;
  readonly factor: number;
  readonly maxMs: number;
}

/** What may differ for one class of errors. */
export interface RetryRule {
  readonly maxAttempts?: number;
  readonly backoff?: BackoffConfig;
}

export interface RetryConfig {
  /** The first one included. */
  readonly maxAttempts: number;
  readonly backoff: BackoffConfig;
  /** Since the change, tick or delivery; no further attempt begins after it. No bound where absent. */
  readonly maxAgeMs?: number;
  /** By class: `timeout`, `memory`, `cpu`, `panic`, or the name of the error that the function threw. */
  readonly on?: Readonly<Record<string, RetryRule>>;
}

export type AuthMode = 'required' | 'optional' | 'none';
export type Language = 'javascript' | 'typescript';

export interface FunctionConfig {
  readonly name: string;
  readonly language: Language;
  readonly handler: string;
  readonly triggers: readonly TriggerConfig[];
  readonly timeoutMs: number;
  readonly memoryBytes: number;
  /** Metered instructions; Infinity for `unlimited` (`null` in JSON). */
  readonly cpu: number;
  readonly env: readonly string[];
  readonly http: {
    readonly allow: readonly string[];
    readonly rateLimit: { readonly requests: number; readonly windowMs: number };
  };
  readonly db: { readonly role: string };
  readonly auth: AuthMode;
  /** What a trigger's own `retry` does not say otherwise. */
  readonly retry: RetryConfig;
  /** Most invocations at once on a node; null for the node's own limit. */
  readonly concurrency: number | null;
}
