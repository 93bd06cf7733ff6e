/** A whole node over a Postgres that is restarted under it: another server at the same address, with the same data. */

import { afterAll, beforeAll, test } from 'vitest';
import { createDatabaseTriggers } from '../../server/database-triggers.ts';
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts';
import { startTestServer, type TestServer } from '../support/test-server.ts';
import { ADMIN_KEY, startTestPostern, type TestPostern } from './support.ts';

let server: TestServer;
let db: TestDatabase;
let node: TestPostern;

beforeAll(async () => {
  server = await startTestServer(18);
  db = await createTestDatabase({ on: server });
  node = await startTestPostern(db, {}, { databaseTriggers: createDatabaseTriggers });
  await db.pool.query('create table orders (id int); create table handled (id int)');
  await db.pool.query('grant usage on schema public to service_role; grant insert on handled to service_role');
});
afterAll(async () => {
  await node?.stop();
  await db?.drop();
  await server?.stop();
});

async function eventually(isSo: () => Promise<boolean>): Promise<void> {
  while (!(await isSo().catch(() => false))) await new Promise((resolve) => setTimeout(resolve, 20));
}

const handled = (count: number) =>
  eventually(async () => (await db.pool.query('select from handled')).rowCount === count);

const listens = () =>
  eventually(async () => {
    const response = await node.call('/metrics', { headers: { authorization: `Bearer ${ADMIN_KEY}` } });
    return (await response.text()).includes('\npostern_events_listening 1\n');
  });

test('F10 a node goes on after each of several restarts: events, calls, deploys, and commits wake it again', async () => {
  const source = `import { db } from 'postern';
    export const config = { db: { role: 'service_role' }, triggers: ['http', { type: 'database', table: 'orders' }] };
    export const handler = async (event) => {
      await db.query('insert into handled values ($1)', [event.new?.id ?? 0]);
      return VERSION;
    };`;
  for (let round = 1; round <= 3; round++) {
    const deployed = () => node.deploy('handle', source.replace('VERSION', String(round)), { auth: 'none' });
    await eventually(async () => (await deployed()).status === 201);
    await listens();
    await server.restart();
    await eventually(async () => (await db.pool.query('insert into orders values (1)')).rowCount === 1);
    await handled(2 * round - 1);
    await listens();
    await eventually(async () => {
      const response = await node.call('/functions/v1/handle');
      return response.status === 200 && (await response.json()) === round;
    });
    await handled(2 * round);
  }
});
