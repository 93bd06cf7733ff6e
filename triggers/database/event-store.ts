/** The statements that move events between their states (database/migrations/0002_create_events.sql). */

import type { Pool } from 'pg';
import { timedQuery } from '../../database/index.ts';
import { MAX_EVENT_BYTES } from '../../invoker/index.ts';
import type { LeasedEvent } from './leased-event.ts';

export interface LeaseRequest {
  readonly nodeId: string;
  /** Most events to lease. */
  readonly limit: number;
  readonly leaseMs: number;
  /** Most events of one function; of those that the map does not name, `otherwise`. */
  readonly quotas: ReadonlyMap<string, number>;
  readonly otherwise: number;
}

/** How an attempt is acknowledged, other than by success. */
export interface Setback {
  readonly event: LeasedEvent;
  /** When to try again; null keeps the time that it had. */
  readonly delayMs: number | null;
  readonly dead: boolean;
  /** How many of the attempts did not count: 0, or this one, or all beyond the last that the event may have. */
  readonly givenBack: number;
  readonly error: { readonly code: string; readonly message: string; readonly outcome: string } | null;
  /** For a dead one: the function that is told, and the event that it gets, without id and attempt. */
  readonly deadLetter?: { readonly functionName: string; readonly json: string };
}

/** An acknowledgement that has no answer for so long is sent again; the fence makes that harmless. */
const ACKNOWLEDGE_TIMEOUT_MS = 30_000;

/**
 * Settings of the writer's session, which may be megabytes of anything, and are in each event. Larger claims come as '', which
 * are none; a token has 8 KB.
 */
const MAX_CLAIMS_BYTES = 64 * 1024;
/** One more than a depth has digits. */
const MAX_DEPTH_CHARS = 7;

/** See database/migrations/0013_extend_delivery.sql. */
const selectLeased = (call: string): string => `
  select e.event_seq, e.event_id, e.event_function_id, e.function_name, e.event_trigger_id,
    coalesce(e.event_schema, t.config ->> 'schema', ''), coalesce(e.event_table, t.config ->> 'table', ''),
    case when size.bytes <= ${MAX_EVENT_BYTES} then e.event_old_row end,
    case when size.bytes <= ${MAX_EVENT_BYTES} then e.event_new_row end,
    case when octet_length(e.event_claims) > ${MAX_CLAIMS_BYTES} then '' else e.event_claims end, e.event_writer,
    left(e.event_depth, ${MAX_DEPTH_CHARS}),
    e.event_occurred_at, e.event_run_at, e.event_attempt, e.event_lease_number, size.bytes, e.event_ordering_key,
    e.event_parked, e.event_age_ms
  from ${call} e
    left join postern.triggers t on t.id = e.event_trigger_id,
    lateral (select coalesce(octet_length(e.event_old_row::text), 0)
      + coalesce(octet_length(e.event_new_row::text), 0) as bytes) size`;
const LEASE_EVENTS = selectLeased('postern.lease_events($1, $2, $3, $4, $5, $6)');
const LEASE_GROUP = `${selectLeased('postern.lease_group($1, $2, $3, $4, $5, $6)')} order by e.event_seq`;

const AS_TEXT = { getTypeParser: () => (value: string | Buffer) => value };

type Columns = readonly (string | null)[];

export function leaseEvents(pool: Pool, request: LeaseRequest): Promise<LeasedEvent[]> {
  const { nodeId, limit, leaseMs, quotas, otherwise } = request;
  return lease(pool, leaseMs, LEASE_EVENTS, [
    nodeId,
    limit,
    leaseMs,
    otherwise,
    [...quotas.keys()],
    [...quotas.values()],
  ]);
}

/** What follows `first`, which the node holds, under its ordering key; in that order, without gaps. */
export function leaseGroup(
  pool: Pool,
  first: LeasedEvent,
  { nodeId, limit, leaseMs }: Pick<LeaseRequest, 'nodeId' | 'limit' | 'leaseMs'>,
): Promise<LeasedEvent[]> {
  return lease(pool, leaseMs, LEASE_GROUP, [nodeId, limit, leaseMs, first.functionId, first.orderingKey, first.seq]);
}

const IS_WHOLE = `
  select not exists (
    select from postern.events e
    where e.function_id = $1 and e.ordering_key = $2 and e.seq > $3 and e.dead_at is null) as whole`;

/** Whether nothing waits behind this event under its key, for its own time or for the end of another lease. */
export async function isLastOfKey(pool: Pool, last: LeasedEvent, timeoutMs: number): Promise<boolean> {
  const { rows } = await timedQuery<{ whole: boolean }>(pool, timeoutMs, {
    text: IS_WHOLE,
    values: [last.functionId, last.orderingKey, last.seq],
  });
  return rows[0]!.whole;
}

/** Not given up before the lease would have run out: what is leased, and nobody hears of it, costs an attempt. */
async function lease(pool: Pool, leaseMs: number, text: string, values: readonly unknown[]): Promise<LeasedEvent[]> {
  const { rows } = await timedQuery<Columns & (string | null)[]>(pool, leaseMs, {
    text,
    values: [...values],
    rowMode: 'array',
    types: AS_TEXT,
  });
  return rows.map(eventOf);
}

function eventOf(row: Columns): LeasedEvent {
  return {
    seq: row[0]!,
    id: row[1]!,
    functionId: row[2]!,
    functionName: row[3]!,
    triggerId: row[4]!,
    schema: row[5]!,
    table: row[6]!,
    oldRow: row[7] ?? null,
    newRow: row[8] ?? null,
    claims: row[9] ?? null,
    writer: row[10] ?? null,
    depth: row[11] ?? null,
    occurredAt: row[12]!,
    runAt: row[13]!,
    attempt: row[14]!,
    leaseNumber: row[15]!,
    rowBytes: Number(row[16]),
    orderingKey: row[17] ?? null,
    parked: row[18] === 't',
    ageMs: Number(row[19]),
  };
}

/** The fence: the row as we leased it. A holder that lost its lease changes nothing, whatever it says. */
const OURS = `
  e.function_id = a.function_id and e.run_at = a.run_at and e.seq = a.seq
  and e.lease_number = a.lease_number and e.leased_by = $1`;

const KEYS = '$2::bigint[], $3::timestamptz[], $4::bigint[], $5::integer[]';

const FINISH_EVENTS = `
  delete from postern.events e
  using unnest(${KEYS}) as a (function_id, run_at, seq, lease_number)
  where ${OURS}`;

/** Of each part, the events of one transaction, all or none: the rest would come again without them. */
const FINISH_PARTS = `
  with a as (
    select * from unnest(${KEYS}, $6::integer[]) as a (function_id, run_at, seq, lease_number, part)
  ), ours as (
    select e.function_id, e.run_at, e.seq, a.part from postern.events e join a on ${OURS} for update of e
  ), whole as (
    select part from a group by part having count(*) = (select count(*) from ours where ours.part = a.part)
  )
  delete from postern.events e using ours
  where e.function_id = ours.function_id and e.run_at = ours.run_at and e.seq = ours.seq
    and ours.part in (select part from whole)`;

/** What a function is told about a dead letter is in the outbox with its death, or neither is. */
const SET_EVENTS_BACK = `
with set_back as (
  update postern.events e
  set run_at = case
        when a.dead then 'infinity'
        when a.delay_ms is null then e.run_at
        else clock_timestamp() + a.delay_ms * interval '1 ms'
      end,
      occurred_at = coalesce(e.occurred_at, e.run_at),
      dead_at = case when a.dead then clock_timestamp() end,
      attempt = e.attempt - a.given_back,
      last_error = coalesce(a.last_error, e.last_error),
      leased_by = null,
      lease_expires_at = null
  from unnest(${KEYS}, $6::float8[], $7::boolean[], $8::integer[], $9::jsonb[], $10::text[], $11::text[])
    as a (function_id, run_at, seq, lease_number, delay_ms, dead, given_back, last_error, told_function, told_json)
  where ${OURS}
  returning e.depth, a.told_function, a.told_json
), told as (
  insert into postern.events (function_id, trigger_id, new_row, depth, occurred_at)
  select f.id, gen_random_uuid(), s.told_json::json, s.depth, clock_timestamp()
  from set_back s join postern.functions f on f.name = s.told_function
)
select count(*)::integer as count from set_back`;

const RENEW_LEASES = `
  update postern.events e
  set lease_expires_at = clock_timestamp() + $6 * interval '1 ms'
  from unnest(${KEYS}) as a (function_id, run_at, seq, lease_number)
  where ${OURS}
  returning e.seq`;

function keysOf(events: readonly LeasedEvent[]): readonly (readonly string[])[] {
  return [
    events.map((event) => event.functionId),
    events.map((event) => event.runAt),
    events.map((event) => event.seq),
    events.map((event) => event.leaseNumber),
  ];
}

/** Removes handled events; returns how many of them were still ours. */
export async function finishEvents(
  pool: Pool,
  nodeId: string,
  events: readonly LeasedEvent[],
  timeoutMs = ACKNOWLEDGE_TIMEOUT_MS,
): Promise<number> {
  const { rowCount } = await timedQuery(pool, timeoutMs, {
    text: FINISH_EVENTS,
    values: [nodeId, ...keysOf(events)],
  });
  return rowCount ?? 0;
}

/** Removes parts of which every event is still ours; returns how many events those had. */
export async function finishParts(
  pool: Pool,
  nodeId: string,
  parts: readonly (readonly LeasedEvent[])[],
  timeoutMs = ACKNOWLEDGE_TIMEOUT_MS,
): Promise<number> {
  const { rowCount } = await timedQuery(pool, timeoutMs, {
    text: FINISH_PARTS,
    values: [nodeId, ...keysOf(parts.flat()), parts.flatMap((events, part) => events.map(() => part))],
  });
  return rowCount ?? 0;
}

/** Makes events pending or dead; returns how many of them were still ours. */
export async function setEventsBack(
  pool: Pool,
  nodeId: string,
  setbacks: readonly Setback[],
  timeoutMs = ACKNOWLEDGE_TIMEOUT_MS,
): Promise<number> {
  const values = [
    nodeId,
    ...keysOf(setbacks.map(({ event }) => event)),
    setbacks.map(({ delayMs }) => delayMs),
    setbacks.map(({ dead }) => dead),
    setbacks.map(({ givenBack }) => givenBack),
    // jsonb has no NUL; a function's error message may.
    setbacks.map(({ error }) => (error === null ? null : JSON.stringify(error).replaceAll('\\u0000', '\\ufffd'))),
    setbacks.map(({ deadLetter }) => deadLetter?.functionName ?? null),
    setbacks.map(({ deadLetter }) => deadLetter?.json ?? null),
  ];
  const { rows } = await timedQuery<{ count: number }>(pool, timeoutMs, { text: SET_EVENTS_BACK, values });
  return rows[0]?.count ?? 0;
}

/** Returns the `seq` of those that are still ours. Rejects in time for another try before the lease runs out. */
export async function renewLeases(
  pool: Pool,
  nodeId: string,
  events: readonly LeasedEvent[],
  leaseMs: number,
): Promise<ReadonlySet<string>> {
  const { rows } = await timedQuery<{ seq: string }>(pool, leaseMs / 3, {
    text: RENEW_LEASES,
    values: [nodeId, ...keysOf(events), leaseMs],
  });
  return new Set(rows.map((row) => row.seq));
}

/** Events whose function is gone: none while uninstalling works as it should, and never leased. */
export async function deleteOrphans(pool: Pool): Promise<number> {
  const { rowCount } = await pool.query(
    'delete from postern.events e where not exists (select from postern.functions f where f.id = e.function_id)',
  );
  return rowCount ?? 0;
}
