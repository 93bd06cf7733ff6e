import type { Pool } from 'pg';

/** So many events gone leave a few hundred dead pages in the index, 3 ms for each lease to step over. */
const WHEN_BUSY = 50_000;
const WHEN_IDLE = 2_000;

/**
 * TRUNCATE off: giving pages back takes a lock that writers would wait for. SKIP_LOCKED: if somebody vacuums already
 * (autovacuum, another node), that will do.
 */
const VACUUM_EVENTS = 'vacuum (skip_locked, truncate off, index_cleanup on, parallel 0) postern.events';

/**
 * Vacuums the outbox by what has been handled, because autovacuum comes by once a minute, or never where it is switched
 * off, and every lease steps over what finished events leave in the index.
 */
export class Janitor {
  readonly #pool: Pool;
  readonly #log: (message: string, error?: unknown) => void;
  #handled = 0;
  #running: Promise<void> | undefined;

  constructor(pool: Pool, log: (message: string, error?: unknown) => void) {
    this.#pool = pool;
    this.#log = log;
  }

  handled(count: number): void {
    this.#handled += count;
    if (this.#handled >= WHEN_BUSY) void this.#vacuum();
  }

  /** The dispatcher is about to sleep: a good moment. */
  idle(): void {
    if (this.#handled >= WHEN_IDLE) void this.#vacuum();
  }

  /** Resolves when nothing is under way. */
  async settled(): Promise<void> {
    await this.#running;
  }

  #vacuum(): Promise<void> {
    this.#running ??= this.#pool
      .query(VACUUM_EVENTS)
      .then(() => undefined)
      .catch((error: unknown) => this.#log('the outbox could not be vacuumed', error))
      .finally(() => {
        this.#running = undefined;
      });
    this.#handled = 0;
    return this.#running;
  }
}
