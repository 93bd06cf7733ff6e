/**
 * Lets a node answer from its caches and still promise that once a deploy, rollback, delete or change of a secret has
 * returned, nobody is served the version before; and that a key which was revoked lets nobody in.
 *
 * Every such change raises `postern.catalog_generation` in its own transaction. A node has a row in `postern.nodes` with a
 * lease and the generation that it has *applied*, that is, older entries are out of its caches.
 *
 * ## Trusted
 * Entered by a renewal: first the lease is written and committed, and only then the generation read and applied. Lasts until
 * `leaseMs - SAFETY_MS` after the renewal *began*, by the node's own monotonic clock (and its wall clock, which also counts
 * the sleep of a suspended machine). Lookups are answered from the cache without a word to Postgres.
 *
 * ## Lapsed
 * Entered when no renewal succeeded in time: Postgres unreachable, the process stopped, the event loop blocked. Every lookup
 * first reads the generation, with a statement sent after the lookup began; where that fails, the lookup fails
 * (DATABASE_UNAVAILABLE), for an answer might be an old one. Left by the next successful renewal.
 *
 * ## Why a changer may return
 * After its commit it waits until no node has a live lease and an older applied generation (`settle`). A node whose new lease
 * it did not see yet committed that lease after the look, so it reads the generation later than that, and finds the
 * change. A node that died is waited for until its lease ends. And if the changer can't look at all, it waits `leaseMs`:
 * by then every trusted node has renewed after the commit.
 *
 * NOTIFY makes it fast (a few milliseconds) and is never relied on: without it nodes notice at their next renewal.
 */

import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import pg, { type Pool } from 'pg';
import { PosternError } from '../../runtime/index.ts';
import { CatalogListener } from './catalog-listener.ts';

const LEASE_MS = 5_000;
const RENEW_MS = 1_000;
/** The two clocks may differ in speed, and a timestamp is read a little after the statement was sent. */
const SAFETY_MS = 500;
const QUERY_TIMEOUT_MS = 3_000;
const FIRST_LOOK_MS = 2;
const SLOWEST_LOOK_MS = 50;
/** On a starved machine, and where Postgres starts beside us, a first answer takes longer than QUERY_TIMEOUT_MS. */
const REGISTER_WITHIN_MS = 30_000;
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 3_000;
/** Connection, resources, operator: classes of SQLSTATE that time may mend. */
const PASSING = /^(?:08|53|57)/;

export interface CatalogSyncOptions {
  readonly pool: Pool;
  /** For the LISTEN connection, which is not one of the pool. */
  readonly databaseUrl: string;
  readonly nodeId: string;
  /** Tests pass shorter ones. */
  readonly leaseMs?: number;
  readonly renewMs?: number;
  readonly registerWithinMs?: number;
  readonly log?: (message: string, error?: unknown) => void;
}

/**
 * Drops what is cached of these functions; of all where `names` is null. Empty: what changed is no function's (an API key).
 * Must not throw, must be done when it returns.
 */
export type Invalidate = (names: readonly string[] | null) => void;

interface LatestChange {
  readonly generation: number;
  readonly names: readonly string[] | null;
}

export class CatalogSync {
  readonly #options: CatalogSyncOptions;
  readonly #leaseMs: number;
  readonly #renewMs: number;
  readonly #listener: CatalogListener;
  readonly #invalidate: Invalidate[] = [];
  #applied = 0;
  #acknowledged = 0;
  #trustedUntil = Number.NEGATIVE_INFINITY;
  #trustedUntilWall = Number.NEGATIVE_INFINITY;
  #running: Promise<void> | null = null;
  #queued: Promise<void> | null = null;
  #acknowledging: Promise<void> | null = null;
  #timer: NodeJS.Timeout | undefined;
  #renewing: Promise<void> = Promise.resolve();
  #stopped = false;

  constructor(options: CatalogSyncOptions) {
    this.#options = options;
    this.#leaseMs = options.leaseMs ?? LEASE_MS;
    this.#renewMs = options.renewMs ?? RENEW_MS;
    this.#listener = new CatalogListener(options.databaseUrl, () => {
      // Where it fails the next renewal looks again.
      this.fresh().catch(() => undefined);
    });
  }

  /** Called before `start`, by whoever keeps something: the catalogue, the API keys. */
  onInvalidate(invalidate: Invalidate): void {
    this.#invalidate.push(invalidate);
  }

  /** Rejects where the node can't register: at once if Postgres refuses it, after 30 s if there is no answer. */
  async start(): Promise<void> {
    await this.#register();
    this.#listener.start();
    this.#schedule();
  }

  /** Safe twice. Gives the lease back, so that nobody waits for this node. */
  async stop(): Promise<void> {
    if (this.#stopped) return;
    this.#stopped = true;
    clearTimeout(this.#timer);
    this.#distrust();
    await this.#listener.stop();
    await this.#renewing;
    await this.#acknowledging;
    await this.#query('delete from postern.nodes where id = $1', [this.#options.nodeId]).catch(() => undefined);
  }

  /** Called for every lookup: two clock readings. */
  get trusted(): boolean {
    return performance.now() < this.#trustedUntil && Date.now() < this.#trustedUntilWall;
  }

  /**
   * Resolves when the caches are known to be right at some instant after the call. One read at a time: whoever comes while one
   * is under way waits for the next, since that one may have begun too early for him.
   */
  fresh(): Promise<void> {
    if (this.#running === null) return this.#beginCheck();
    this.#queued ??= this.#running
      .catch(() => undefined)
      .then(() => {
        this.#queued = null;
        return this.#beginCheck();
      });
    return this.#queued;
  }

  /** For a change that this node made itself, right after its commit. */
  applyLocally(generation: number, names: readonly string[]): void {
    this.#apply({ generation, names });
  }

  /** Reads the generation, applies it and waits for the others: after a change made elsewhere in code, e.g. a secret. */
  async settleCurrent(): Promise<void> {
    const latest = await this.#readLatest();
    this.#apply(latest);
    await this.settle(latest.generation);
  }

  /** Resolves when no node serves anything older than `generation`; at the latest after `leaseMs`. Never rejects. */
  async settle(generation: number): Promise<void> {
    const end = performance.now() + this.#leaseMs;
    let trouble: unknown;
    for (let pause = FIRST_LOOK_MS; performance.now() < end; pause = Math.min(pause * 1.5, SLOWEST_LOOK_MS)) {
      try {
        if (!(await this.#anybodyBehind(generation))) return;
      } catch (error) {
        trouble = error;
      }
      await sleep(Math.min(pause, Math.max(0, end - performance.now())));
    }
    this.#options.log?.(
      'a node did not confirm a change, or nobody could look: waited until its lease was over',
      trouble,
    );
  }

  async #anybodyBehind(generation: number): Promise<boolean> {
    const { rows } = await this.#query<{ behind: boolean }>(ANYBODY_BEHIND, [generation, this.#options.nodeId]);
    return rows[0]!.behind;
  }

  #beginCheck(): Promise<void> {
    const check = this.#readLatest()
      .then(
        (latest) => this.#apply(latest),
        (cause: unknown) => {
          throw new PosternError('DATABASE_UNAVAILABLE', 'the database can not be asked what is deployed', { cause });
        },
      )
      .finally(() => {
        if (this.#running === check) this.#running = null;
      });
    this.#running = check;
    return check;
  }

  #schedule(): void {
    if (this.#stopped) return;
    this.#timer = setTimeout(() => void this.#renew().finally(() => this.#schedule()), this.#renewMs);
    this.#timer.unref();
  }

  /** Never rejects. One at a time; a second call waits for the first and does nothing more. */
  #renew(): Promise<void> {
    if (this.#stopped) return Promise.resolve();
    this.#renewing = this.#renewOnce().catch((error: unknown) => {
      if (!this.#stopped) this.#options.log?.('the lease of this node on its caches could not be renewed', error);
    });
    return this.#renewing;
  }

  async #register(): Promise<void> {
    const end = performance.now() + (this.#options.registerWithinMs ?? REGISTER_WITHIN_MS);
    for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(pause * 2, LONGEST_PAUSE_MS)) {
      try {
        return await this.#renewOnce();
      } catch (error) {
        const refused = error instanceof pg.DatabaseError && !PASSING.test(error.code ?? '');
        if (refused || this.#stopped || performance.now() + pause > end) throw error;
        this.#options.log?.('this node could not register yet', error);
        await sleep(pause);
      }
    }
  }

  async #renewOnce(): Promise<void> {
    const [begin, beginWall] = [performance.now(), Date.now()];
    const { nodeId } = this.#options;
    await this.#query(RENEW_LEASE, [nodeId, hostname(), process.pid, this.#applied, this.#leaseMs / 1_000]);
    // A statement of its own, after the lease is committed: see the top of the file.
    this.#apply(await this.#readLatest());
    if (this.#stopped) return;
    this.#trustedUntil = begin + this.#leaseMs - SAFETY_MS;
    this.#trustedUntilWall = beginWall + this.#leaseMs - SAFETY_MS;
  }

  #distrust(): void {
    this.#trustedUntil = Number.NEGATIVE_INFINITY;
  }

  /** Everything older than `generation` leaves the caches; in one synchronous step, so no lookup comes between. */
  #apply({ generation, names }: LatestChange): void {
    if (generation <= this.#applied) return;
    // A generation was missed: nobody knows what it changed.
    const changed = generation === this.#applied + 1 ? names : null;
    for (const invalidate of this.#invalidate) invalidate(changed);
    this.#applied = generation;
    this.#acknowledging ??= this.#acknowledge().finally(() => {
      this.#acknowledging = null;
    });
  }

  async #acknowledge(): Promise<void> {
    while (this.#acknowledged < this.#applied && !this.#stopped) {
      const applied = this.#applied;
      try {
        await this.#query(ACKNOWLEDGE, [this.#options.nodeId, applied]);
      } catch {
        // The next renewal says it too.
        return;
      }
      this.#acknowledged = applied;
    }
  }

  async #readLatest(): Promise<LatestChange> {
    const { rows } = await this.#query<{ generation: string; names: string[] | null }>(READ_LATEST, []);
    return { generation: Number(rows[0]!.generation), names: rows[0]!.names };
  }

  /** With a time limit: on a half-open connection an answer never comes, and the pool drops a connection that failed. */
  #query<Row extends object>(text: string, values: readonly unknown[]) {
    return this.#options.pool.query<Row>({ text, values: [...values], query_timeout: QUERY_TIMEOUT_MS } as {
      text: string;
      values: unknown[];
    });
  }
}

// Rows of nodes that are long gone are swept by whoever renews.
const RENEW_LEASE = `
  with swept as (
    delete from postern.nodes where id <> $1 and lease_expires_at < clock_timestamp() - interval '1 hour')
  insert into postern.nodes as n (id, host, pid, applied_generation, lease_expires_at)
  values ($1, $2, $3, $4, clock_timestamp() + make_interval(secs => $5))
  on conflict (id) do update
    set lease_expires_at = excluded.lease_expires_at,
        applied_generation = greatest(n.applied_generation, excluded.applied_generation)`;

const READ_LATEST = 'select generation, names from postern.catalog_generation';

const ACKNOWLEDGE = `
  update postern.nodes set applied_generation = greatest(applied_generation, $2) where id = $1`;

const ANYBODY_BEHIND = `
  select exists (
    select from postern.nodes
     where applied_generation < $1 and lease_expires_at > clock_timestamp() and id <> $2) as behind`;
