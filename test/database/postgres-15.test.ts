/** The oldest Postgres that Postern promises to run on; `POSTERN_TEST_POSTGRES=15 npx vitest run` runs everything there. */

import { createHmac } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { examineDatabase, migrate } from '../../database/index.ts';
import { createDatabaseTriggers } from '../../server/database-triggers.ts';
import { startTestPostern, type TestPostern } from '../server/support.ts';
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts';
import { startTestServer, type TestServer } from '../support/test-server.ts';

let server: TestServer;
let db: TestDatabase;
let node: TestPostern;

beforeAll(async () => {
  server = await startTestServer(15);
  db = await createTestDatabase({ on: server });
  node = await startTestPostern(db, {}, { databaseTriggers: createDatabaseTriggers });
  await db.pool.query(`
    create table orders (id int primary key, state text default 'new');
    create table parts (id int, month int) partition by list (month);
    create table parts_1 partition of parts for values in (1);
    create table parts_2 partition of parts for values in (2);
    create table seen (what text, old jsonb, new jsonb);
    create table notes (owner text, body text);
    alter table notes enable row level security;
    create policy own on notes using (owner = (select postern.claims() ->> 'sub'));
    insert into notes values ('ann', 'of ann'), ('bob', 'of bob');
    grant select on notes to authenticated;
    grant usage on schema public to service_role;
    grant insert, select on seen to service_role;`);
});
afterAll(async () => {
  await node?.stop();
  await db?.drop();
  await server?.stop();
});

const RECORD = (triggers: string) => `import { db } from 'postern';
  export const config = { db: { role: 'service_role' }, triggers: ${triggers} };
  export const handler = async (event) => {
    await db.query('insert into seen values ($1, $2, $3)', [event.operation ?? event.trigger, event.old ?? null, event.new ?? null]);
  };`;

async function seen(count: number): Promise<{ what: string; old: unknown; new: unknown }[]> {
  for (;;) {
    const { rows } = await db.pool.query('select * from seen order by what, coalesce(new, old) ->> $1', ['id']);
    if (rows.length === count) {
      await db.pool.query('truncate seen');
      return rows;
    }
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

describe('on Postgres 15', () => {
  test('the server is one, every migration is there, and a second run changes nothing', async () => {
    const { rows } = await db.pool.query<{ version: string }>(
      "select current_setting('server_version_num') as version",
    );
    expect(rows[0]?.version).toMatch(/^15/);
    expect(await migrate(db.pool)).toEqual([]);
  });

  test.each(['at-least-once', 'atomic'])(
    'single rows, many rows, updates and deletes are delivered, %s',
    async (delivery) => {
      const trigger = `[{ type: 'database', table: 'orders', delivery: '${delivery}' }]`;
      expect(await node.deploy('orders', RECORD(trigger))).toMatchObject({ status: 201 });
      const { rows } = await db.pool.query(
        "select tgname ~ '_insert$' as insert from pg_trigger where tgrelid = 'orders'::regclass and tgnewtable = 'new_rows'",
      );
      expect(rows).toEqual([{ insert: true }]);
      await db.pool.query('insert into orders values (1)');
      await db.pool.query('insert into orders select generate_series(2, 20)');
      expect(await seen(20)).toHaveLength(20);
      await db.pool.query("update orders set state = 'paid' where id = 1");
      expect(await seen(1)).toEqual([{ what: 'UPDATE', old: { id: 1, state: 'new' }, new: { id: 1, state: 'paid' } }]);
      await db.pool.query('delete from orders');
      expect((await seen(20)).every(({ what }) => what === 'DELETE')).toBe(true);
    },
  );

  test('rows of partitions are delivered, and those that move', async () => {
    const trigger = "[{ type: 'database', table: 'parts', when: undefined }]";
    expect(await node.deploy('parts', RECORD(trigger))).toMatchObject({ status: 201 });
    await db.pool.query('insert into parts values (1, 1)');
    await db.pool.query('insert into parts_2 values (2, 2)');
    expect((await seen(2)).map(({ what }) => what)).toEqual(['INSERT', 'INSERT']);
    await db.pool.query('update parts set month = 2 where id = 1');
    expect((await seen(2)).map(({ what }) => what)).toEqual(['DELETE', 'INSERT']);
  });

  test("a function's SQL sees what its caller's proven claims allow", async () => {
    const source = `import { db } from 'postern';
      export const handler = () => db.query('select body from notes');`;
    expect(await node.deploy('mine', source)).toMatchObject({ status: 201 });
    for (const sub of ['ann', 'bob']) {
      const authorization = `Bearer ${await node.token({ sub })}`;
      expect(await (await node.call('/functions/v1/mine', { headers: { authorization } })).json()).toEqual([
        { body: `of ${sub}` },
      ]);
    }
  });

  test('a schedule and a webhook fire', async () => {
    expect(await node.deploy('tick', RECORD("[{ type: 'schedule', cron: '0 0 1 1 *' }]"))).toMatchObject({
      status: 201,
    });
    await node.admin('POST', '/functions/tick/schedule', { at: new Date().toISOString() });
    expect((await seen(1))[0]?.what).toBe('schedule');

    await node.admin('PUT', '/secrets/HOOK', { value: 'a webhook secret of enough bytes' });
    const hook = "[{ type: 'webhook', scheme: 'github', secret: 'HOOK' }]";
    expect(await node.deploy('hook', RECORD(hook))).toMatchObject({ status: 201 });
    const body = '{"a":1}';
    const signature = createHmac('sha256', 'a webhook secret of enough bytes').update(body).digest('hex');
    const response = await node.call('/functions/v1/webhook/hook', {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        'x-hub-signature-256': `sha256=${signature}`,
        'x-github-delivery': 'one',
      },
      body,
    });
    expect(response.status).toBeLessThan(300);
    expect((await seen(1))[0]?.what).toBe('webhook');
  });

  test('what is open to guests is found', async () => {
    await db.pool.query('create table open_to_all (id int); grant select on open_to_all to anon');
    const findings = await examineDatabase(db.pool);
    expect(findings.map(({ check, object }) => [check, object])).toContainEqual([
      'table-without-rls',
      'public.open_to_all',
    ]);
  });
});
