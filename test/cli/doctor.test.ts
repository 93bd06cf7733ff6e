import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ensureGuestRoles, type Finding } from '../../database/index.ts';
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts';
import { type Ran, run } from './support.ts';

let db: TestDatabase;
const odd = `"o'dd ${randomBytes(3).toString('hex')}"`;
beforeAll(async () => {
  db = await createTestDatabase();
  await ensureGuestRoles(db.pool, Buffer.from('test master key of 32 bytes ....'));
  // What is open from the start.
  for (const { remedy } of await findings()) await close(remedy);
});
afterAll(() => db.drop());

const doctor = (...more: string[]): Promise<Ran> => run(['doctor', '--database-url', db.url, ...more]);

async function findings(): Promise<readonly Finding[]> {
  const { stdout } = await doctor('--json');
  return (JSON.parse(stdout.split('\n')[0] as string) as { findings: Finding[] }).findings;
}

async function close(remedy: string | null): Promise<void> {
  expect(remedy).not.toBeNull();
  await db.pool.query(remedy as string);
}

test('a database without holes exits 0 and says so', async () => {
  const { code, stdout } = await doctor();
  expect([code, stdout]).toEqual([0, 'nothing is open to guests that a check knows of\n']);
});

const HOLES: readonly (readonly [check: string, severity: string, sql: string])[] = [
  ['table-without-rls', 'high', `create table ${odd} (id int); grant select on ${odd} to public`],
  [
    'table-of-guest',
    'high',
    'create table theirs (id int); alter table theirs enable row level security; alter table theirs owner to anon',
  ],
  [
    'view-without-security-invoker',
    'high',
    `create table rows_of_all (id int); alter table rows_of_all enable row level security;
     create view inner_view as select * from rows_of_all;
     create view outer_view as select * from inner_view; grant select on outer_view to authenticated`,
  ],
  [
    'definer-without-search-path',
    'high',
    `create function lends(int) returns int language sql security definer as 'select 1'; revoke all on function lends from public; grant execute on function lends to anon`,
  ],
  [
    'definer-for-public',
    'medium',
    `create function for_all() returns int language sql security definer set search_path = pg_catalog as 'select 1'`,
  ],
  [
    'materialized-view',
    'high',
    'create materialized view all_rows as select 1 as id; grant select on all_rows to anon',
  ],
  [
    'create-in-database',
    'medium',
    `do $$ begin execute format('grant create on database %I to authenticated', current_database()); end $$`,
  ],
  ['default-privileges', 'medium', 'alter default privileges grant select on tables to anon'],
  ['create-in-schema', 'high', 'grant create on schema public to public'],
  [
    'temporary-tables',
    'medium',
    `do $$ begin execute format('grant temporary on database %I to public', current_database()); end $$`,
  ],
  ['large-objects', 'medium', 'grant execute on function lo_from_bytea(oid, bytea) to public'],
  [
    'foreign-server',
    'high',
    'create foreign data wrapper w; create server s foreign data wrapper w; grant usage on foreign server s to authenticated',
  ],
  ['foreign-table', 'high', 'create foreign table elsewhere (id int) server s; grant select on elsewhere to anon'],
  ['user-mapping', 'medium', 'create user mapping for public server s'],
  ['capture-owner', 'medium', 'alter function postern.capture_row() owner to current_user'],
  ['capture-owner', 'medium', 'alter function postern.claims() owner to current_user'],
  [
    'client-connection-check',
    'medium',
    `do $$ begin execute format('alter database %I set client_connection_check_interval = 0', current_database()); end $$`,
  ],
  [
    'password-encryption',
    'low',
    `do $$ begin execute format('alter database %I set password_encryption = md5', current_database()); end $$`,
  ],
];

test.each(HOLES)(
  'DB-24 DB-25 %s (%s) is found, and the SQL that is printed closes it: %s',
  async (check, severity, sql) => {
    await db.pool.query(sql);
    const found = (await findings()).filter((finding) => finding.check === check);
    expect(found).toMatchObject([{ severity }]);
    const { code, stdout } = await doctor();
    expect(code).toBe(severity === 'high' ? 1 : 0);
    expect(stdout).toContain(found[0]?.remedy);
    await close(found[0]?.remedy ?? null);
    expect(await findings()).toEqual([]);
  },
);

test('DB-25 a role of guests that bypasses row-level security or makes roles is found', async () => {
  const role = `guest_${db.name}`;
  await db.pool.query(`create role ${role} bypassrls; create role ${role}_login; grant ${role} to ${role}_login;
    comment on role ${role}_login is 'postern guest login, key 0123456789ab'`);
  const [found] = await findings();
  expect(found).toMatchObject({ check: 'role-attributes', severity: 'high', object: `role ${role}` });
  await close(found?.remedy ?? null);
  expect(await findings()).toEqual([]);
  await db.pool.query(`drop role ${role}_login, ${role}`);
});

test('DB-25 a role of guests that is a member of one that reads past policies is found, also through another', async () => {
  const role = `member_${db.name}`;
  await db.pool.query(`create role ${role}; create role ${role}_login; grant ${role} to ${role}_login;
    comment on role ${role}_login is 'postern guest login, key 0123456789ab';
    create role ${role}_group; grant ${role}_group to ${role}; grant pg_read_all_data to ${role}_group;
    create role ${role}_past bypassrls; grant ${role}_past to ${role}`);
  const found = (await findings()).filter(({ check }) => check === 'role-membership');
  expect(found.map(({ object }) => object).sort()).toEqual([`role ${role}`, `role ${role}_group`]);
  for (const { remedy } of found) await close(remedy);
  expect((await findings()).filter(({ check }) => check === 'role-membership')).toEqual([]);
  await db.pool.query(`drop role ${role}_login, ${role}, ${role}_group, ${role}_past`);
});

test('with --json there is one JSON value, whatever it finds', async () => {
  await db.pool.query('create table open_to_all (id int); grant select on open_to_all to public');
  const { code, stdout } = await doctor('--json');
  expect(code).toBe(1);
  expect(stdout.trim().split('\n')).toHaveLength(1);
  await db.pool.query('drop table open_to_all');
});

test('it changes nothing, and works on a database that has never seen Postern', async () => {
  const empty = await createTestDatabase({ empty: true });
  const { code } = await run(['doctor', '--database-url', empty.url]);
  expect(code).toBe(0);
  expect((await empty.pool.query(`select to_regnamespace('postern') as schema`)).rows).toEqual([{ schema: null }]);
  await empty.drop();
});

test('without a database it says how to name one, and exits 2', async () => {
  const { code, stderr } = await run(['doctor', '--data-dir', '/nowhere']);
  expect(code).toBe(2);
  expect(stderr).toContain('DATABASE_URL');
});
