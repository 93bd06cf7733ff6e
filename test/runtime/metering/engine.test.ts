import { expect, test } from 'vitest';
import { Ambient } from '../../../runtime/ambient.ts';
import { buildEngineModule, createEngine } from '../../../runtime/javascript/engine.ts';
import { EngineInstance } from '../../../runtime/javascript/engine-instance.ts';
import type { MeterHooks } from '../../../runtime/metering/index.ts';
import { Stopwatch } from '../../support/timed.ts';

const engine = createEngine({ id: 'test', module: buildEngineModule(), prelude: '', parts: {} });

/** A fresh VM, and how to run code in it: its completion value as a string. */
function boot(hooks: Partial<MeterHooks> = {}) {
  const instance = new EngineInstance(engine, {
    onOutOfFuel: () => 'continue',
    onYield: async () => 'continue',
    onDoor: () => 0,
    onDemand: () => {},
    onRejection: () => {},
    ambient: new Ambient(),
    ...hooks,
  });
  const { meter } = instance;
  meter.reset();
  meter.startSlice(2_000_000);
  const text = (value: string): [number, number] => {
    const bytes = new TextEncoder().encode(`${value}\0`);
    const pointer = instance.call('wasm_malloc', bytes.length);
    instance.write(pointer, bytes);
    return [pointer, bytes.length - 1];
  };
  const run = async (code: string, quantum = 2_000_000): Promise<string> => {
    const [source, length] = text(code);
    const [name] = text('test');
    meter.startSlice(quantum);
    const box = await instance.pump.eval(source, length, name, 0);
    meter.startSlice(2_000_000);
    const size = instance.call('wasm_malloc', 4);
    const pointer = instance.call('qjs_get_string_len', box, size);
    const end = pointer + instance.view.getUint32(size, true);
    return new TextDecoder().decode(instance.bytes.slice(pointer, end));
  };
  return { run, meter };
}

const NATIVE_LOOPS = [
  "'a'.repeat(2e6).indexOf('a'.repeat(1e6) + 'b')",
  'JSON.stringify(new Array(2e6).fill({ a: [1, 2, 3] }))',
  "/(a+)+b/.test('a'.repeat(40))",
  '(7n ** 300000n).toString()',
  'for (;;) try { for (;;); } finally { continue; }',
];

/** So many slices into its run each is in the middle of its loop. */
const LAST_QUESTION = 60;

for (const code of NATIVE_LOOPS) {
  test(`the JavaScript engine is killed at the first question after its deadline in the middle of ${code}`, async () => {
    let [asked, usedBefore, most] = [Number.NEGATIVE_INFINITY, 0, 0];
    const { run, meter } = boot({
      onOutOfFuel: () => {
        most = Math.max(most, meter.fuelUsed - usedBefore);
        usedBefore = meter.fuelUsed;
        return ++asked >= LAST_QUESTION ? 'kill' : 'continue';
      },
    });
    [asked, usedBefore, most] = [0, meter.fuelUsed, 0];
    const watch = new Stopwatch();
    await expect(run(code)).rejects.toThrow(WebAssembly.RuntimeError);
    expect(meter.killed).toBe(true);
    expect(asked).toBe(LAST_QUESTION);
    expect(most).toBeLessThan(5_000_000);
    // Half a millisecond each.
    watch.expectBelow(LAST_QUESTION * 20);
  });
}

test('the JavaScript engine gives the same results and the same fuel twice', async () => {
  const code = "JSON.stringify([1, 'x', new URL('../a?b=c', 'http://example.com/p/q').href].concat([3, 1, 2].sort()))";
  const runs = [];
  for (let i = 0; i < 2; i++) {
    const { run, meter } = boot();
    const text = await run(code);
    runs.push({ text, fuel: meter.fuelUsed });
  }
  expect(runs[0]!.text).toBe('[1,"x","http://example.com/a?b=c",1,2,3]');
  expect(runs[1]).toEqual(runs[0]);
});

test('a C++ side module yields anywhere: no JavaScript frame stands between its own calls', async () => {
  let yields = 0;
  const { run } = boot({
    onOutOfFuel: () => 'yield',
    onYield: async () => {
      yields++;
      return 'continue';
    },
  });
  const code = "String(new URL('../ä?b=c#d', 'http://bücher.example:8080/p/q/').href.length)";
  expect(await run(code, 50)).toBe('48');
  expect(yields).toBeGreaterThan(500);
});
