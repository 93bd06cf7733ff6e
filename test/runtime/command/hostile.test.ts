import { describe, expect, test } from 'vitest';
import { buildCommand } from '../../../runtime/command/command-program.ts';
import { PREVIEW1_SIGNATURES } from '../../../runtime/command/preview1-signatures.ts';
import { longestStall, Stopwatch } from '../../support/timed.ts';
import { END, forever, get, I32, i32, type ModuleSource, set, u32, VOID, wasm } from '../metering/wasm-builder.ts';
import { NAMES_OF_CODE } from '../names-of-code.ts';
import { logged, programOf, type Ran, type RunOptions, run } from './support/commands.ts';
import { data, parametersOf, store, type WasiSource, wasiModule } from './support/wasi-module.ts';

const DROP = 0x1a;
const UNREACHABLE = 0x00;
const EQZ = 0x45;
const i64 = (value: number): number[] => [0x42, ...i32(value).slice(1)];
/** Traps where the errno on the stack is `success`. */
const mustFail = [EQZ, 0x04, VOID, UNREACHABLE, END];
/** Traps where it is not. */
const mustSucceed = [0x04, VOID, UNREACHABLE, END];
/** Around code: what is thrown is caught. */
const caught = (...code: readonly (number | readonly number[])[]): number[] => [0x06, VOID, ...code.flat(), 0x19, END];
const caughtByTable = (...code: readonly (number | readonly number[])[]): number[] => [
  ...[0x02, VOID, 0x1f, VOID, 1, 2, 0],
  ...[...code.flat(), END, END],
];

function thrownBy(act: () => unknown): unknown {
  try {
    return act();
  } catch (error) {
    return error;
  }
}

const runModule = (source: WasiSource, options: RunOptions = {}): Promise<Ran> =>
  run(programOf(wasiModule(source)), options);

/** Writes [at, at + length) to a stream, with the vector at 1,000; drops the errno. */
const write = (fn: (name: string) => number[], fd: number, at: number, length: number): number[] => [
  ...store(1_000, at),
  ...store(1_004, length),
  ...[...i32(fd), ...i32(1_000), ...i32(1), ...i32(1_008), ...fn('fd_write'), DROP],
];
const read = (fn: (name: string) => number[], fd: number, at: number, length: number): number[] => [
  ...store(1_000, at),
  ...store(1_004, length),
  ...[...i32(fd), ...i32(1_000), ...i32(1), ...i32(1_008), ...fn('fd_read'), DROP],
];

describe('addresses and lengths that lie outside of the memory are errors of the call', () => {
  const names = [...PREVIEW1_SIGNATURES.keys()].filter((name) => !['proc_exit', 'sched_yield'].includes(name));
  test.each([-1, 0x7fff_ffff, -0x8000_0000, 131_072])(
    'with %i for every parameter of every function',
    async (hostile) => {
      const source: WasiSource = {
        uses: names,
        code: (fn) =>
          names.flatMap((name) => [
            ...[...parametersOf(name)].map((type) => (type === 'i' ? i32(hostile) : i64(hostile))),
            fn(name),
            mustFail,
          ]),
      };
      const ran = await runModule(source, { env: { A: 'b' } });
      expect(ran).toMatchObject({ how: 'value', text: 'null' });
    },
  );

  /** Calls that are right but for one address. */
  const wrong: Record<string, readonly number[][]> = {
    args_get: [
      [131_070, 0],
      [0, 131_070],
      [-4, 0],
    ],
    args_sizes_get: [
      [131_070, 0],
      [0, -2],
    ],
    environ_get: [
      [0, 131_072],
      [-1, 0],
    ],
    environ_sizes_get: [
      [131_070, 0],
      [0, -2],
    ],
    clock_res_get: [
      [0, 131_066],
      [0, -8],
      [4, 0],
    ],
    random_get: [
      [131_072, 1],
      [0, -1],
      [-1, 2],
      [131_000, 1_000],
    ],
    fd_fdstat_get: [
      [1, 131_060],
      [1, -1],
    ],
    fd_filestat_get: [
      [1, 131_020],
      [1, -60],
    ],
    fd_read: [
      [0, 131_070, 1, 0],
      [0, 0, -1, 0],
      [0, 0, 0x7fff_ffff, 0],
      [0, 0, -0x8000_0000, 0],
      [0, 16, 1, 131_070],
      [0, -8, 1, 0],
      [0, 8, 1, 0],
      [1, 16, 1, 0],
      [4, 16, 1, 0],
    ],
    fd_write: [
      [1, 131_070, 1, 0],
      [1, 0, -1, 0],
      [1, 0, 0x7fff_ffff, 0],
      [1, 0, -0x8000_0000, 0],
      [1, 16, 1, 131_070],
      [2, 24, 1, 0],
      [3, 24, 1, 0],
      [1, 32, 1, 0],
      [0, 16, 1, 0],
      [-3, 16, 1, 0],
    ],
    poll_oneoff: [
      [131_070, 0, 1, 64],
      [0, 131_050, 1, 64],
      [0, 0, 0, 64],
      [0, 0, -1, 64],
      [0, 0, 0x4000_0000, 64],
      [64, 128, 1, -1],
    ],
  };
  test.each(Object.entries(wrong))('in %s', async (name, calls) => {
    const ran = await runModule(
      {
        uses: [name],
        // At 8: a vector into nowhere. At 16: one into the memory. At 24 and 32: ones that run over its end, and over 2^32.
        code: (fn) => [
          store(8, 131_070),
          store(12, 8),
          store(16, 512),
          store(20, 4),
          store(24, 131_071),
          store(28, 2),
          store(32, 131_068),
          store(36, -4),
          ...calls.flatMap((args) => [...args.map(i32), fn(name), mustFail]),
        ],
      },
      { event: 'x'.repeat(100), env: { A: 'b' } },
    );
    expect(ran).toMatchObject({ how: 'value' });
  });

  test('of the host functions are exceptions, which a guest may catch', async () => {
    const calls = [
      [131_072, 1],
      [0, -1],
      [-1, 2],
      [-0x8000_0000, -0x8000_0000],
    ];
    for (const [address, length] of calls as [number, number][]) {
      const code = (fn: (name: string) => number[]) => [i32(address), i32(length), fn('call'), DROP];
      expect(await runModule({ uses: ['call'], code })).toMatchObject({
        how: 'panic',
        text: 'an address outside of the memory',
      });
      expect(await runModule({ uses: ['call'], code: (fn) => caught(...code(fn)) })).toMatchObject({ how: 'value' });
    }
  });

  test('a memory that has grown is looked at as it is', async () => {
    const ran = await runModule({
      uses: ['random_get'],
      code: (fn) => [
        i32(200_000),
        i32(100),
        fn('random_get'),
        mustFail,
        i32(2),
        [0x40, 0, DROP],
        i32(200_000),
        i32(100),
        fn('random_get'),
        mustSucceed,
      ],
    });
    expect(ran).toMatchObject({ how: 'value' });
  });

  test('a vector that a read overwrites itself does no harm', async () => {
    const ran = await runModule(
      {
        uses: ['fd_read'],
        // Four vectors, the first of which covers the others.
        code: (fn) => [
          store(0, 8),
          store(4, 40),
          store(8, 100),
          store(12, 8),
          i32(0),
          i32(0),
          i32(4),
          i32(4),
          fn('fd_read'),
          DROP,
        ],
      },
      { event: '\xff'.repeat(100) },
    );
    expect(ran).toMatchObject({ how: 'value' });
  });
});

describe('the work that calls make does not keep the thread', () => {
  const MB = 1024 * 1024;
  const pages = { min: 320 };
  const loops: Record<string, WasiSource> = {
    'a megabyte of random bytes': {
      uses: ['random_get'],
      memory: pages,
      code: (fn) => forever(...i32(0), ...i32(MB), ...fn('random_get'), DROP),
    },
    'lines of nothing for the host': {
      uses: ['fd_write'],
      memory: pages,
      code: (fn) => [i32(4_096), i32(10), i32(65_536), [0xfc, 11, 0], forever(...write(fn, 3, 4_096, 65_536))],
    },
    'lines of nothing for the host, and reads': {
      uses: ['fd_write', 'fd_read'],
      memory: pages,
      code: (fn) => [
        i32(4_096),
        i32(10),
        i32(65_536),
        [0xfc, 11, 0],
        forever(...write(fn, 3, 4_096, 65_536), ...read(fn, 3, 80_000, MB)),
      ],
    },
    'lines for the log': {
      uses: ['fd_write'],
      memory: pages,
      code: (fn) => [i32(4_096), i32(10), i32(65_536), [0xfc, 11, 0], forever(...write(fn, 2, 4_096, 65_536))],
    },
    'a thousand subscriptions': {
      uses: ['poll_oneoff'],
      memory: pages,
      code: (fn) => forever(...i32(0), ...i32(65_536), ...i32(1_024), ...i32(200_000), ...fn('poll_oneoff'), DROP),
    },
    'a thousand vectors': {
      uses: ['fd_write'],
      memory: pages,
      code: (fn) => forever(...i32(1), ...i32(0), ...i32(1_024), ...i32(200_000), ...fn('fd_write'), DROP),
    },
    'the environment': {
      uses: ['environ_get'],
      memory: pages,
      code: (fn) => forever(...i32(0), ...i32(65_536), ...fn('environ_get'), DROP),
    },
    'the clock': {
      uses: ['clock_time_get'],
      code: (fn) => forever(...i32(0), ...i64(0), ...i32(0), ...fn('clock_time_get'), DROP),
    },
    'reads at the end of stdin': {
      uses: ['fd_read'],
      code: (fn) => forever(...read(fn, 0, 4_096, 64)),
    },
    'reads of a bad descriptor': {
      uses: ['fd_read'],
      code: (fn) => forever(...read(fn, 9, 4_096, 64)),
    },
    'polls of what is ready': {
      uses: ['poll_oneoff'],
      code: (fn) => forever(...i32(0), ...i32(4_096), ...i32(1), ...i32(8_192), ...fn('poll_oneoff'), DROP),
    },
    'errors of bad descriptors': {
      uses: ['fd_tell'],
      code: (fn) => forever(...i32(9), ...i32(0), ...fn('fd_tell'), DROP),
    },
    'addresses outside of the memory': {
      uses: ['random_get', 'fd_write'],
      memory: pages,
      code: (fn) => forever(...i32(-9), ...i32(9), ...fn('random_get'), DROP, ...write(fn, 2, -9, 9)),
    },
    'what a descriptor and the environment are': {
      uses: ['fd_fdstat_get', 'fd_filestat_get', 'environ_sizes_get'],
      memory: pages,
      code: (fn) =>
        forever(
          ...['fd_fdstat_get', 'fd_filestat_get'].flatMap((name) => [...i32(1), ...i32(0), ...fn(name), DROP]),
          ...[...i32(0), ...i32(4), ...fn('environ_sizes_get'), DROP],
        ),
    },
    'answers taken to where no memory is, caught': {
      uses: ['take'],
      memory: pages,
      code: (fn) => forever(...caught(...i32(-9), ...fn('take'))),
    },
    'failures of brackets': {
      uses: ['call'],
      memory: pages,
      raw: { 11: data(0, `{"op":"fail","message":${'['.repeat(16_000)}`) },
      code: (fn) => forever(...i32(0), ...i32(16_000), ...fn('call'), DROP),
    },
    'requests of sixteen megabytes': {
      uses: ['call'],
      memory: pages,
      raw: { 11: data(0, '{"op":"log","message":"') },
      code: (fn) => forever(...i32(0), ...i32(16 * MB), ...fn('call'), DROP),
    },
  };
  const env = Object.fromEntries(Array.from({ length: 64 }, (_, n) => [`NAME_${n}`, 'x'.repeat(512)]));
  test.each(Object.entries(loops))('%s, for ever', async (_, source) => {
    const program = programOf(wasiModule(source));
    await run(program, { env, limits: { timeoutMs: 20 } });
    let ran: Ran | undefined;
    const stall = await longestStall(async () => {
      ran = await run(program, { env, limits: { timeoutMs: 300 } });
    });
    // By its fuel where the machine is fast: what the host does for it is charged at more than it takes.
    expect(['time', 'cpu']).toContain(ran?.how);
    expect(ran).toMatchObject({ ends: 1, frees: 1 });
    expect(stall).toBeLessThan(300);
    expect(ran?.heldBytes).toBeLessThan(64 * MB);
  });

  test.each([
    'a megabyte of random bytes',
    'addresses outside of the memory',
    'what a descriptor and the environment are',
    'answers taken to where no memory is, caught',
    'failures of brackets',
  ])('and counts as fuel: %s', async (name) => {
    const program = programOf(wasiModule(loops[name] as WasiSource));
    await run(program, { env, limits: { fuel: 1_000_000 } });
    const watch = new Stopwatch();
    expect(await run(program, { env, limits: { fuel: 20_000_000 } })).toMatchObject({ how: 'cpu' });
    // Some milliseconds: fuel is time.
    watch.expectBelow(150);
  });

  test('a thousand calls without a loop between them end the invocation', async () => {
    const program = programOf(
      wasiModule({
        uses: ['random_get'],
        memory: { min: 32 },
        code: (fn) => Array.from({ length: 1_000 }, () => [...i32(0), ...i32(MB), ...fn('random_get'), DROP]),
      }),
    );
    const stall = await longestStall(async () => {
      expect(await run(program)).toMatchObject({ how: 'cpu', text: expect.stringContaining('too many host calls') });
    });
    expect(stall).toBeLessThan(300);
  });
});

describe('a guest that is over can not go on', () => {
  const ways = { 'catch_all of try': caught, 'catch_all of try_table': caughtByTable };
  test.each(Object.entries(ways))('by %s around its exit', async (_, around) => {
    const watch = new Stopwatch();
    const ran = await runModule({
      uses: ['proc_exit', 'fd_write', 'call'],
      raw: { 11: data(0, '{"op":"db.query"}') },
      code: (fn) => [
        around(i32(7), fn('proc_exit')),
        write(fn, 2, 0, 5),
        ...[i32(0), i32(17), fn('call'), DROP],
        forever(),
      ],
    });
    expect(ran).toMatchObject({ how: 'exception', hostCalls: [], casts: [] });
    expect(ran.text).toContain('exit code 7');
    // And not only when its ten seconds are over.
    watch.expectBelow(1_000);
  });

  test.each(Object.entries(ways))('by %s around its waits', async (_, around) => {
    const watch = new Stopwatch();
    const ran = await runModule(
      { uses: ['sched_yield'], code: (fn) => forever(...around(fn('sched_yield'), DROP)) },
      { limits: { timeoutMs: 50 } },
    );
    watch.expectBelow(500);
    expect(ran).toMatchObject({ how: 'time', ends: 1, frees: 1 });
  });

  test('by a catch around a question that is never answered', async () => {
    const watch = new Stopwatch();
    const ran = await runModule(
      {
        uses: ['call'],
        raw: { 11: data(0, '{"op":"db.query"}') },
        code: (fn) => forever(...caught(i32(0), i32(17), fn('call'), DROP)),
      },
      { limits: { timeoutMs: 500 } },
    );
    expect(ran).toMatchObject({ how: 'time', ends: 1, frees: 1, afterEnd: [] });
    expect(ran.hostCalls).toHaveLength(1);
    watch.expectBelow(1_000);
  });
});

describe('start functions', () => {
  const own = (code: readonly number[], rest: Partial<WasiSource> = {}): WasiSource => ({
    uses: ['proc_exit', 'sched_yield', 'fd_write'],
    start: 4,
    code: () => [],
    functions: [{ code }],
    ...rest,
  });
  test('one that loops is a panic within a few milliseconds of work', async () => {
    const program = programOf(wasiModule(own(forever())));
    const stall = await longestStall(async () =>
      expect(await run(program)).toMatchObject({ how: 'panic', ends: 1, frees: 1 }),
    );
    expect(stall).toBeLessThan(300);
  });

  test("one that recurses is a panic: the guest's doing, not the host's", async () => {
    expect(await runModule(own([0x10, 4]))).toMatchObject({ how: 'panic' });
  });

  test('one may not wait, and what catches that goes on as it should', async () => {
    expect(await runModule(own([0x10, 1, DROP]))).toMatchObject({ how: 'panic' });
    const goesOn = own(caught([0x10, 1, DROP]), {
      code: (fn) => [store(0, 0x37), write(fn, 1, 0, 1), [...fn('sched_yield'), DROP], [...fn('sched_yield'), DROP]],
    });
    expect(await runModule(goesOn)).toMatchObject({ how: 'value', text: '7', ends: 1, frees: 1 });
    const waits = own(caught([0x10, 1, DROP]), { code: (fn) => forever(...fn('sched_yield'), DROP) });
    expect(await runModule(waits, { limits: { timeoutMs: 50 } })).toMatchObject({ how: 'time', frees: 1 });
  });

  test('what one grows the memory by is counted, and bounded by the limit', async () => {
    const grows = own([...i32(100), 0x40, 0, DROP]);
    const ran = await runModule(grows);
    expect(ran.heldBytes).toBeGreaterThan(102 * 65_536);
    expect(ran.freedBytes).toBe(ran.heldBytes);
    expect(await runModule(grows, { limits: { memoryPages: 50 } })).toMatchObject({ how: 'memory', frees: 1 });
    expect(await runModule(grows, { mayHold: (bytes) => bytes < 6_000_000 })).toMatchObject({ how: 'overloaded' });
  });

  test('one may exit', async () => {
    expect(await runModule(own([...i32(9), 0x10, 0]))).toMatchObject({ how: 'exception' });
    expect(await runModule(own([...i32(0), 0x10, 0], { code: () => [UNREACHABLE] }))).toMatchObject({ how: 'value' });
  });
});

describe('odd modules', () => {
  test('a program that calls its _start again runs it again', async () => {
    const ran = await runModule({
      uses: ['fd_write'],
      globals: [0],
      code: (fn) => [
        [0x23, 0, ...i32(1), 0x6a, 0x24, 0],
        store(0, 0x31),
        write(fn, 1, 0, 1),
        [0x23, 0, ...i32(5), 0x48, 0x04, VOID, 0x10, 1, END],
      ],
    });
    expect(ran).toMatchObject({ how: 'value', text: '11111' });
  });

  test.each([
    ['fd_read', 'value'],
    ['sched_yield', 'value'],
    ['proc_exit', 'value'],
    ['call', 'value'],
  ])('one whose _start is the import %s ends', async (name, how) => {
    const module = wasiModule({ uses: [name], code: () => [], exports: [{ name: '_start', kind: 0, index: 0 }] });
    // The builder's own `_start` gets another name of the same length.
    const at = Buffer.from(module).indexOf('_start');
    module.set(Buffer.from('_other'), at);
    expect(await run(programOf(module))).toMatchObject({ how, ends: 1, frees: 1 });
  });

  test('ISO-06 what can not run here is refused, with what would be right', () => {
    const refusal = (source: Partial<WasiSource> & { edit?: (text: string) => string }, maxPages?: number): string => {
      const { edit, ...rest } = source;
      const bytes = Buffer.from(wasiModule({ uses: ['fd_tell'], code: () => [], ...rest }));
      const module = edit === undefined ? bytes : Buffer.from(edit(bytes.toString('latin1')), 'latin1');
      try {
        programOf(module, maxPages);
      } catch (error) {
        expect(error).toMatchObject({ code: 'INVALID_FUNCTION' });
        return (error as Error).message;
      }
      return 'was taken';
    };
    expect(refusal({})).toBe('was taken');
    expect(refusal({ edit: (text) => text.replace('fd_tell', 'fd_gone') })).toMatch(
      /function "fd_gone" from "wasi_snapshot_preview1", which is not offered/,
    );
    expect(refusal({ edit: (text) => text.replace('wasi_snapshot_preview1', 'wasi_snapshot_preview9') })).toMatch(
      /"wasi_snapshot_preview9", which is not offered/,
    );
    expect(
      refusal({ edit: (text) => text.replace('\x16wasi_snapshot_preview1', '\x16javy_quickjs_provider_') }),
    ).toMatch(/javy build without -C dynamic/);
    expect(refusal({ edit: (text) => text.replace('_start', '_begin') })).toMatch(/exports no function _start/);
    expect(
      refusal({ functions: [{ export: '_initialize', code: [] }], edit: (text) => text.replace('_start', '_begin') }),
    ).toMatch(/a WASI reactor .* or make a component of it/);
    expect(refusal({ edit: (text) => text.replace('memory', 'memorx') })).toMatch(/export it as 'memory'/);
    expect(refusal({ memory: { min: 200 } }, 160)).toBe(
      "the module starts with 13 MB of memory; the function's limit is 10 MB",
    );
    expect(refusal({ edit: () => 'not wasm' })).toMatch(/can not run here/);
    expect(refusal({ raw: { 5: [2, 0, 1, 0, 1] } })).toMatch(/multi-memory/);
    expect(refusal({ raw: { 5: [1, 3, 1, 2] } })).toMatch(/shared memory/);
    const name = (text: string): number[] => [text.length, ...Buffer.from(text)];
    const tell = [...name('wasi_snapshot_preview1'), ...name('fd_tell'), 0, 0];
    const global = [...name('postern'), ...name('call'), 3, I32, 0];
    expect(refusal({ raw: { 2: [2, ...tell, ...global] } })).toMatch(/global "call" from "postern"/);
  });

  describe.each([...NAMES_OF_CODE, 'then', 'toString', 'default', ''])('with the name %j', (name) => {
    const start = { code: [], export: '_start' };
    const refusal = (imports: ModuleSource['imports'] & object): string => {
      const module = wasm({ imports, functions: [start], memory: { min: 1 } });
      const error = thrownBy(() => buildCommand(module, 16));
      expect(error).toMatchObject({ code: 'INVALID_FUNCTION' });
      expect(globalThis).not.toHaveProperty('pwned');
      return (error as Error).message;
    };

    test('ISO-04 an import of that name, or from it, is refused by it', () => {
      for (const module of ['wasi_snapshot_preview1', 'postern', name]) {
        const what = `function ${JSON.stringify(name)} from ${JSON.stringify(module)}, which is not offered`;
        expect(refusal([{ module, name }])).toContain(what);
      }
      expect(refusal([{ module: name, name: 'call' }])).toContain(`"call" from ${JSON.stringify(name)}`);
    });

    test('ISO-03 an export of that name is nothing to the host, of whatever kind', async () => {
      const exports = [
        { name, kind: 3, index: 0 },
        { name: `${name}s`, kind: 0, index: 0 },
      ];
      const ran = await run(programOf(wasm({ functions: [start], memory: { min: 1 }, globals: [0], exports })));
      expect(ran).toMatchObject({ how: 'value', text: 'null', ends: 1, frees: 1 });
      expect(globalThis).not.toHaveProperty('pwned');
    });
  });

  test('one whose instances would take long to make, or much memory beside its own, is refused', () => {
    const vector = (count: number, item: readonly number[]): number[] => [
      ...u32(count),
      ...Array.from({ length: count }, () => item).flat(),
    ];
    const build =
      (raw: Record<number, number[]>, rest: Partial<WasiSource> = {}) =>
      () =>
        programOf(wasiModule({ uses: ['fd_tell'], code: () => [], raw, ...rest }));
    const name = (text: string): number[] => [text.length, ...Buffer.from(text)];
    const tell = [...name('wasi_snapshot_preview1'), ...name('fd_tell'), 0, 0];
    const exports = (start: number) => [2, ...name('memory'), 2, 0, ...name('_start'), 0, ...u32(start)];
    expect(build({ 2: vector(1_001, tell), 7: exports(1_001) })).toThrow('1001 imports; 1000 are allowed');
    expect(build({ 4: vector(5, [0x70, 0, ...u32(100_000)]) })).toThrow('5 tables; 4 are allowed');
    const elements = [0, 0x41, 0, END, ...vector(60_000, [1])];
    expect(build({ 9: vector(9, elements) }, { table: { min: 60_000 } })).toThrow('bytes of element segments; 524288');
    expect(build({ 6: vector(220_000, [I32, 1, 0x41, 0, END]) })).toThrow('bytes of globals; 1048576');
    const long = build({ 2: [1, ...u32(50_000), ...Buffer.from('x'.repeat(50_000)), ...name('f'), 0, 0] });
    expect(long).toThrow(/imports function "f" from "x{100}…", which is not offered/);
  });

  test('what its tables hold counts as its memory', async () => {
    const small = await runModule({ uses: ['fd_tell'], code: () => [] });
    const large = await runModule({ uses: ['fd_tell'], code: () => [], table: { min: 100_000 } });
    expect(large.heldBytes - small.heldBytes).toBeGreaterThan(1_000_000);
    expect(large.freedBytes).toBe(large.heldBytes);
  });

  test('an import with other types than the function has is refused', () => {
    // (type (func (param f64 f64 f64 f64) (result i32))): a count of 2^32 is none as an integer, and a long loop here.
    const bytes = wasiModule({ uses: ['fd_write'], code: () => [] });
    const at = Buffer.from(bytes).indexOf(Buffer.from([0x60, 4, I32, I32, I32, I32]));
    bytes.set([0x7c, 0x7c, 0x7c, 0x7c], at + 2);
    expect(() => programOf(bytes)).toThrow(
      '"fd_write" from "wasi_snapshot_preview1" as (f64f64f64f64->i); it is (iiii->i)',
    );
  });
});

describe('lines on file descriptor 3', () => {
  const question = '{"op":"db.query","n":1}\n';
  const answers: RunOptions = { onHostCall: ({ answer, payload }) => answer(true, payload) };

  test('may come in pieces, and answers may be read in pieces', async () => {
    const ran = await runModule(
      {
        uses: ['fd_write', 'fd_read'],
        raw: { 11: data(0, question) },
        code: (fn) => [
          Array.from({ length: question.length }, (_, n) => write(fn, 3, n, 1)).flat(),
          Array.from({ length: 27 }, (_, n) => read(fn, 3, 2_000 + n, 1)).flat(),
          write(fn, 1, 2_000, 26),
        ],
      },
      answers,
    );
    expect(ran).toMatchObject({ how: 'value', text: JSON.stringify('{"ok":true,"value":{"n":1}') });
    expect(ran.hostCalls.map(({ payload }) => payload)).toEqual(['{"n":1}']);
  });

  test('several in one write are asked one after the other, and answered in order', async () => {
    const two = '{"op":"db.query","n":1}\n{"op":"http.fetch","n":2}\nnonsense\n{"op":"env.get"}\n';
    let open = 0;
    let most = 0;
    const ran = await runModule(
      {
        uses: ['fd_write', 'fd_read'],
        raw: { 11: data(0, two) },
        // Reads until nothing comes: then nothing was asked any more.
        locals: [I32],
        code: (fn) => [
          write(fn, 3, 0, two.length),
          [0x03, VOID, ...read(fn, 3, 2_000, 500), ...i32(1_008), 0x28, 2, 0, 0x22, 0, 0x04, VOID],
          ...[
            store(1_000, 2_000),
            [...i32(1_004), ...get(0), 0x36, 2, 0],
            i32(1),
            i32(1_000),
            i32(1),
            i32(1_008),
            fn('fd_write'),
            DROP,
          ],
          [0x0c, 1, END, END],
        ],
      },
      {
        onHostCall: ({ answer, operation }) => {
          most = Math.max(most, ++open);
          setTimeout(() => {
            open--;
            answer(operation !== 'http.fetch', `"${operation}"`);
          }, 1);
        },
      },
    );
    const lines = (JSON.parse(ran.text) as string)
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as { ok: boolean });
    expect(lines).toMatchObject([
      { ok: true, value: 'db.query' },
      { ok: false, error: 'http.fetch' },
      { ok: false, error: { name: 'HostFunctionError' } },
      { ok: true, value: 'env.get' },
    ]);
    expect(most).toBe(1);
  });

  test('a read without a question is the end of the stream', async () => {
    const ran = await runModule({
      uses: ['fd_read'],
      code: (fn) => [store(1_008, 77), read(fn, 3, 2_000, 10), [...i32(1_008), 0x28, 2, 0], mustSucceed],
    });
    expect(ran).toMatchObject({ how: 'value' });
  });

  test('answers that nobody reads stop the asking, and too many lines are refused', async () => {
    const line = `{"op":"db.query","pad":"${'x'.repeat(4_000)}"}\n`;
    const ran = await runModule(
      {
        uses: ['fd_write', 'sched_yield', 'poll_oneoff'],
        raw: { 11: data(2_048, line) },
        locals: [I32],
        // 8,000 lines of four kilobytes, a pause of 1 ms after each: at last there is no room.
        code: (fn) => [
          [0x03, VOID, ...write(fn, 3, 2_048, line.length), ...fn('sched_yield'), DROP],
          [...get(0), ...i32(1), 0x6a, 0x22, 0, ...i32(8_000), 0x48, 0x0d, 0, END],
          [
            ...store(1_000, 2_048),
            ...store(1_004, 60_000),
            ...i32(3),
            ...i32(1_000),
            ...i32(1),
            ...i32(1_008),
            ...fn('fd_write'),
          ],
          mustFail,
        ],
      },
      { onHostCall: ({ answer }) => answer(true, JSON.stringify('y'.repeat(30_000))) },
    );
    expect(ran).toMatchObject({ how: 'value' });
    expect(ran.hostCalls.length).toBeLessThan(5);
    expect(ran.heldBytes).toBeLessThan(20 * 1024 * 1024);
  });
});

describe('call and take', () => {
  const request = '{"op":"db.query","n":1}';
  const ask = (fn: (name: string) => number[]): number[] => [...i32(0), ...i32(request.length), ...fn('call')];

  test('an answer is there once', async () => {
    const ran = await runModule(
      {
        uses: ['call', 'take', 'fd_write'],
        raw: { 11: data(0, request) },
        locals: [I32],
        code: (fn) => [
          ask(fn),
          set(0),
          ...[i32(2_000), fn('take')],
          ...[store(2_000, 0x7b), i32(2_000), fn('take')],
          ...[
            store(1_000, 2_000),
            [...i32(1_004), ...get(0), 0x36, 2, 0],
            i32(1),
            i32(1_000),
            i32(1),
            i32(1_008),
            fn('fd_write'),
            DROP,
          ],
        ],
      },
      { onHostCall: ({ answer }) => answer(true, 'null') },
    );
    expect(ran.how).toBe('value');
    expect(JSON.parse(ran.text)).toBe('{\0\0\0":true,"value":null}');
  });

  test('an answer that is taken to where it has no room is an exception', async () => {
    const ran = await runModule(
      {
        uses: ['call', 'take'],
        raw: { 11: data(0, request) },
        code: (fn) => [ask(fn), DROP, i32(131_060), fn('take')],
      },
      { onHostCall: ({ answer }) => answer(true, 'null') },
    );
    expect(ran).toMatchObject({ how: 'panic', text: 'an address outside of the memory' });
  });

  test('an invocation makes a thousand calls, and the next are refused without being made', async () => {
    const ran = await runModule(
      {
        uses: ['call', 'take', 'fd_write'],
        raw: { 11: data(0, request) },
        locals: [I32],
        code: (fn) => [
          [0x03, VOID, ...ask(fn), DROP, ...get(0), ...i32(1), 0x6a, 0x22, 0, ...i32(1_005), 0x48, 0x0d, 0, END],
          i32(2_000),
          fn('take'),
          write(fn, 2, 2_000, 120),
        ],
      },
      { onHostCall: ({ answer }) => answer(true, 'null') },
    );
    expect(ran.hostCalls).toHaveLength(1_000);
    expect(logged(ran)[0]).toContain('may make no more host calls');
  });

  test('an answer that the process has no room for ends the invocation', async () => {
    const ran = await runModule(
      { uses: ['call'], raw: { 11: data(0, request) }, code: (fn) => [ask(fn), DROP] },
      {
        mayHold: (bytes) => bytes < 900_000,
        onHostCall: ({ answer }) => answer(true, JSON.stringify('x'.repeat(1_000_000))),
      },
    );
    expect(ran).toMatchObject({ how: 'overloaded', ends: 1, frees: 1 });
    expect(ran.freedBytes).toBe(ran.heldBytes);
  });

  test('answers to calls that nobody made, or that come late, do nothing', async () => {
    const ran = await runModule(
      { uses: ['call'], raw: { 11: data(0, request) }, code: (fn) => [ask(fn), DROP] },
      {
        onStart: (execution) => {
          for (const id of [0, 1, 2, -1]) execution.settle(id, true, Buffer.from('1'));
        },
        onHostCall: ({ answer }) => {
          answer(true, '1');
          answer(true, '2');
        },
      },
    );
    expect(ran).toMatchObject({ how: 'value', ends: 1, frees: 1 });
  });
});
