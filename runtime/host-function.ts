/**
 * The contract of a host function: what a guest may ask of the host. Implemented in `host-functions/`, composed by the
 * server, called by the invoker for every message that an executor relays. Three lifetimes: a `HostFunctionProvider`
 * lives as long as the node process, a `HostFunctionSession` as long as one invocation.
 *
 * Payloads and answers are JSON text as the guest wrote it, never trusted. An error thrown from `call` goes to the guest
 * if it is a `HostCallError` (name, message, code and details, nothing else); any other is logged and reaches the guest
 * as "internal error".
 */

/** Who an invocation acts for. `role` is a Postern role name, never a database role by itself. */
export interface Identity {
  /** `anon`, `authenticated`, `service_role`, or another role of the local list. */
  readonly role: string;
  /** JWT claims, or the claims captured with a row change; null where there are none. */
  readonly claims: Readonly<Record<string, unknown>> | null;
  /** `sub` of the claims, or null. */
  readonly userId: string | null;
}

/** Whoever shows nothing that tells who they are. */
export const ANONYMOUS: Identity = Object.freeze({ role: 'anon', claims: null, userId: null });

/** Events whose acknowledgement commits with what the invocation changed in the database, or not at all. */
export interface AtomicDelivery {
  /** Who holds their leases. */
  readonly nodeId: string;
  readonly events: readonly {
    readonly functionId: string;
    readonly runAt: string;
    readonly seq: string;
    readonly leaseNumber: string;
  }[];
}

/** One line that a function logged; `fields` is JSON text of an object. */
export interface LogLine {
  readonly level: 'DEBUG' | 'INFO' | 'WARN' | 'ERROR';
  readonly message: string;
  readonly fields?: string;
  /** Milliseconds since the epoch. */
  readonly timeMs: number;
}

/** What a host function knows of the invocation that calls it. */
export interface InvocationScope {
  readonly invocationId: string;
  readonly requestId: string;
  readonly functionName: string;
  readonly version: number;
  readonly identity: Identity;
  readonly policy: HostPolicy;
  /** How many invocations led to this one: 0 for a request from outside. */
  readonly depth: number;
  /** Statements are one transaction, to which `HostFunctionSession.finish` adds the acknowledgement. */
  readonly atomic?: AtomicDelivery;
  /** Wall-clock end on `performance.now()`'s scale. A call must not outlive it. */
  readonly deadlineMs: number;
  /** Aborted when the invocation ends, however it ends. Whatever is still open is cancelled then. */
  readonly signal: AbortSignal;
  /** Takes the function's secrets out of what the operator is told. */
  readonly redact: (text: string) => string;
  /** Adds a line to the invocation's log (capped, redacted). */
  readonly log: (line: LogLine) => void;
}

/** The part of a version's configuration that host functions obey. */
export interface HostPolicy {
  /** Names of variables that the function may read. */
  readonly env: readonly string[];
  readonly db: { readonly role: string };
  readonly http: {
    readonly allow: readonly string[];
    /** Names of secrets that the function may send in a header and never sees. */
    readonly secrets: readonly string[];
    readonly rateLimit: { readonly requests: number; readonly windowMs: number };
  };
}

export interface HostFunctionProvider {
  /** The operations it answers, e.g. `['db.query', 'db.begin']`. A name has one provider. */
  readonly operations: readonly string[];
  /** Called at the first call of an invocation to one of the operations, at most once an invocation. */
  open(scope: InvocationScope): HostFunctionSession;
  start?(): Promise<void>;
  stop?(): Promise<void>;
}

export interface HostFunctionSession {
  /** Answers one call with JSON text. Several may be under way at once. */
  call(operation: string, payload: string): Promise<string>;
  /**
   * Called once where the function has succeeded and `scope.atomic` is set, before `close`. True where the events are
   * acknowledged now. Rejects where nothing was changed, with a HostCallError that the invocation fails with.
   */
  finish?(): Promise<boolean>;
  /** Called once, after the invocation has ended and `scope.signal` is aborted. Never throws. */
  close(): Promise<void>;
}

/** A failure that the guest may see: becomes an Error there with these `name`, `message`, `code` and further properties. */
export class HostCallError extends Error {
  override readonly name: string;
  readonly code: string;
  readonly details: Readonly<Record<string, string | number | boolean | null>>;

  constructor(
    name: string,
    code: string,
    message: string,
    details: Readonly<Record<string, string | number | boolean | null>> = {},
    options?: { readonly cause?: unknown },
  ) {
    super(message, options);
    this.name = name;
    this.code = code;
    this.details = details;
  }

  /** What the guest's `hostError` reads. */
  toPayload(): string {
    return JSON.stringify({ ...this.details, name: this.name, message: this.message, code: this.code });
  }
}
