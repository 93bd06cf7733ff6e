/** What is left in Postgres when all nodes have stopped. */

import type { Pool } from 'pg';
import type { Residue } from './history.ts';

const OF_NODES = `datname = current_database() and backend_type = 'client backend' and application_name like 'postern%'`;
const UNREMOVABLE = /(\d+) are dead but not yet removable/;

export async function countUndelivered(pool: Pool): Promise<number> {
  return count(pool, 'select count(*)::int as count from postern.events where dead_at is null');
}

async function countUnfired(pool: Pool): Promise<number> {
  return count(pool, 'select count(*)::int as count from postern.scheduled_runs');
}

export async function readResidue(pool: Pool, orphans: readonly string[]): Promise<Residue> {
  return {
    undelivered: (await countUndelivered(pool)) + (await countUnfired(pool)),
    idleInTransaction: await count(
      pool,
      `select count(*)::int as count from pg_stat_activity
       where datname = current_database() and state like 'idle in transaction%'`,
    ),
    advisoryLocks: await count(pool, `select count(*)::int as count from pg_locks where locktype = 'advisory'`),
    sessions: await count(pool, `select count(*)::int as count from pg_stat_activity where ${OF_NODES}`),
    orphans,
    unremovableTuples: await unremovableTuples(pool),
    notificationQueueUsage: await count(pool, 'select pg_notification_queue_usage() as count'),
  };
}

async function count(pool: Pool, sql: string): Promise<number> {
  return (await pool.query<{ count: number }>(sql)).rows[0]!.count;
}

async function unremovableTuples(pool: Pool): Promise<number> {
  const client = await pool.connect();
  let said = '';
  const listen = (notice: { readonly message?: string | undefined }): void => {
    said += notice.message ?? '';
  };
  client.on('notice', listen);
  try {
    await client.query('vacuum (verbose) postern.events');
  } finally {
    client.off('notice', listen);
    client.release();
  }
  return Number(UNREMOVABLE.exec(said)?.[1] ?? Number.NaN);
}
