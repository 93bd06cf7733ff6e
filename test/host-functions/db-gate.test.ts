import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { SqlGate } from '../../host-functions/db/sql-gate.ts';
import type { HostCallError } from '../../runtime/host-function.ts';

const gate = new SqlGate();
const check = (sql: string, definitions = false) => gate.check(sql, { definitions });
const refused = async (sql: string, definitions = false): Promise<string> =>
  check(sql, definitions).then(
    () => `ALLOWED: ${sql}`,
    (error: HostCallError) => error.code,
  );

const ALLOWED = [
  'select 1',
  'select 1;',
  'values (1), (2)',
  'table notes',
  'select * from notes where id = $1 order by body limit 10 for update skip locked',
  'insert into notes (owner, body) values ($1, $2) on conflict (id) do update set body = excluded.body returning *',
  'update notes set body = $1 where id = any ($2) returning id',
  'delete from notes using counters where counters.id = notes.id',
  'merge into notes n using counters c on c.id = n.id when matched then delete when not matched then insert (owner) values ($1)',
  'with recursive t as (select 1 n union all select n + 1 from t where n < 5) select * from t',
  'with gone as (delete from notes returning *) insert into counters select id, 1 from gone',
  "select count(*) filter (where owner = 'a') over (partition by owner) from notes",
  "select jsonb_build_object('a', 1) -> 'a', (array[1,2])[1], '2026-01-01'::timestamptz at time zone 'UTC', extract(year from now())",
  'select case when owner is null then 0 else 1 end, coalesce(owner, body), greatest(1, 2), (1, 2) = (1, 2) from notes',
  "select * from notes cross join lateral (select 1) x, generate_series(1, 3) with ordinality g(a, b), json_table($1, '$[*]' columns (a int)) j",
  "select my_function($1), public.other(2), nextval('s'), gen_random_uuid(), pg_sleep(0), current_user, random()",
  'select table_name from information_schema.tables',
  'select relname from pg_catalog.pg_class',
  'select grouping(owner) from notes group by grouping sets ((owner), ())',
  'select * from notes tablesample bernoulli (10)',
];

test.each(ALLOWED)('the gate lets through: %s', async (sql) => {
  await expect(check(sql)).resolves.toBeDefined();
});

const SESSION_STATEMENTS = [
  // DB-02, DB-04, DB-05, DB-08, DB-12
  'set role service_role',
  'set local role service_role',
  'reset role',
  'reset all',
  "set session authorization 'postgres'",
  'set statement_timeout = 0',
  "set local request.jwt.claims = '{}'",
  'show all',
  'begin',
  'commit',
  'rollback',
  'abort',
  'end',
  'start transaction',
  'savepoint a',
  'release a',
  'rollback to savepoint a',
  'rollback and chain',
  "prepare transaction 'x'",
  "commit prepared 'x'",
  'prepare p as select 1',
  'execute p',
  'deallocate all',
  'discard all',
  'listen postern_events',
  'unlisten *',
  "notify postern_events, 'x'",
  'declare c cursor with hold for select 1',
  'fetch all from c',
  'close all',
  'lock table notes',
  // DB-11
  "copy notes to program 'id'",
  "copy notes from '/etc/passwd'",
  'copy (select 1) to stdout',
  "load 'x'",
  'create extension dblink',
  "do $$ begin execute 'set role service_role'; end $$",
  'call p()',
  'explain analyze delete from notes',
  'vacuum',
  'analyze',
  'checkpoint',
  'create temp table notes (id int)',
  'create table t (id int)',
  'create table t as select 1',
  'drop table notes',
  'truncate notes',
  'alter role anon superuser',
  'grant service_role to anon',
  "security label on table notes is 'x'",
  'select 1 into t',
  'select 1 into temp t',
  'with x as (select 1) select * into t from x',
];

test.each(SESSION_STATEMENTS)('DB-02 DB-04 DB-08 DB-11 DB-12 the gate refuses: %s', async (sql) => {
  expect(await refused(sql)).toBe('SQL_NOT_ALLOWED');
});

const SERVICE_REFUSED = SESSION_STATEMENTS.filter((sql) => !/^(create table|drop table|truncate)/.test(sql));
test.each([
  "create function f() returns int language sql as 'select 1'",
  "create or replace procedure p(q text) language plpgsql as 'begin execute q; end'",
  'create function f(a int) returns int language sql return a + 1',
  'alter function f() set search_path = public',
])('DB-02 a function of service_role makes no function, whose text nobody has seen: %s', async (sql) => {
  expect(await refused(sql, true)).toBe('SQL_NOT_ALLOWED');
});

test('a function of service_role may define tables, but its gate refuses session commands like any other', async () => {
  for (const sql of SERVICE_REFUSED) expect(await refused(sql, true), sql).toBe('SQL_NOT_ALLOWED');
  for (const sql of [
    'create table t (id int primary key, v text default now())',
    'drop table t',
    'truncate notes',
    'alter table notes add column x int',
    'create policy p on notes using (true)',
    'grant select on notes to anon',
    'create index on notes (owner)',
    "create type mood as enum ('a')",
  ]) {
    expect(await check(sql, true), sql).toMatchObject({ writes: true });
  }
  for (const sql of [
    'create table postern.t (id int)',
    'drop table postern.functions',
    'drop schema postern',
    'grant all on postern.secrets to anon',
    'grant usage on schema postern to anon',
    'alter table notes set schema postern',
    'truncate postern.events',
    'create schema postern',
    'comment on table postern.events is null',
    'alter table postern.events rename to x',
    'create view v as select * from postern.secrets',
    'create temp view v as select 1',
    "create table t as select set_config('a','b',false)",
    'create role x',
    'create server s foreign data wrapper w',
    'create trigger t after insert on notes for each row execute function postern.capture()',
    'reassign owned by anon to postgres',
    'alter database postgres set role x',
    "alter system set log_statement = 'all'",
  ]) {
    expect(await refused(sql, true), sql).toBe('SQL_NOT_ALLOWED');
  }
});

const CALLS = [
  // DB-01, DB-02, DB-05: state
  "set_config('request.jwt.claims', '{}', true)",
  "pg_catalog.set_config('role', 'x', true)",
  "\"set_config\"('role', 'x', true)",
  "U&\"set\\005fconfig\"('role', 'x', true)",
  'SET_CONFIG($1, $2, true)',
  'setseed(0.5)',
  'set_limit(0.5)',
  // text that runs
  "query_to_xml('set role x', true, true, '')",
  "query_to_xmlschema('select 1', true, true, '')",
  "query_to_xml_and_xmlschema('select 1', true, true, '')",
  "cursor_to_xml('c', 1, true, true, '')",
  "table_to_xml('notes', true, true, '')",
  "schema_to_xml('public', true, true, '')",
  "database_to_xml(true, true, '')",
  "ts_stat('select 1')",
  "ts_rewrite('a'::tsquery, 'select 1')",
  "dblink('', 'select 1')",
  "public.dblink_exec('', 'x')",
  "crosstab('select 1')",
  // DB-11: files and large objects
  "pg_read_file('/etc/passwd')",
  "pg_ls_dir('/')",
  "lo_import('/etc/passwd')",
  "lo_from_bytea(0, 'x')",
  'lo_create(0)',
  'lowrite(1, $1)',
  // other sessions, locks, messages
  'pg_terminate_backend(1)',
  'pg_cancel_backend(1)',
  'pg_advisory_lock(1)',
  'pg_try_advisory_xact_lock(1)',
  "pg_notify('postern_events', 'x')",
  'pg_stat_reset()',
  'pg_reload_conf()',
  'pg_get_functiondef(1)',
  "net.http_get('http://169.254.169.254')",
  "cron.schedule('* * * * *', 'x')",
  'vault.read_secret()',
  "http_get('http://x')",
  'postern.claims()',
  'inet_server_addr()',
];

test.each(CALLS)('DB-01 DB-02 DB-11 DB-12 the gate refuses a call of %s, wherever it stands', async (call) => {
  for (const sql of [
    `select ${call}`,
    `select * from ${call} x`,
    `select 1 where (select ${call}) is not null`,
    `with x as materialized (select ${call} c) select * from notes, x`,
    `insert into notes (owner) select ${call}::text`,
    `insert into notes (owner) values ($1) returning ${call}`,
    `update notes set body = ${call}::text`,
    `delete from notes where ${call} is null`,
    `select 1 order by ${call}`,
    `select case when true then ${call} end`,
    `select array[${call}]`,
    `values (${call})`,
    `select count(*) over (order by ${call}) from notes`,
    `merge into notes n using notes m on ${call} is null when matched then delete`,
  ]) {
    const code = await refused(sql);
    expect(['SQL_NOT_ALLOWED', '42601'], sql).toContain(code);
  }
  expect(await refused(`select ${call}`)).toBe('SQL_NOT_ALLOWED');
});

test('DB-01 attribute notation, which calls a function of one argument, is held to the same rules', async () => {
  for (const sql of [
    'select g.pg_advisory_lock from generate_series(1::bigint, 1) g',
    "select ('/etc/passwd'::text).pg_read_file",
    "select ('x'::text).lo_import from notes",
    'select (select 1::bigint).pg_advisory_lock',
  ]) {
    expect(await refused(sql), sql).toBe('SQL_NOT_ALLOWED');
  }
});

test.each([
  'select * from pg_stat_activity',
  'select * from pg_catalog.pg_settings',
  "update pg_settings set setting = '0' where name = 'statement_timeout'",
  'select * from pg_authid',
  'select * from pg_roles',
  'select * from pg_proc',
  'select * from pg_stats',
  'select * from pg_largeobject',
  'select * from pg_user_mappings',
  'select * from postern.secrets',
  'select * from "postern"."events"',
  'insert into postern.events default values',
  'select * from otherdb.public.notes',
  'select postern.secrets.name from notes',
  'select 1 operator(postern.=) 2',
  "select 'x'::postern.secrets",
])('DB-14 the gate refuses to reach %s', async (sql) => {
  expect(await refused(sql)).toBe('SQL_NOT_ALLOWED');
});

test.each([
  'create temp table notes (id int)',
  'create table pg_temp.notes (id int)',
  'insert into pg_temp.notes values (1)',
  'select pg_temp.lower($1)',
  'select * from pg_temp_3.notes',
  'select 1 operator(pg_temp.=) 1',
  "select 'x'::pg_temp.t",
])('DB-10 nothing temporary is made or named: %s', async (sql) => {
  expect(await refused(sql)).toBe('SQL_NOT_ALLOWED');
  expect(await refused(sql, true)).toBe('SQL_NOT_ALLOWED');
});

test.each(['select 1; select 2', 'select 1; set role x', ';;', '', '-- nothing', '/* nothing */'])(
  'DB-03 exactly one statement a call: %s',
  async (sql) => {
    expect(await refused(sql)).toBe('SQL_NOT_ALLOWED');
  },
);

test.each([
  // the same call, written otherwise
  'select u&"set_confi\\0067"($1, $2, true)',
  'select U&"!0073et_config" uescape \'!\' ($1, $2, true)',
  'select/**/set_config/* ( */($1, $2, true)',
  'select -- \n set_config -- \n ($1, $2, true)',
  'select "pg_catalog"."set_config"($1, $2, true)',
  'select otherdb.pg_catalog.set_config($1, $2, true)',
  'select set_config(variadic array[$1, $2, $3])',
  'select set_config(is_local => true, setting_name => $1, new_value => $2)',
  'select * from rows from (set_config($1, $2, true), generate_series(1, 2)) x',
  'select x.* from notes, lateral set_config(owner, body, true) x',
  'select distinct on (set_config($1, $2, true)) 1',
  'select 1 group by set_config($1, $2, true)',
  'select 1 having set_config($1, $2, true) is null',
  'select 1 limit (select length(set_config($1, $2, true)))',
  'select 1 offset length(set_config($1, $2, true))',
  'select sum(1) over (rows between length(set_config($1, $2, true)) preceding and current row)',
  'select percentile_disc(0.5) within group (order by set_config($1, $2, true)) from notes',
  'select string_agg(owner, body order by set_config($1, $2, true)) from notes',
  'select count(*) filter (where set_config($1, $2, true) is null) from notes',
  'select * from notes tablesample bernoulli (length(set_config($1, $2, true)))',
  'select * from notes tablesample set_config (1)',
  'insert into notes (owner) values ($1) on conflict (id) do update set owner = set_config($1, $2, true)',
  'insert into notes (owner) values ($1) on conflict (id) do nothing returning set_config($1, $2, true)',
  'insert into notes (owner) values ($1) on conflict (lower(set_config($1, $2, true))) do nothing',
  'update notes set (owner, body) = (select set_config($1, $2, true), null)',
  'update notes set body[length(set_config($1, $2, true))] = null',
  'merge into notes n using notes m on true when matched and set_config($1, $2, true) is null then do nothing',
  'merge into notes n using notes m on true when not matched then insert (owner) values (set_config($1, $2, true))',
  "select json_value($1, '$.a' default set_config($1, $2, true) on empty)",
  "select * from json_table($1, '$' passing set_config($1, $2, true) as x columns (a text path '$')) j",
  "select json_object('k': set_config($1, $2, true))",
  'select xmlelement(name a, set_config($1, $2, true))',
  'select xmlserialize(content set_config($1, $2, true)::xml as text)',
  "select * from xmltable('/a' passing xmlparse(content set_config($1, $2, true)) columns b text) x",
  'select (row(set_config($1, $2, true))).f1',
  'select (array[set_config($1, $2, true)])[1]',
  'select set_config($1, $2, true) collate "C"',
  'select set_config($1, $2, true) operator(pg_catalog.||) $3',
  'select set_config($1, $2, true)::regclass',
  'select extract(year from set_config($1, $2, true)::timestamptz)',
  'select (set_config($1, $2, true), 1) overlaps (now(), now())',
  'select 1 where set_config($1, $2, true) like any (array[$3])',
  'with recursive t as (select 1 n union all select length(set_config($1, $2, true)) from t) select * from t',
  'with t as (select 1 a) search depth first by a set s select set_config($1, $2, true) from t',
  'with gone as (delete from notes returning set_config($1, $2, true)) select 1',
  'select * from (values (set_config($1, $2, true))) v',
  'table pg_settings',
  'select 1 where exists (table pg_authid)',
])('DB-01 DB-23 however it is written, the gate finds it: %s', async (sql) => {
  expect(['SQL_NOT_ALLOWED', '42601'], sql).toContain(await refused(sql));
});

test.each([
  "select current_setting('app.settings.jwt_secret')",
  "select current_setting('APP.settings.jwt_secret', true)",
  "select current_setting('data_directory')",
  "select current_setting('postern.claims')",
  "select pg_catalog.current_setting('ssl_key_file', true)",
  'select current_setting($1)',
  "select current_setting('app.' || 'secret')",
  "select current_setting('app.secret'::text)",
  "select current_setting(variadic array['app.secret'])",
  "select ('app.secret'::text).current_setting",
  'select o.current_setting from (select $1::text) o',
  "select shobj_description(10, 'pg_authid')",
])('DB-14 settings that may hold a secret are not read: %s', async (sql) => {
  expect(await refused(sql)).toBe('SQL_NOT_ALLOWED');
});

test.each([
  "current_setting('request.jwt.claims', true)",
  "current_setting('TimeZone')",
  "pg_catalog.current_setting('search_path')",
])('settings that policies and tools name are read: %s', async (call) => {
  await expect(check(`select ${call}`)).resolves.toBeDefined();
});

describe('DB-23 what could be read in two ways', () => {
  test.each([
    "select 'a' /* ; */ -- ; \n",
    'select $$ ; set role x $$',
    "select E'\\'; set role x; --'",
    "select 'it''s; commit'",
    "select U&'\\003b'",
    "select 'a\\'' ; commit --'", // with standard_conforming_strings, which the host sets, all of it is one string
  ])('text that only looks like more is one harmless statement: %s', async (sql) => {
    await expect(check(sql)).resolves.toBeDefined();
  });

  test.each(["select '\\'; set role service_role; --'", '/* /* */ select 1; */ set role x'])(
    'what ends a string or comment for Postgres ends it for the gate: %s',
    async (sql) => {
      expect(['SQL_NOT_ALLOWED', '42601']).toContain(await refused(sql));
    },
  );

  test('a NUL, which would end the text on the wire, is refused', async () => {
    expect(await refused('select 1\0; set role x')).toBe('SQL_NOT_ALLOWED');
  });

  test('a lone surrogate, which has no UTF-8 form, is refused', async () => {
    expect(await refused("select '\ud800'")).toBe('SQL_NOT_ALLOWED');
  });
});

test("a syntax error names its place, in Postgres' own words", async () => {
  await expect(check('select * form notes')).rejects.toMatchObject({
    code: '42601',
    details: { position: 10 },
    message: 'syntax error at or near "form"',
  });
});

test("statements nested past the parser's stack are refused, and the next ones are judged as before", async () => {
  for (const sql of [
    `select 1${'+1'.repeat(20_000)}`,
    `select 1${' union select 1'.repeat(4_000)}`,
    `select ${'('.repeat(20_000)}1${')'.repeat(20_000)}`,
  ]) {
    await refused(sql);
    expect(await refused("select set_config('role', 'x', true)")).toBe('SQL_NOT_ALLOWED');
    await expect(check('select 1')).resolves.toMatchObject({ pure: true });
  }
});

test('a statement over the size limit is refused before it is parsed', async () => {
  expect(await refused(`select '${'x'.repeat(70_000)}'`)).toBe('DB_SQL_LIMIT');
});

test('only a plain read without unknown functions counts as pure', async () => {
  await expect(check('select lower(owner) from notes')).resolves.toEqual({
    writes: false,
    returnsRows: true,
    pure: true,
  });
  await expect(check('select my_function()')).resolves.toEqual({ writes: false, returnsRows: true, pure: false });
  await expect(check('with d as (delete from notes returning 1) select * from d')).resolves.toMatchObject({
    writes: true,
    pure: false,
  });
  await expect(check('delete from notes')).resolves.toEqual({ writes: true, returnsRows: false, pure: false });
});

describe('for random statements', () => {
  const harmless = fc.constantFrom('1', 'owner', '$1', 'now()', 'count(*)', "'text'", '(select 2)', 'my_function(3)');
  const poison = fc.constantFrom(...CALLS);
  const wrap = fc.constantFrom<(e: string) => string>(
    (e) => `(${e})`,
    (e) => `coalesce(${e}::text, 'x')`,
    (e) => `(select ${e} limit 1)`,
    (e) => `array[${e}]`,
    (e) => `case when (${e}) is null then 1 else 2 end`,
    (e) => `row(${e}, 1)`,
    (e) => `((${e})::text || 'x')`,
    (e) => `exists (select 1 where (${e}) is null)`,
    (e) => `/* ; */ (${e}) -- x\n`,
    (e) => `jsonb_build_object('k', ${e})`,
  );
  const statement = fc.constantFrom<(e: string) => string>(
    (e) => `select ${e} from notes`,
    (e) => `select 1 from notes where (${e}) is not null`,
    (e) => `insert into notes (owner) select (${e})::text`,
    (e) => `update notes set body = (${e})::text where true returning *`,
    (e) => `with a as (select ${e}), b as (delete from notes returning *) select * from a, b`,
    (e) => `values ((${e}))`,
    (e) => `select * from notes n join lateral (select ${e}) x on true`,
  );
  const nest = (leaf: fc.Arbitrary<string>) =>
    fc
      .tuple(leaf, fc.array(wrap, { maxLength: 4 }), statement)
      .map(([expression, wraps, outer]) => outer(wraps.reduce((inner, next) => next(inner), expression)));

  test('a call that changes the session never passes, however deep it stands', async () => {
    await fc.assert(
      fc.asyncProperty(nest(poison), async (sql) => !(await refused(sql)).startsWith('ALLOWED')),
      { numRuns: 400 },
    );
  });

  test('the same statements around a harmless expression pass', async () => {
    await fc.assert(
      fc.asyncProperty(nest(harmless), async (sql) => (await refused(sql)).startsWith('ALLOWED')),
      { numRuns: 200 },
    );
  });
});
