import type { Pool } from 'pg';
import { deleteOldDeliveries } from './delivery-ledger.ts';

/** Senders try again for three days at most (Stripe, and GitHub's redelivery by hand); a day more than that. */
const RETENTION_MS = 4 * 24 * 60 * 60 * 1_000;
const SWEEP_EVERY_MS = 10 * 60 * 1_000;
/** Small, so that nobody who writes waits for a long transaction of ours. */
const BATCH = 1_000;

/** Forgets old deliveries. Any number of nodes may do it at once: rows that one has locked the others pass over. */
export class DeliverySweeper {
  readonly #pool: Pool;
  readonly #log: (message: string, error?: unknown) => void;
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> | undefined;
  #stopped = false;

  constructor(pool: Pool, log: (message: string, error?: unknown) => void) {
    this.#pool = pool;
    this.#log = log;
  }

  start(): void {
    if (this.#stopped) return;
    this.#timer ??= setInterval(() => void this.sweep(), SWEEP_EVERY_MS).unref();
  }

  /** Resolves when nothing is under way. Safe twice, and before `start`. */
  async stop(): Promise<void> {
    this.#stopped = true;
    clearInterval(this.#timer);
    await this.#running;
  }

  /** Until nothing old is left; never rejects. Joins a sweep that is under way. */
  sweep(): Promise<void> {
    this.#running ??= this.#sweep()
      .catch((error: unknown) => this.#log('old webhook deliveries could not be removed', error))
      .finally(() => {
        this.#running = undefined;
      });
    return this.#running;
  }

  async #sweep(): Promise<void> {
    while (!this.#stopped && (await deleteOldDeliveries(this.#pool, RETENTION_MS, BATCH)) === BATCH);
  }
}
