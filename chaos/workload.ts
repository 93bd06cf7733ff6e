/** What a cluster is given to do while it is being hurt. Another kind of trigger is another Workload. */

import type { Pool } from 'pg';
import type { DeadLetter, WatchedFunction, WrittenRow } from './history.ts';

export interface WorkloadContext {
  /** Of a superuser, not through a proxy. */
  readonly pool: Pool;
  /** Where writers connect: this may be cut. */
  readonly writerUrl: string;
  /** `POST /functions` of a node. */
  readonly deploy: (body: Readonly<Record<string, unknown>>) => Promise<void>;
  /** Functions tell the ledger of runs with it: module text that defines `note(event, row, phase)`. */
  readonly noteSource: string;
  /** What functions need in `http` and `env` for that. */
  readonly noteConfig: Readonly<Record<string, unknown>>;
  readonly record: (...rows: readonly WrittenRow[]) => Promise<void>;
  readonly random: () => number;
}

export interface Workload {
  readonly functions: Readonly<Record<string, WatchedFunction>>;
  /** Tables and functions, before anything is hurt. */
  install(context: WorkloadContext): Promise<void>;
  /** Writes until told to stop. Never rejects for what faults do to it. */
  write(context: WorkloadContext, signal: AbortSignal): Promise<void>;
  deadLetters(pool: Pool): Promise<readonly DeadLetter[]>;
}
