import { describe, expect, test } from 'vitest';
import { DEMANDED_EXPORT, LOAD_DATA_EXPORT, linkModules } from '../../../runtime/linking/index.ts';
import { call, get, I32, i32, u32, wasm } from '../metering/wasm-builder.ts';

const SIDE_DATA = 4096;
const result = { results: [I32] };
const name = (text: string): number[] => [text.length, ...new TextEncoder().encode(text)];
const ADD = 0x6a;

/** One function in the table at 1, a data segment at 16, an import of the host. */
const MAIN = wasm({
  imports: [{ module: 'env', name: 'host', ...result }],
  functions: [
    { ...result, export: 'seven', code: i32(7) },
    { ...result, export: 'callHost', code: call(0) },
    { params: [I32], ...result, export: 'indirect', code: [...get(0), 0x11, 1, 0] },
    { params: [I32], ...result, export: 'peek', code: [...get(0), 0x2d, 0, 0] },
  ],
  memory: { min: 1 },
  globals: [65_000],
  raw: {
    4: [1, 0x70, 0, 2],
    9: [1, 0, ...i32(1), 0x0b, 1, 1],
    11: [1, 0, ...i32(16), 0x0b, 2, 0xaa, 0xbb],
  },
});

interface Side {
  /** Bytes of data, and elements of the table. */
  readonly needs: readonly [number, number];
  readonly imports?: readonly { module: string; name: string }[];
  /** Imported globals, after __memory_base (0) and __table_base (1). */
  readonly globals?: readonly (readonly [string, string])[];
  readonly functions: readonly { code: readonly number[]; export?: string }[];
  readonly elements?: readonly number[];
  readonly data?: readonly number[];
}

/** A side module as a compiler writes it: functions from nothing to i32. */
function side({ needs, imports = [], globals = [], functions, elements = [], data = [] }: Side): Uint8Array {
  const global = ([module, entry]: readonly [string, string]) => [...name(module), ...name(entry), 3, I32];
  const all: number[][] = [
    ...imports.map((entry) => [...name(entry.module), ...name(entry.name), 0, 0]),
    [...global(['env', '__memory_base']), 0],
    [...global(['env', '__table_base']), 0],
    ...globals.map((entry) => [...global(entry), 1]),
  ];
  const [bytes, slots] = needs;
  const info = [...u32(bytes), 2, ...u32(slots), 0];
  return wasm({
    custom: [{ name: 'dylink.0', content: [1, info.length, ...info] }],
    imports: imports.map((entry) => ({ ...entry, ...result })),
    functions: functions.map((each) => ({ ...result, ...each })),
    raw: {
      2: [all.length, ...all.flat()],
      ...(elements.length === 0 ? {} : { 9: [1, 0, 0x23, 1, 0x0b, elements.length, ...elements] }),
      ...(data.length === 0 ? {} : { 11: [1, 0, 0x23, 0, ...i32(4), ADD, 0x0b, data.length, ...data] }),
    },
  });
}

type Exports = Record<string, (...args: number[]) => number> & {
  memory: WebAssembly.Memory;
  [DEMANDED_EXPORT]: WebAssembly.Global<'i32'>;
};

function link(sides: readonly Uint8Array[], tables?: readonly [number, number]) {
  const modules = sides.map((bytes, index) => ({
    name: `s${index}`,
    bytes,
    ...(tables === undefined ? {} : { tables }),
  }));
  const linked = linkModules(MAIN, modules, SIDE_DATA);
  let demands = 0;
  const imports = { env: { host: () => 99 }, link: { demand: () => void demands++ } };
  const module = new WebAssembly.Module(linked.bytes as Uint8Array<ArrayBuffer>);
  const exports = new WebAssembly.Instance(module, imports).exports as unknown as Exports;
  return { exports, linked, demands: () => demands };
}

describe('a linked module', () => {
  test('has the main module as it was', () => {
    const { exports } = link([]);
    expect([exports.seven?.(), exports.callHost?.(), exports.indirect?.(1)]).toEqual([7, 99, 7]);
  });

  test('has no data in memory until it is loaded', () => {
    const data = side({ needs: [16, 0], functions: [{ code: i32(0), export: 'f' }], data: [1, 2, 3] });
    const { exports, linked } = link([data]);
    expect(new Uint8Array(exports.memory.buffer).every((byte) => byte === 0)).toBe(true);
    exports[LOAD_DATA_EXPORT]?.();
    expect([16, 17, SIDE_DATA + 4, SIDE_DATA + 5, SIDE_DATA + 6].map((at) => exports.peek?.(at))).toEqual([
      0xaa, 0xbb, 1, 2, 3,
    ]);
    expect(linked.sideDataEnd).toBe(SIDE_DATA + 16);
  });

  test('lets a side module call the main module, itself, and through the table', () => {
    const caller = side({
      needs: [0, 1],
      imports: [{ module: 'env', name: 'seven' }],
      functions: [
        { code: [...call(0), ...call(2), ADD], export: 'sum' },
        { code: i32(30) },
        { code: [0x23, 1, 0x11, 0, 0], export: 'viaTable' },
      ],
      elements: [2],
    });
    const { exports } = link([caller, caller]);
    for (const prefix of ['s0', 's1']) {
      expect([exports[`${prefix}.sum`]?.(), exports[`${prefix}.viaTable`]?.()]).toEqual([37, 30]);
    }
  });

  test('calls the own function of a side module that also imports it, as C++ modules do', () => {
    const weak = side({
      needs: [0, 0],
      imports: [{ module: 'env', name: 'seven' }],
      functions: [
        { code: i32(42), export: 'seven' },
        { code: call(0), export: 'direct' },
      ],
    });
    const { exports } = link([weak]);
    expect([exports['s0.direct']?.(), exports.seven?.()]).toEqual([42, 7]);
  });

  test('traps where a function that nobody has is called', () => {
    const lost = side({
      needs: [0, 0],
      imports: [{ module: 'env', name: 'nowhere' }],
      functions: [
        { code: call(0), export: 'f' },
        { code: i32(5), export: 'g' },
      ],
    });
    const { exports } = link([lost]);
    expect(() => exports['s0.f']?.()).toThrow(WebAssembly.RuntimeError);
    expect(exports['s0.g']?.()).toBe(5);
  });

  test('puts a function that is taken the address of by name into the table, once', () => {
    const address = side({
      needs: [0, 0],
      globals: [['GOT.func', 'seven']],
      functions: [
        { code: [0x23, 2, 0x11, 0, 0], export: 'throughAddress' },
        { code: [0x23, 2], export: 'address' },
      ],
    });
    const { exports } = link([address, address]);
    expect(exports['s0.throughAddress']?.()).toBe(7);
    expect(exports['s0.address']?.()).toBe(exports['s1.address']?.());
  });

  test('runs the start functions of side modules when an instance is made', () => {
    // A start function has neither parameters nor results: written out by hand.
    const bytes = wasm({
      functions: [{ code: [0x23, 0, ...i32(9), 0x36, 0, 0] }],
      start: 0,
      custom: [{ name: 'dylink.0', content: [1, 4, 8, 2, 0, 0] }],
      raw: { 2: [1, ...name('env'), ...name('__memory_base'), 3, I32, 0] },
    });
    const { exports } = link([bytes]);
    expect(exports.peek?.(SIDE_DATA)).toBe(9);
  });

  test('asks for tables when a side module is entered through the table, until they are there', () => {
    const entered = side({
      needs: [64, 1],
      functions: [{ code: i32(3) }, { code: i32(4), export: 'notInTable' }],
      elements: [0],
    });
    const { exports, linked, demands } = link([entered], [8, 32]);
    expect(linked.tables).toEqual([SIDE_DATA + 8, SIDE_DATA + 32]);
    expect([exports.indirect?.(2), demands()]).toEqual([3, 1]);
    expect([exports['s0.notInTable']?.(), demands()]).toEqual([4, 1]);
    exports[DEMANDED_EXPORT].value = 1;
    expect([exports.indirect?.(2), demands()]).toEqual([3, 1]);
  });

  test.each([
    ['a global that nobody has', { globals: [['env', 'mystery']] as const }],
    ['data at an address that is not known', {}],
  ])('is not made with %s', (what, extra) => {
    const bad = side({ needs: [0, 0], functions: [{ code: i32(0) }], ...extra });
    const raw = wasm({
      functions: [],
      raw: { 2: [1, ...name('GOT.mem'), ...name('x'), 3, I32, 1], 11: [1, 1, 0] },
    });
    expect(() => link([what.startsWith('data') ? raw : bad])).toThrow(/nobody has|can not be linked/);
  });
});
