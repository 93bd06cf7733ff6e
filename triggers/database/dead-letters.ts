/** What operators see of events: waiting ones, dead letters, and sending a dead letter again. */

import type { Pool } from 'pg';
import { isUuid } from '../../database/index.ts';
import { PosternError } from '../../runtime/index.ts';
import { ringDoorbell } from './doorbell.ts';

export const EVENT_STATUSES = ['pending', 'leased', 'dead'] as const;
export type EventStatus = (typeof EVENT_STATUSES)[number];

export interface EventSummary {
  readonly id: string;
  readonly status: EventStatus;
  readonly functionName: string;
  readonly triggerId: string;
  /** What made it: `database`, `schedule`, `webhook`, `dead_letter`. Schema, table and operation are empty for all but the first. */
  readonly trigger: string;
  readonly schema: string;
  readonly table: string;
  readonly operation: 'INSERT' | 'UPDATE' | 'DELETE' | '';
  /** ISO 8601, UTC. */
  readonly occurredAt: string;
  /** Null for a dead one. */
  readonly runAt: string | null;
  readonly deadAt: string | null;
  /** Tries that counted. */
  readonly attempt: number;
  readonly lastError: { readonly code: string; readonly message: string; readonly outcome: string } | null;
}

export interface EventDetail extends EventSummary {
  /** JSON text, as captured. */
  readonly oldJson: string | null;
  readonly newJson: string | null;
  /** JSON text of `request.jwt.claims`, or whatever was there. */
  readonly claims: string | null;
  readonly leasedBy: string | null;
  readonly leaseExpiresAt: string | null;
}

export interface EventFilter {
  readonly status?: EventStatus;
  readonly functionName?: string;
  /** 1 to 1000; default 50. */
  readonly limit?: number;
  /** `nextCursor` of the page before. */
  readonly cursor?: string;
}

export interface EventPage {
  readonly events: readonly EventSummary[];
  /** Null where there is no more. */
  readonly nextCursor: string | null;
}

const MAX_LIMIT = 1_000;
const DEFAULT_LIMIT = 50;

const STATUS = `case when e.dead_at is not null then 'dead' when e.leased_by is not null then 'leased' else 'pending' end`;
const ISO = `'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'`;

/** As `kindOf` has it. */
const IS_FIRED = `coalesce(e.table_name, t.config ->> 'table') is null and e.new_row::text like '{"trigger":"%'`;

const SUMMARY_COLUMNS = `
  e.id, ${STATUS} as status, f.name as "functionName", e.trigger_id as "triggerId",
  coalesce(e.table_schema, t.config ->> 'schema', '') as schema, coalesce(e.table_name, t.config ->> 'table', '') as table,
  case when ${IS_FIRED} then substring(e.new_row::text from '^\\{"trigger":"([a-z_]+)"') else 'database' end as trigger,
  case when ${IS_FIRED} then '' when e.old_row is null then 'INSERT' when e.new_row is null then 'DELETE' else 'UPDATE' end
    as operation,
  to_char(coalesce(e.occurred_at, e.run_at) at time zone 'UTC', ${ISO}) as "occurredAt",
  case when e.dead_at is null then to_char(e.run_at at time zone 'UTC', ${ISO}) end as "runAt",
  to_char(e.dead_at at time zone 'UTC', ${ISO}) as "deadAt",
  e.attempt, e.last_error as "lastError"`;

const FROM = `
  from postern.events e
    join postern.functions f on f.id = e.function_id
    left join postern.triggers t on t.id = e.trigger_id`;

/** Newest change first. The cursor is the last row's place in that order. */
const LIST_EVENTS = `
  select ${SUMMARY_COLUMNS}, e.seq
  ${FROM}
  where ($1::text is null or ${STATUS} = $1)
    and ($2::text is null or f.name = $2)
    and ($3::bigint is null or e.seq < $3)
  order by e.seq desc
  limit $4`;

/** Ids are given when somebody first sees the event; here somebody may. */
const NAME_EVENTS = `
  update postern.events e
  set id = gen_random_uuid()
  from unnest($1::bigint[]) as a (seq)
  where e.seq = a.seq and e.id is null
  returning e.seq, e.id`;

/** A page of events, newest first. Rejects with INVALID_REQUEST for a cursor that is none. */
export async function listEvents(pool: Pool, filter: EventFilter = {}): Promise<EventPage> {
  const limit = Math.min(Math.max(1, Math.trunc(filter.limit ?? DEFAULT_LIMIT)), MAX_LIMIT);
  if (filter.cursor !== undefined && !/^\d{1,18}$/.test(filter.cursor)) {
    throw new PosternError(
      'INVALID_REQUEST',
      `cursor: ${JSON.stringify(filter.cursor)} is not one that a page ended with`,
    );
  }
  const { rows } = await pool.query<EventSummary & { seq: string }>(LIST_EVENTS, [
    filter.status ?? null,
    filter.functionName ?? null,
    filter.cursor ?? null,
    limit + 1,
  ]);
  const page = rows.slice(0, limit);
  const names = await nameEvents(
    pool,
    page.filter((row) => row.id === null).map((row) => row.seq),
  );
  return {
    events: page
      .map(({ seq, ...event }) => ({ ...event, id: event.id ?? names.get(seq) ?? '' }))
      .filter((e) => e.id !== ''),
    nextCursor: rows.length > limit ? (page.at(-1)?.seq ?? null) : null,
  };
}

async function nameEvents(pool: Pool, seqs: readonly string[]): Promise<ReadonlyMap<string, string>> {
  if (seqs.length === 0) return new Map();
  const { rows } = await pool.query<{ seq: string; id: string }>(NAME_EVENTS, [seqs]);
  return new Map(rows.map(({ seq, id }) => [seq, id]));
}

const SHOW_EVENT = `
  select ${SUMMARY_COLUMNS}, e.old_row::text as "oldJson", e.new_row::text as "newJson", e.claims,
    e.leased_by as "leasedBy", to_char(e.lease_expires_at at time zone 'UTC', ${ISO}) as "leaseExpiresAt"
  ${FROM}
  where e.id = $1`;

/** One event with its rows; null where it is not there (never was, or handled). */
export async function showEvent(pool: Pool, id: string): Promise<EventDetail | null> {
  if (!isUuid(id)) return null;
  const { rows } = await pool.query<EventDetail>(SHOW_EVENT, [id]);
  return rows[0] ?? null;
}

/** As new, with its id and its history of leases: the function can tell that it has seen it. */
const AS_NEW = `run_at = clock_timestamp(), dead_at = null, attempt = 0, depth = null, leased_by = null, lease_expires_at = null`;

const REDRIVE_EVENT = `
  update postern.events
  set ${AS_NEW}
  where id = $1 and dead_at is not null`;

/** Runs a dead letter again, with all its attempts. False where there is no dead letter with this id. */
export async function redriveEvent(pool: Pool, id: string): Promise<boolean> {
  if (!isUuid(id)) return false;
  const { rowCount } = await pool.query(REDRIVE_EVENT, [id]);
  if (rowCount === 0) return false;
  await ringDoorbell(pool);
  return true;
}

export interface RedriveFilter {
  readonly functionName?: string;
  /** When the change was made: from, and before. */
  readonly from?: string;
  readonly to?: string;
  /** 1 to 10,000; default 1,000. */
  readonly limit?: number;
}

const MAX_REDRIVEN = 10_000;
const REDRIVEN = 1_000;

/** Oldest first, so that what is left can be redriven after it in its order. */
const REDRIVE_EVENTS = `
  with chosen as (
    select e.function_id, e.run_at, e.seq
    from postern.events e join postern.functions f on f.id = e.function_id
    where e.dead_at is not null
      and ($1::text is null or f.name = $1)
      and ($2::timestamptz is null or coalesce(e.occurred_at, e.run_at) >= $2)
      and ($3::timestamptz is null or coalesce(e.occurred_at, e.run_at) < $3)
    order by e.seq
    limit $4
    for update of e skip locked
  )
  update postern.events e
  set ${AS_NEW}
  from chosen c
  where e.function_id = c.function_id and e.run_at = c.run_at and e.seq = c.seq`;

/** Runs dead letters again, with all their attempts; returns how many. */
export async function redriveEvents(pool: Pool, filter: RedriveFilter): Promise<number> {
  const { rowCount } = await pool.query(REDRIVE_EVENTS, [
    filter.functionName ?? null,
    filter.from ?? null,
    filter.to ?? null,
    Math.min(Math.max(1, Math.trunc(filter.limit ?? REDRIVEN)), MAX_REDRIVEN),
  ]);
  if ((rowCount ?? 0) > 0) await ringDoorbell(pool);
  return rowCount ?? 0;
}

/** Removes a dead letter; what its ordering key held back goes on. False where there is no dead letter with this id. */
export async function discardEvent(pool: Pool, id: string): Promise<boolean> {
  if (!isUuid(id)) return false;
  const { rowCount } = await pool.query('delete from postern.events where id = $1 and dead_at is not null', [id]);
  if (rowCount === 0) return false;
  await ringDoorbell(pool);
  return true;
}

const SET_PAUSED = `
  update postern.triggers t
  set enabled = not $2
  from postern.functions f
  where f.id = t.function_id and f.name = $1 and t.kind <> 'http' and ($3::uuid is null or t.id = $3)
  returning t.id`;

/**
 * Pauses or resumes a function's triggers, but for HTTP, or one of them. Events are kept as before and wait; what runs goes
 * on to its end. Returns the ids of those that it was said of, changed or not.
 */
export async function setPaused(
  pool: Pool,
  functionName: string,
  paused: boolean,
  triggerId?: string,
): Promise<readonly string[]> {
  if (triggerId !== undefined && !isUuid(triggerId)) return [];
  const { rows } = await pool.query<{ id: string }>(SET_PAUSED, [functionName, paused, triggerId ?? null]);
  if (!paused && rows.length > 0) await ringDoorbell(pool);
  return rows.map(({ id }) => id);
}

export interface InstalledTrigger {
  readonly id: string;
  readonly type: string;
  readonly paused: boolean;
  readonly config: Readonly<Record<string, unknown>>;
}

/** Of the active version, in the order of their installation. */
export async function listTriggers(pool: Pool, functionName: string): Promise<readonly InstalledTrigger[]> {
  const { rows } = await pool.query<InstalledTrigger>(
    `select t.id, t.kind as type, not t.enabled as paused, t.config
     from postern.triggers t join postern.functions f on f.id = t.function_id
     where f.name = $1 order by t.created_at, t.id`,
    [functionName],
  );
  return rows;
}

const COUNT_EVENTS = `
  select ${STATUS} as status, count(*)::integer as count,
    greatest(0, extract(epoch from clock_timestamp() - min(coalesce(e.occurred_at, e.run_at))))::float8 as "oldestSeconds"
  from postern.events e
  group by 1`;

export interface EventCount {
  readonly count: number;
  /** Age of the oldest change among them; 0 where all are of a time to come. */
  readonly oldestSeconds: number;
}

/** For metrics and `doctor`. Reads the whole table: not more often than every few seconds. */
export async function countEvents(pool: Pool): Promise<Readonly<Record<EventStatus, EventCount>>> {
  const { rows } = await pool.query<EventCount & { status: EventStatus }>(COUNT_EVENTS);
  const none: EventCount = { count: 0, oldestSeconds: 0 };
  const of = (status: EventStatus): EventCount => {
    const row = rows.find((candidate) => candidate.status === status);
    return row === undefined ? none : { count: row.count, oldestSeconds: row.oldestSeconds };
  };
  return { pending: of('pending'), leased: of('leased'), dead: of('dead') };
}
