import type { Pool } from 'pg';
import { withTransaction } from '../../database/index.ts';
import { type Drift, findDrift } from './drift.ts';
import type { DatabaseTriggerInstaller } from './installer.ts';

const EVERY_MS = 60_000;

export interface DriftWatchOptions {
  readonly pool: Pool;
  readonly installer: Pick<DatabaseTriggerInstaller, 'repair'>;
  readonly log: (message: string, error?: unknown) => void;
}

/**
 * Looks at the start of a node and once a minute whether every trigger still is on its table: one query of the catalogs, and for
 * what can be put back, a repair. Every node looks; who repairs holds a lock, and the others find it done.
 *
 * Put back is what was lost with its table (when that is there again) or dropped by itself, and what an earlier version of Postern
 * made. Left alone is what somebody disabled, since that is how Postgres says "not now", and what no longer fits its table.
 */
export class DriftWatch {
  readonly #options: DriftWatchOptions;
  #drift: readonly Drift[] = [];
  #timer: NodeJS.Timeout | undefined;
  #checking: Promise<void> | undefined;
  #stopped = false;

  constructor(options: DriftWatchOptions) {
    this.#options = options;
  }

  /** What the last look found, and could not mend. */
  get drift(): readonly Drift[] {
    return this.#drift;
  }

  /** Resolves after the first look. */
  async start(): Promise<void> {
    await this.check();
    this.#schedule();
  }

  /** Safe twice. */
  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    await this.#checking;
  }

  /** Never rejects; what failed is tried with the next look. */
  check(): Promise<void> {
    this.#checking ??= this.#check()
      .catch((error: unknown) => this.#options.log('it could not be seen whether the triggers are still there', error))
      .finally(() => {
        this.#checking = undefined;
      });
    return this.#checking;
  }

  #schedule(): void {
    if (this.#stopped) return;
    // A quarter more or less: the nodes' turns drift apart.
    this.#timer = setTimeout(
      () => void this.check().finally(() => this.#schedule()),
      EVERY_MS * (0.75 + Math.random() / 2),
    );
    this.#timer.unref();
  }

  async #check(): Promise<void> {
    let found = await findDrift(this.#options.pool);
    const repaired = await this.#repair(found);
    if (repaired) found = await findDrift(this.#options.pool);
    const known = new Set(this.#drift.map(({ problem }) => problem));
    for (const { functionName, problem } of found) {
      if (!known.has(problem)) this.#options.log(`row changes may be missed by function ${functionName}: ${problem}`);
    }
    this.#drift = found;
  }

  async #repair(found: readonly Drift[]): Promise<boolean> {
    let repaired = false;
    for (const [triggerId, drifts] of Map.groupBy(found, (drift) => drift.triggerId)) {
      if (!drifts.every(({ state }) => state === 'trigger_missing' || state === 'outdated')) continue;
      const { functionName, schema, table } = drifts[0] as Drift;
      try {
        const done = await withTransaction(this.#options.pool, (client) =>
          this.#options.installer.repair(client, triggerId),
        );
        if (done) this.#options.log(`the triggers of function ${functionName} on ${schema}.${table} were put back`);
        repaired ||= done;
      } catch (error) {
        this.#options.log(
          `the triggers of function ${functionName} on ${schema}.${table} could not be put back`,
          error,
        );
      }
    }
    return repaired;
  }
}
