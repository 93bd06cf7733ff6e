/**
 * Nodes of two releases on one database. The other release is what it leaves there: images of its engine, configurations
 * with its fields, its migrations.
 */

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pino from 'pino';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Migration, migrate, readMigrations } from '../../database/migrate.ts';
import { type RunningPostern, startPostern } from '../../server/index.ts';
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts';

const TIMEOUT_MS = 60_000;
const OTHER_ENGINE = 'e'.repeat(64);

let db: TestDatabase;
let dataDir: string;
let node: RunningPostern;

beforeAll(async () => {
  db = await createTestDatabase();
  dataDir = await mkdtemp(join(tmpdir(), 'postern-rolling-'));
  await db.pool.query('create role service_role nologin bypassrls').catch(() => {});
  await db.pool.query('create table sources (id int primary key); create table handled (id int, attempt int)');
  await db.pool.query('grant insert on handled to service_role');
  node = await start();
}, TIMEOUT_MS);
afterAll(async () => {
  await node?.stop();
  await rm(dataDir, { recursive: true, force: true });
  await db.drop();
});

/** The operator's log. */
const log: string[] = [];

function start(): Promise<RunningPostern> {
  return startPostern(
    { mode: 'dev', host: '127.0.0.1', port: 0, dataDir, databaseUrl: db.url, executors: 1 },
    { logOutput: { write: () => true }, log: pino({ level: 'warn' }, { write: (line: string) => log.push(line) }) },
  );
}

async function deploy(name: string, source: string, config: Record<string, unknown> = {}): Promise<number> {
  const response = await fetch(`${node.url}/functions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ name, source, ...config }),
  });
  return response.status;
}

/** As a deploy through a node of the other release does it at its end. */
async function change(name: string, sql: string, values: readonly unknown[] = []): Promise<void> {
  const versions = `(select id from postern.functions where name = '${name}')`;
  await db.pool.query(sql.replace('$VERSIONS', `function_id = ${versions}`), [...values]);
  await db.pool.query('select postern.bump_catalog($1)', [[name]]);
}

async function call({ url }: RunningPostern, name: string): Promise<{ status: number; body: unknown }> {
  const response = await fetch(`${url}/functions/v1/${name}`);
  return { status: response.status, body: await response.json() };
}

const addConfig = 'update postern.versions set config = config || $1 where $VERSIONS';

test('a node builds its own image of a version that came with another engine, newer or older, and leaves that one alone', {
  timeout: TIMEOUT_MS,
}, async () => {
  expect(await deploy('images', 'export const handler = () => "mine";', { auth: 'none' })).toBe(201);
  await db.pool.query(`update postern.images set engine_id = $1, image = '\\xdeadbeef'`, [OTHER_ENGINE]);
  const fresh = await start();
  try {
    expect(await call(fresh, 'images')).toEqual({ status: 200, body: 'mine' });
    const { rows } = await db.pool.query(
      `select engine_id = $1 as other, image = '\\xdeadbeef' as kept from postern.images order by 1`,
      [OTHER_ENGINE],
    );
    expect(rows).toEqual([
      { other: false, kept: false },
      { other: true, kept: true },
    ]);
  } finally {
    await fresh.stop();
  }
});

test.each([
  ['a field', { egress: 'none' }, 'egress'],
  ['a field of a field', { db: { role: 'invoker', readOnly: true } }, 'db.readOnly'],
  ['a way to authenticate', { auth: 'mutual-tls' }, "auth 'mutual-tls'"],
  ['a language', { language: 'cobol' }, "language 'cobol'"],
  ['a trigger', { triggers: [{ type: 'http' }, { type: 'queue' }] }, "triggers[1].type 'queue'"],
  ['an option of a trigger', { triggers: [{ type: 'http', methods: ['GET'] }] }, 'triggers[0].methods'],
])(
  '%s that only a newer node knows keeps an older one from running the version',
  {
    timeout: TIMEOUT_MS,
  },
  async (what, config, named) => {
    const name = `newer-${what.replaceAll(' ', '-')}`;
    expect(await deploy(name, 'export const handler = () => "old";', { auth: 'none' })).toBe(201);
    expect((await call(node, name)).body).toBe('old');
    await change(name, addConfig, [config]);
    await expect.poll(async () => (await call(node, name)).status, { timeout: 10_000 }).toBe(503);
    expect(await call(node, name)).toMatchObject({ body: { code: 'OVERLOADED' } });
    // Once, however often it was asked for.
    const text = `version 1 of function '${name}' was deployed by a newer Postern: this node does not know ${named}`;
    expect(log.filter((line) => line.includes(text))).toHaveLength(1);
    // The rest of the node does not mind.
    expect((await call(node, 'images')).status).toBe(200);
    expect((await fetch(`${node.url}/functions`)).status).toBe(200);
  },
);

test('the events of such a version wait for a newer node, and waiting is no attempt', {
  timeout: TIMEOUT_MS,
}, async () => {
  const source =
    'export const handler = (e) => db.query("insert into handled values ($1, $2)", [e.new.id, e.attempt]);';
  const trigger = { type: 'database', table: 'sources', operations: ['INSERT'] };
  expect(await deploy('waits', source, { trigger, db: { role: 'service_role' }, retry: { maxAttempts: 1 } })).toBe(201);
  await change('waits', addConfig, [{ egress: 'none' }]);
  await db.pool.query('insert into sources values (1)');
  const refused = async () => {
    const page = await (await fetch(`${node.url}/metrics`)).text();
    return Number(
      /postern_invocations_total\{.*trigger="database",outcome="overloaded".*\} (\d+)/.exec(page)?.[1] ?? 0,
    );
  };
  await expect.poll(refused, { timeout: 20_000 }).toBeGreaterThan(2);
  // What the newer node is to the event: one that knows the field.
  await change('waits', `update postern.versions set config = config - 'egress' where $VERSIONS`);
  const handled = async () => (await db.pool.query('select * from handled')).rows;
  await expect.poll(handled, { timeout: 10_000 }).toEqual([{ id: 1, attempt: 1 }]);
});

test('a bundle that this engine can not build is refused as the node, not as the function', {
  timeout: TIMEOUT_MS,
}, async () => {
  expect(await deploy('bundled', 'export const handler = () => 1;', { auth: 'none' })).toBe(201);
  await change('bundled', `update postern.versions set bundle = 'newGlobalOfNewerNodes();' || bundle where $VERSIONS`);
  await db.pool.query(`delete from postern.images i using postern.versions v, postern.functions f
    where i.version_id = v.version_id and v.function_id = f.id and f.name = 'bundled'`);
  const fresh = await start();
  try {
    for (let tries = 0; tries < 3; tries++) {
      expect(await call(fresh, 'bundled')).toMatchObject({ status: 503, body: { code: 'OVERLOADED' } });
    }
    const lines = log.filter((line) => line.includes("function 'bundled' can't be built for this node's engine"));
    expect(lines).toHaveLength(1);
    expect(lines[0]).toContain('newGlobalOfNewerNodes');
  } finally {
    await fresh.stop();
  }
});

/** Last: the database is newer than this code afterwards. */
test('a node goes on while a newer one migrates: calls, deploys, events; but this release starts no more', {
  timeout: TIMEOUT_MS,
}, async () => {
  await deploy('steady', 'export const handler = () => "steady";', { auth: 'none' });
  const sql = `do $$ declare one regclass; begin
    for one in select oid from pg_class where relnamespace = 'postern'::regnamespace and relkind = 'r' and relname <> 'migrations' loop
      execute format('alter table %s add column of_a_newer_release text not null default %L', one, 'x');
    end loop; end $$`;
  const newer: Migration = { number: 9_999, name: '9999_of_a_newer_release.sql', sql, checksum: 'newer' };
  let migrated = false;
  const answers = new Set<string>();
  const caller = async (): Promise<void> => {
    while (!migrated) answers.add(JSON.stringify(await call(node, 'steady')));
  };
  const callers = Array.from({ length: 4 }, caller);
  for (let id = 10; id < 30; id++) {
    await db.pool.query('insert into sources values ($1)', [id]);
    if (id === 20) await migrate(db.pool, { migrations: [...(await readMigrations()), newer] });
  }
  const handled = async () => (await db.pool.query('select from handled where id >= 10')).rowCount;
  await expect.poll(handled, { timeout: 20_000 }).toBe(20);
  migrated = true;
  await Promise.all(callers);
  expect([...answers]).toEqual(['{"status":200,"body":"steady"}']);

  expect(await deploy('steady', 'export const handler = () => "still";', { auth: 'none' })).toBe(201);
  expect((await call(node, 'steady')).body).toBe('still');
  const secret = await fetch(`${node.url}/secrets/TOKEN`, {
    method: 'PUT',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ value: 'value' }),
  });
  expect(secret.ok).toBe(true);
  const recorded = async () =>
    (await db.pool.query(`select from postern.function_invocations where version = 2`)).rowCount;
  await expect.poll(recorded, { timeout: 10_000 }).toBeGreaterThan(0);
  await expect(start()).rejects.toThrow('The database is newer than this Postern: it has migration 9999_of_a_newer');
});
