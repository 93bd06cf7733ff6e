/** The shape of a checked configuration. Public through `invoker/function-config.ts`; apart so that its parsers can import it. */

import type { RecordMode } from '../recordings/record-mode.ts';

export const DATABASE_OPERATIONS = ['INSERT', 'UPDATE', 'DELETE'] as const;
export type DatabaseOperation = (typeof DATABASE_OPERATIONS)[number];

export type TriggerConfig = HttpTriggerConfig | DatabaseTriggerConfig | ScheduleTriggerConfig | WebhookTriggerConfig;

export interface HttpTriggerConfig {
  readonly type: 'http';
}

/** What becomes of an event that its function failed. Absent is the default: see `DatabaseTriggerConfig`. */
export interface FailureConfig {
  /** In place of the function's. */
  readonly retry?: RetryConfig;
  /** The function that each dead letter is handed to. */
  readonly deadLetter?: string;
}

export interface DatabaseTriggerConfig extends FailureConfig {
  readonly type: 'database';
  readonly schema: string;
  readonly table: string;
  readonly operations: readonly DatabaseOperation[];
  /** UPDATE only of these; empty means any column. */
  readonly columns: readonly string[];
  /** SQL over `old` and `new`, or null. */
  readonly when: string | null;
  // Absent is the default below: what a trigger of an earlier version does not have must not make it another one.
  /** How the event is written. Default `native`, as in SPEC 3. */
  readonly format?: EventFormat;
  /** Columns; events with equal values in them run one at a time, in the order of their changes. */
  readonly orderingKey?: readonly string[];
  /** What becomes of a key whose event is dead. Default `block`. */
  readonly poisoned?: PoisonPolicy;
  /** One invocation gets several events. */
  readonly batch?: BatchConfig;
  /** One invocation gets all that a transaction changed. */
  readonly transaction?: true;
  /** `atomic`: what the function changes with `db` commits with the acknowledgement of its event. Default: at least once. */
  readonly delivery?: 'atomic';
}

export const EVENT_FORMATS = ['native', 'supabase', 'hasura', 'cloudevents'] as const;
export type EventFormat = (typeof EVENT_FORMATS)[number];

/**
 * `block`: the events behind it wait until it is redriven or discarded. `skip`: they go on without it. `park`: they become
 * dead letters too, and can be redriven in their order.
 */
export const POISON_POLICIES = ['block', 'skip', 'park'] as const;
export type PoisonPolicy = (typeof POISON_POLICIES)[number];

export interface BatchConfig {
  readonly maxSize: number;
  /** How long the first event waits for others. */
  readonly maxWaitMs: number;
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
  /** Since the change, the tick with its jitter, or the delivery; no further attempt begins after it. No bound where absent. */
  readonly maxAgeMs?: number;
  /** By class: `timeout`, `memory`, `cpu`, `panic`, or the name of the error that the function threw. */
  readonly on?: Readonly<Record<string, RetryRule>>;
}

export const MISSED_POLICIES = ['skip', 'once', 'all'] as const;
export const OVERLAP_POLICIES = ['allow', 'skip', 'queue'] as const;

export interface ScheduleTriggerConfig extends FailureConfig {
  readonly type: 'schedule';
  /** Five fields or a shorthand, as `parseCron` reads it. */
  readonly cron: string;
  /** A name of the time zone database. */
  readonly timezone: string;
  /** Of the ticks while no node ran: none, the last one, each. */
  readonly missed: (typeof MISSED_POLICIES)[number];
  /** A tick while an earlier one waits or runs: fires too, does not fire, fires afterwards. */
  readonly overlap: (typeof OVERLAP_POLICIES)[number];
  /** Each fire is put off by less than this. */
  readonly jitterMs: number;
}

export const WEBHOOK_SCHEMES = ['hmac-sha256', 'github', 'stripe', 'standard-webhooks', 'slack', 'shopify'] as const;
export type WebhookSchemeName = (typeof WEBHOOK_SCHEMES)[number];
export const WEBHOOK_RESPONSES = ['accepted', 'result'] as const;

export interface WebhookTriggerConfig extends FailureConfig {
  readonly type: 'webhook';
  readonly scheme: WebhookSchemeName;
  /** Names of secrets, any of which may have signed. The function sees none of them for that. */
  readonly secrets: readonly string[];
  /** What the sender gets: 202 once the event is durable, or the function's own answer. */
  readonly respond: (typeof WEBHOOK_RESPONSES)[number];
}

export type AuthMode = 'required' | 'optional' | 'none';
/** What is bundled, evaluated and captured. */
export type ScriptLanguage = 'javascript' | 'typescript';
/** What a builder process makes ready. `wasm`: a WASI preview 1 command, or a component. */
export type ModuleLanguage = 'wasm' | 'assemblyscript' | 'python';
export type Language = ScriptLanguage | ModuleLanguage;

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
    /** Names of secrets that it may send in a header, as `{{secret:NAME}}`, and never reads. */
    readonly secrets: readonly string[];
    readonly rateLimit: { readonly requests: number; readonly windowMs: number };
  };
  readonly db: { readonly role: string };
  readonly auth: AuthMode;
  /** What a trigger's own `retry` does not say otherwise. */
  readonly retry: RetryConfig;
  /** Most invocations at once on a node; null for the node's own limit. */
  readonly concurrency: number | null;
  /** Which of its invocations are recorded; absent for none, so that nodes of older releases run the others. */
  readonly record?: RecordMode;
}

/** The texts that a version was deployed as. */
export interface StoredSource {
  /** Key into `files`. */
  readonly main: string;
  readonly files: Readonly<Record<string, string>>;
  /** In-memory modules by name. */
  readonly dependencies: Readonly<Record<string, string>>;
}
