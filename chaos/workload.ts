/** What a cluster is given to do while it is being hurt. Another kind of trigger is another Workload. */

import type { Pool } from 'pg';
import type { Answer, Cause, DeadLetter, Effect, WatchedFunction } from './history.ts';

export interface WorkloadContext {
  /** Of a superuser, not through a proxy. */
  readonly pool: Pool;
  /** Where writers connect: this may be cut. */
  readonly writerUrl: string;
  /** `POST /functions` of a node. */
  readonly deploy: (body: Readonly<Record<string, unknown>>) => Promise<void>;
  /** A request to some node, which may be dead. Rejects where no answer comes in time. */
  readonly send: (path: string, init: RequestInit) => Promise<Response>;
  readonly adminKey: string;
  /** Functions tell the ledger of runs with it: module text that defines `note(phase, functionName, events, invocation)`. */
  readonly noteSource: string;
  /** What functions need in `http` and `env` for that. */
  readonly noteConfig: Readonly<Record<string, unknown>>;
  readonly record: (...causes: readonly Cause[]) => Promise<void>;
  readonly recordAnswer: (answer: Answer) => Promise<void>;
  readonly random: () => number;
}

export interface Workload {
  readonly functions: Readonly<Record<string, WatchedFunction>>;
  /** Tables and functions, before anything is hurt. */
  install(context: WorkloadContext): Promise<void>;
  /** Writes until told to stop. Never rejects for what faults do to it. */
  write(context: WorkloadContext, signal: AbortSignal): Promise<void>;
  /** Sends what has to be quick, to a cluster that is well. */
  probe?(context: WorkloadContext): Promise<void>;
  /** How much is under way beside the events in the outbox. */
  pending?(pool: Pool): Promise<number>;
  deadLetters?(pool: Pool): Promise<readonly DeadLetter[]>;
  effects?(pool: Pool): Promise<readonly Effect[]>;
}
