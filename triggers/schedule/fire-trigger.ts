import type { Pool, PoolClient } from 'pg';
import { withTransaction } from '../../database/index.ts';
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
}

/** `busy`: another node fires this trigger just now, or its function is being deployed. */
export type Firing = 'done' | 'busy';

type State = 'fired' | 'skipped' | 'queued';

/**
 * Fires what is due at `now`, by the database's clock, in one transaction: the ticks' rows and their events are there
 * together or not at all. The trigger is locked against the other nodes and against its removal, so an event of a removed
 * trigger can't follow.
 */
export function fireTrigger(pool: Pool, trigger: ScheduleTrigger, table: Timetable, now: number): Promise<Firing> {
  return withTransaction(pool, async (client) => {
    const locked = await client.query(LOCK_TRIGGER, [trigger.id]);
    if (locked.rowCount === 0) return 'busy';
    // After the lock, in a statement of its own: what another node has fired is seen.
    const since = await readPosition(client, trigger.id, now);
    const ticks = dueTicks(table, trigger.config.missed, since, now);
    const fired = await recordTicks(client, trigger, ticks);
    await fireEvents(
      client,
      fired.map((fireAt) => eventOf(trigger, fireAt, now)),
    );
    return 'done';
  });
}

async function readPosition(client: PoolClient, triggerId: string, now: number): Promise<number> {
  const { rows } = await client.query<{ since: Date }>(READ_POSITION, [triggerId, new Date(now)]);
  return rows[0]!.since.getTime();
}

/** Writes down what becomes of these ticks, and returns those whose events are to be fired now. */
async function recordTicks(client: PoolClient, trigger: ScheduleTrigger, ticks: readonly number[]): Promise<number[]> {
  const { overlap } = trigger.config;
  if (overlap === 'allow') return insertTicks(client, trigger.id, ticks, () => 'fired');
  const busy = await hasLiveEvent(client, trigger);
  if (overlap === 'skip') {
    return insertTicks(client, trigger.id, ticks, (index) => (busy || index > 0 ? 'skipped' : 'fired'));
  }
  const waiting = await countQueued(client, trigger.id);
  await insertTicks(client, trigger.id, ticks, (index) => (waiting + index < MAX_QUEUED ? 'queued' : 'skipped'));
  if (busy) return [];
  const { rows } = await client.query<{ at: Date }>(RELEASE_OLDEST, [trigger.id]);
  return rows.map(({ at }) => at.getTime());
}

/** Returns those that became `fired`. */
async function insertTicks(
  client: PoolClient,
  triggerId: string,
  ticks: readonly number[],
  stateOf: (index: number) => State,
): Promise<number[]> {
  if (ticks.length === 0) return [];
  const times = ticks.map((tick) => new Date(tick));
  const { rows } = await client.query<{ at: Date; state: State }>(INSERT_TICKS, [
    triggerId,
    times,
    ticks.map((_, index) => stateOf(index)),
  ]);
  const fired = rows.filter(({ state }) => state === 'fired').map(({ at }) => at.getTime());
  return fired.sort((a, b) => a - b);
}

async function hasLiveEvent(client: PoolClient, { id, functionId }: ScheduleTrigger): Promise<boolean> {
  const { rows } = await client.query<{ live: boolean }>(HAS_LIVE_EVENT, [functionId, id]);
  return rows[0]!.live;
}

async function countQueued(client: PoolClient, triggerId: string): Promise<number> {
  const { rows } = await client.query<{ count: number }>(COUNT_QUEUED, [triggerId]);
  return rows[0]!.count;
}

/** Put off by the jitter, counted from its time: one that is fired late anyway need not wait again. */
function eventOf({ id, functionId, config }: ScheduleTrigger, fireAt: number, now: number): FiredEvent {
  const runAt = fireAt + jitterOf(id, fireAt, config.jitterMs);
  const event = { functionId, triggerId: id, json: tickJson(config, fireAt, Math.max(now, runAt)) };
  return runAt > now ? { ...event, runAt: new Date(runAt) } : event;
}

const LOCK_TRIGGER = 'select from postern.triggers where id = $1 and enabled for no key update skip locked';

// Rows later than now are of a time when the database's clock was ahead: they keep their ticks from firing again, and no
// other tick from firing.
const READ_POSITION = `
  select coalesce(
    (select max(fire_at) from postern.schedule_fires where trigger_id = t.id and fire_at <= $2), t.created_at) as since
  from postern.triggers t where t.id = $1`;

const INSERT_TICKS = `
  insert into postern.schedule_fires (trigger_id, fire_at, state)
  select $1, tick.fire_at, tick.state from unnest($2::timestamptz[], $3::text[]) as tick (fire_at, state)
  on conflict do nothing
  returning fire_at as at, state`;

const HAS_LIVE_EVENT = `
  select exists (
    select from postern.events
    where function_id = $1 and run_at < 'infinity' and trigger_id = $2 and dead_at is null) as live`;

const COUNT_QUEUED = `
  select count(*)::integer as count from postern.schedule_fires where trigger_id = $1 and state = 'queued'`;

const RELEASE_OLDEST = `
  update postern.schedule_fires set state = 'fired'
  where (trigger_id, fire_at) = (
    select trigger_id, fire_at from postern.schedule_fires
    where trigger_id = $1 and state = 'queued' order by fire_at limit 1)
  returning fire_at as at`;
