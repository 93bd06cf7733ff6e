import { expect, test } from 'vitest';
import { createSystemPool } from '../../../database/index.ts';
import { leaseEvents } from '../../../triggers/database/event-store.ts';
import { Janitor } from '../../../triggers/database/janitor.ts';
import { createTestDatabase } from '../../support/postgres.ts';

test('a vacuum of the outbox that takes too long is ended, in the server too', async () => {
  const db = await createTestDatabase();
  await db.pool.query(`
    insert into postern.events (function_id, trigger_id) select 1, gen_random_uuid() from generate_series(1, 20000);
    delete from postern.events;
    do $$ begin execute format('alter database %I set vacuum_cost_delay = 100', current_database());
                execute format('alter database %I set vacuum_cost_limit = 1', current_database()); end $$`);
  const pool = createSystemPool(db.url);
  const said: string[] = [];
  const janitor = new Janitor(pool, (message) => said.push(message), 400);
  janitor.handled(50_000);
  await janitor.settled();
  expect(said).toEqual(['the outbox could not be vacuumed']);
  for (;;) {
    const { rows } = await db.pool.query(
      "select count(*)::int as n from pg_stat_activity where datname = current_database() and query like 'vacuum%' and state = 'active'",
    );
    if (rows[0].n === 0) break;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  await pool.end();
  await db.drop();
});

test('ROW-14 a lease that waits for a lock on the outbox is given up by the server, and leases nothing', async () => {
  const db = await createTestDatabase();
  await db.pool.query("insert into postern.functions (name, active_version) values ('f', 1)");
  await db.pool.query(
    'insert into postern.events (function_id, trigger_id) select id, gen_random_uuid() from postern.functions',
  );
  const holder = await db.pool.connect();
  await holder.query('begin; lock table postern.events in access exclusive mode');
  const request = { nodeId: crypto.randomUUID(), limit: 1, leaseMs: 20_000, quotas: new Map(), otherwise: 1 };
  await expect(leaseEvents(db.pool, request)).rejects.toMatchObject({ code: '55P03' });
  await holder.query('rollback');
  holder.release();
  const { rows } = await db.pool.query('select attempt, leased_by from postern.events');
  expect(rows).toEqual([{ attempt: 0, leased_by: null }]);
  await db.drop();
});
