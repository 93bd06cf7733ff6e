/** What a chaos run leaves behind for the checker. Times are milliseconds of the harness's one clock. */

/**
 * `acked`: the server said that it is committed. `failed`: it can not be. `unknown`: the connection died in between, and
 * either is right. `rolled_back`: undone on purpose, as a transaction or to a savepoint.
 */
export type Fate = 'acked' | 'failed' | 'unknown' | 'rolled_back';

/**
 * What should make a function run: a row that a writer sent, a tick, a run that was asked for, a webhook delivery, a call with
 * an `Idempotency-Key`. Of several entries with one id the last one counts.
 */
export interface Cause {
  readonly id: string;
  readonly functionName: string;
  readonly fate: Fate;
  /** Causes of one key have ascending `n`, and each was sent when the fate of the one before it was known. */
  readonly key: string;
  readonly n: number;
  readonly sentAt?: number;
  /** When the fate was known. */
  readonly knownAt?: number;
  /** Of something that is due at a time. */
  readonly dueAt?: number;
  /** The transaction that it was part of. */
  readonly transaction?: string;
  /** Sent to a cluster that was well: to one with nothing to do, or to one that another function keeps busy. */
  readonly probe?: 'idle' | 'busy';
}

/** What a function said of itself while it ran. */
export interface Run {
  readonly id: string;
  readonly functionName: string;
  readonly eventId: string;
  readonly attempt: number;
  readonly phase: 'start' | 'end';
  readonly node: string;
  /** A random id that the function made. Events of a batch have the same one, and different places in it. */
  readonly invocation: string;
  readonly place: number;
  readonly at: number;
}

export interface DeadLetter {
  readonly id: string;
  readonly functionName: string;
  readonly eventId: string;
  readonly attempt: number;
  readonly lastError: string;
}

/** What an atomic delivery changed, as the database has it. */
export interface Effect {
  readonly id: string;
  readonly attempt: number;
}

/** What a sender or a caller was told, each time that it sent. */
export interface Answer {
  /** Of the cause. */
  readonly id: string;
  readonly functionName: string;
  readonly status: number;
  /** The event's id, or what the function returned. */
  readonly said: string | null;
  /** It says that it was known before. */
  readonly repeated: boolean;
  readonly sentAt: number;
  /** When it was heard. */
  readonly at: number;
}

/** What makes its events; `call` makes none. */
export type Kind = 'row' | 'schedule' | 'webhook' | 'call';

export interface WatchedFunction {
  readonly kind: Kind;
  readonly maxAttempts: number;
  /** By `key`. */
  readonly ordered?: boolean;
  /** Throws in every attempt. */
  readonly poisoned?: boolean;
  /** Throws in some first attempts. */
  readonly falters?: boolean;
  /** Has an effect for each event, in an atomic delivery. */
  readonly atomic?: boolean;
  /** One invocation has all that a transaction wrote. */
  readonly together?: boolean;
}

export interface InjectedFault {
  readonly name: string;
  readonly at: number;
  /** When it was undone; at once, where absent. */
  readonly until?: number;
  /** Writers notice too: what is hurt is Postgres, or may be their own path to it. */
  readonly hurtsWriters?: boolean;
}

/** Looked at after everything has settled and all nodes have stopped. */
export interface Residue {
  /** Events that are neither handled nor dead, and runs that were asked for and not fired. */
  readonly undelivered: number;
  readonly idleInTransaction: number;
  readonly advisoryLocks: number;
  /** Connections of nodes that are gone. */
  readonly sessions: number;
  /** Processes that a node has started and not ended. */
  readonly orphans: readonly string[];
  /** Tuples of the outbox that vacuum may not remove: somebody's snapshot still sees them. */
  readonly unremovableTuples: number;
  /** Between 0 and 1. */
  readonly notificationQueueUsage: number;
}

export interface History {
  readonly functions: Readonly<Record<string, WatchedFunction>>;
  readonly causes: readonly Cause[];
  readonly runs: readonly Run[];
  readonly effects: readonly Effect[];
  readonly answers: readonly Answer[];
  readonly deadLetters: readonly DeadLetter[];
  readonly faults: readonly InjectedFault[];
  readonly residue: Residue;
}
