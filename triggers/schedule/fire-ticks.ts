import type { Pool, PoolClient } from 'pg';
import { failpoint, withTransaction } from '../../database/index.ts';
import type { ScheduleTriggerConfig } from '../../invoker/index.ts';
import { type FiredEvent, fireEvents } from '../database/index.ts';
import { dueTicks } from './due-ticks.ts';
import { jitterOf, tickJson } from './schedule-event.ts';
import type { Timetable } from './timetable.ts';

/** Of ticks that wait for an earlier one to end; with more than that the schedule asks for more than there is time for. */
const MAX_QUEUED = 1_000;

export interface ScheduleTrigger {
  readonly id: string;
  readonly functionId: number;
  readonly config: ScheduleTriggerConfig;
  readonly table: Timetable;
}

interface Tick {
  readonly triggerId: string;
  readonly fireAt: number;
  readonly state: 'fired' | 'skipped' | 'queued';
}

/**
 * Fires what is due of these triggers at `now`, by the database's clock, in one transaction: the ticks' rows and their
 * events are there together or not at all. The triggers are locked against the other nodes and against their removal, so that no
 * event of a removed trigger can follow. Returns how many were ours: the others another node has in hand, or a deploy.
 */
export async function fireTicks(pool: Pool, triggers: readonly ScheduleTrigger[], now: number): Promise<number> {
  const count = await withTransaction(pool, async (client) => {
    const locked = await client.query<{ id: string }>(LOCK_TRIGGERS, [triggers.map(({ id }) => id)]);
    const ids = new Set(locked.rows.map(({ id }) => id));
    const ours = triggers.filter(({ id }) => ids.has(id));
    if (ours.length > 0) await fireEvents(client, await recordTicks(client, ours, now));
    failpoint('before_fire_commit');
    return ours.length;
  });
  failpoint('after_fire_commit');
  return count;
}

/** Writes down what becomes of the ticks that are due, and returns the events that are to be fired now. */
async function recordTicks(client: PoolClient, ours: readonly ScheduleTrigger[], now: number): Promise<FiredEvent[]> {
  const ids = ours.map(({ id }) => id);
  // After the lock, in a statement of its own: what another node has fired is seen.
  const positions = await client.query<{ id: string; since: Date }>(READ_POSITIONS, [ids, new Date(now)]);
  const since = new Map(positions.rows.map((row) => [row.id, row.since.getTime()]));
  const occupied = await readOccupied(client, ours);
  const ticks = ours.flatMap((trigger) => {
    const due = dueTicks(trigger.table, trigger.config.missed, since.get(trigger.id)!, now);
    return statesOf(trigger, due, occupied.get(trigger.id) ?? { busy: false, queued: 0 });
  });
  const fired = await insertTicks(client, ticks);
  const free = ours.filter(({ id, config }) => config.overlap === 'queue' && occupied.get(id)?.busy !== true);
  if (free.length > 0) fired.push(...(await releaseOldest(client, free)));
  const byId = new Map(ours.map((trigger) => [trigger.id, trigger]));
  fired.sort((a, b) => a.fireAt - b.fireAt);
  return fired.map(({ triggerId, fireAt }) => eventOf(byId.get(triggerId)!, fireAt, now));
}

interface Occupied {
  /** An event of the trigger waits or runs. */
  readonly busy: boolean;
  readonly queued: number;
}

/** Of those triggers to which it matters. */
async function readOccupied(
  client: PoolClient,
  ours: readonly ScheduleTrigger[],
): Promise<ReadonlyMap<string, Occupied>> {
  const exclusive = ours.filter(({ config }) => config.overlap !== 'allow');
  if (exclusive.length === 0) return new Map();
  const { rows } = await client.query<Occupied & { id: string }>(READ_OCCUPIED, [
    exclusive.map(({ id }) => id),
    exclusive.map(({ functionId }) => functionId),
  ]);
  return new Map(rows.map((row) => [row.id, row]));
}

function statesOf({ id, config }: ScheduleTrigger, due: readonly number[], { busy, queued }: Occupied): Tick[] {
  const stateOf = (index: number): Tick['state'] => {
    if (config.overlap === 'allow') return 'fired';
    if (config.overlap === 'skip') return busy || index > 0 ? 'skipped' : 'fired';
    return queued + index < MAX_QUEUED ? 'queued' : 'skipped';
  };
  return due.map((fireAt, index) => ({ triggerId: id, fireAt, state: stateOf(index) }));
}

/** Returns those that became `fired`; not one whose row is there already. */
async function insertTicks(client: PoolClient, ticks: readonly Tick[]): Promise<FiredTick[]> {
  if (ticks.length === 0) return [];
  const { rows } = await client.query<{ id: string; at: Date; state: Tick['state'] }>(INSERT_TICKS, [
    ticks.map(({ triggerId }) => triggerId),
    ticks.map(({ fireAt }) => new Date(fireAt)),
    ticks.map(({ state }) => state),
  ]);
  return rows.filter(({ state }) => state === 'fired').map(({ id, at }) => ({ triggerId: id, fireAt: at.getTime() }));
}

type FiredTick = Pick<Tick, 'triggerId' | 'fireAt'>;

async function releaseOldest(client: PoolClient, free: readonly ScheduleTrigger[]): Promise<FiredTick[]> {
  const { rows } = await client.query<{ id: string; at: Date }>(RELEASE_OLDEST, [free.map(({ id }) => id)]);
  return rows.map(({ id, at }) => ({ triggerId: id, fireAt: at.getTime() }));
}

/** Put off by the jitter, counted from its time: one that is fired late anyway need not wait again. */
function eventOf({ id, functionId, config }: ScheduleTrigger, fireAt: number, now: number): FiredEvent {
  const runAt = fireAt + jitterOf(id, fireAt, config.jitterMs);
  const event = { functionId, triggerId: id, json: tickJson(config, fireAt, Math.max(now, runAt)) };
  return runAt > now ? { ...event, runAt: new Date(runAt) } : event;
}

const LOCK_TRIGGERS = `
  select id from postern.triggers where id = any ($1::uuid[]) and enabled for no key update skip locked`;

// Rows later than now are of a time when the database's clock was ahead: they keep their ticks from firing again, and no
// other tick from firing.
const READ_POSITIONS = `
  select t.id, coalesce(
    (select max(s.fire_at) from postern.schedule_fires s where s.trigger_id = t.id and s.fire_at <= $2), t.created_at
  ) as since
  from postern.triggers t where t.id = any ($1::uuid[])`;

const INSERT_TICKS = `
  insert into postern.schedule_fires (trigger_id, fire_at, state)
  select tick.trigger_id, tick.fire_at, tick.state
  from unnest($1::uuid[], $2::timestamptz[], $3::text[]) as tick (trigger_id, fire_at, state)
  on conflict do nothing
  returning trigger_id as id, fire_at as at, state`;

const READ_OCCUPIED = `
  select t.id,
    exists (
      select from postern.events e
      where e.function_id = t.function_id and e.run_at < 'infinity' and e.trigger_id = t.id and e.dead_at is null
    ) as busy,
    (select count(*)::integer from postern.schedule_fires s where s.trigger_id = t.id and s.state = 'queued') as queued
  from unnest($1::uuid[], $2::bigint[]) as t (id, function_id)`;

const RELEASE_OLDEST = `
  update postern.schedule_fires s set state = 'fired'
  from unnest($1::uuid[]) as t (id)
  where s.trigger_id = t.id and s.fire_at = (
    select min(q.fire_at) from postern.schedule_fires q where q.trigger_id = t.id and q.state = 'queued')
  returning s.trigger_id as id, s.fire_at as at`;
