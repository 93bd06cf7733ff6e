import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { GuestLogins } from '../../database/index.ts';
import { createGuestDatabase, type GuestDatabase, MASTER_KEY } from './support.ts';

/** What holds where the gate does not: SQL of a guest straight through connections of the guests' logins. */
let database: GuestDatabase;
let clients: Readonly<Record<'anon' | 'service_role', pg.Client>>;
beforeAll(async () => {
  database = await createGuestDatabase();
  const logins = new GuestLogins(database.pool, MASTER_KEY);
  const connect = async (role: string): Promise<pg.Client> => {
    const client = new pg.Client(await logins.guestConnection(role));
    await client.connect();
    return client;
  };
  clients = { anon: await connect('anon'), service_role: await connect('service_role') };
  await database.pool.query(
    `do $$ begin execute format('revoke temporary on database %I from public', current_database()); end $$`,
  );
});
afterAll(async () => {
  await Promise.all(Object.values(clients).map((client) => client.end()));
  await database.stop();
});

async function codeOf(sql: string, client: pg.Client = clients.anon): Promise<string> {
  return client.query({ text: sql, queryMode: 'extended' } as pg.QueryConfig).then(
    () => `ALLOWED: ${sql}`,
    (error: pg.DatabaseError) => error.code ?? '',
  );
}

test.each([
  'set role service_role',
  'set role authenticated',
  'set role postern_claims',
  'set role postern_capture',
  'set session authorization postgres',
  "select set_config('role', 'service_role', false)",
  "do $do$ begin execute 'set role service_role'; end $do$",
  'grant service_role to anon',
  'alter role anon superuser',
  'create role mine',
])('DB-02 no other role is to be had: %s', async (sql) => {
  expect(['42501', '0LP01']).toContain(await codeOf(sql));
});

test('DB-03 the protocol takes one statement a call, with parameters and without', async () => {
  for (const values of [[], ['1']]) {
    await expect(
      clients.anon.query({ text: 'select 1; select 2', values, queryMode: 'extended' } as pg.QueryConfig),
    ).rejects.toMatchObject({ code: '42601' });
  }
});

test.each([
  'create temp table notes (id int)',
  'create temp view notes as select 1',
  'create function pg_temp.lower(text) returns text language sql as $$ select $1 $$',
  'create operator pg_temp.= (function = int4eq, leftarg = int, rightarg = int)',
])('DB-10 without the right TEMPORARY, which doctor asks to revoke, nothing is put in front: %s', async (sql) => {
  expect(['42501', '3F000']).toContain(await codeOf(sql));
});

test.each([
  "copy notes to program 'id'",
  "copy notes from '/etc/passwd'",
  "select lo_import('/etc/passwd')",
  "select lo_export(1, '/tmp/x')",
  "select pg_read_file('/etc/passwd')",
  "select pg_ls_dir('/')",
  'create extension dblink',
  'create extension postgres_fdw',
  "load '/tmp/x.so'",
  'create foreign data wrapper w',
  'create language plpython3u',
])('DB-11 files, programs and extensions are out of reach of both logins: %s', async (sql) => {
  for (const client of Object.values(clients)) expect(await codeOf(sql, client)).not.toMatch(/^ALLOWED/);
});

test.each([
  'table postern.claims_key',
  'select * from postern.events for update',
  'insert into postern.events (function_id) values (1)',
  'select postern.lease_events(null, 1, 1, 1, null, null)',
  'select postern.bump_catalog(null)',
  'create trigger t after insert on notes for each row execute function postern.capture_row()',
])('DB-13 nothing of schema postern is to be had: %s', async (sql) => {
  expect(await codeOf(sql)).toBe('42501');
});

test('DB-12 a spoofed doorbell says nothing but "look"', async () => {
  await database.pool.query('listen postern_events');
  // Anybody who may connect can ring: Postgres has no right for it. There is no payload that a dispatcher would read.
  await clients.anon.query("select pg_notify('postern_events', 'postern.secrets')");
  expect((await database.pool.query('select * from postern.events')).rows).toEqual([]);
  await database.pool.query('unlisten *');
});

test("DB-14 other roles' statements, passwords and server files stay hidden", async () => {
  const { rows } = await clients.anon.query<{ query: string }>(
    `select distinct query from pg_stat_activity where usename = 'postgres'`,
  );
  expect(rows).toEqual([{ query: '<insufficient privilege>' }]);
  for (const sql of [
    'select * from pg_authid',
    'select passwd from pg_shadow',
    "select current_setting('data_directory')",
    'select * from pg_hba_file_rules',
    'select * from pg_statistic',
  ]) {
    expect(await codeOf(sql), sql).toBe('42501');
  }
  const settings = await clients.anon.query(
    `select name from pg_settings where name in ('data_directory', 'hba_file')`,
  );
  expect(settings.rows).toEqual([]);
  const passwords = await clients.anon.query(`select distinct rolpassword from pg_roles`);
  expect(passwords.rows).toEqual([{ rolpassword: '********' }]);
});

test('DB-04 a statement that ends the transaction is found out, and its connection is not used again', async () => {
  await database.pool.query(`create procedure ends() language plpgsql as 'begin commit; end'`);
  const guest = database.invoke({ role: 'anon' });
  for (const sql of [
    'commit',
    'rollback',
    'call ends()',
    'savepoint a',
    'rollback and chain',
    "prepare transaction 'x'",
  ])
    expect(await guest.refusal(sql), sql).toMatchObject({ code: 'SQL_NOT_ALLOWED' });
  const tx = await guest.begin();
  await guest.query('insert into counters values (5, 5)', [], tx);
  await guest.call('db.rollback', { tx });
  expect((await guest.query('select * from counters')).rows).toEqual([]);
  await guest.end();
});
