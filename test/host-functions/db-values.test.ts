import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createGuestDatabase, type GuestDatabase, type Invocation } from './support.ts';

let database: GuestDatabase;
let guest: Invocation;
beforeAll(async () => {
  database = await createGuestDatabase({ limits: { maxCalls: 100_000 } });
  guest = database.invoke({ remainingMs: 60_000 });
});
afterAll(async () => {
  await guest.end();
  await database.stop();
});

const CASES: readonly (readonly [sql: string, type: string, value: unknown])[] = [
  ['true', 'bool', true],
  ['42::int2', 'int2', 42],
  ['9007199254740991::int8', 'int8', 9_007_199_254_740_991],
  ['9007199254740993::int8', 'int8', '9007199254740993'],
  ['(-9223372036854775808)::int8', 'int8', '-9223372036854775808'],
  ['1.10::numeric', 'numeric', '1.10'],
  ["'NaN'::numeric", 'numeric', 'NaN'],
  ["('1' || repeat('0', 400))::numeric", 'numeric', `1${'0'.repeat(400)}`],
  ['0.1::float8', 'float8', 0.1],
  ["'NaN'::float8", 'float8', 'NaN'],
  ["'-Infinity'::float4", 'float4', '-Infinity'],
  ["'2026-02-06 09:00:00+00'::timestamptz at time zone 'UTC'", 'timestamp', '2026-02-06T09:00:00'],
  ["'2026-02-06 09:00:00.123456'::timestamp", 'timestamp', '2026-02-06T09:00:00.123456'],
  ["'2026-02-06'::date", 'date', '2026-02-06'],
  ["'infinity'::timestamptz", 'timestamptz', 'infinity'],
  ["'-infinity'::date", 'date', '-infinity'],
  ["'0044-03-15 BC'::date", 'date', '-000043-03-15'],
  ["'20000-01-01'::date", 'date', '+020000-01-01'],
  ["'09:00:00.5'::time", 'time', '09:00:00.5'],
  ["'1 day 02:03:04'::interval", 'interval', '1 day 02:03:04'],
  ["'\\xdeadbeef'::bytea", 'bytea', '3q2+7w=='],
  ["''::bytea", 'bytea', ''],
  ['\'{"a":[1,null,true,"x"]}\'::jsonb', 'jsonb', { a: [1, null, true, 'x'] }],
  [
    '\'{"n":9007199254740993,"f":0.1,"big":1e400,"d":1.2345678901234567890}\'::jsonb',
    'jsonb',
    { n: '9007199254740993', f: 0.1, big: `1${'0'.repeat(400)}`, d: '1.2345678901234567890' },
  ],
  [
    '\'{"f":0.30000000000000004,"e":1e21,"g":"1234567890123456789"}\'::json',
    'json',
    { f: 0.30000000000000004, e: '1e21', g: '1234567890123456789' },
  ],
  ["'null'::jsonb", 'jsonb', null],
  ['null::int', 'int4', null],
  ['array[1,null,3]', 'int4[]', [1, null, 3]],
  [
    'array[[1,2],[3,4]]',
    'int4[]',
    [
      [1, 2],
      [3, 4],
    ],
  ],
  ["array['a,b','c\"d','e\\f','NULL',null,'','{}',' ']", 'text[]', ['a,b', 'c"d', 'e\\f', 'NULL', null, '', '{}', ' ']],
  ["'[0:1]={5,6}'::int[]", 'int4[]', [5, 6]],
  ["array['2026-01-01 00:00+00'::timestamptz at time zone 'UTC']", 'timestamp[]', ['2026-01-01T00:00:00']],
  ["array['\\x00'::bytea]", 'bytea[]', ['AA==']],
  ['array[\'{"a":"b,}"}\'::jsonb]', 'jsonb[]', [{ a: 'b,}' }]],
  ["'{}'::text[]", 'text[]', []],
  ["'(1,2)'::point", 'point', '(1,2)'],
  ['int4range(1, 5)', 'int4range', '[1,5)'],
  ["'1 2'::int2vector", 'int2[]', '1 2'],
  ["array['1 2'::oidvector]", 'oidvector[]', ['1 2']],
  ["row(1, 'a')", 'record', '(1,a)'],
  ["'550e8400-e29b-41d4-a716-446655440000'::uuid", 'uuid', '550e8400-e29b-41d4-a716-446655440000'],
];

test.each(CASES)('DB-21 %s comes as %s %j', async (sql, type, value) => {
  const result = await guest.query(`select ${sql} as v`);
  expect(result).toEqual({ fields: [['v', type]], rows: [[value]], rowCount: 1 });
});

test("DB-21 timestamptz is ISO 8601 in the session's zone, which JavaScript reads", async () => {
  const text = await guest.value("select '2026-02-06T09:00:00.25Z'::timestamptz");
  expect(new Date(text as string).toISOString()).toBe('2026-02-06T09:00:00.250Z');
});

test("DB-21 types of the database's own, and arrays of them, are known by name", async () => {
  await database.pool.query(
    "create type mood as enum ('calm', 'wild, \"very\"'); create domain positive as int check (value > 0); create type pair as (a int, b text)",
  );
  const { fields, rows } = await guest.query(
    `select 'calm'::mood m, array['calm', null, 'wild, "very"']::mood[] ms, 5::positive p, row(1, 'x')::pair pr, array[row(1, 'a b')::pair] prs`,
  );
  expect(fields).toEqual([
    ['m', 'mood'],
    ['ms', 'mood[]'],
    ['p', 'int4'],
    ['pr', 'pair'],
    ['prs', 'pair[]'],
  ]);
  expect(rows).toEqual([['calm', ['calm', null, 'wild, "very"'], 5, '(1,x)', ['(1,"a b")']]]);
});

test('DB-20 hostile, duplicate and empty column names are delivered as data', async () => {
  const { fields, rows } = await guest.query(
    `select 1 as "__proto__", 2 as "constructor", 3 as a, 4 as a, 5 as a, 6 as "a_2", 7 as "toString", 8 as "?column?", 9`,
  );
  expect(fields.map(([name]) => name)).toEqual([
    '__proto__',
    'constructor',
    'a',
    'a_3',
    'a_4',
    'a_2',
    'toString',
    '?column?',
    '?column?_2',
  ]);
  expect(rows).toEqual([[1, 2, 3, 4, 5, 6, 7, 8, 9]]);
});

test('DB-20 a row of 1,600 columns comes whole', async () => {
  const { fields, rows } = await guest.query(
    `select ${Array.from({ length: 1_600 }, (_, index) => `${index} as c${index}`).join(', ')}`,
  );
  expect(fields).toHaveLength(1_600);
  expect(rows[0]).toHaveLength(1_600);
});

test('DB-22 parameters that Postgres can not take get typed errors', async () => {
  for (const params of [
    ['a\0b'],
    ['\ud800'],
    [{ $: 'bytes', v: '!' }],
    [{ $: 'date', v: 'yesterday' }],
    [{ $: 'bigint', v: '1e5' }],
    [[[[[[[[1]]]]]]]],
  ]) {
    expect(await guest.refusal('select $1::text', params)).toMatchObject({
      name: 'TypeError',
      code: 'INVALID_ARGUMENT',
    });
  }
  expect(await guest.refusal('select 1', new Array(65_536).fill(1))).toMatchObject({ code: 'DB_PARAMETERS_LIMIT' });
  expect(await guest.refusal('select 1', [1])).toMatchObject({ name: 'DatabaseError' });
});

test('a Date, a bigint and bytes go in and come out', async () => {
  const { rows } = await guest.query('select $1::timestamptz = $2::timestamptz, $3::int8, $4::bytea, $5::float8', [
    { $: 'date', v: '2026-02-06T09:00:00.000Z' },
    '2026-02-06 09:00+00',
    { $: 'bigint', v: '9223372036854775807' },
    { $: 'bytes', v: 'AAH/' },
    { $: 'number', v: 'NaN' },
  ]);
  expect(rows).toEqual([[true, '9223372036854775807', 'AAH/', 'NaN']]);
});

const pgText = fc
  .string({ unit: 'grapheme', maxLength: 40 })
  .filter((text) => !text.includes('\0') && text.isWellFormed());

test('any text, number, boolean and list of them comes back as it went in', async () => {
  await fc.assert(
    fc.asyncProperty(
      pgText,
      fc.integer(),
      fc.double({ noNaN: true, noDefaultInfinity: true }),
      fc.boolean(),
      fc.array(fc.option(pgText)),
      fc.array(fc.maxSafeInteger(), { minLength: 1 }),
      async (text, integer, double, flag, texts, integers) => {
        const { rows } = await guest.query('select $1::text, $2::int4, $3::float8, $4::bool, $5::text[], $6::int8[]', [
          text,
          integer,
          Object.is(double, -0) ? 0 : double,
          flag,
          texts,
          integers,
        ]);
        expect(rows).toEqual([[text, integer, Object.is(double, -0) ? 0 : double, flag, texts, integers]]);
      },
    ),
    { numRuns: 100 },
  );
});

test('any JSON value comes back from a jsonb column as it went in', async () => {
  const leaf = fc.oneof(pgText, fc.integer(), fc.boolean(), fc.constant(null));
  const json = fc.letrec((tie) => ({
    value: fc.oneof({ maxDepth: 4 }, leaf, fc.array(tie('value')), fc.dictionary(pgText, tie('value'))),
  })).value;
  await fc.assert(
    fc.asyncProperty(json, async (value) => {
      const { rows } = await guest.query('select $1::jsonb', [{ $: 'json', v: value }]);
      expect(rows).toEqual([[value]]);
    }),
    { numRuns: 60 },
  );
});

test('any bytes come back as they went in', async () => {
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 200 }), async (bytes) => {
      const v = Buffer.from(bytes).toString('base64');
      const { rows } = await guest.query('select $1::bytea, $2::bytea[]', [{ $: 'bytes', v }, [{ $: 'bytes', v }]]);
      expect(rows).toEqual([[v, [v]]]);
    }),
    { numRuns: 40 },
  );
});
