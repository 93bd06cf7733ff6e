import { randomBytes } from 'node:crypto';
import type { Pool } from 'pg';
import { withTransaction } from '../../../database/index.ts';
import type { DatabaseTriggerConfig, InvocationRequest, InvocationResult, Invoker } from '../../../invoker/index.ts';
import { DatabaseTriggerInstaller, type DispatcherMetrics } from '../../../triggers/database/index.ts';

export function databaseTrigger(config: Partial<DatabaseTriggerConfig> & { table: string }): DatabaseTriggerConfig {
  return { type: 'database', schema: 'public', operations: ['INSERT'], columns: [], when: null, ...config };
}

/** A row of postern.functions, enough for triggers and dispatch; returns its id. */
export async function newFunction(pool: Pool, name = `f_${randomBytes(6).toString('hex')}`): Promise<number> {
  const { rows } = await pool.query<{ id: string }>(
    'insert into postern.functions (name, active_version) values ($1, 1) returning id',
    [name],
  );
  return Number(rows[0]?.id);
}

/** A new function with these triggers installed. */
export async function installFunction(
  pool: Pool,
  ...triggers: DatabaseTriggerConfig[]
): Promise<{ id: number; name: string }> {
  const name = `f_${randomBytes(6).toString('hex')}`;
  const id = await newFunction(pool, name);
  await withTransaction(pool, (client) => new DatabaseTriggerInstaller().install(client, id, name, triggers));
  return { id, name };
}

export const USAGE = {
  durationMs: 1,
  cpuMs: 1,
  fuel: 1,
  peakMemoryBytes: 1,
  hostCalls: 0,
  clockReads: 0,
  randomBytes: 0,
};

export function resultOf(request: InvocationRequest, part: Partial<InvocationResult> = {}): InvocationResult {
  return { invocationId: 'i', functionName: request.functionName, version: 1, outcome: 'ok', usage: USAGE, ...part };
}

/** An invoker that does what the test says, and lets it wait for calls. */
export class FakeInvoker implements Invoker {
  readonly calls: InvocationRequest[] = [];
  readonly #behave: (
    request: InvocationRequest,
    call: number,
  ) => Partial<InvocationResult> | Promise<Partial<InvocationResult>>;
  readonly #waiting: { readonly count: number; readonly resolve: () => void }[] = [];

  constructor(
    behave: (
      request: InvocationRequest,
      call: number,
    ) => Partial<InvocationResult> | Promise<Partial<InvocationResult>> = () => ({}),
  ) {
    this.#behave = behave;
  }

  async invoke(request: InvocationRequest): Promise<InvocationResult> {
    this.calls.push(request);
    for (const { count, resolve } of this.#waiting) if (this.calls.length >= count) resolve();
    return resultOf(request, await this.#behave(request, this.calls.length));
  }

  /** Resolves when there were `count` calls in all. */
  called(count: number): Promise<void> {
    return this.calls.length >= count
      ? Promise.resolve()
      : new Promise((resolve) => this.#waiting.push({ count, resolve }));
  }
}

type Settlement = Parameters<NonNullable<DispatcherMetrics['settled']>>[0];

/** Counts what a dispatcher settled, and lets a test wait for it. */
export class SettlementLog {
  readonly counts: Record<Settlement, number> = { finished: 0, retried: 0, dead: 0, handed_back: 0, lost: 0 };
  readonly #waiting = new Set<() => void>();

  readonly metrics: DispatcherMetrics = {
    settled: (how, count) => {
      this.counts[how] += count;
      for (const check of [...this.#waiting]) check();
    },
  };

  /** Resolves when at least so many were settled in each of these ways. */
  until(wanted: Partial<Record<Settlement, number>>): Promise<void> {
    return new Promise((resolve) => {
      const check = (): void => {
        const reached = Object.entries(wanted).every(([how, count]) => this.counts[how as Settlement] >= count);
        if (!reached) return;
        this.#waiting.delete(check);
        resolve();
      };
      this.#waiting.add(check);
      check();
    });
  }
}
