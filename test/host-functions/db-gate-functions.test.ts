import fc from 'fast-check';
import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { GuestLogins } from '../../database/index.ts';
import { SqlGate } from '../../host-functions/db/sql-gate.ts';
import { createGuestDatabase, type GuestDatabase, MASTER_KEY } from './support.ts';

/**
 * What the gate lets through is run on one connection of a guest, in the host's transaction and without the cleaning after
 * it, and the session is compared with what it was.
 */
let database: GuestDatabase;
let connection: pg.ClientConfig;
let client: pg.Client;
let functions: readonly BuiltIn[];
const gate = new SqlGate();

interface BuiltIn {
  readonly name: string;
  readonly types: readonly string[];
}

beforeAll(async () => {
  database = await createGuestDatabase();
  await database.pool.query(`create sequence numbers; grant all on sequence numbers to anon;
    insert into counters values (1, 1), (2, 2)`);
  connection = await new GuestLogins(database.pool, MASTER_KEY).guestConnection('anon');
  client = new pg.Client(connection);
  await client.connect();
  functions = await allowedFunctions();
});
afterAll(async () => {
  await client.end();
  await database.stop();
});

/** Every overload of a built-in function that SQL may call, and the gate lets through. */
async function allowedFunctions(): Promise<BuiltIn[]> {
  const { rows } = await database.pool.query<BuiltIn>(
    `select proname as name, array(select format_type(t, null) from unnest(proargtypes) t) as types
     from pg_proc where pronamespace = 'pg_catalog'::regnamespace and prokind in ('f', 'a', 'w')
       and prorettype not in ('trigger'::regtype, 'event_trigger'::regtype) and not 'internal'::regtype = any (proargtypes)`,
  );
  const allowed: BuiltIn[] = [];
  for (const row of rows) if (await passes(`select "${row.name}"()`)) allowed.push(row);
  return allowed;
}

async function passes(sql: string): Promise<boolean> {
  return gate.check(sql, { definitions: false }).then(
    () => true,
    () => false,
  );
}

/** Text that would do something, where a function runs, sets or opens what it is given. */
const WORDS = [
  'role',
  'request.jwt.claims',
  'notes',
  'numbers',
  'select 1',
  'set role postgres',
  '/etc/passwd',
  '1',
  '{}',
];
const LITERALS: Readonly<Record<string, readonly string[]>> = {
  boolean: ['true', 'false'],
  regclass: ["'notes'", "'numbers'"],
  oid: ["'notes'::regclass", '1', "'public'::regnamespace"],
  json: [`'{"a": [1]}'`],
  jsonb: [`'{"a": [1]}'`],
  jsonpath: ["'$.a'"],
  interval: ["'1 ms'"],
  'timestamp with time zone': ['now()'],
  date: ["'2026-01-01'"],
  xml: ["'<a/>'"],
  tsvector: ["'a b'"],
  tsquery: ["'a'"],
  uuid: ['gen_random_uuid()'],
  bytea: ["'\\x00'"],
  inet: ["'10.0.0.1'"],
  anyarray: ["'{1,2}'::int[]"],
  anyelement: ['1', "'role'::text"],
  '"any"': ['1', "'role'::text"],
  anynonarray: ['1'],
  anycompatible: ['1'],
  anycompatiblearray: ["'{1,2}'::int[]"],
  anyrange: ["'[1,2)'::int4range"],
  anyenum: ['null'],
  record: ['row(1)'],
  cstring: ["'x'"],
};
const NUMBER = /^(?:smallint|integer|bigint|numeric|real|double precision)$/;

function literalsOf(type: string): readonly string[] {
  const known = LITERALS[type];
  if (/^"?any|^record|^oid$/.test(type) && known !== undefined) return known;
  if (known !== undefined) return known.map((literal) => `${literal}::${type}`);
  if (NUMBER.test(type)) return ['0', '1', '2'].map((literal) => `${literal}::${type}`);
  if (/^(?:text|name|character)/.test(type)) return WORDS.map((word) => `'${word}'::${type}`);
  return [`null::${type}`];
}

const FORMS: readonly ((call: string) => string)[] = [
  (call) => `select ${call} limit 3`,
  (call) => `select * from ${call} x limit 3`,
  (call) => `with x as materialized (select ${call} c limit 3) select count(*) from x, notes`,
  (call) => `insert into notes (owner, body) select 'alice', ${call}::text limit 1 returning body`,
  (call) => `update counters set value = value where ${call} is not null returning *`,
  (call) => `select id from counters order by ${call}::text for update skip locked`,
  (call) => `delete from counters using (select ${call} c) x where x.c is null`,
  (call) => `merge into counters c using counters d on c.id = d.id when matched and ${call} is null then delete`,
  (call) => `insert into counters values (1, 1) on conflict (id) do update set value = (select count(${call}))`,
  (call) => `select percentile_disc(0.5) within group (order by ${call}::text) from notes`,
  (call) => `select * from notes tablesample bernoulli (50) where ${call} is null`,
  (call) => `select count(*) filter (where ${call} is null) over (partition by owner) from notes`,
  (call) => `values (array[${call}]::text[])`,
];

const CLAIMS = '{"sub":"alice","role":"anon"}';
const BEGIN = `select set_config('statement_timeout', '150', true), set_config('request.jwt.claims', $1, true),
  set_config('postern.claims', $1, true), set_config('role', 'anon', true)`;
/** What a statement is judged by, and may not change for the next one of its transaction. */
const INSIDE = `select current_user::text, session_user::text, current_setting('request.jwt.claims') as claims,
  current_setting('postern.claims') as proven, current_setting('statement_timeout') as timeout, current_setting('search_path') as path,
  pg_current_xact_id_if_assigned() is null or true as open`;
const OUTSIDE = `select current_user::text, session_user::text,
  (select jsonb_object_agg(name, setting) from pg_settings) as settings,
  (select jsonb_agg(name) from pg_prepared_statements where from_sql) as prepared,
  (select jsonb_agg(name) from pg_cursors where is_holdable) as cursors,
  (select jsonb_agg(c) from pg_listening_channels() c) as channels,
  (select count(*)::int from pg_locks where pid = pg_backend_pid() and locktype in ('advisory', 'object')) as locks,
  pg_my_temp_schema() as temporary`;

/** The state that the statement of the host's transaction left inside of it, where it did not fail. */
async function runAsGuest(sql: string): Promise<unknown> {
  await client.query('begin');
  await client.query(BEGIN, [CLAIMS]);
  const failed = await client.query({ text: sql, queryMode: 'extended' } as pg.QueryConfig).then(
    () => false,
    () => true,
  );
  const inside = failed ? EXPECTED_INSIDE : (await client.query(INSIDE)).rows[0];
  await client.query(failed ? 'rollback' : 'commit');
  return inside;
}

const EXPECTED_INSIDE = {
  current_user: 'anon',
  session_user: expect.stringMatching(/^postern_anon/) as unknown,
  claims: CLAIMS,
  proven: CLAIMS,
  timeout: '150ms',
  path: '"$user", public',
  open: true,
};

const outside = async (): Promise<unknown> => (await client.query(OUTSIDE)).rows[0];

test('DB-01 DB-02 DB-08 DB-12 no built-in function that the gate lets through leaves a trace in the session', async () => {
  expect(functions.length).toBeGreaterThan(1_000);
  const before = await outside();
  for (const [index, { name, types }] of functions.entries()) {
    const call = `"${name}"(${types.map((type) => literalsOf(type)[0]).join(', ')})`;
    expect(await runAsGuest(`select ${call} limit 3`), call).toEqual(EXPECTED_INSIDE);
    if (index % 100 === 0) expect(await outside(), `the last hundred before ${call}`).toEqual(before);
  }
  expect(await outside()).toEqual(before);
}, 120_000);

test('the comparison sees what would be left', async () => {
  const before = await outside();
  expect(await runAsGuest("select set_config('search_path', 'x', true)")).not.toEqual(EXPECTED_INSIDE);
  expect(await outside()).toEqual(before);
  for (const sql of ['select pg_advisory_lock(1)', "select set_config('work_mem', '1MB', false)", 'listen x']) {
    expect(await runAsGuest(sql), sql).toEqual(EXPECTED_INSIDE);
    expect(await outside(), sql).not.toEqual(before);
    await client.query('discard all');
  }
});

test('DB-01 DB-02 DB-08 DB-12 nor does any statement around one, whatever it is given', async () => {
  const before = await outside();
  const statement = fc
    .tuple(
      fc.nat(functions.length - 1),
      fc.constantFrom(...FORMS),
      fc.array(fc.nat(100), { minLength: 12, maxLength: 12 }),
    )
    .map(([index, form, picks]) => {
      const { name, types } = functions[index] as BuiltIn;
      const given = types.map((type, position) => {
        const choice = literalsOf(type);
        return choice[(picks[position % picks.length] as number) % choice.length];
      });
      return form(`"${name}"(${given.join(', ')})`);
    });
  await fc.assert(
    fc.asyncProperty(statement, async (sql) => {
      fc.pre(await passes(sql));
      expect(await runAsGuest(sql)).toEqual(EXPECTED_INSIDE);
      expect(await outside()).toEqual(before);
    }),
    { numRuns: 500 },
  );
}, 120_000);
