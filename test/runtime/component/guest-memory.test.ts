/** Memories that are used again: a guest finds its own as if nobody had been there, whoever was. */

import fc from 'fast-check';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { glueGlobals } from '../../../runtime/component/glue-globals.ts';
import { detachMemory, GuestMemories, MEMORY_IMPORT, type OwnMemory } from '../../../runtime/component/guest-memory.ts';
import { type ComponentProgram, loadComponent, transpileComponent } from '../../../runtime/component/index.ts';
import { unpackComponent } from '../../../runtime/component/stored-component.ts';
import { END, forever, get, I32, i32, type ModuleSource, s32, u32, wasm } from '../metering/wasm-builder.ts';
import { ANSWER_TRUE, component, core, grow } from './support/component-builder.ts';
import { program, TestComponents } from './support/components.ts';

const PAGE_BYTES = 65_536;
const MAX_PAGES = 1_000;

type Segment = readonly [at: number, ...bytes: number[]];

const dataOf = (segments: readonly Segment[]): number[] => [
  ...u32(segments.length),
  ...segments.flatMap(([at, ...bytes]) => [0, ...i32(at), END, ...u32(bytes.length), ...bytes]),
];

function withMemory(segments: readonly Segment[], source: Partial<ModuleSource> = {}): Uint8Array {
  return wasm({ memory: { min: 1 }, functions: [], ...source, raw: { 11: dataOf(segments), ...source.raw } });
}

function detached(module: Uint8Array): { bytes: Uint8Array; memory: OwnMemory } {
  return detachMemory(module, MAX_PAGES) as { bytes: Uint8Array; memory: OwnMemory };
}

function instanceOf(module: Uint8Array, memory: WebAssembly.Memory): WebAssembly.Instance {
  const imports = { [MEMORY_IMPORT.module]: { [MEMORY_IMPORT.name]: memory }, a: { b: () => 7 } };
  return new WebAssembly.Instance(new WebAssembly.Module(module.slice()), imports);
}

const bytesOf = (memory: WebAssembly.Memory): Buffer => Buffer.from(memory.buffer);

describe('a module whose memory is taken out of it', () => {
  test('does the same with the one that it gets', () => {
    const module = withMemory([[16, 1, 2, 3]], {
      imports: [{ module: 'a', name: 'b', results: [I32] }],
      functions: [{ export: 'sum', results: [I32], code: [0x10, 0, ...i32(16), 0x2d, 0, 0, 0x6a] }],
    });
    const { bytes, memory } = detached(module);
    const given = new GuestMemories(memory).take();
    const { exports } = instanceOf(bytes, given);
    expect(exports.memory).toBe(given);
    expect((exports.sum as () => number)()).toBe(8);
  });

  test('has the limits that it had, and the host’s', () => {
    expect(detached(withMemory([], { memory: { min: 2, max: 5 } })).memory).toMatchObject({ minPages: 2, maxPages: 5 });
    expect(detached(withMemory([], { memory: { min: 2 } })).memory).toMatchObject({ minPages: 2, maxPages: MAX_PAGES });
    const { bytes, memory } = detached(
      withMemory([], { functions: [{ export: 'grow', results: [I32], code: grow(1_000) }] }),
    );
    expect((instanceOf(bytes, new GuestMemories(memory).take()).exports.grow as () => number)()).toBe(-1);
  });

  test.each([
    ['without a memory', wasm({ functions: [] })],
    ['with a large one', withMemory([], { memory: { min: 65 } })],
    ['with data behind its end, which traps as before', withMemory([[PAGE_BYTES - 1, 1, 2]])],
    [
      'with data that goes over other data',
      withMemory([
        [16, 1, 2],
        [17, 3],
      ]),
    ],
    [
      'with data whose place an import says',
      wasm({
        memory: { min: 1 },
        functions: [],
        raw: { 2: [1, 1, 0x61, 1, 0x62, 3, I32, 0], 11: [1, 0, 0x23, 0, END, 1, 7] },
      }),
    ],
    ['with data that it takes later', withMemory([], { raw: { 11: [1, 1, 1, 7], 12: [1] } })],
    [
      'that imports from where its memory would come',
      withMemory([], { imports: [{ module: MEMORY_IMPORT.module, name: 'x' }] }),
    ],
  ])('is not one %s', (_, module) => {
    expect(detachMemory(module, MAX_PAGES)).toBeUndefined();
  });
});

test('a memory that was given back is to the byte as the first one, whatever was written into it', () => {
  const segment = fc.tuple(fc.nat(2_000), fc.uint8Array({ maxLength: 40 }));
  const writes = fc.array(fc.tuple(fc.nat(PAGE_BYTES - 100), fc.uint8Array({ maxLength: 100 })), { maxLength: 20 });
  fc.assert(
    fc.property(fc.array(segment, { maxLength: 30 }), writes, fc.boolean(), (gaps, written, isFilled) => {
      let end = 0;
      const segments = gaps.map(([gap, content]): Segment => {
        const at = end + gap;
        end = at + content.length;
        return [at, ...content];
      });
      const module = withMemory(segments);
      const whole = new WebAssembly.Instance(new WebAssembly.Module(module.slice())).exports.memory;
      const memories = new GuestMemories(detached(module).memory);
      const memory = memories.take();
      expect(bytesOf(memory).equals(bytesOf(whole as WebAssembly.Memory))).toBe(true);
      if (isFilled) new Uint8Array(memory.buffer).fill(0xaa);
      for (const [at, content] of written) new Uint8Array(memory.buffer).set(content, at);
      memories.giveBack(memory);
      expect(memories.take()).toBe(memory);
      expect(bytesOf(memory).equals(bytesOf(whole as WebAssembly.Memory))).toBe(true);
    }),
  );
});

test('two at once have two memories, and only some are kept', () => {
  const memories = new GuestMemories({ minPages: 1, maxPages: 1, data: new Uint8Array() });
  const taken = [1, 2, 3, 4].map(() => memories.take());
  expect(new Set(taken).size).toBe(4);
  for (const memory of taken) memories.giveBack(memory);
  const again = [1, 2, 3, 4].map(() => memories.take());
  expect(new Set([...taken, ...again]).size).toBe(6);
  expect(memories.residentBytes).toBe(2 * PAGE_BYTES);
});

describe('an invocation', () => {
  const components = new TestComponents();
  afterEach(() => vi.restoreAllMocks());

  // What a guest does after it has written over all of its memory, by the length of its event.
  const RETURNS = 'r';
  const GROWS = 'gr';
  const LOOPS = 'lps';
  const TRAPS = 'trap';
  const FIRST = 8_192;
  const SIZE = 2 * PAGE_BYTES;
  const DATA_AT = 4_000;
  const when = (event: string, code: readonly number[]): number[] => [
    ...[...get(1), ...i32(event.length), 0x46, 0x04, 0x40],
    ...code,
    END,
  ];
  const handler = [
    // for (local0 = FIRST; local0 < SIZE; local0 += 8) if (i64.load(local0) != 0) trap;
    ...[...i32(FIRST), 0x21, 0, 0x03, 0x40, ...get(0), 0x29, 3, 0, 0x50, 0x45, 0x04, 0x40, 0x00, END],
    ...[...get(0), ...i32(8), 0x6a, 0x22, 0, ...i32(SIZE), 0x49, 0x0d, 0, END],
    // if (i32.load(DATA_AT) != 77) trap;
    ...[...i32(DATA_AT), 0x28, 2, 0, ...i32(77), 0x47, 0x04, 0x40, 0x00, END],
    // memory.size is what it began with.
    ...[0x3f, 0, ...i32(2), 0x47, 0x04, 0x40, 0x00, END],
    // memory.fill(0, 0xaa, SIZE)
    ...[...i32(0), ...i32(0xaa), ...i32(SIZE), 0xfc, 0x0b, 0],
    ...when(GROWS, [...grow(1), 0x1a]),
    ...when(LOOPS, forever()),
    ...when(TRAPS, [0x00]),
    ...ANSWER_TRUE,
  ];
  const writer = component({
    modules: [core({ handler, module: { raw: { 11: [1, 0, 0x41, ...s32(DATA_AT), END, 4, 77, 0, 0, 0] } } })],
  });
  const run = (guest: ComponentProgram, event: string) =>
    components.run(guest, { event, limits: event === LOOPS ? { timeoutMs: 50 } : {} });

  test('ISO-01 finds its memory as it was before any other, however those ended', async () => {
    const guest = await program(writer);
    for (const before of [RETURNS, GROWS, LOOPS, TRAPS, RETURNS, RETURNS]) {
      await run(guest, before);
      expect(await run(guest, RETURNS), before).toMatchObject({ how: 'value', text: 'true' });
    }
  });

  test('gives its memory on where it returned, and not where it grew or was ended', async () => {
    const guest = await program(writer);
    const take = vi.spyOn(GuestMemories.prototype, 'take');
    const events = [RETURNS, RETURNS, LOOPS, TRAPS, GROWS, RETURNS, RETURNS];
    for (const event of events) await run(guest, event);
    const order = [...new Set(take.mock.results.map(({ value }) => value))];
    const used = take.mock.results.map(({ value }) => order.indexOf(value));
    expect(used).toEqual([0, 0, 0, 1, 2, 3, 3]);
  });

  test('at the same time as others has a memory of its own', async () => {
    const guest = await program(writer);
    const ran = await Promise.all(Array.from({ length: 10 }, () => run(guest, RETURNS)));
    for (const one of ran) expect(one).toMatchObject({ how: 'value', heldBytes: SIZE });
  });

  test('of a component with two memories gets each its own', async () => {
    const other = withMemory([[100, 1, 2, 3]], { memory: { min: 3 } });
    const guest = await program(component({ modules: [other, other, core({ handler })] }));
    // Without the data that it looks for.
    expect(await run(guest, RETURNS)).toMatchObject({ how: 'panic', heldBytes: 8 * PAGE_BYTES });
    const calm = await program(component({ modules: [other, other, core()] }));
    for (let times = 0; times < 3; times++) {
      expect(await run(calm, RETURNS)).toMatchObject({ how: 'value', heldBytes: 8 * PAGE_BYTES });
    }
  });

  test('nothing destroys the guest’s things when the host collects garbage', () => {
    const globals = glueGlobals(
      { helperModules: new Map() } as unknown as ComponentProgram,
      new Set(),
      {} as never,
      {} as never,
    );
    expect(globals.FinalizationRegistry).not.toBe(FinalizationRegistry);
    const Registry = globals.FinalizationRegistry as typeof FinalizationRegistry;
    expect(() => new Registry(() => {}).register({}, 1)).not.toThrow();
  });
});

test('a stored component of the format before, whose modules have their memories, is run as it is', async () => {
  // This one keeps its own, for its size.
  const stored = await transpileComponent(component({ modules: [core({ pages: 65 })] }));
  expect(unpackComponent(stored).modules.map(({ memory }) => memory)).toEqual([undefined]);
  const ofFormat = (format: number): Buffer =>
    Buffer.from(Buffer.from(stored).toString('latin1').replace('"format":3', `"format":${format}`), 'latin1');
  const guest = await loadComponent(ofFormat(2));
  expect(await new TestComponents().run(guest)).toMatchObject({ how: 'value', heldBytes: 65 * PAGE_BYTES });
  await expect(loadComponent(ofFormat(1))).rejects.toThrow('format 1');
  await expect(loadComponent(ofFormat(4))).rejects.toThrow('format 4');
});
