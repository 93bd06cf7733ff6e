/** What the transpiler's JavaScript does for a guest is counted, and no type that a component declares gets around that. */

import { beforeAll, describe, expect, test } from 'vitest';
import { MAX_GLUE_FUEL } from '../../../runtime/component/glue-fuel.ts';
import { lexGlue } from '../../../runtime/component/glue-lexer.ts';
import { meterGlue } from '../../../runtime/component/glue-meter.ts';
import { transpileComponent } from '../../../runtime/component/index.ts';
import { unpackComponent } from '../../../runtime/component/stored-component.ts';
import { componentNew } from '../../support/component-new.ts';
import { call, END, forever, get, I32, I64, i32, wasm } from '../metering/wasm-builder.ts';
import { ANSWER_TRUE, component, core } from './support/component-builder.ts';
import { program, type Ran, type RunOptions, TestComponents } from './support/components.ts';

const components = new TestComponents();
const MB = 2 ** 20;
const LIST_AT = 64 * 1024;
/** 32 MB. */
const PAGES = 512;

interface Source {
  /** What it imports: an interface, and what is in it, with types of the component's own. */
  readonly of?: string;
  readonly wit?: string;
  /** As the core module imports it; import 0. */
  readonly name?: string;
  readonly params?: readonly number[];
  readonly results?: readonly number[];
  readonly handlerType?: string;
  /** Before it answers `true`. */
  readonly handler?: readonly number[];
  readonly realloc?: readonly number[];
}

function typed(source: Source): Promise<Uint8Array> {
  const { of = 'postern:function/environment@0.1.0', wit = 'get: func(name: list<u8>)' } = source;
  const { name = wit.split(':', 1)[0] as string, params = [I32, I32], results = [] } = source;
  const { handlerType = 'event: string) -> result<string, string>', realloc = i32(4096) } = source;
  const module = wasm({
    imports: [{ module: of, name, params, results }],
    memory: { min: PAGES },
    functions: [
      { export: 'cabi_realloc', params: [I32, I32, I32, I32], results: [I32], code: realloc },
      {
        export: 'handler',
        params: [I32, I32],
        results: [I32],
        locals: [I32],
        code: [...(source.handler ?? []), ...ANSWER_TRUE],
      },
      { export: 'cabi_post_handler', params: [I32], code: [] },
    ],
  });
  const [, packaged, interfaced, version] = /^(.*)\/(.*)@(.*)$/.exec(of) ?? [];
  if (packaged === undefined) {
    const exported = `package test:test; interface things { ${wit} }`;
    return componentNew(module, `${exported} world w { export things; export handler: func(${handlerType}; }`);
  }
  return componentNew(
    module,
    `package test:test;
    world w { import ${of}; export handler: func(${handlerType}; }
    package ${packaged}@${version} { interface ${interfaced} { ${wit.endsWith('}') ? wit : `${wit};`} } }`,
  );
}

async function run(source: Source, options: RunOptions = {}): Promise<Ran> {
  const ran = await components.run(await program(await typed(source)), options);
  expect(ran.afterEnd).toEqual([]);
  return ran;
}

/** Passes the list at LIST_AT. */
const passing = (length: number): number[] => [...i32(LIST_AT), ...i32(length), ...call(0)];
/** Stores `count` pairs of address and length at LIST_AT: the same list or text that often. */
const pairs = (count: number, address: number, length: number): number[] => [
  ...[0x03, 0x40],
  ...[...i32(LIST_AT), ...get(2), ...i32(3), 0x74, 0x6a, ...i32(address), 0x36, 2, 0],
  ...[...i32(LIST_AT), ...get(2), ...i32(3), 0x74, 0x6a, ...i32(length), 0x36, 2, 4],
  ...[...get(2), ...i32(1), 0x6a, 0x22, 2, ...i32(count), 0x49, 0x0d, 0, END],
];

describe('a component passes', () => {
  const log = (type: string, handler: readonly number[]): Source => ({
    of: 'postern:function/logging@0.1.0',
    wit: `log: func(level: ${type})`,
    handler,
  });

  // Each took seconds to minutes of an executor's one thread, or gigabytes of its memory.
  test.each([
    ['millions of small elements', log('list<tuple<u8>>', passing(30 * MB))],
    ['millions of cases without payload', log('list<result>', passing(30 * MB))],
    ['the same 16 MB a thousand times', log('list<list<u8>>', [...pairs(1_000, 0, 16 * MB), ...passing(1_000)])],
    ['the same numbers a thousand times', log('list<list<u64>>', [...pairs(1_000, 0, 2 * MB), ...passing(1_000)])],
    ['the same text a thousand times', log('list<string>', [...pairs(1_000, 0, 16 * MB), ...passing(1_000)])],
    ['a million empty texts', log('list<string>', passing(1_000_000))],
    ['lists of themselves', log('list<list<list<list<u8>>>>', [...pairs(10_000, LIST_AT, 10_000), ...passing(10_000)])],
    [
      'too much to an import that waits',
      {
        of: 'postern:function/database@0.1.0',
        wit: 'query: func(sql: list<string>)',
        handler: [...pairs(1_000, 0, 16 * MB), ...passing(1_000)],
      },
    ],
    [
      'a little at a time within cabi_realloc, again and again',
      { realloc: [...forever(...i32(0), ...i32(MB), ...call(0)), ...i32(0)] },
    ],
  ] satisfies [string, Source][])(
    'ABI-01 a component that passes %s is ended before it does harm',
    async (_, source) => {
      const ran = await run(source);
      expect(ran).toMatchObject({ how: 'panic', text: expect.stringContaining('converted'), casts: [], hostCalls: [] });
      expect(ran.usage.fuel).toBeLessThan(2 * MAX_GLUE_FUEL);
    },
  );

  test('CPU-01 calls that cost the host much, within cabi_realloc, are ended', async () => {
    const source = {
      wit: 'get: func(name: string)',
      realloc: [...forever(...i32(0), ...i32(0), ...call(0)), ...i32(0)],
    };
    const env = Object.fromEntries(Array.from({ length: 100_000 }, (_, index) => [`V${index}`, '']));
    const ran = await run(source, { meta: { env } });
    expect(ran).toMatchObject({ how: 'panic', text: expect.stringContaining('runs for too long') });
  });

  test('CPU-12 a megabyte passed again and again counts as CPU, all of it', async () => {
    const flood = { handler: forever(...i32(0), ...i32(MB), ...call(0)) };
    const ran = await run(flood, { limits: { fuel: 50_000_000 } });
    expect(ran.how).toBe('cpu');
    expect(ran.usage.fuel).toBeLessThan(60_000_000);
  });

  test('ten thousand lists of a kilobyte: the import is called with them', async () => {
    const handler = [...pairs(10_000, 0, 1_000), ...passing(10_000)];
    expect(await run({ wit: 'get: func(name: list<list<u8>>)', handler })).toMatchObject({ how: 'value' });
  });
});

describe('a component takes', () => {
  test('ABI-01 a component that takes its event as millions of texts is ended before it does harm', async () => {
    const event = JSON.stringify('x'.repeat(2 * MB));
    const ran = await run({ handlerType: 'event: list<string>) -> result<string, string>' }, { event });
    expect(ran).toMatchObject({ how: 'panic', text: expect.stringContaining('converted') });
    expect(ran.usage.fuel).toBeLessThan(2 * MAX_GLUE_FUEL);
  });

  test('ABI-01 a component that takes bytes as larger numbers is ended, and reads nothing that lies behind them', async () => {
    const ran = await run({
      of: 'wasi:random/random@0.2.0',
      wit: 'get-random-bytes: func(length: u64) -> list<u64>',
      params: [I64, I32],
      handler: [0x42, 16, ...i32(64), ...call(0)],
    });
    expect(ran).toMatchObject({ how: 'panic', text: expect.stringContaining('other types') });
  });

  const pollable = (method: string): Partial<Source> => ({
    of: 'wasi:io/poll@0.2.0',
    wit: `resource pollable { ${method}: func(); }`,
    name: `[method]pollable.${method}`,
    params: [I32],
    handler: [...i32(7), ...call(0)],
  });
  test.each<[what: string, text: string, source: Source]>([
    [
      'a text as a time',
      'a value that is not of its type, or a handle',
      {
        of: 'wasi:clocks/monotonic-clock@0.2.0',
        wit: 'subscribe-instant: func(when: string)',
        handler: [...i32(0), ...i32(1), ...call(0)],
      },
    ],
    ['a handle that it does not have', 'a value that is not of its type, or a handle', pollable('ready')],
    ['a handle that it does not have, and waits for it', 'waits for a handle', pollable('block')],
    [
      'a list of handles that it does not have',
      'waits for a handle',
      {
        of: 'wasi:io/poll@0.2.0',
        wit: 'resource pollable; poll: func(in: list<borrow<pollable>>)',
        name: 'poll',
        handler: [...i32(64), ...i32(1), ...call(0)],
      },
    ],
    [
      'a number as a list of handles',
      'with other types',
      { of: 'wasi:io/poll@0.2.0', wit: 'poll: func(in: u32)', params: [I32], handler: [...i32(1), ...call(0)] },
    ],
  ])(
    "ABI-01 a component that passes %s is told so, at once and in no words of the host's own code",
    async (_, text, source) => {
      expect(await run(source)).toMatchObject({ how: 'panic', text: expect.stringContaining(text) });
    },
  );

  test('ISO-06 a component that exits with what can not be shown ends itself, and no process', async () => {
    const ran = await run({
      of: 'wasi:cli/exit@0.2.0',
      name: 'exit-with-code',
      wit: 'record odd { to-string: u32, value-of: u32 } exit-with-code: func(code: odd)',
      handler: [...i32(1), ...i32(1), ...call(0)],
    });
    expect(ran).toMatchObject({ how: 'panic', text: expect.stringContaining('other types') });
  });

  test('MEM-06 handles of resources without end end the invocation before they fill the host', async () => {
    const flood = [0x03, 0x40, ...get(2), ...i32(1), 0x6a, 0x22, 2, ...call(0), 0x1a, 0x0c, 0, END];
    const ran = await run({
      of: '[export]test:test/things',
      name: '[resource-new]thing',
      params: [I32],
      results: [I32],
      wit: 'resource thing;',
      handler: flood,
    });
    expect(ran).toMatchObject({ how: 'memory', text: 'too many resources of the host' });
  });

  test.each([
    [
      'wasi:io/poll@0.2.0',
      'resource pollable { constructor(a: u32, b: u32); }',
      '[constructor]pollable',
      'new Pollable',
    ],
    [
      'wasi:http/types@0.2.0',
      'resource fields { frozen: static func(a: u32, b: u32) -> u32; }',
      '[static]fields.frozen',
      'Fields.frozen',
    ],
  ])('ABI-02 a component that calls of %s what is not offered, %s, is refused', async (of, wit, name, shown) => {
    const upload = await typed({ of, wit, name, results: [I32] });
    await expect(transpileComponent(upload)).rejects.toThrow(`calls "${shown}", which is not offered`);
  });
});

test('ABI-01 a result of any size is too large where it is larger than may be sent', async () => {
  const store = (address: number, value: number): number[] => [...i32(address), ...i32(value), 0x36, 2, 0];
  const handler = [...store(16, 0), ...store(20, 0), ...store(24, 40 * MB), ...i32(16)];
  const guest = await program(component({ modules: [core({ handler, pages: 700 })] }));
  const { end } = await components.run(guest);
  expect(end).toMatchObject({ reason: 'finished', finish: { kind: 'value', body: null } });
});

describe('the meter of the glue', () => {
  let glue: string;
  const metered = (source: string): string => meterGlue(source, lexGlue(source));

  beforeAll(async () => {
    const stored = unpackComponent(await transpileComponent(component({ modules: [core()] })));
    glue = stored.glue;
  });

  test('charges at the beginning of every loop and function', () => {
    const begun = [
      ...glue.matchAll(/\b(?:for|while) \([^\n]*\{(.*)|\bfunction\*? ?\w*\([^\n]*\) ?\{(.*)|\bdo \{(.*)/g),
    ];
    expect(begun.length).toBeGreaterThan(30);
    const uncharged = begun.filter(
      ([, ...bodies]) => !bodies.some((body) => /^ \$meter\.charge\(\d+\);/.test(body ?? '')),
    );
    expect(uncharged.map(([line]) => line)).toEqual([expect.stringContaining('function instantiate(')]);
  });

  test('a round costs what is in it, and what it begins again is charged there', () => {
    expect(metered('function f(a) { for (const b of a) { g(b); } }')).toBe(
      'function f(a) { $meter.charge(28); for (const b of a) { $meter.charge(56); g(b); } }',
    );
  });

  test('what describes an import is made when it is first called', () => {
    expect(metered('const f = _lowerImportBackwardsCompat.bind(\nnull,\n{ a: () => b },\n);')).toBe(
      'const f = $meter.lazily(_lowerImportBackwardsCompat, () => ({ a: () => b })\n);',
    );
  });

  test.each([
    'for (;;) f();',
    'while (f()) g();',
    'do f(); while (g());',
    'for await (const a of b) { f(a); }',
    'a.fill(0);',
    'a.repeat(b);',
    'a.padEnd(b);',
    'a.concat(b);',
    'a.buffer.slice(b);',
    'a.copyWithin(b, c);',
    'a.replaceAll(b, c);',
    'new Array(a);',
    'new ArrayBuffer(a);',
    'new Uint8Array(a);',
    'new Float64Array(a.length);',
    'Array.from(a);',
    'Array.of(...args);',
    'String.fromCharCode.apply(null, a);',
    'f(...a);',
    'f([...a]);',
  ])('refuses what it can not count: %s', (code) => {
    expect(() => metered(`function f(a, b, c) { ${code} }`)).toThrow('can not be metered');
  });
});
