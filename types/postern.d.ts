/**
 * What a Postern function finds in its sandbox: `db`, `log`, `env` and `http` as globals and as exports of "postern".
 * In tsconfig.json: "types": ["postern"], and "lib": ["es2023", "webworker"] for fetch, Request, crypto, URL and their kin.
 *
 * In Node, "postern" has what runs functions inside of a program of yours: `createRuntime`.
 */

export * from './runtime.js';

/** A column of a result. `type` is Postgres' name of it, e.g. `int4`, `text[]`. */
export interface Field {
  readonly name: string;
  readonly type: string;
}

/**
 * Row objects. Timestamps are ISO 8601 strings, `int8` a number where that is exact and else a string, `numeric` a string,
 * `bytea` a Uint8Array, json what it says.
 */
export type Rows<Row = Record<string, unknown>> = Row[] & {
  readonly rowCount: number | null;
  readonly fields: readonly Field[];
};

export interface Transaction {
  query<Row = Record<string, unknown>>(sql: string, params?: readonly unknown[]): Promise<Rows<Row>>;
}

export interface Db {
  /**
   * One statement, in a transaction of its own, as the role of this invocation. `$1`, `$2` … take `params`: strings, numbers,
   * booleans, null, Date, BigInt, byte arrays, arrays, objects (json). Rejects with an Error named `DatabaseError` whose
   * `code` is the SQLSTATE.
   */
  query<Row = Record<string, unknown>>(sql: string, params?: readonly unknown[]): Promise<Rows<Row>>;
  /** Several statements through `tx`: committed when `work` resolves, rolled back when it throws. */
  transaction<T>(work: (tx: Transaction) => Promise<T> | T): Promise<T>;
  /** Marks a parameter as json, for arrays and strings in json columns. */
  json(value: unknown): unknown;
}

export type LogMethod = (message: unknown, fields?: unknown) => void;

export interface Log {
  readonly debug: LogMethod;
  readonly info: LogMethod;
  readonly warn: LogMethod;
  readonly error: LogMethod;
}

export interface Http {
  /** `fetch`, to the hosts in `http.allow` only. */
  fetch(input: string | URL | Request, init?: RequestInit): Promise<Response>;
}

declare const hostDb: Db;
declare const hostLog: Log;
declare const hostEnv: (name: string) => string | undefined;
declare const hostHttp: Http;

export { hostDb as db, hostEnv as env, hostHttp as http, hostLog as log };

/** Thrown from a handler: the event is not tried again. */
export class NonRetryableError extends Error {
  readonly retry: false;
}

/** Thrown from a handler: the event is tried again, but not before `retryAfterMs` milliseconds, a day at most, have passed. */
export class RetryAfterError extends Error {
  constructor(message: string, retryAfterMs: number, options?: ErrorOptions);
  readonly retryAfterMs: number;
}

export interface OutgoingWebhook {
  /** Unique, and the same when it is sent again: 1 to 200 visible ASCII characters without a dot. */
  readonly id: string;
  /** Exactly what is sent. */
  readonly body: string | Uint8Array;
  /** When it is sent; now where absent. */
  readonly timestamp?: Date;
}

/**
 * The headers that sign a webhook by Standard Webhooks (standardwebhooks.com). `secret` is base64 of 24 to 64 bytes, with or
 * without `whsec_` before it. Rejects with TypeError for another one, and for an id that could not be told from the rest.
 */
export function signWebhook(
  secret: string,
  webhook: OutgoingWebhook,
): Promise<{
  readonly 'webhook-id': string;
  readonly 'webhook-timestamp': string;
  readonly 'webhook-signature': string;
}>;

/** The second argument of a handler. */
export interface Context {
  readonly functionName: string;
  readonly functionVersion: number;
  readonly invocationId: string;
  readonly requestId: string;
  /** 1 for the first try of an event. */
  readonly attempt: number;
  readonly userId: string | null;
  readonly role: string;
  /** The variables that the configuration lists under `env`. */
  readonly env: Readonly<Record<string, string>>;
  /** Milliseconds until the invocation is ended. */
  getRemainingTimeMs(): number;
  /** The answer goes out at once; the sandbox lives until `work` has settled, or the timeout. */
  waitUntil(work: Promise<unknown>): void;
}

/** `POST /functions/v1/invoke/{name}` and its other methods and paths. */
export interface HttpEvent<Body = unknown> {
  readonly trigger: 'http';
  readonly method: string;
  readonly path: string;
  readonly query: Readonly<Record<string, string>>;
  readonly headers: Readonly<Record<string, string>>;
  /** Parsed where the content type says JSON. */
  readonly body: Body;
  readonly user_id: string | null;
  readonly request_id: string;
}

/** A committed change of a row. `old` is null for INSERT, `new` for DELETE. */
export interface DatabaseEvent<Row = Record<string, unknown>> {
  readonly trigger: 'database';
  readonly schema: string;
  readonly table: string;
  readonly operation: 'INSERT' | 'UPDATE' | 'DELETE';
  readonly old: Row | null;
  readonly new: Row | null;
  readonly timestamp: string;
  /** The same in every attempt. */
  readonly event_id: string;
  readonly attempt: number;
}

/** A tick of a schedule, or a run that was asked for by `POST /functions/{name}/schedule`. */
export interface ScheduleEvent<Payload = unknown> {
  readonly trigger: 'schedule';
  /** As it was deployed; null for a run that was asked for. */
  readonly cron: string | null;
  readonly timezone: string | null;
  /** ISO 8601, UTC. */
  readonly scheduled_time: string;
  readonly actual_time: string;
  /** Only of a run that was asked for with one. */
  readonly event?: Payload;
  /** The same in every attempt. */
  readonly event_id: string;
  readonly attempt: number;
}

/** A signed webhook, `POST /functions/v1/webhook/{name}`. */
export interface WebhookEvent<Body = unknown> {
  readonly trigger: 'webhook';
  /** Lower-case names; without `authorization` and `cookie`. */
  readonly headers: Readonly<Record<string, string>>;
  /** Parsed where it is JSON. */
  readonly body: Body;
  /** The body is base64: it came compressed, or as no text. */
  readonly isBase64Encoded?: true;
  /** When it came. */
  readonly timestamp: string;
  /** The sender's, or made from what it signed. */
  readonly delivery_id: string;
  /** The same in every attempt. */
  readonly event_id: string;
  readonly attempt: number;
}

/** A response; any other returned value becomes the body of a 200. */
export interface HttpResult {
  readonly statusCode: number;
  readonly headers?: Readonly<Record<string, string | readonly string[]>>;
  readonly body?: unknown;
  readonly isBase64Encoded?: boolean;
}

/** What becomes of events whose function fails. */
export interface OnFailure {
  /** In place of the function's. */
  readonly retry?: Retry;
  /** The function that each dead event is handed to. */
  readonly deadLetter?: string;
}

export interface DatabaseTrigger extends OnFailure {
  readonly type: 'database';
  /** `users`, or `schema.users`. */
  readonly table: string;
  readonly schema?: string;
  /** All three where absent. */
  readonly operations?: 'INSERT' | 'UPDATE' | 'DELETE' | readonly ('INSERT' | 'UPDATE' | 'DELETE')[];
  /** UPDATE of these columns only. */
  readonly columns?: readonly string[];
  /** An SQL condition over `old` and `new`. */
  readonly when?: string;
  /** How the event is written; `native` where absent. */
  readonly format?: 'native' | 'supabase' | 'hasura' | 'cloudevents';
  /** Columns: events with equal values in them run one at a time, in the order of their changes. */
  readonly orderingKey?: string | readonly string[];
  /** What a dead event does to those behind it under its key; `block` where absent. */
  readonly poisoned?: 'block' | 'skip' | 'park';
  /** One invocation gets several events. */
  readonly batch?: { readonly maxSize: number; readonly maxWait?: string | number };
  /** One invocation gets all that a transaction changed. */
  readonly transaction?: boolean;
  /** `atomic`: what the function changes with `db` commits with the acknowledgement of its event. */
  readonly delivery?: 'at-least-once' | 'atomic';
}

export interface RetryRule {
  /** The first one included. 5 where absent. */
  readonly maxAttempts?: number;
  readonly backoff?:
    | 'exponential'
    | 'fixed'
    | { readonly initial?: string | number; readonly factor?: number; readonly max?: string | number };
}

export interface Retry extends RetryRule {
  /** No further attempt begins after it: '1h', or milliseconds. */
  readonly maxAge?: string | number;
  /** By class of error: `timeout`, `memory`, `cpu`, `panic`, or an error's name. */
  readonly on?: Readonly<Record<string, RetryRule>>;
}

/** With `batch` or `transaction`. */
export interface DatabaseBatchEvent<Row = Record<string, unknown>> {
  readonly trigger: 'database';
  /** With `transaction`. */
  readonly transaction_id?: string;
  readonly events: readonly DatabaseEvent<Row>[];
}

/** What a function returns for a batch that failed in part: these are tried again. */
export interface BatchResult {
  readonly failed: readonly string[];
}

/** For the function that a trigger names as its `deadLetter`. */
export interface DeadLetterEvent<Event = DatabaseEvent> {
  readonly trigger: 'dead_letter';
  readonly function: string;
  readonly error: { readonly code: string; readonly message: string; readonly outcome: string } | null;
  readonly event: Event;
  readonly event_id: string;
  readonly attempt: number;
}

export interface ScheduleTrigger extends OnFailure {
  readonly type: 'schedule';
  /** `minute hour day-of-month month day-of-week`, or `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`. */
  readonly cron: string;
  /** A name of the time zone database. 'UTC' where absent. */
  readonly timezone?: string;
  /** Of the ticks while no node ran: none, the last one (where absent), each. */
  readonly missed?: 'skip' | 'once' | 'all';
  /** A tick while an earlier one waits or runs: fires too (where absent), does not fire, fires afterwards. */
  readonly overlap?: 'allow' | 'skip' | 'queue';
  /** Each fire is put off by less than this: '30s', or milliseconds; at most 1 h. */
  readonly jitter?: string | number;
}

/** `retry` and `deadLetter` with `respond: 'accepted'` only. */
export interface WebhookTrigger extends OnFailure {
  readonly type: 'webhook';
  /** `hmac-sha256` where absent. */
  readonly scheme?: 'hmac-sha256' | 'github' | 'stripe' | 'standard-webhooks' | 'slack' | 'shopify';
  /** The name of a secret. */
  readonly secret?: string;
  /** Names of secrets, any of which may have signed: for rotation. */
  readonly secrets?: readonly string[];
  /** 202 once the event is durable, or the function's answer. `accepted` where absent. */
  readonly respond?: 'accepted' | 'result';
}

export type Trigger = 'http' | { readonly type: 'http' } | DatabaseTrigger | ScheduleTrigger | WebhookTrigger;

/** `export const config: Config = { … }`; see docs/functions.md. */
export interface Config {
  readonly name?: string;
  readonly language?: 'javascript' | 'typescript';
  readonly handler?: string;
  readonly triggers?: Trigger | readonly Trigger[];
  readonly trigger?: Trigger;
  /** Wall clock: '1s' to '300s', or milliseconds. 10 s where absent. */
  readonly timeout?: string | number;
  /** '16MB' to '512MB', or bytes. 128 MB where absent. */
  readonly memory?: string | number;
  /** Metered instructions. 10 billion where absent. */
  readonly cpu?: number | 'unlimited';
  /** Names of variables that it may read. */
  readonly env?: readonly string[];
  readonly http?: {
    readonly allow?: readonly string[];
    /** Names of secrets that it may send in a header, as `{{secret:NAME}}`, and never reads. */
    readonly secrets?: readonly string[];
    readonly rateLimit?: string | { readonly requests: number; readonly window?: string };
  };
  readonly db?: { readonly role?: string };
  readonly auth?: 'required' | 'optional' | 'none';
  readonly retry?: Retry;
  readonly concurrency?: number;
  /** Which invocations are kept for `postern replay`. */
  readonly record?: boolean | 'failures';
}

declare global {
  const db: Db;
  const log: Log;
  /** A variable or secret that the configuration lists under `env`; undefined for any other. */
  function env(name: string): string | undefined;
  const http: Http;
}
