/** Databases that are copied: by dump and restore, and by logical replication. On Postgres 15, whose tools Debian has. */

import { execFile, execFileSync } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { createDatabaseTriggers } from '../../../server/database-triggers.ts';
import { findDrift } from '../../../triggers/database/index.ts';
import { startTestPostern, type TestPostern } from '../../server/support.ts';
import { createTestDatabase, type TestDatabase } from '../../support/postgres.ts';
import { startTestServer, type TestServer } from '../../support/test-server.ts';

// Servers and nodes of its own, on machines that do other things too.
vi.setConfig({ testTimeout: 90_000, hookTimeout: 90_000 });

const run = promisify(execFile);

const hasTools = ((): boolean => {
  try {
    const said = execFileSync('pg_dump', ['--version'], { encoding: 'utf8' });
    if (Number(/(\d+)\./.exec(said)?.[1]) >= 15) return true;
  } catch {
    // As one that is too old.
  }
  console.warn('SKIPPED: no pg_dump of Postgres 15 or newer on this machine, so dump and restore are not tested');
  return false;
})();

let from: TestServer;
let to: TestServer;
const databases: TestDatabase[] = [];
const nodes: TestPostern[] = [];

beforeAll(async () => {
  [from, to] = await Promise.all([
    startTestServer(15, { wal_level: 'logical', max_wal_senders: '4' }),
    startTestServer(15),
  ]);
});
afterAll(async () => {
  for (const node of nodes) await node.stop();
  for (const database of databases) await database.drop();
  await from?.stop();
  await to?.stop();
});

async function database(on: TestServer, empty = false): Promise<TestDatabase> {
  const made = await createTestDatabase({ on, empty });
  databases.push(made);
  return made;
}

async function nodeOn(db: TestDatabase): Promise<TestPostern> {
  const node = await startTestPostern(db, {}, { databaseTriggers: createDatabaseTriggers });
  nodes.push(node);
  return node;
}

/** What the function on `orders` did, once there are so many of it. */
async function handled(db: TestDatabase, count: number): Promise<string[]> {
  for (;;) {
    const { rows } = await db.pool.query<{ what: string }>('select what from handled order by what');
    if (rows.length >= count) return rows.map(({ what }) => what);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

const TABLES = `create table orders (id int primary key, state text);
  create table handled (what text);
  create table notes (owner text, body text);
  alter table notes enable row level security;
  create policy own on notes using (owner = (select postern.claims() ->> 'sub'));
  insert into notes values ('ann', 'of ann'), ('bob', 'of bob');`;
const GRANTS = `grant select on notes to authenticated; grant usage on schema public to service_role;
  grant insert on handled to service_role;`;
const HANDLE = `import { db, env } from 'postern';
  export const config = {
    db: { role: 'service_role' }, env: ['WORD'], triggers: [{ type: 'database', table: 'orders' }],
  };
  export const handler = (event) =>
    db.query('insert into handled values ($1)', [event.operation + ' ' + (event.new ?? event.old).id + ' ' + env('WORD')]);`;
const MINE = `import { db } from 'postern'; export const handler = () => db.query('select body from notes');`;

async function deployTo(node: TestPostern): Promise<void> {
  await node.admin('PUT', '/secrets/WORD', { value: 'secret' });
  expect(await node.deploy('handle', HANDLE)).toMatchObject({ status: 201 });
  expect(await node.deploy('mine', MINE)).toMatchObject({ status: 201 });
}

describe.skipIf(!hasTools)('a database that was dumped and restored on another server', () => {
  test('with its roles goes on: triggers, waiting events, secrets and proven claims', async () => {
    const origin = await database(from);
    await origin.pool.query(TABLES);
    const first = await nodeOn(origin);
    await origin.pool.query(GRANTS);
    await deployTo(first);
    await first.stop();
    await origin.pool.query("insert into orders values (1, 'waits')");

    const folder = await mkdtemp(join(tmpdir(), 'postern-dump-'));
    const copy = await database(to, true);
    // Roles are the server's, not the database's. Those that are there already are said to be, and no matter.
    await run('pg_dumpall', [
      '--roles-only',
      '--no-role-passwords',
      '--dbname',
      from.url,
      '--file',
      join(folder, 'roles.sql'),
    ]);
    await run('psql', ['--quiet', '--dbname', to.url, '--file', join(folder, 'roles.sql')]);
    await run('pg_dump', ['--format=custom', '--file', join(folder, 'dump'), origin.url]);
    await run('pg_restore', ['--exit-on-error', '--dbname', copy.url, join(folder, 'dump')]);
    await rm(folder, { recursive: true });

    expect(await findDrift(copy.pool)).toEqual([]);
    const node = await nodeOn(copy);
    await copy.pool.query("insert into orders values (2, 'new')");
    expect(await handled(copy, 2)).toEqual(['INSERT 1 secret', 'INSERT 2 secret']);
    const authorization = `Bearer ${await node.token({ sub: 'ann' })}`;
    expect(await (await node.call('/functions/v1/mine', { headers: { authorization } })).json()).toEqual([
      { body: 'of ann' },
    ]);
  });
});

describe('logical replication', () => {
  test('of every table goes on while functions run, and changes that arrive fire the functions of the subscriber', async () => {
    const publisher = await database(from);
    const subscriber = await database(to);
    for (const db of [publisher, subscriber]) await db.pool.query(TABLES);
    const [here, there] = [await nodeOn(publisher), await nodeOn(subscriber)];
    for (const db of [publisher, subscriber]) await db.pool.query(GRANTS);
    // All of Postern's own tables too: what has no replica identity could not be updated any more.
    await publisher.pool.query(
      'create publication everything for all tables; create publication orders_only for table orders',
    );
    await deployTo(here);
    await deployTo(there);

    const url = new URL(publisher.url);
    const connection = `host=${url.hostname} port=${url.port} dbname=${publisher.name} user=${url.username} password=${url.password}`;
    await subscriber.pool.query(
      `create subscription copy connection '${connection}' publication orders_only with (slot_name = ${publisher.name}, copy_data = false)`,
    );
    expect((await findDrift(subscriber.pool)).map(({ state }) => state)).toContain('outdated');
    await there.stop();
    await nodeOn(subscriber);
    expect(await findDrift(subscriber.pool)).toEqual([]);

    await publisher.pool.query("insert into orders values (1, 'new'), (2, 'new')");
    await publisher.pool.query("update orders set state = 'paid' where id = 1");
    await publisher.pool.query('delete from orders where id = 2');
    const all = ['DELETE 2 secret', 'INSERT 1 secret', 'INSERT 2 secret', 'UPDATE 1 secret'];
    try {
      expect(await handled(publisher, 4)).toEqual(all);
      expect(await handled(subscriber, 4)).toEqual(all);
    } finally {
      // Its slot keeps the publisher's database.
      await subscriber.pool.query('drop subscription copy');
    }
  });
});
