/**
 * Hears at once that an event was committed, while the dispatcher sleeps. A hint for latency, never the delivery: the
 * dispatcher finds events by looking. The protocol with the writers is in database/migrations/0003_create_capture.sql.
 */

import { randomUUID } from 'node:crypto';
import pg, { type ClientConfig, type Pool } from 'pg';

/** Both in the functions of migration 0003 too. */
export const DOORBELL_LOCK = [1886548846, 1] as const;
export const DOORBELL_CHANNEL = 'postern_events';

/** Wakes the dispatchers of all nodes, for what no writer rings for. */
export async function ringDoorbell(pool: Pool): Promise<void> {
  await pool.query(`select pg_notify('${DOORBELL_CHANNEL}', '')`);
}

/** How long a notification may take before a pooler counts as one that passes none on; then, when to try again. */
const PROBE_TIMEOUT_MS = 1_000;
const POOLED_RETRY_MS = 10 * 60_000;
const POOLED =
  'the database is reached through a pooler that does not keep a session (transaction mode), so LISTEN does not work: events are found by polling';
/** A connection that answers nothing for so long is half-open (a network path that died without a word). */
const ANSWER_TIMEOUT_MS = 5_000;
const RECONNECT_MIN_MS = 50;
const RECONNECT_MAX_MS = 5_000;

/**
 * `yes`: every event committed from now on rings. `writers`: transactions are under way that will not ring; look again
 * soon. `no`: nobody can ring now (no connection, a pooler that gives each transaction another one, or prepared transactions
 * are possible); poll.
 */
export type Armed = 'yes' | 'writers' | 'no';

export interface DoorbellOptions {
  /** Of the system's user; the doorbell has a connection of its own. */
  readonly connection: ClientConfig;
  readonly onRing: () => void;
  readonly log: (message: string, error?: unknown) => void;
}

/**
 * The lock belongs to the session, so a dispatcher that dies disarms itself. Of several sleeping dispatchers one holds it,
 * and the ring reaches all. Those that sleep while another is awake are not woken, which is right: it is awake.
 */
const ARM = `
  select case
    when pg_backend_pid() <> $3 then 'moved'
    when pg_try_advisory_lock($1, $2) then 'ours'
    when exists (
      select from pg_locks l
      where l.locktype = 'advisory' and l.classid = $1::bigint::oid and l.objid = $2::bigint::oid and l.objsubid = 2
        and l.database = (select oid from pg_database where datname = current_database())
        and l.mode = 'ExclusiveLock' and l.granted
    ) then 'theirs'
    else 'writers'
  end as state`;

/** Who moved from one server process to another can neither listen nor hold the lock. */
class PooledError extends Error {}

const STILL = `select case when pg_backend_pid() = $1 then 'ours' else 'moved' end as state`;

export class Doorbell {
  readonly #options: DoorbellOptions;
  #client: pg.Client | undefined;
  #holding = false;
  #stopped = true;
  #usable = false;
  #backend: number | null = null;
  /** It was said that there is a pooler. */
  #told = false;
  #reconnectMs = RECONNECT_MIN_MS;
  #timer: NodeJS.Timeout | undefined;
  #connecting: Promise<void> = Promise.resolve();

  constructor(options: DoorbellOptions) {
    this.#options = options;
  }

  /** Resolves after the first try to connect, whether it worked or not. */
  async start(): Promise<void> {
    if (!this.#stopped) return;
    this.#stopped = false;
    this.#connecting = this.#connect();
    await this.#connecting;
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    await this.#connecting;
    const client = this.#client;
    this.#client = undefined;
    this.#holding = false;
    await client?.end().catch(() => undefined);
  }

  /** Whether writers can ring; else the dispatcher polls. */
  get hears(): boolean {
    return this.#usable;
  }

  /** Asks to be rung for. After `yes` look for events once more before sleeping. */
  async arm(): Promise<Armed> {
    if (!this.#usable) return 'no';
    // Where we hold the lock: proves, at each slow poll of a sleeping dispatcher, that the connection lives and leads where it did.
    const client = this.#client;
    const state = await (this.#holding
      ? this.#ask(STILL, [this.#backend])
      : this.#ask(ARM, [...DOORBELL_LOCK, this.#backend]));
    if (state === 'moved' && client !== undefined) this.#lost(client, new PooledError());
    if (state === null || state === 'moved') return 'no';
    if (state === 'ours') this.#holding = true;
    return state === 'writers' ? 'writers' : 'yes';
  }

  /** Writers stop ringing; the dispatcher is up and looks by itself. */
  disarm(): void {
    if (!this.#holding) return;
    this.#holding = false;
    void this.#ask('select pg_advisory_unlock($1, $2) as state', DOORBELL_LOCK);
  }

  async #ask(sql: string, values: readonly (number | null)[]): Promise<unknown> {
    const client = this.#client;
    if (client === undefined) return null;
    const timer = setTimeout(() => this.#lost(client, new Error('no answer')), ANSWER_TIMEOUT_MS);
    try {
      const { rows } = await client.query<{ state: unknown }>(sql, [...values]);
      return rows[0]?.state ?? null;
    } catch (error) {
      this.#lost(client, error);
      return null;
    } finally {
      clearTimeout(timer);
    }
  }

  async #connect(): Promise<void> {
    const client = new pg.Client({
      ...this.#options.connection,
      application_name: 'postern doorbell',
      keepAlive: true,
      connectionTimeoutMillis: ANSWER_TIMEOUT_MS,
    });
    client.on('error', (error) => this.#lost(client, error));
    client.on('end', () => this.#lost(client, new Error('connection ended')));
    client.on('notification', () => this.#options.onRing());
    this.#client = client;
    try {
      await client.connect();
      await client.query(`listen ${DOORBELL_CHANNEL}`);
      const { rows } = await client.query<{ max: number; backend: number }>(
        `select current_setting('max_prepared_transactions')::integer as max, pg_backend_pid() as backend`,
      );
      this.#backend = rows[0]?.backend ?? null;
      const told = (client as unknown as { readonly processID: number | null }).processID;
      // A pooler. In session mode it passes notifications on.
      if (this.#backend !== told && !(await this.#heard(client))) throw new PooledError();
      // A transaction that has notified can't be prepared, so where that is possible writers do not ring.
      this.#usable = rows[0]?.max === 0;
      this.#reconnectMs = RECONNECT_MIN_MS;
      this.#told = false;
      // What was rung while we were away is gone: look.
      this.#options.onRing();
    } catch (error) {
      this.#lost(client, error);
    }
  }

  /** Whether what another connection notifies arrives here. From the same one it would arrive with the answer, whatever is between. */
  async #heard(client: pg.Client): Promise<boolean> {
    const probe = randomUUID();
    const heard = new Promise<boolean>((resolve) => {
      client.on('notification', ({ payload }) => payload === probe && resolve(true));
      client.once('end', () => resolve(false));
      setTimeout(() => resolve(false), PROBE_TIMEOUT_MS).unref();
    });
    const other = new pg.Client({ ...this.#options.connection, connectionTimeoutMillis: ANSWER_TIMEOUT_MS });
    other.on('error', () => undefined);
    try {
      await other.connect();
      await other.query(`select pg_notify('${DOORBELL_CHANNEL}', $1)`, [probe]);
      return await heard;
    } finally {
      await other.end().catch(() => undefined);
    }
  }

  #lost(client: pg.Client, error: unknown): void {
    if (this.#client !== client) return;
    this.#client = undefined;
    this.#holding = false;
    this.#usable = false;
    // Not end(): on a half-open connection that waits for an answer.
    (client as unknown as { connection: { stream: { destroy(): void } } }).connection.stream.destroy();
    if (this.#stopped) return;
    const pooled = error instanceof PooledError;
    if (!pooled) this.#options.log('the connection that listens for events was lost; polling until it is back', error);
    else if (!this.#told) this.#options.log(POOLED);
    this.#told ||= pooled;
    this.#options.onRing();
    const delayMs = (pooled ? POOLED_RETRY_MS : this.#reconnectMs) * (0.5 + Math.random());
    this.#reconnectMs = Math.min(this.#reconnectMs * 2, RECONNECT_MAX_MS);
    this.#timer = setTimeout(() => {
      this.#connecting = this.#connect();
    }, delayMs);
  }
}
