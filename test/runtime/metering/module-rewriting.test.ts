import { describe, expect, test } from 'vitest';
import { METER_EXPORTS, type MeterOptions, ModuleRefusedError, meter } from '../../../runtime/metering/index.ts';
import { sandbox } from './sandbox.ts';
import { call, END, FUNCREF, forever, get, I32, i32, MAGIC, section, u32, VOID, wasm } from './wasm-builder.ts';

const rewrite = (bytes: Uint8Array, options: Partial<MeterOptions> = {}) =>
  meter(bytes, { maxMemoryPages: 64, ...options });

function refusal(bytes: Uint8Array, options: Partial<MeterOptions> = {}): string {
  try {
    rewrite(bytes, options);
  } catch (error) {
    expect(error).toBeInstanceOf(ModuleRefusedError);
    expect((error as ModuleRefusedError).code).toBe('INVALID_FUNCTION');
    return (error as ModuleRefusedError).feature;
  }
  return 'accepted';
}

const module = (...sections: number[][]) => new Uint8Array([...MAGIC, ...sections.flat()]);
const empty = [{ code: [] }];

describe('a module is refused by name for', () => {
  const cases: [string, string, Uint8Array][] = [
    ['bytes that are not WebAssembly', 'invalid module', new Uint8Array([1, 2, 3])],
    ['being a component', 'component', new Uint8Array([0, 0x61, 0x73, 0x6d, 0x0d, 0, 1, 0])],
    ['a 64-bit memory', 'memory64', module(section(5, [1, 4, 1]))],
    ['a 64-bit table', 'table64', module(section(4, [1, FUNCREF, 4, 1]))],
    ['CPU-08 a shared memory', 'shared memory', module(section(5, [1, 3, 1, 2]))],
    ['CPU-08 an imported shared memory', 'shared memory', module(section(2, [1, 1, 0x61, 1, 0x62, 2, 3, 1, 2]))],
    ['custom page sizes', 'custom page sizes', module(section(5, [1, 8, 1, 0]))],
    ['two memories', 'multi-memory', module(section(5, [2, 0, 1, 0, 1]))],
    ['a struct type', 'gc types', module(section(1, [1, 0x5f, 0]))],
    ['a recursive type group', 'gc types', module(section(1, [1, 0x4e, 1, 0x60, 0, 0]))],
    ['a continuation type', 'stack switching', module(section(1, [2, 0x60, 0, 0, 0x5d, 0]))],
    ['a gc reference', 'gc types', module(section(1, [1, 0x60, 1, 0x6e, 0]))],
    ['a typed function reference', 'function references', module(section(1, [2, 0x60, 0, 0, 0x60, 1, 0x63, 0, 0]))],
    [
      'atomic instructions',
      'atomics',
      wasm({ memory: { min: 1 }, functions: [{ code: [...i32(0), 0xfe, 0x10, 2, 0, 0x1a] }] }),
    ],
    ['an atomic fence', 'atomics', wasm({ functions: [{ code: [0xfe, 3, 0] }] })],
    ['i31 references', 'gc types', wasm({ functions: [{ code: [...i32(0), 0xfb, 0x1c, 0x1a] }] })],
    ['call_ref', 'function references', wasm({ functions: [{ code: [0xd2, 0, 0x14, 0], export: 'a' }] })],
    ['a reserved export name', 'reserved export name', wasm({ functions: [{ code: [], export: 'postern.fuel' }] })],
    [
      'any export that begins with it',
      'reserved export name',
      wasm({ functions: [{ code: [], export: 'postern.x' }] }),
    ],
    ['more memory at the start than allowed', 'memory too large', wasm({ memory: { min: 65 }, functions: empty })],
    ['a table larger than allowed', 'table too large', wasm({ table: { min: 100_001 }, functions: empty })],
    [
      'too many locals for one more',
      'too many locals',
      module(section(1, [1, 0x60, 0, 0]), section(3, [1, 0]), section(10, [1, 6, 1, ...u32(50_000), I32, END])),
    ],
    ['a truncated section', 'invalid module', wasm({ functions: empty }).slice(0, -2)],
    ['a section length beyond the end', 'invalid module', new Uint8Array([...MAGIC, 1, 0xff, 0xff, 0xff, 0xff, 0x0f])],
    ['an endless integer', 'invalid module', new Uint8Array([...MAGIC, 1, ...new Array(40).fill(0x80)])],
    ['a forged count', 'invalid module', module(section(1, [0xff, 0xff, 0xff, 0xff, 0x0f]))],
    ['a section twice', 'invalid module', module(section(1, [0]), section(1, [0]))],
    ['an unknown section', 'unknown section', module(section(99, [0]))],
  ];
  for (const [name, feature, bytes] of cases) {
    test(name, () => expect(refusal(bytes)).toBe(feature));
  }
});

describe('a forged module that would be valid only once rewritten is refused', () => {
  const cases: [string, Uint8Array][] = [
    ['naming the fuel global', wasm({ globals: [5], functions: [{ code: [...i32(2 ** 30), 0x24, 1] }] })],
    [
      'exporting the fuel global',
      wasm({ globals: [5], functions: empty, exports: [{ name: 'x', kind: 3, index: 1 }] }),
    ],
    ['calling an appended function', wasm({ functions: [{ code: call(1) }] })],
    ['naming the appended table', wasm({ functions: [{ code: [...i32(0), 0xd0, FUNCREF, 0x26, 0] }] })],
    ['using an appended type', wasm({ functions: [{ code: [0x02, 1, END] }] })],
    ['with the scratch local', wasm({ functions: [{ code: [...get(0), 0x1a] }] })],
  ];
  for (const [name, bytes] of cases) test(name, () => expect(refusal(bytes)).toBe('invalid module'));
});

test('every truncation of a valid module is refused, never an internal error', () => {
  const bytes = wasm({
    memory: { min: 1 },
    table: { min: 1, elements: [0] },
    globals: [1],
    tag: true,
    functions: [{ code: forever(), export: 'a' }],
  });
  for (let length = 0; length < bytes.length; length++) {
    const feature = refusal(bytes.slice(0, length));
    // A prefix that ends between sections may be a module.
    if (feature === 'accepted') expect(WebAssembly.validate(bytes.slice(0, length))).toBe(true);
  }
});

test('every changed byte gives a valid module or a refusal, never an internal error', () => {
  const bytes = wasm({
    memory: { min: 1 },
    table: { min: 1, elements: [0] },
    globals: [1],
    functions: [{ code: forever(...i32(0), 0x40, 0, 0x1a), export: 'a' }],
  });
  for (let at = 8; at < bytes.length; at++) {
    for (const value of [0, 1, 0x40, 0x63, 0x7f, 0x80, 0xff, bytes[at]! + 1, bytes[at]! ^ 4]) {
      const changed = bytes.slice();
      changed[at] = value;
      refusal(changed);
    }
  }
});

describe('memory', () => {
  const grower = (max?: number) =>
    wasm({
      memory: max === undefined ? { min: 1 } : { min: 1, max },
      functions: [{ export: 'grow', params: [I32], results: [I32], code: [...get(0), 0x40, 0] }],
    });

  test('may grow to the smaller of its own maximum and the ceiling', () => {
    expect(rewrite(grower()).memory).toEqual({ minPages: 1, maxPages: 64, imported: false });
    expect(rewrite(grower(8)).memory).toEqual({ minPages: 1, maxPages: 8, imported: false });
    const { exports, meter: own } = sandbox(grower(8));
    expect(exports.grow!(7)).toBe(1);
    expect(own.growFailed).toBe(false);
    expect(exports.grow!(1)).toBe(-1);
    expect(own.growFailed).toBe(true);
  });

  test('is limited per invocation without compiling again', () => {
    const { exports, meter: own } = sandbox(grower());
    own.maxMemoryPages = 4;
    expect(exports.grow!(3)).toBe(1);
    expect(exports.grow!(1)).toBe(-1);
    expect(own.growFailed).toBe(true);
    own.reset();
    expect(own.growFailed).toBe(false);
    own.maxMemoryPages = 5;
    expect(exports.grow!(1)).toBe(4);
    expect(exports.grow!(-1)).toBe(-1);
  });

  test('growth is put to the host, which may refuse', () => {
    const seen: number[][] = [];
    const { exports, meter: own } = sandbox(grower(), {
      onGrow: (current, delta) => {
        seen.push([current, delta]);
        return delta < 3;
      },
    });
    expect(exports.grow!(2)).toBe(1);
    expect(exports.grow!(5)).toBe(-1);
    expect(own.growFailed).toBe(true);
    expect(seen).toEqual([
      [1, 2],
      [3, 5],
    ]);
  });

  test('a start function may grow it before a meter is attached, up to the ceiling', () => {
    const bytes = wasm({
      memory: { min: 1 },
      globals: [0, 0],
      functions: [{ code: [...i32(2), 0x40, 0, 0x24, 0, ...i32(100), 0x40, 0, 0x24, 1] }],
      start: 0,
    });
    const { instance, meter: own } = sandbox(bytes, {}, {}, { maxMemoryPages: 10 });
    expect((instance.exports.g0 as { value: number }).value).toBe(1);
    expect((instance.exports.g1 as { value: number }).value).toBe(-1);
    expect(own.growFailed).toBe(true);
  });

  test('fills and copies in pieces give what one instruction gives, and trap before they write', () => {
    const bytes = wasm({
      memory: { min: 100 },
      functions: [
        { export: 'fill', params: [I32, I32, I32], code: [...get(0), ...get(1), ...get(2), 0xfc, 11, 0] },
        { export: 'copy', params: [I32, I32, I32], code: [...get(0), ...get(1), ...get(2), 0xfc, 10, 0, 0] },
      ],
    });
    const { exports, instance } = sandbox(bytes);
    const actual = new Uint8Array((instance.exports.memory as WebAssembly.Memory).buffer);
    for (let i = 0; i < actual.length; i += 997) actual[i] = i;
    const expected = actual.slice();
    const mebi = 1 << 20;
    for (const [to, value, length] of [
      [5, 7, 3 * mebi],
      [mebi, 9, 2 * mebi + 1],
      [0, 1, mebi],
    ] as const) {
      exports.fill!(to, value, length);
      expected.fill(value, to, to + length);
    }
    for (const [to, from, length] of [
      [10, 0, 4 * mebi + 3],
      [0, 11, 5 * mebi],
      [mebi, mebi, 2 * mebi],
      [3 * mebi, 0, 3 * mebi],
    ] as const) {
      exports.copy!(to, from, length);
      expected.copyWithin(to, from, from + length);
    }
    for (const [to, second, length] of [
      [4 * mebi, 1, 3 * mebi],
      [0, 4 * mebi, 3 * mebi],
      [-1, 0, -1],
    ] as const) {
      expect(() => exports.copy!(to, second, length)).toThrow('memory access out of bounds');
      if (to !== 0) expect(() => exports.fill!(to, second, length)).toThrow('memory access out of bounds');
    }
    expect(Buffer.compare(actual, expected)).toBe(0);
  });
});

test('a table may grow to the cap, and its failure is noted', () => {
  const bytes = wasm({
    table: { min: 1 },
    functions: [{ export: 'grow', params: [I32], results: [I32], code: [0xd0, FUNCREF, ...get(0), 0xfc, 15, 0] }],
  });
  const { exports, meter: own } = sandbox(bytes, {}, {}, { maxTableElements: 10 });
  expect(exports.grow!(9)).toBe(1);
  expect(own.growFailed).toBe(false);
  expect(exports.grow!(1)).toBe(-1);
  expect(own.growFailed).toBe(true);
});

test('only the exports that are wanted stay', () => {
  const bytes = wasm({
    memory: { min: 1 },
    functions: [
      { code: [], export: 'a' },
      { code: [], export: 'b' },
    ],
  });
  const { exports } = sandbox(bytes, {}, {}, { keepExports: new Set(['b', 'memory']) });
  expect(Object.keys(exports).filter((name) => !name.startsWith('postern.'))).toEqual(['b', 'memory']);
  const { meter: _, growFailed: __, ...rest } = METER_EXPORTS;
  expect(Object.keys(exports)).toContain(rest.fuel);
});

test('mutable globals are exported when asked for, so that a reset can restore them', () => {
  const bytes = wasm({ globals: [3, 4], functions: empty, raw: {} });
  expect(rewrite(bytes).mutableGlobals).toEqual([]);
  const metered = rewrite(bytes, { exportMutableGlobals: true });
  expect(metered.mutableGlobals).toEqual([
    { name: 'postern.global.0', type: 'i32' },
    { name: 'postern.global.1', type: 'i32' },
  ]);
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(metered.bytes as Uint8Array<ArrayBuffer>));
  expect((exports['postern.global.1'] as { value: number }).value).toBe(4);
});

test('custom sections are dropped but for those asked for', () => {
  const bytes = wasm({
    functions: empty,
    custom: [
      { name: 'dylink.0', content: [1] },
      { name: 'producers', content: [2] },
    ],
  });
  const sections = (options: Partial<MeterOptions>) => {
    const compiled = new WebAssembly.Module(rewrite(bytes, options).bytes as Uint8Array<ArrayBuffer>);
    return ['dylink.0', 'producers'].filter((name) => WebAssembly.Module.customSections(compiled, name).length > 0);
  };
  expect(sections({})).toEqual(['dylink.0']);
  expect(sections({ keepCustomSections: ['producers'] })).toEqual(['producers']);
});

test('blocks with unreachable ends, multiple values and typed ifs are metered', () => {
  const bytes = wasm({
    functions: [
      {
        export: 'f',
        params: [I32],
        results: [I32, I32],
        code: [
          ...get(0),
          0x04,
          VOID,
          ...i32(1),
          ...i32(2),
          0x0f,
          0x05,
          0x02,
          VOID,
          0x0c,
          0,
          0x03,
          VOID,
          0x0c,
          0,
          END,
          END,
          END,
          ...i32(3),
          ...i32(4),
        ],
      },
    ],
  });
  const { exports } = sandbox(bytes);
  expect(exports.f!(1)).toEqual([1, 2]);
  expect(exports.f!(0)).toEqual([3, 4]);
});

describe('CPU-12 a function that takes the engine long to compile is refused for', () => {
  const times = (count: number, code: readonly number[]): number[] => Array.from({ length: count }, () => code).flat();
  /** A function of type 0, without parameters and results, with so many locals. */
  const withLocals = (locals: number, code: readonly number[]): Uint8Array => {
    const body = [1, ...u32(locals), I32, ...code, END];
    return module(
      section(1, [2, 0x60, 0, 0, 0x60, 0, ...u32(500), ...times(500, [I32])]),
      section(3, [1, 0]),
      section(10, [1, ...u32(body.length), ...body]),
    );
  };
  const leaving = [...get(0), 0x0d, 0];
  const cases: readonly [string, number, readonly number[], readonly number[]][] = [
    ['blocks', 40_000, [], [0x02, VOID, ...leaving, END]],
    ['loops', 40_000, [], [0x03, VOID, ...leaving, END]],
    ['two ways', 40_000, [], [...get(0), 0x04, VOID, 0x05, END]],
    ['the labels of a table', 40_000, [], [...get(0), 0x0e, 1, 0, 0]],
    ['handlers', 40_000, [], [0x06, VOID, 0x19, END]],
    ['values on the stack', 1, times(40_000, i32(1)), [0x02, VOID, ...leaving, END]],
    ['results on the stack', 1, times(80, [0x02, 1, 0x00, END]), [0x02, VOID, ...leaving, END]],
  ];
  test.each(cases)('%s', (_, locals, before, repeated) => {
    const many = withLocals(locals, [...before, ...times(130, repeated), 0x00]);
    expect(refusal(many)).toBe('function too complex');
    const some = withLocals(locals, [...before, ...times(30, repeated), 0x00]);
    expect(refusal(some)).toBe('accepted');
    expect(WebAssembly.validate(Buffer.from(some))).toBe(true);
  });

  test('many such functions', () => {
    const code = times(100, [0x02, VOID, ...leaving, END]);
    const body = [1, ...u32(40_000), I32, ...code, END];
    const bodies = times(13, [...u32(body.length), ...body]);
    const many = module(section(1, [1, 0x60, 0, 0]), section(3, [13, ...times(13, [0])]), section(10, [13, ...bodies]));
    expect(refusal(many)).toBe('module too complex');
  });
});
