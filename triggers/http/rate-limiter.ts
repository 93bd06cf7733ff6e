/**
 * How many requests each API key may still make, counted over all nodes without a query in any request.
 *
 * Windows are fixed and aligned to the epoch, so all nodes mean the same one. A node counts in memory, and about once a second
 * tells the others through `postern.api_key_windows` what it let in and hears what they did, in one statement for all keys, as
 * long as it has a key in a window that is not over; at once for a key's first request in a window.
 *
 * ## The error
 * Never fewer than the limit are let in. More are by what a node has not heard of yet: what the others let in during about 2 s, since
 * they may tell at the end of their second and this one ask at the end of its own; and for a node that meets a key for the first
 * time in a window, what it lets in itself until it has heard at all. So over n nodes a window lets in at most
 * `limit + (n - 1) × the most that one node lets in within 2 s`, and never more than `n × limit`, also while the database is away. A
 * clock that is wrong moves a node's windows, and no more.
 *
 * The same statement writes when a key was last used and how often it was refused, and removes windows that are over.
 */

import type { Pool } from 'pg';

const EXCHANGE_EVERY_MS = 1_000;
/** For a first request in a window; shared by all keys whose windows begin at the same moment. */
const FIRST_EXCHANGE_MS = 20;
const QUERY_TIMEOUT_MS = 3_000;

export interface RateLimited {
  readonly id: string;
  readonly rateLimit: number;
  readonly rateWindowMs: number;
}

export interface Standing {
  readonly admitted: boolean;
  readonly limit: number;
  readonly remaining: number;
  /** Until the window ends. */
  readonly resetMs: number;
}

export type Refusal = 'rate' | 'scope' | 'inactive';

export interface RateLimiterOptions {
  readonly pool: Pool;
  readonly nodeId: string;
  /** An exchange that failed is made good by the next one. */
  readonly onError: (error: Error) => void;
  /** Milliseconds since the epoch; tests pass a clock of their own. */
  readonly now?: () => number;
}

/** One key in its current window. */
interface Window {
  readonly startMs: number;
  readonly endMs: number;
  /** Let in by this node, and how many of them the others can know of. */
  own: number;
  told: number;
  /** Let in by the others, as far as this node has heard; undefined before it has heard at all. */
  others: number | undefined;
}

interface Note {
  lastUsedMs: number;
  readonly refused: Record<Refusal, number>;
}

export class RateLimiter {
  readonly #options: RateLimiterOptions;
  readonly #now: () => number;
  readonly #windows = new Map<string, Window>();
  /** By key: what has not been written yet. */
  #notes = new Map<string, Note>();
  #timer: NodeJS.Timeout | undefined;
  #timerAt = 0;
  /** When all windows are told of again, and not only those that are new. */
  #allAt = 0;
  #exchanging: Promise<void> = Promise.resolve();
  #stopped = false;

  constructor(options: RateLimiterOptions) {
    this.#options = options;
    this.#now = options.now ?? Date.now;
  }

  /** Counts a request if it may be let in. */
  take(key: RateLimited): Standing {
    const now = this.#now();
    const window = this.#windowOf(key, now);
    const admitted = window.own + (window.others ?? 0) < key.rateLimit;
    if (admitted) {
      window.own++;
      this.#noteOf(key.id).lastUsedMs = now;
      this.#exchangeWithin(EXCHANGE_EVERY_MS);
    } else this.noteRefusal(key.id, 'rate');
    return standing(key, window, now, admitted);
  }

  /** How a key stands, without a request of it. */
  look(key: RateLimited): Standing {
    const now = this.#now();
    const { startMs, endMs } = bounds(key, now);
    const known = this.#windows.get(key.id);
    const window = known?.startMs === startMs ? known : { startMs, endMs, own: 0, told: 0, others: undefined };
    return standing(key, window, now, true);
  }

  noteRefusal(keyId: string, reason: Refusal): void {
    this.#noteOf(keyId).refused[reason]++;
    this.#exchangeWithin(EXCHANGE_EVERY_MS);
  }

  /** Tells and hears now, of all keys. Never rejects; what could not be told is told the next time. */
  exchange(): Promise<void> {
    this.#allAt = 0;
    return this.#exchangeNow();
  }

  /** Safe twice. Tells what is left to tell. */
  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    await this.exchange();
  }

  #windowOf(key: RateLimited, now: number): Window {
    const { startMs, endMs } = bounds(key, now);
    const known = this.#windows.get(key.id);
    if (known?.startMs === startMs) return known;
    const window = { startMs, endMs, own: 0, told: 0, others: undefined };
    this.#windows.set(key.id, window);
    this.#exchangeWithin(FIRST_EXCHANGE_MS);
    return window;
  }

  #noteOf(keyId: string): Note {
    let note = this.#notes.get(keyId);
    if (note === undefined) {
      note = { lastUsedMs: 0, refused: { rate: 0, scope: 0, inactive: 0 } };
      this.#notes.set(keyId, note);
    }
    return note;
  }

  #exchangeWithin(delayMs: number): void {
    const at = performance.now() + delayMs;
    if (this.#stopped || (this.#timer !== undefined && this.#timerAt <= at)) return;
    clearTimeout(this.#timer);
    this.#timerAt = at;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      void this.#exchangeNow();
    }, delayMs);
    this.#timer.unref();
  }

  #exchangeNow(): Promise<void> {
    this.#exchanging = this.#exchanging.then(() => this.#exchange());
    return this.#exchanging;
  }

  async #exchange(): Promise<void> {
    const now = this.#now();
    for (const [id, { endMs }] of this.#windows) if (endMs <= now) this.#windows.delete(id);
    const all = performance.now() >= this.#allAt;
    const windows = [...this.#windows]
      .filter(([, { others }]) => all || others === undefined)
      .map(([id, window]) => ({ id, window, own: window.own }));
    const notes = this.#notes;
    if (all) {
      this.#allAt = performance.now() + EXCHANGE_EVERY_MS;
      this.#notes = new Map();
    }
    if (windows.length === 0 && (!all || notes.size === 0)) return;
    try {
      const others = await this.#query(windows, all ? notes : new Map());
      for (const { id, window, own } of windows) {
        window.told = own;
        // What the server lost in a crash is remembered here.
        window.others = Math.max(window.others ?? 0, others.get(id) ?? 0);
      }
    } catch (error) {
      if (all) this.#keep(notes);
      this.#options.onError(error as Error);
    }
    // Others go on counting while this node has nothing to say.
    if (this.#windows.size > 0 || this.#notes.size > 0)
      this.#exchangeWithin(Math.max(FIRST_EXCHANGE_MS, this.#allAt - performance.now()));
  }

  async #query(
    windows: readonly { id: string; window: Window; own: number }[],
    notes: ReadonlyMap<string, Note>,
  ): Promise<Map<string, number>> {
    const noted = [...notes.values()];
    const { rows } = await this.#options.pool.query<{ key_id: string; others: number }>({
      text: EXCHANGE,
      values: [
        this.#options.nodeId,
        windows.map(({ id }) => id),
        windows.map(({ window }) => window.startMs / 1_000),
        windows.map(({ window }) => window.endMs / 1_000),
        windows.map(({ own }) => own),
        windows.map(({ window, own }) => own > window.told),
        [...notes.keys()],
        noted.map(({ lastUsedMs }) => (lastUsedMs === 0 ? null : lastUsedMs / 1_000)),
        noted.map(({ refused }) => refused.rate),
        noted.map(({ refused }) => refused.scope),
        noted.map(({ refused }) => refused.inactive),
      ],
      query_timeout: QUERY_TIMEOUT_MS,
    } as { text: string; values: unknown[] });
    return new Map(rows.map(({ key_id, others }) => [key_id, others]));
  }

  #keep(notes: ReadonlyMap<string, Note>): void {
    for (const [id, { lastUsedMs, refused }] of notes) {
      const note = this.#noteOf(id);
      note.lastUsedMs = Math.max(note.lastUsedMs, lastUsedMs);
      for (const reason of ['rate', 'scope', 'inactive'] as const) note.refused[reason] += refused[reason];
    }
  }
}

/** As GitHub and express send them (draft-ietf-httpapi-ratelimit-headers-07); `Reset` is in seconds from now. */
export function rateHeaders({ limit, remaining, resetMs }: Standing): Record<string, string> {
  return {
    'ratelimit-limit': String(limit),
    'ratelimit-remaining': String(remaining),
    'ratelimit-reset': String(Math.ceil(resetMs / 1_000)),
  };
}

function bounds({ rateWindowMs }: RateLimited, now: number): { startMs: number; endMs: number } {
  const startMs = now - (now % rateWindowMs);
  return { startMs, endMs: startMs + rateWindowMs };
}

function standing({ rateLimit }: RateLimited, window: Window, now: number, admitted: boolean): Standing {
  const remaining = Math.max(0, rateLimit - window.own - (window.others ?? 0));
  return { admitted, limit: rateLimit, remaining, resetMs: window.endMs - now };
}

// Rows of api_keys are locked in one order on all nodes, or two exchanges could wait for each other. `others` is read as of the
// statement's beginning, which does not matter: a node's own rows are left out.
const EXCHANGE = `
  with mine as (
    select * from unnest($2::uuid[], $3::float8[], $4::float8[], $5::integer[], $6::boolean[])
      as m (key_id, starts, ends, used, changed)
  ), told as (
    insert into postern.api_key_windows (key_id, starts_at, node_id, ends_at, used)
    select key_id, to_timestamp(starts), $1, to_timestamp(ends), used from mine where changed
    on conflict (key_id, starts_at, node_id) do update set used = excluded.used
  ), over as (
    delete from postern.api_key_windows
     where ctid = any (array (
       select ctid from postern.api_key_windows
        where ends_at < clock_timestamp() - interval '1 minute' limit 1000 for update skip locked))
  ), noted as (
    select * from unnest($7::uuid[], $8::float8[], $9::bigint[], $10::bigint[], $11::bigint[])
      as n (key_id, last_used, rate, scope, inactive)
  ), locked as (
    select id from postern.api_keys where id = any ($7::uuid[]) order by id for no key update
  ), written as (
    update postern.api_keys as k
       set last_used_at = greatest(k.last_used_at, to_timestamp(n.last_used)),
           refused_rate = k.refused_rate + n.rate,
           refused_scope = k.refused_scope + n.scope,
           refused_inactive = k.refused_inactive + n.inactive
      from noted as n join locked on locked.id = n.key_id
     where k.id = n.key_id
  )
  select m.key_id, coalesce(sum(w.used), 0)::integer as others
    from mine as m
    left join postern.api_key_windows as w
      on w.key_id = m.key_id and w.starts_at = to_timestamp(m.starts) and w.node_id <> $1
   group by m.key_id`;
