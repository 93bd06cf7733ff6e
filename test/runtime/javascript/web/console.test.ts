import { formatWithOptions, inspect } from 'node:util';
import { beforeAll, describe, expect, test } from 'vitest';
import { Guest } from './guest.ts';

// biome-ignore lint/security/noGlobalEval: the same text has to run in Node and in the guest
const evaluate = globalThis.eval;
let guest: Guest;
beforeAll(async () => {
  guest = await Guest.create();
});

function logged(code: string): string[] {
  guest.logs.length = 0;
  guest.run(code);
  return guest.logs.map((one) => `${one.level} ${one.message}`);
}

describe('console.log writes what Node writes', () => {
  const values = [
    `'text'`,
    `''`,
    '5',
    '-0',
    'NaN',
    '10n',
    'true',
    'null',
    'undefined',
    `Symbol('s')`,
    '{}',
    '[]',
    '{ a: 1 }',
    `{ a: 'x', b: [1, 2, { c: null }] }`,
    `{ 'a-b': 1, 2: 3 }`,
    `{ a: { b: { c: { d: 1 } } } }`,
    `{ a: [[[[1]]]] }`,
    `['it\\'s', "q\\"", '\`']`,
    `['a\\nb\\t\\u0001\\\\']`,
    '[1, , 3]',
    '[undefined, null]',
    'new Array(3)',
    'Array.from({ length: 120 }, (_, i) => i)',
    `Array.from({ length: 30 }, (_, i) => 'item' + i)`,
    'Array.from({ length: 7 }, (_, i) => i * 1000)',
    `Object.assign([1, 2], { x: 'y' })`,
    'new Map([[1, { a: 2 }], ["k", new Map()]])',
    'new Set([1, "a", [2]])',
    'new Map()',
    'new Set()',
    'new Date(0)',
    'new Date(NaN)',
    '/a+/gi',
    '() => {}',
    'function named() {}',
    'class A {}',
    'class B extends Map {}',
    'async () => {}',
    'function* gen() {}',
    `new (class Foo { x = 1 })()`,
    `new (class Foo {})()`,
    'Object.create(null)',
    `Object.assign(Object.create(null), { a: 1 })`,
    'new Uint8Array([1, 2, 3])',
    'new Float64Array(2)',
    'new Uint8Array(0)',
    'new ArrayBuffer(4)',
    `new String('x')`,
    'new Number(5)',
    'new Boolean(false)',
    'Object(1n)',
    'new WeakMap()',
    `{ get a() { return 1 }, set a(v) {}, get b() { return 2 }, set c(v) {} }`,
    `{ [Symbol('k')]: 1 }`,
    '(() => { const o = { a: 1 }; o.self = o; return o })()',
    '(() => { const a = [1]; a.push(a, { a }); return a })()',
    `(() => { const x = {}; return { p: x, q: x } })()`,
    `{ f() {}, g: () => 1, h: class {} }`,
    `{ long: 'x'.repeat(100), other: 'y'.repeat(20) }`,
    `{ a: 'x'.repeat(30), b: 'y'.repeat(30), c: 1 }`,
    `{ a: 1, b: 2, c: 3, d: 4, e: 5, f: 6, g: 7, h: 8, i: 9, j: 10, k: 11, l: 12, m: 13, n: 14, o: 15, p: 16, q: 17, r: 18, s: 19, t: 20, u: 21, v: 22, w: 23, x: 24, y: 25, z: 26 }`,
    `[{ id: 1, name: 'Ada' }, { id: 2, name: 'Bob' }]`,
    `{ users: [{ id: 1, tags: ['a', 'b'] }, { id: 2, tags: [] }], total: 2 }`,
    `{ a: undefined, b: null, c: NaN }`,
    `'x'.repeat(20000)`,
    `['x'.repeat(20000)]`,
    `{ [Symbol.toStringTag]: 'Tag', a: 1 }`,
    `[[1, 2], [3, 4]]`,
    `[[]]`,
    `{ a: {} }`,
    `{ a: new Date(0), r: /x/ }`,
    `{ m: new Map([['a', 1]]), s: new Set([1]) }`,
    `Promise.resolve(1).constructor`,
    `[1.5, -2, 1e21]`,
    `Object.freeze({ a: 1 })`,
    `{ __proto__: { inherited: 1 }, own: 2 }`,
    'Math.max',
    '{ toString() { return "custom" } }',
    '[function foo() {}, class X {}]',
    `{ 'ü': 1, $x: 2, _y: 3 }`,
    `['\\ud800']`,
  ];
  for (const value of values) {
    test(`of ${value.slice(0, 100)}`, () => {
      const inNode = evaluate(`(${value})`) as unknown;
      expect(logged(`console.log(${value})`)).toEqual([`info ${formatWithOptions({ colors: false }, inNode)}`]);
    });
  }
  const formats = [
    `'%s is %d years', 'Ada', 36.5, 'x'`,
    `'%i %f %j %o %O %c %%', 3.9, '1.5', { a: 1 }, [1], { b: 2 }, 'css', 'rest'`,
    `'%s %s', 'one'`,
    `'%x %s', 1, 2`,
    `'100%', 5`,
    `'%s', null`,
    `'%s', { a: { b: 1 } }`,
    `'%s', [1, [2, [3]]]`,
    `'%s', 10n`,
    `'%s', Symbol('a')`,
    `'%d', '5'`,
    `'%d', {}`,
    `'%d', 5n`,
    `'a', 'b', 1, { c: 2 }`,
    `1, 'two', [3]`,
    `'%s', -0`,
    `'%s', () => 1`,
    `'%j', { toJSON() { return 'json' } }`,
    `'%i', 'abc'`,
    `{ a: 1 }, '%s', 'x'`,
    `''`,
    `'', 'x'`,
    `'%s', new Date(0)`,
    `'%s', class A {}`,
    `'%%', 1`,
    `'%'`,
    `'a%', 'b'`,
    `'%s'`,
    `'%j', undefined`,
  ];
  for (const args of formats) {
    test(`with the arguments ${args.slice(0, 100)}`, () => {
      const inNode = evaluate(`[${args}]`) as unknown[];
      expect(logged(`console.log(${args})`)).toEqual([`info ${formatWithOptions({ colors: false }, ...inNode)}`]);
    });
  }
});

describe('console', () => {
  test('gives each method its level', () => {
    expect(
      logged(`console.debug('a'); console.log('b'); console.info('c'); console.warn('d'); console.error('e')`),
    ).toEqual(['debug a', 'info b', 'info c', 'warn d', 'error e']);
  });
  test('shows an error with its stack and cause', () => {
    const [line] = logged(`console.error(new TypeError('bad', { cause: { code: 5 } }))`);
    expect(line).toMatch(/^error TypeError: bad\n {4}at .*[\s\S]*\[cause\]: \{ code: 5 \}/);
  });
  test('counts, times, asserts, groups and traces', () => {
    const lines =
      logged(`console.count(); console.count(); console.count('x'); console.countReset(); console.count(); console.assert(true, 'no'); console.assert(false, 'yes %d', 1); console.assert(false);
      console.group('G'); console.log('in\\nner'); console.groupEnd(); console.log('out'); console.time('t'); console.timeEnd('t'); console.timeEnd('t'); console.trace('here')`);
    expect(lines.slice(0, 8)).toEqual([
      'info default: 1',
      'info default: 2',
      'info x: 1',
      'info default: 1',
      'warn Assertion failed: yes 1',
      'warn Assertion failed',
      'info G',
      'info   in\n  ner',
    ]);
    expect(lines[8]).toBe('info out');
    expect(lines[9]).toMatch(/^info t: \d+ms$/);
    expect(lines[10]).toBe("warn Warning: No such label 't' for console.time()");
    expect(lines[11]).toMatch(/^debug Trace: here\n/);
  });
  test('draws tables as Node does', () => {
    const [table] = logged(`console.table([{ a: 1, b: 'x' }, { a: 2, c: true }])`);
    expect(table).toBe(
      [
        'info ┌─────────┬───┬─────┬──────┐',
        '│ (index) │ a │ b   │ c    │',
        '├─────────┼───┼─────┼──────┤',
        "│ 0       │ 1 │ 'x' │      │",
        '│ 1       │ 2 │     │ true │',
        '└─────────┴───┴─────┴──────┘',
      ].join('\n'),
    );
  });
  test('shows web objects by what they hold', () => {
    expect(logged(`console.log(new Response('x', { status: 404 }).headers, new URLSearchParams('a=1'))`)).toEqual([
      `info Headers { 'content-type': 'text/plain;charset=UTF-8' } URLSearchParams { a: '1' }`,
    ]);
  });
  test('survives hostile values', () => {
    const [a, b, c] = logged(`
      console.log({ get x() { throw new Error('no') } });
      console.log(new Proxy({}, { ownKeys() { throw new Error('trap') } }));
      console.log({ [Symbol.for('nodejs.util.inspect.custom')]() { throw new Error('boom') } });`);
    expect(a).toBe('info { x: [Getter] }');
    expect([b, c]).toEqual(['info [not shown: trap]', 'info [not shown: boom]']);
  });
  test('bounds what one line can hold', () => {
    const [line] = logged(`console.log(Array.from({ length: 90 }, (_, i) => ({ i, text: 'x'.repeat(9000) })))`);
    expect((line as string).length).toBeLessThan(200_000);
    const [wide] = logged(`const o = {}; for (let i = 0; i < 5000; i++) o['k' + i] = i; console.log(o)`);
    expect((wide as string).length).toBeLessThan(200_000);
  });
  test('agrees with Node on util.inspect options', () => {
    expect(logged(`console.dir({ a: { b: { c: { d: 1 } } } }, { depth: 0 })`)).toEqual([
      `info ${inspect({ a: { b: { c: { d: 1 } } } }, { depth: 0 })}`,
    ]);
  });
});
