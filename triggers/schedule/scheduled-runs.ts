/** Runs of a function that were asked for at a time: kept in the database, fired once, cancelled until then. */

import type { Pool } from 'pg';
import { failpoint, withTransaction } from '../../database/index.ts';
import { fireEvents } from '../database/index.ts';
import { runJson } from './schedule-event.ts';

const BATCH = 100;

export interface ScheduledRun {
  readonly id: string;
  readonly at: Date;
  /** JSON text; null for none. */
  readonly event: string | null;
  readonly createdAt: Date;
}

/** Null where there is no such function. A time that has passed means at once. */
export async function scheduleRun(
  pool: Pool,
  functionName: string,
  at: Date,
  event: string | null,
): Promise<ScheduledRun | null> {
  const { rows } = await pool.query<ScheduledRun>(INSERT_RUN, [functionName, at, event]);
  return rows[0] ?? null;
}

/** False where there is none of that id and function: cancelled, fired, or never was. `id` is a UUID. */
export async function cancelRun(pool: Pool, functionName: string, id: string): Promise<boolean> {
  const { rowCount } = await pool.query(CANCEL_RUN, [functionName, id]);
  return (rowCount ?? 0) > 0;
}

/** Those that wait, in the order of their times. */
export async function listRuns(pool: Pool, functionName: string): Promise<readonly ScheduledRun[]> {
  const { rows } = await pool.query<ScheduledRun>(LIST_RUNS, [functionName]);
  return rows;
}

/**
 * Fires what is due at `now`: the row goes and the event comes in one transaction. Leaves out functions that are being
 * deployed or deleted, and returns when the earliest that is left wants to run, or null.
 */
export async function fireDueRuns(pool: Pool, now: number): Promise<number | null> {
  for (;;) {
    const earliest = await earliestRun(pool);
    if (earliest === null || earliest > now || (await fireBatch(pool, now)) === 0) return earliest;
  }
}

async function earliestRun(pool: Pool): Promise<number | null> {
  const { rows } = await pool.query<{ at: Date | null }>('select min(run_at) as at from postern.scheduled_runs');
  return rows[0]?.at?.getTime() ?? null;
}

async function fireBatch(pool: Pool, now: number): Promise<number> {
  const count = await withTransaction(pool, async (client) => {
    const { rows } = await client.query<{ id: string; functionId: string; at: Date; event: string | null }>(TAKE_DUE, [
      new Date(now),
      BATCH,
    ]);
    const events = rows.map(({ id, functionId, at, event }) => ({
      functionId: Number(functionId),
      triggerId: id,
      json: runJson(at.getTime(), now, event),
    }));
    await fireEvents(client, events);
    failpoint('before_fire_commit');
    return rows.length;
  });
  failpoint('after_fire_commit');
  return count;
}

const RUN_COLUMNS = 'r.id, r.run_at as at, r.event::text as event, r.created_at as "createdAt"';

const INSERT_RUN = `
  insert into postern.scheduled_runs as r (function_id, run_at, event)
  select id, $2, $3::json from postern.functions where name = $1 and active_version is not null
  returning ${RUN_COLUMNS}`;

const CANCEL_RUN = `
  delete from postern.scheduled_runs r using postern.functions f where f.id = r.function_id and f.name = $1 and r.id = $2`;

const LIST_RUNS = `
  select ${RUN_COLUMNS} from postern.scheduled_runs r join postern.functions f on f.id = r.function_id
  where f.name = $1 order by r.run_at, r.id limit 1000`;

// The function's row is locked so that it can't be deleted in between, which would leave an event of no function.
const TAKE_DUE = `
  with due as (
    select r.id from postern.scheduled_runs r join postern.functions f on f.id = r.function_id
    where r.run_at <= $1 order by r.run_at, r.id limit $2
    for update of r skip locked for key share of f skip locked
  )
  delete from postern.scheduled_runs r using due where r.id = due.id
  returning r.id, r.function_id as "functionId", r.run_at as at, r.event::text as event`;
