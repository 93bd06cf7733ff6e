import { describe, expect, test } from 'vitest';
import { type Meter, meter } from '../../../runtime/metering/index.ts';
import { Stopwatch } from '../../support/timed.ts';
import { killAt, QUANTUM, sandbox } from './sandbox.ts';
import { call, END, forever, get, I32, i32, type ModuleSource, SUB, set, VOID, wasm } from './wasm-builder.ts';

/** The question at which the guests are out of time: each has by then been over its loop, or in one instruction of it, for long. */
const LAST_QUESTION = 30;

const spin = (source: Omit<ModuleSource, 'functions'> & { code: number[]; more?: ModuleSource['functions'] }) =>
  wasm({ ...source, functions: [{ export: 'spin', locals: [I32, I32], code: source.code }, ...(source.more ?? [])] });

const GIB_PAGES = 16_384;
const hostile: Record<string, Uint8Array> = {
  'an empty loop': spin({ code: forever() }),
  'a loop that memory.fills 1 GiB': spin({
    memory: { min: GIB_PAGES },
    code: forever(...i32(0), ...i32(1), ...i32(2 ** 30), 0xfc, 11, 0),
  }),
  'a loop that memory.copies 512 MiB, overlapping': spin({
    memory: { min: GIB_PAGES },
    code: forever(...i32(1), ...i32(0), ...i32(2 ** 29), 0xfc, 10, 0, 0),
  }),
  'a loop that grows the memory by nothing': spin({ memory: { min: 1 }, code: forever(...i32(0), 0x40, 0, 0x1a) }),
  'a loop that grows the memory until it cannot': spin({ memory: { min: 1 }, code: forever(...i32(1), 0x40, 0, 0x1a) }),
  'a loop that fills a table': spin({
    table: { min: 90_000 },
    code: forever(...i32(0), 0xd0, 0x70, ...i32(90_000), 0xfc, 17, 0),
  }),
  'a br_table whose targets are all back edges': spin({
    code: [0x03, VOID, 0x03, VOID, ...get(0), 0x0e, 2, 0, 1, 0, 1, END, END],
  }),
  'a loop without a block end of its own, by br_if': spin({ code: [0x03, VOID, ...i32(1), 0x0d, 0, END] }),
  'tail calls to itself': spin({ code: [0x12, 0] }),
  'tail calls through the table': spin({ table: { min: 1, elements: [0] }, code: [...i32(0), 0x13, 0, 0] }),
  'tail calls between two functions': spin({ code: [0x12, 1], more: [{ code: [0x12, 0] }] }),
  'a loop of calls to a tiny function': spin({ code: forever(...call(1)), more: [{ code: [0x01] }] }),
  'a loop that catches all, by try': spin({
    code: forever(0x06, VOID, ...forever(), 0x19, END),
  }),
  'a loop that catches all, by try_table': spin({
    code: forever(0x02, VOID, 0x1f, VOID, 1, 2, 0, ...forever(), END, END),
  }),
  'a loop that throws and catches, by try': spin({ tag: true, code: forever(0x06, VOID, 0x08, 0, 0x19, END) }),
  'a loop that throws and catches, by try_table': spin({
    tag: true,
    code: forever(0x02, VOID, 0x1f, VOID, 1, 0, 0, 0, 0x08, 0, END, END),
  }),
  'recursion that catches nothing and doubles': wasm({
    functions: [
      {
        export: 'spin',
        code: [...i32(60), ...call(1)],
      },
      {
        params: [I32],
        code: [
          ...get(0),
          0x45,
          0x04,
          VOID,
          0x0f,
          END,
          ...get(0),
          ...i32(1),
          SUB,
          ...set(0),
          ...get(0),
          ...call(1),
          ...get(0),
          ...call(1),
        ],
      },
    ],
  }),
};

describe('a guest is killed at the first question after its deadline in the middle of', () => {
  for (const [name, bytes] of Object.entries(hostile)) {
    test(name, () => {
      const limit = killAt(LAST_QUESTION);
      const { exports, meter: own } = sandbox(bytes, limit.hooks);
      expect(() => exports.spin!()).toThrow(WebAssembly.RuntimeError);
      expect(own.killed).toBe(true);
      expect(limit.asked()).toBe(LAST_QUESTION);
    });
  }
});

test('between two questions to the host a guest runs for milliseconds at most', () => {
  for (const [name, bytes] of Object.entries(hostile)) {
    let own: Meter | undefined;
    let usedBefore = 0;
    let [asked, most] = [0, 0];
    const watch = new Stopwatch();
    const box = sandbox(bytes, {
      onOutOfFuel: () => {
        most = Math.max(most, own!.fuelUsed - usedBefore);
        usedBefore = own!.fuelUsed;
        return ++asked === LAST_QUESTION ? 'kill' : 'continue';
      },
    });
    own = box.meter;
    expect(() => box.exports.spin!()).toThrow(WebAssembly.RuntimeError);
    // A table's fill is charged by the element: 5.76 million.
    expect(most, name).toBeLessThan(3 * QUANTUM);
    // They take 0.1 to 2 ms each. A fill of 1 GiB that does not come in pieces takes 90, and 2,000 the first time.
    expect(watch.cpuMs / asked, name).toBeLessThan(20);
  }
});

test('a killed guest that is entered again is killed at its next charge', () => {
  const limit = killAt(1);
  const { exports, meter: own } = sandbox(hostile['an empty loop']!, limit.hooks);
  expect(() => exports.spin!()).toThrow(WebAssembly.RuntimeError);
  const used = own.fuelUsed;
  expect(() => exports.spin!()).toThrow(WebAssembly.RuntimeError);
  expect(limit.asked()).toBe(1);
  expect(own.fuelUsed - used).toBeLessThan(10);
});

test('a hook that throws kills the guest, which cannot catch what was thrown', () => {
  const failure = new Error('clock is broken');
  const { exports, meter: own } = sandbox(hostile['a loop that catches all, by try']!, {
    onOutOfFuel: () => {
      throw failure;
    },
  });
  expect(() => exports.spin!()).toThrow(WebAssembly.RuntimeError);
  expect(own.hookError).toBe(failure);
});

test('a guest that spins at the very end of its stack, catching all, gets no further', () => {
  // Each call returns into a spin, so the host is asked where its own frame no longer fits.
  const catchAll = (...code: number[]) => [0x06, VOID, ...code, 0x19, END];
  const code = [...catchAll(...call(0)), ...forever(...catchAll(...forever()))];
  const limit = killAt(LAST_QUESTION);
  const { exports } = sandbox(wasm({ functions: [{ export: 'spin', code }] }), limit.hooks);
  expect(() => exports.spin!()).toThrow(/stack|unreachable/);
  expect(limit.asked()).toBeLessThanOrEqual(LAST_QUESTION);
});

test('a start function that runs for ever traps at instantiation', () => {
  const bytes = wasm({ functions: [{ code: forever() }], start: 0 });
  const { bytes: metered } = meter(bytes, { maxMemoryPages: 1 });
  const module = new WebAssembly.Module(metered as Uint8Array<ArrayBuffer>);
  expect(() => new WebAssembly.Instance(module)).toThrow(WebAssembly.RuntimeError);
});

test('what a start function used is counted once a meter is attached', () => {
  const start = [...i32(1000), ...set(0), 0x03, VOID, ...get(0), ...i32(1), SUB, 0x22, 0, 0x0d, 0, END];
  const { meter: own } = sandbox(wasm({ functions: [{ locals: [I32], code: start }], start: 0 }));
  expect(own.fuelUsed).toBeGreaterThan(5_000);
  expect(own.fuelUsed).toBeLessThan(20_000);
});
