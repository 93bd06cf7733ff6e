/** What the control API shows of schedules. */

import type { Pool } from 'pg';
import type { ScheduleTriggerConfig } from '../../invoker/index.ts';
import { databaseNow } from './scheduler.ts';
import { Timetable } from './timetable.ts';

export interface ScheduleSummary {
  readonly triggerId: string;
  readonly config: ScheduleTriggerConfig;
  /** The next fires, at most five, but for the jitter. */
  readonly next: readonly Date[];
  /** The last tick that was due, and what became of it; null before the first. */
  readonly lastAt: Date | null;
  readonly lastState: 'fired' | 'skipped' | 'queued' | null;
  /** Ticks that wait for an earlier one to end. */
  readonly queued: number;
}

const SHOWN = 5;

/** The schedules of a function, in the order in which they were deployed. */
export async function listSchedules(pool: Pool, functionName: string): Promise<readonly ScheduleSummary[]> {
  const now = await databaseNow(pool);
  const { rows } = await pool.query<Omit<ScheduleSummary, 'next'>>(LIST_SCHEDULES, [functionName, new Date(now)]);
  return rows.map((row) => ({ ...row, next: upcoming(row.config, now, SHOWN) }));
}

/** The next `count` fires of each function that has any: of its schedules, and runs that were asked for. */
export async function nextFires(
  pool: Pool,
  count: number,
  name?: string,
): Promise<ReadonlyMap<string, readonly Date[]>> {
  const now = await databaseNow(pool);
  const [schedules, runs] = await Promise.all([
    pool.query<{ name: string; config: ScheduleTriggerConfig }>(ENABLED_SCHEDULES, [name ?? null]),
    pool.query<{ name: string; at: Date }>(NEXT_RUNS, [name ?? null, count]),
  ]);
  const fires = new Map<string, Date[]>();
  const add = (functionName: string, times: readonly Date[]): void => {
    fires.set(functionName, [...(fires.get(functionName) ?? []), ...times]);
  };
  for (const schedule of schedules.rows) add(schedule.name, upcoming(schedule.config, now, count));
  for (const run of runs.rows) add(run.name, [run.at]);
  return new Map([...fires].map(([each, times]) => [each, earliest(times, count)]));
}

function earliest(times: readonly Date[], count: number): readonly Date[] {
  return times.toSorted((a, b) => a.getTime() - b.getTime()).slice(0, count);
}

function upcoming({ cron, timezone }: ScheduleTriggerConfig, now: number, count: number): Date[] {
  const table = new Timetable(cron, timezone);
  const times: Date[] = [];
  for (let at = table.next(now); at !== null && times.length < count; at = table.next(at)) times.push(new Date(at));
  return times;
}

const LIST_SCHEDULES = `
  select t.id as "triggerId", t.config,
    last.at as "lastAt", last.state as "lastState",
    (select count(*)::integer from postern.schedule_fires s where s.trigger_id = t.id and s.state = 'queued') as queued
  from postern.triggers t join postern.functions f on f.id = t.function_id
    left join lateral (
      select s.fire_at as at, s.state from postern.schedule_fires s
      where s.trigger_id = t.id and s.fire_at <= $2 order by s.fire_at desc limit 1) last on true
  where t.kind = 'schedule' and f.name = $1
  order by t.created_at, t.id`;

const ENABLED_SCHEDULES = `
  select f.name, t.config from postern.triggers t join postern.functions f on f.id = t.function_id
  where t.kind = 'schedule' and t.enabled and ($1::text is null or f.name = $1)`;

const NEXT_RUNS = `
  select f.name, r.run_at as at
  from postern.functions f
    cross join lateral (
      select run_at from postern.scheduled_runs where function_id = f.id order by run_at limit $2) r
  where $1::text is null or f.name = $1`;
