import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import type { HostFaces } from '../../host-functions/guest/index.ts';
import { parseLogPayload } from '../../host-functions/index.ts';
import type { HostCallError } from '../../runtime/host-function.ts';
import { Stopwatch } from '../support/timed.ts';
import { createGuestDatabase, type GuestDatabase, type Invocation } from './support.ts';

/**
 * The faces as the guest has them, in this process, over a door that leads to a real session. What the sandbox itself
 * does to them is tested with the runtime.
 */
let database: GuestDatabase;
let guest: Invocation;
let faces: HostFaces;
let host: typeof import('../../runtime/javascript/guest/host.ts');
const casts: string[] = [];
const calls: { op: string; payload: string }[] = [];
const answers = new Map<string, string>();

beforeAll(async () => {
  database = await createGuestDatabase();
  let ids = 0;
  const door = (what: number, op: string, payload: string): number | undefined => {
    if (what === 2) {
      casts[casts.length] = payload; // not `push`: a test patches it
      return undefined;
    }
    const id = ++ids;
    calls[calls.length] = { op, payload };
    const canned = answers.get(op);
    const answer = canned === undefined ? guest.session.call(op, payload) : Promise.resolve(canned);
    answer.then(
      (text) => host.settle(id, true, text),
      (error: HostCallError) => host.settle(id, false, error.toPayload()),
    );
    return id;
  };
  (globalThis as unknown as Record<string, unknown>).__postern_host = door;
  host = await import('../../runtime/javascript/guest/host.ts');
  faces = (await import('../../host-functions/guest/index.ts')).createHostFaces();
});
beforeEach(async () => {
  host.phase.invoking = true;
  casts.length = 0;
  calls.length = 0;
  answers.clear();
  await guest?.end();
  guest = database.invoke({ dbRole: 'service_role' });
});
afterAll(async () => {
  await guest.end();
  await database.stop();
});

test('db.query gives row objects, with rowCount and fields beside them', async () => {
  const rows = await faces.db.query('select 1 as a, $1 as b', ['x']);
  expect(rows).toEqual([{ a: 1, b: 'x' }]);
  expect(rows.rowCount).toBe(1);
  expect(rows.fields).toEqual([
    { name: 'a', type: 'int4' },
    { name: 'b', type: 'text' },
  ]);
  expect(JSON.stringify(rows)).toBe('[{"a":1,"b":"x"}]');
  expect(Object.keys(rows)).toEqual(['0']);
});

test('every kind of parameter arrives as what it is', async () => {
  const at = new Date('2026-02-06T09:00:00.123Z');
  const [row] = await faces.db.query(
    `select $1::text s, $2::int4 i, $3::bool b, $4::text n, $5::timestamptz = '2026-02-06 09:00:00.123+00' d, $6::int8 big, $7::bytea bytes,
            $8::int4[] list, $9::jsonb o, $10::jsonb j, $11::float8 nan, $12::text u, $13::bytea buffer, $14::timestamptz < '0001-01-01' old`,
    [
      's',
      7,
      true,
      null,
      at,
      9_007_199_254_740_993n,
      new Uint8Array([0, 1, 255]),
      [1, null, 3],
      { a: [1, { b: null }] },
      faces.db.json([1, 'x']),
      Number.NaN,
      undefined,
      new Uint8Array([5, 6]).buffer,
      new Date(-80_000_000_000_000),
    ],
  );
  expect(row).toEqual({
    s: 's',
    i: 7,
    b: true,
    n: null,
    d: true,
    big: '9007199254740993',
    bytes: new Uint8Array([0, 1, 255]),
    list: [1, null, 3],
    o: { a: [1, { b: null }] },
    j: [1, 'x'],
    nan: 'NaN',
    u: null,
    buffer: new Uint8Array([5, 6]),
    old: true,
  });
});

test('what has no SQL form is a TypeError that names the parameter', async () => {
  for (const [value, what] of [
    [() => 1, 'function'],
    [Symbol('x'), 'symbol'],
    [new Date(Number.NaN), 'invalid Date'],
  ] as const) {
    await expect(faces.db.query('select $1, $2', [1, value])).rejects.toThrow(what);
  }
  const cycle: unknown[] = [];
  cycle.push(cycle);
  await expect(faces.db.query('select $1', [cycle])).rejects.toThrow('parameter $1 is nested too deeply');
  await expect(faces.db.query('select 1', 'x' as never)).rejects.toThrow('params has to be an array');
  await expect(faces.db.query(1 as never)).rejects.toThrow('SQL text');
});

test('DB-20 a column called __proto__ is data', async () => {
  const [row] = await faces.db.query(
    `select '{"isAdmin":true}'::jsonb as "__proto__", '{"__proto__":{"x":1}}'::jsonb as j, 2 as constructor`,
  );
  expect(Object.keys(row as object)).toEqual(['__proto__', 'j', 'constructor']);
  expect((row as { isAdmin?: boolean }).isAdmin).toBeUndefined();
  expect(Object.getPrototypeOf(row)).toBe(Object.prototype);
});

test('bytes come as a Uint8Array, also in lists', async () => {
  const [row] = await faces.db.query(`select '\\x0001'::bytea b, array['\\x02'::bytea, null] l, null::bytea n`);
  expect(row).toEqual({ b: new Uint8Array([0, 1]), l: [new Uint8Array([2]), null], n: null });
});

test('a database error is an Error with its name, code and details', async () => {
  const error = await faces.db.query('insert into counters values (1, -1)').catch((thrown) => thrown);
  expect(error).toBeInstanceOf(Error);
  expect(error).toMatchObject({ name: 'DatabaseError', code: '23514', constraint: 'positive', table: 'counters' });
});

test('db.transaction commits what its work did, and undoes it when the work throws', async () => {
  const value = await faces.db.transaction(async (tx) => {
    await tx.query('insert into counters values (1, 1)');
    return (await tx.query('select value from counters'))[0]?.value;
  });
  expect(value).toBe(1);
  const boom = new Error('boom');
  await expect(
    faces.db.transaction(async (tx) => {
      await tx.query('delete from counters');
      throw boom;
    }),
  ).rejects.toBe(boom);
  expect(await faces.db.query('delete from counters returning id')).toEqual([{ id: 1 }]);
});

test('transactions can not be nested, nor used after their end', async () => {
  let kept: { query(sql: string): Promise<unknown> } | undefined;
  await faces.db.transaction(async (tx) => {
    kept = tx;
    expect(() => (tx as unknown as { transaction(): void }).transaction()).toThrow('nested');
  });
  await expect(kept?.query('select 1')).rejects.toMatchObject({ code: 'DB_NO_TRANSACTION' });
  await expect(faces.db.transaction('x' as never)).rejects.toThrow(TypeError);
});

test('user code that patches prototypes does not break the plumbing', async () => {
  const arrayPrototype = Array.prototype as unknown as Record<string, unknown>;
  const saved = {
    map: arrayPrototype.map,
    join: arrayPrototype.join,
    push: arrayPrototype.push,
    stringify: JSON.stringify,
    parse: JSON.parse,
  };
  const broken = (): never => {
    throw new Error('patched');
  };
  // Only the faces' own synchronous work runs under the patch: the host shares this process in the test.
  Object.assign(arrayPrototype, { map: broken, join: broken, push: broken });
  JSON.stringify = broken as never;
  (Object.prototype as unknown as Record<string, unknown>).toJSON = broken;
  answers.set('db.query', '{"fields":[["a","int4"]],"rows":[[1]],"rowCount":1}');
  let pending: Promise<unknown>;
  try {
    pending = faces.db.query('select $1, $2, $3', ['x', [1, 2], new Date(0)]);
    faces.log.info('m', { a: [1, { b: 2 }] });
  } finally {
    Object.assign(arrayPrototype, { map: saved.map, join: saved.join, push: saved.push });
    JSON.stringify = saved.stringify;
    delete (Object.prototype as unknown as Record<string, unknown>).toJSON;
  }
  expect(await pending).toEqual([{ a: 1 }]);
  expect(JSON.parse(casts[0] as string)).toEqual({ level: 'info', message: 'm', fields: { a: [1, { b: 2 }] } });
});

test('log takes whatever it is given, and never throws', () => {
  const cycle: Record<string, unknown> = { name: 'c' };
  cycle.self = cycle;
  const hostile = new Proxy(
    {},
    {
      ownKeys: () => {
        throw new Error('no');
      },
    },
  );
  const getter = Object.defineProperty({}, 'x', {
    enumerable: true,
    get() {
      throw new Error('no');
    },
  });
  const error = Object.assign(new Error('inner'), { code: 'E1', extra: 1 });
  faces.log.info('m', {
    cycle,
    big: 1n,
    at: new Date(0),
    f() {},
    s: Symbol('x'),
    u: undefined,
    nan: Number.NaN,
    map: new Map([['k', new Set([1])]]),
    bytes: new Uint8Array(3),
    getter,
    hostile,
    error,
  });
  expect(JSON.parse(casts[0] as string).fields).toMatchObject({
    cycle: { name: 'c', self: '[Circular]' },
    big: '1',
    at: '1970-01-01T00:00:00.000Z',
    f: '[Function]',
    s: '[Symbol]',
    u: null,
    nan: 'NaN',
    map: { k: { '0': 1 } },
    bytes: '[3 bytes]',
    getter: { x: '[Throws]' },
    hostile: {},
    error: { name: 'Error', message: 'inner', code: 'E1', extra: 1 },
  });
  for (const value of [undefined, null, 1, 1n, Symbol('x'), error, cycle, hostile, [cycle], () => 1]) {
    faces.log.warn(value, value);
    expect(parseLogPayload(casts.at(-1) as string, 0)).toMatchObject({ level: 'WARN', message: expect.any(String) });
  }
});

test('MEM-06 a huge value costs the log little', () => {
  const deep: unknown[] = [];
  let at = deep;
  for (let depth = 0; depth < 100_000; depth++) {
    const inner: unknown[] = [];
    at[0] = inner;
    at = inner;
  }
  const watch = new Stopwatch();
  faces.log.info('x'.repeat(10_000_000), {
    deep,
    wide: new Array(1_000_000).fill('x'.repeat(100)),
    many: Object.fromEntries(Array.from({ length: 10_000 }, (_, index) => [`k${index}`, index])),
  });
  watch.expectBelow(500);
  expect((casts[0] as string).length).toBeLessThan(64 * 1024);
  expect(parseLogPayload(casts[0] as string, 0).message).not.toContain('dropped');
});

test("ENV-01 env gives what the invocation's meta holds, and undefined for anything else", () => {
  faces.setMeta(() => ({ env: JSON.parse('{"KEY":"value","EMPTY":"","__proto__":"p"}') }));
  expect(faces.env('KEY')).toBe('value');
  expect(faces.env('EMPTY')).toBe('');
  for (const name of [
    'key',
    'PATH',
    'constructor',
    'toString',
    'hasOwnProperty',
    '',
    'x'.repeat(1_000_000),
    1,
    null,
    undefined,
    {},
    Symbol('x'),
  ]) {
    expect(faces.env(name as string)).toBeUndefined();
  }
});

test('at the top level of a module no host function is called and no variable read', async () => {
  host.phase.invoking = false;
  expect(() => faces.env('KEY')).toThrow('top level');
  await expect(faces.db.query('select 1')).rejects.toThrow('top level');
  await expect(
    faces.httpFetch({ url: 'https://a.b', method: 'GET', headers: [], bodyBase64: null, redirect: 'follow' }),
  ).rejects.toThrow('top level');
  expect(calls).toEqual([]);
});

test('httpFetch sends what fetch made and gives the answer back', async () => {
  const answer = {
    status: 200,
    statusText: 'OK',
    url: 'https://a.b/',
    redirected: false,
    headers: [['x', 'y']],
    bodyBase64: '',
  };
  answers.set('http.fetch', JSON.stringify(answer));
  const request = {
    url: 'https://a.b/"',
    method: 'POST',
    headers: [
      ['a', '"'],
      ['b', 'c'],
    ] as [string, string][],
    bodyBase64: 'AAAA',
    redirect: 'manual' as const,
  };
  expect(await faces.httpFetch(request)).toEqual(answer);
  expect(JSON.parse(calls[0]?.payload ?? '')).toEqual(request);
});
