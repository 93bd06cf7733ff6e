import type { Pool } from 'pg';
import { timedQuery } from '../../database/index.ts';

/** So many events gone leave a few hundred dead pages in the index, 3 ms for each lease to step over. */
const WHEN_BUSY = 50_000;
const WHEN_IDLE = 2_000;

/**
 * TRUNCATE off: giving pages back takes a lock that writers would wait for. SKIP_LOCKED: if somebody vacuums already
 * (autovacuum, another node), that will do.
 */
const VACUUM_EVENTS = 'vacuum (skip_locked, truncate off, index_cleanup on, parallel 0) postern.events';

/** A second for a usual outbox. One that takes longer (a backlog of many gigabytes, slow disks) is autovacuum's, which goes easy. */
const LONGEST_MS = 60_000;

/**
 * By its text, since a pooler knows another process than we do. No statement_timeout would do it: set in the session it stays
 * there, and VACUUM takes no transaction.
 */
const CANCEL_LONG_ONES = `
  select pg_cancel_backend(pid) from pg_stat_activity
  where query = $1 and state = 'active' and datname = current_database() and usename = current_user
    and query_start < clock_timestamp() - $2 * interval '1 ms'`;

/**
 * Vacuums the outbox by what has been handled, because autovacuum comes by once a minute, or never where it is switched
 * off, and every lease steps over what finished events leave in the index.
 */
export class Janitor {
  readonly #pool: Pool;
  readonly #log: (message: string, error?: unknown) => void;
  readonly #longestMs: number;
  #handled = 0;
  #running: Promise<void> | undefined;

  /** longestMs: tests pass less than a minute. */
  constructor(pool: Pool, log: (message: string, error?: unknown) => void, longestMs = LONGEST_MS) {
    this.#pool = pool;
    this.#log = log;
    this.#longestMs = longestMs;
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
    this.#running ??= this.#vacuumOnce()
      .catch((error: unknown) => this.#log('the outbox could not be vacuumed', error))
      .finally(() => {
        this.#running = undefined;
      });
    this.#handled = 0;
    return this.#running;
  }

  async #vacuumOnce(): Promise<void> {
    try {
      await timedQuery(this.#pool, this.#longestMs, { text: VACUUM_EVENTS });
    } catch (error) {
      // Without an answer it goes on in the server.
      await this.#pool.query(CANCEL_LONG_ONES, [VACUUM_EVENTS, this.#longestMs / 2]);
      throw error;
    }
  }
}
