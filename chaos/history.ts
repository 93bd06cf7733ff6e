/** What a chaos run leaves behind for the checker. Times are milliseconds of the harness's one clock. */

/**
 * `acked`: the server said that it is committed. `failed`: it can not be. `unknown`: the connection died in between, and
 * either is right. `rolled_back`: undone on purpose, as a transaction or to a savepoint.
 */
export type Fate = 'acked' | 'failed' | 'unknown' | 'rolled_back';

/** A row that a writer sent. Of several entries with one id the last one counts. */
export interface WrittenRow {
  readonly id: string;
  readonly functionName: string;
  readonly fate: Fate;
  /** Rows of one key have ascending `n`, and each was sent when the fate of the one before it was known. */
  readonly key: string;
  readonly n: number;
}

/** What a function said of itself while it ran. */
export interface Run {
  readonly id: string;
  readonly functionName: string;
  readonly eventId: string;
  readonly attempt: number;
  readonly phase: 'start' | 'end';
  readonly node: string;
  readonly at: number;
}

export interface DeadLetter {
  readonly id: string;
  readonly functionName: string;
  readonly eventId: string;
  readonly attempt: number;
  readonly lastError: string;
}

export interface WatchedFunction {
  readonly maxAttempts: number;
  /** By `key`. */
  readonly ordered: boolean;
  /** Throws in every attempt. */
  readonly poisoned: boolean;
}

export interface InjectedFault {
  readonly name: string;
  readonly at: number;
}

/** Looked at after everything has settled and all nodes have stopped. */
export interface Residue {
  /** Events that are neither handled nor dead. */
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
  readonly rows: readonly WrittenRow[];
  readonly runs: readonly Run[];
  readonly deadLetters: readonly DeadLetter[];
  readonly faults: readonly InjectedFault[];
  readonly residue: Residue;
}
