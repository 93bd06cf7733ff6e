import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { createSystemPool, Janitor, type RetentionRule } from '../../database/index.ts';
import { recordRetention } from '../../invoker/index.ts';
import { AUDIT_RETENTION } from '../../server/control/audit-log.ts';
import { IDEMPOTENCY_RETENTION } from '../../triggers/index.ts';
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts';

let db: TestDatabase;
const troubles: unknown[] = [];

beforeAll(async () => {
  db = await createTestDatabase();
});
afterAll(() => db.drop());
beforeEach(async () => {
  troubles.length = 0;
  await db.pool.query('truncate postern.function_invocations, postern.recordings');
});

/** A record for each number, that many days old. */
async function records(status: 'ok' | 'error', ...days: readonly number[]): Promise<void> {
  await db.pool.query(
    `insert into postern.function_invocations (id, function_name, version, trigger, status, outcome, started_at, duration_ms)
     select gen_random_uuid(), $1::text || day, 1, 'http', $1, $1, now() - day * interval '1 day', 1
       from unnest($2::float8[]) as day`,
    [status, days],
  );
}
async function left(): Promise<string[]> {
  const { rows } = await db.pool.query<{ name: string }>(
    'select function_name as name from postern.function_invocations order by 1',
  );
  return rows.map(({ name }) => name);
}
function janitorOf(rules: readonly RetentionRule[], pool = db.pool): Janitor {
  return new Janitor({ pool, rules, onError: (_, error) => troubles.push(error) });
}
const inBatchesOf = (batchRows: number): RetentionRule[] => recordRetention({}).map((rule) => ({ ...rule, batchRows }));
const many = (count: number, day: number): number[] => Array.from({ length: count }, () => day);

test('records that succeeded are kept for 7 days, those that failed for 30', async () => {
  await records('ok', 0, 6.9, 7.1, 400);
  await records('error', 0, 7.1, 29.9, 30.1);
  expect(await janitorOf(recordRetention({})).sweep()).toBe(3);
  expect(await left()).toEqual(['error0', 'error29.9', 'error7.1', 'ok0', 'ok6.9']);
});

test('a recording is kept as long as the record of its invocation', async () => {
  await db.pool.query(`
    insert into postern.recordings (invocation_id, function_name, version, version_id, engine_id, status, outcome, started_at, lost)
    select gen_random_uuid(), status || day, 1, '', '', status, status, now() - day * interval '1 day', 'x'
      from unnest(array['ok', 'error']) as status, unnest(array[6.9, 7.1, 30.1]) as day`);
  expect(await janitorOf(recordRetention({})).sweep()).toBe(3);
  const { rows } = await db.pool.query<{ name: string }>(
    'select function_name as name from postern.recordings order by 1',
  );
  expect(rows.map(({ name }) => name)).toEqual(['error6.9', 'error7.1', 'ok6.9']);
});

test('records are kept as long as the operator says, or for ever', async () => {
  await records('ok', 0.4, 0.6, 10_000);
  await records('error', 400, 0.6);
  expect(await janitorOf(recordRetention({ okMs: null, failedMs: 43_200_000 })).sweep()).toBe(2);
  expect(await left()).toEqual(['ok0.4', 'ok0.6', 'ok10000']);
});

test('what is over goes in batches, the oldest first, and each is committed by itself', async () => {
  await records('ok', ...many(20, 9), ...many(5, 8), 1);
  // The second batch fails: a row of it is not to be deleted.
  await db.pool.query(`
    create function keep() returns trigger language plpgsql as $$ begin raise 'kept'; end $$;
    create trigger keep before delete on postern.function_invocations
      for each row when (old.function_name = 'ok8') execute function keep();`);
  try {
    expect(await janitorOf(inBatchesOf(20)).sweep()).toBe(0);
    expect(await left()).toEqual(['ok1', ...many(5, 8).map((day) => `ok${day}`)]);
    expect(troubles).toMatchObject([{ message: 'kept' }]);
  } finally {
    await db.pool.query('drop function keep cascade');
  }
  expect(await janitorOf(inBatchesOf(2)).sweep()).toBe(5);
  expect(await left()).toEqual(['ok1']);
});

test('a rule that can not be followed does not keep the others from it', async () => {
  await records('ok', 9);
  const broken: RetentionRule = { what: 'nothing', table: 'no_such_table', orderBy: 'at', where: '$1 > 0' };
  expect(await janitorOf([broken, ...recordRetention({})]).sweep()).toBe(1);
  expect(troubles).toHaveLength(1);
});

test('nodes that sweep at once remove each row once, and only one of them at a time', async () => {
  await records('ok', ...many(3_000, 8));
  await db.pool.query(`
    create table turns (at serial, pid int, what text);
    create function take_turn() returns trigger language plpgsql as $$
    begin
      if exists (select from pg_locks where locktype = 'advisory' and granted and pid <> pg_backend_pid()
          and database = (select oid from pg_database where datname = current_database())) then
        insert into turns (pid, what) values (pg_backend_pid(), 'two at once');
      end if;
      insert into turns (pid, what) values (pg_backend_pid(), 'batch');
      return null;
    end $$;
    create trigger take_turn after delete on postern.function_invocations for each statement execute function take_turn();`);
  const pools = [db.pool, createSystemPool(db.url), createSystemPool(db.url)];
  try {
    const removed = await Promise.all(pools.map((pool) => janitorOf(inBatchesOf(100), pool).sweep()));
    const rest = await janitorOf(inBatchesOf(100)).sweep();
    expect(removed.reduce((sum, rows) => sum + rows, rest)).toBe(3_000);
    expect(await left()).toEqual([]);
    const { rows } = await db.pool.query(`select from turns where what = 'two at once'`);
    expect(rows).toEqual([]);
    expect(troubles).toEqual([]);
  } finally {
    await db.pool.query('drop function take_turn cascade');
    await pools[1]!.end();
    await pools[2]!.end();
  }
});

test('a row that somebody holds is left for the next round, and nobody waits for it', async () => {
  await records('ok', 8, 9, 10);
  const holder = await db.pool.connect();
  try {
    await holder.query('begin');
    await holder.query(`select from postern.function_invocations where function_name = 'ok9' for update`);
    expect(await janitorOf(recordRetention({})).sweep()).toBe(2);
    expect(await left()).toEqual(['ok9']);
  } finally {
    await holder.query('rollback');
    holder.release();
  }
  expect(await janitorOf(recordRetention({})).sweep()).toBe(1);
});

test('a table that somebody alters is left after a second, and those behind are served', async () => {
  await records('ok', 8);
  const holder = await db.pool.connect();
  try {
    await holder.query('begin');
    await holder.query('lock table postern.function_invocations in access exclusive mode');
    expect(await janitorOf(recordRetention({ failedMs: null })).sweep()).toBe(0);
    expect(troubles).toMatchObject([{ code: '55P03' }]);
  } finally {
    await holder.query('rollback');
    holder.release();
  }
  expect(await left()).toEqual(['ok8']);
});

test('a batch is found by the index, with any number of newer failures beside it', async () => {
  await records('ok', ...many(50, 8));
  await db.pool.query(`
    insert into postern.function_invocations (id, function_name, version, trigger, status, outcome, started_at, duration_ms)
    select gen_random_uuid(), 'f', 1, 'http', 'error', 'exception', now() - interval '20 days', 1 from generate_series(1, 20000)`);
  await db.pool.query('analyze postern.function_invocations');
  const { rows } = await db.pool.query<{ 'QUERY PLAN': string }>(`
    explain (analyze, costs off, timing off) select ctid from postern.function_invocations
     where status = 'ok' and started_at < now() - make_interval(secs => 604800)
     order by started_at limit 5000 for update skip locked`);
  const plan = rows.map((row) => row['QUERY PLAN']).join('\n');
  expect(plan).toContain('function_invocations_by_age');
  expect(plan).not.toMatch(/Sort|Rows Removed by Filter/);
});

test('a dead letter stays, however old', async () => {
  await db.pool.query(`
    insert into postern.events (function_id, trigger_id, occurred_at, run_at, dead_at)
    select 1, gen_random_uuid(), old, old, old from (select now() - interval '10 years') as _ (old)`);
  await records('error', 400);
  const rules = [...recordRetention({}), AUDIT_RETENTION, IDEMPOTENCY_RETENTION];
  expect(await janitorOf(rules).sweep()).toBe(1);
  expect((await db.pool.query('select from postern.events')).rowCount).toBe(1);
});

test('stopped before its first round it removes nothing, and it can be stopped twice', async () => {
  await records('ok', 8);
  const janitor = janitorOf(recordRetention({}));
  janitor.start();
  await janitor.stop();
  await janitor.stop();
  expect(await janitor.sweep()).toBe(0);
  expect(await left()).toEqual(['ok8']);
});
