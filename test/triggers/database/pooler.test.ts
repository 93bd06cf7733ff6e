/** A whole node whose only way to Postgres is a pooler in transaction mode: one of our own without any mercy, and PgBouncer. */

import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { migrate, reachesThroughPooler } from '../../../database/index.ts';
import { createDatabaseTriggers } from '../../../server/database-triggers.ts';
import { Dispatcher } from '../../../triggers/database/index.ts';
import { startTestPostern, type TestPostern } from '../../server/support.ts';
import { createTestDatabase, type TestDatabase } from '../../support/postgres.ts';
import { TransactionPooler } from '../../support/transaction-pooler.ts';
import { databaseTrigger, FakeInvoker, installFunction, SettlementLog } from './support.ts';

// Servers and nodes of its own, on machines that do other things too.
vi.setConfig({ testTimeout: 90_000, hookTimeout: 90_000 });

const NOTHING: Pooler = { url: '', stop: async () => undefined };

interface Pooler {
  readonly url: string;
  stop(): Promise<void>;
}

const hasPgBouncer = ((): boolean => {
  try {
    execFileSync('pgbouncer', ['--version'], { stdio: 'ignore' });
    return true;
  } catch {
    console.warn('SKIPPED: no pgbouncer on this machine, so nothing is tested through it');
    return false;
  }
})();

/** With two server connections for each login, so that they change hands. */
async function startPgBouncer(databaseUrl: string, mode: 'transaction' | 'session' = 'transaction'): Promise<Pooler> {
  const folder = await mkdtemp(join(tmpdir(), 'pgbouncer-'));
  await chmod(folder, 0o755);
  const { hostname, port, username, password, pathname } = new URL(databaseUrl);
  const listen = await freePort();
  // Logins that guests use are made while it runs: their passwords are asked for.
  const ini = `[databases]
${pathname.slice(1)} = host=${hostname} port=${port} dbname=${pathname.slice(1)}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${listen}
unix_socket_dir =
pool_mode = ${mode}
default_pool_size = 2
auth_type = scram-sha-256
auth_file = ${folder}/users.txt
auth_user = ${username}
auth_query = select usename, passwd from pg_shadow where usename = $1
`;
  await writeFile(join(folder, 'pgbouncer.ini'), ini, { mode: 0o644 });
  await writeFile(join(folder, 'users.txt'), `"${username}" "${decodeURIComponent(password)}"\n`, { mode: 0o644 });
  const asNobody = process.getuid?.() === 0 ? { uid: 65_534, gid: 65_534 } : {};
  const child = spawn('pgbouncer', [join(folder, 'pgbouncer.ini')], {
    stdio: ['ignore', 'ignore', 'pipe'],
    ...asNobody,
  });
  const gone = once(child, 'exit');
  await new Promise<void>((ready, failed) => {
    let said = '';
    child.stderr.on('data', (bytes) => {
      said += String(bytes);
      if (said.includes('process up')) ready();
    });
    child.on('exit', () => failed(new Error(`PgBouncer did not start: ${said}`)));
  });
  return {
    url: Object.assign(new URL(databaseUrl), { port: String(listen) }).href,
    async stop() {
      child.kill('SIGKILL');
      await gone;
      await rm(folder, { recursive: true, force: true });
    },
  };
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return port;
}

const COPY_ROW = `import { db } from 'postern';
  export const config = {
    db: { role: 'service_role' },
    triggers: ['http', { type: 'database', table: 'orders', operations: ['INSERT'], delivery: 'DELIVERY' }],
  };
  export const handler = async (event) => {
    await db.query('insert into handled (id) values ($1)', [event.new.id]);
    await db.query('update handled set again = true where id = $1', [event.new.id]);
    return 'done';
  };`;

const POOLERS: readonly { name: string; skip: boolean; start: (url: string) => Promise<Pooler> }[] = [
  { name: 'one that moves every transaction', skip: false, start: (url) => TransactionPooler.start(url) },
  {
    name: 'one that moves every transaction and says the number of a real server process',
    skip: false,
    start: (url) => TransactionPooler.start(url, { backendKey: 'of the first server' }),
  },
  { name: 'PgBouncer', skip: !hasPgBouncer, start: (url) => startPgBouncer(url) },
];

for (const { name, skip, start } of POOLERS) {
  describe.skipIf(skip)(`F12 through a pooler in transaction mode, ${name},`, () => {
    let db: TestDatabase;
    let pooler = NOTHING;
    let node: TestPostern;
    const said: string[] = [];

    beforeAll(async () => {
      db = await createTestDatabase({ empty: true });
      pooler = await start(db.url);
      const pool = new pg.Pool({ connectionString: pooler.url });
      await migrate(pool);
      expect(await reachesThroughPooler(pool)).toBe(true);
      await pool.end();
      await db.pool.query(`
        create table orders (id int primary key);
        create table handled (id int primary key, again boolean);
        create table notes (owner text, body text);
        alter table notes enable row level security;
        create policy own on notes using (owner = (select postern.claims() ->> 'sub'));
        insert into notes values ('ann', 'of ann'), ('bob', 'of bob');`);
      node = await startTestPostern(
        { ...db, url: pooler.url },
        {},
        {
          databaseTriggers: (context) =>
            createDatabaseTriggers({
              ...context,
              log: Object.assign(Object.create(context.log), {
                warn: (_fields: unknown, message: string) => said.push(message),
              }),
            }),
        },
      );
      await db.pool.query(`
        grant select on notes to authenticated;
        grant usage on schema public to service_role;
        grant select, insert, update on handled to service_role;`);
    });
    afterAll(async () => {
      await node?.stop();
      await pooler.stop();
      await db.drop();
    });

    const handled = async (count: number): Promise<void> => {
      for (;;) {
        const { rows } = await db.pool.query('select count(*)::int as n from handled where again');
        if (rows[0].n === count) return;
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
    };

    test('the doorbell finds out, says so once, and polls', async () => {
      // A pooler that tells the number of a real server process is found out when the dispatcher first goes to sleep.
      for (;;) {
        const headers = { authorization: 'Bearer an-admin-key-for-tests' };
        const metrics = await (await node.call('/metrics', { headers })).text();
        if (metrics.includes('\npostern_events_listening 0\n')) break;
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
      expect(said.filter((line) => line.includes('pooler'))).toHaveLength(1);
    });

    test.each(['at-least-once', 'atomic'])('row events are done, with delivery %s', async (delivery) => {
      const deployed = await node.deploy('copy', COPY_ROW.replace('DELIVERY', delivery));
      expect(deployed).toMatchObject({ status: 201 });
      await db.pool.query('truncate orders, handled; insert into orders select generate_series(1, 60)');
      await handled(60);
      for (;;) {
        const { rows } = await db.pool.query('select count(*)::int as n from postern.events');
        if (rows[0].n === 0) break;
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
      const { rows } = await db.pool.query(
        `select count(*)::int as n from pg_locks where locktype = 'advisory' and objid = 1 and mode = 'ExclusiveLock'
           and database = (select oid from pg_database where datname = current_database())`,
      );
      expect(rows[0].n).toBe(0);
    });

    test('statements of different callers at once see what their proven claims allow, and settings do not stick', async () => {
      const source = `import { db } from 'postern';
        export const handler = async () => db.query('select body from notes');`;
      expect(await node.deploy('mine', source)).toMatchObject({ status: 201 });
      const answers = await Promise.all(
        Array.from({ length: 40 }, async (_, n) => {
          const sub = n % 2 === 0 ? 'ann' : 'bob';
          const authorization = `Bearer ${await node.token({ sub })}`;
          return (await node.call('/functions/v1/mine', { headers: { authorization } })).json();
        }),
      );
      expect(answers).toEqual(answers.map((_, n) => [{ body: n % 2 === 0 ? 'of ann' : 'of bob' }]));
    });

    test('what a session was left with by one caller is gone for the next', async () => {
      await db.pool.query(`
        create or replace function leave() returns int language plpgsql security definer as $$
          begin
            perform set_config('DateStyle', 'German', false), set_config('bytea_output', 'escape', false), pg_advisory_lock(4711);
            create temporary table if not exists left_behind (id int);
            return 1;
          end $$;
        create or replace function found() returns text language sql security definer as $$
          select concat_ws(' ', current_setting('DateStyle'), to_regclass('pg_temp.left_behind'),
            (select count(*) from pg_locks where objid = 4711 and pid = pg_backend_pid())) $$;`);
      const source = `import { db } from 'postern';
        export const handler = async () => {
          await db.query('select leave()');
          return (await db.query('select found() as f, $1::bytea as b, $2::date as d', [new Uint8Array([1]), '2026-01-02']))[0];
        };`;
      expect(await node.deploy('leaver', source, { auth: 'none' })).toMatchObject({ status: 201 });
      for (let n = 0; n < 10; n++) {
        const answer = (await (await node.call('/functions/v1/leaver')).json()) as { f: string };
        expect(answer.f).toMatch(/^ISO, ... 0$/);
      }
    });

    test('schedules fire', async () => {
      const source = `import { db } from 'postern';
        export const config = { db: { role: 'service_role' }, triggers: [{ type: 'schedule', cron: '* * * * *' }] };
        export const handler = async () => { await db.query('insert into handled (id, again) values (-1, true) on conflict do nothing'); };`;
      await db.pool.query('truncate handled');
      expect(await node.deploy('tick', source)).toMatchObject({ status: 201 });
      await node.admin('POST', '/functions/tick/schedule', { at: new Date(Date.now() + 200).toISOString() });
      await handled(1);
    });

    test('a deploy that has returned is what every caller gets', async () => {
      for (let version = 1; version <= 3; version++) {
        await node.deploy('fresh', `export const handler = () => ${version};`, { auth: 'none' });
        expect(await (await node.call('/functions/v1/fresh')).json()).toBe(version);
      }
    });
  });
}

test.skipIf(!hasPgBouncer)(
  'a pooler in session mode passes notifications on, and commits wake a dispatcher',
  async () => {
    const db = await createTestDatabase();
    const pooler = await startPgBouncer(db.url, 'session');
    await db.pool.query('create table things (id int)');
    await installFunction(db.pool, databaseTrigger({ table: 'things' }));
    const settled = new SettlementLog();
    const dispatcher = new Dispatcher({
      pool: db.pool,
      connection: { connectionString: pooler.url },
      invoker: new FakeInvoker(),
      policy: () => ({
        retry: { maxAttempts: 1, backoff: { initialMs: 1, factor: 1, maxMs: 1 } },
        version: 1,
        concurrency: null,
      }),
      nodeId: crypto.randomUUID(),
      pollMs: 600_000,
      metrics: settled.metrics,
    });
    await dispatcher.start();
    expect(dispatcher.listens).toBe(true);
    for (let n = 1; n <= 3; n++) {
      await db.pool.query('insert into things values ($1)', [n]);
      await settled.until({ finished: n });
    }
    await dispatcher.stop();
    await pooler.stop();
    await db.drop();
  },
);
