import { readFileSync } from 'node:fs';
import { QuickJS } from 'quickjs-wasi';
import { expect, test } from 'vitest';
import { Meter, type MeterHooks } from '../../../runtime/metering/index.ts';
import { compile, jspi } from './sandbox.ts';

const shipped = (path: string) =>
  new Uint8Array(readFileSync(new URL(`../../../node_modules/quickjs-wasi/${path}`, import.meta.url)));
const options = { maxMemoryPages: 1024, resolveOwnExports: true };
const engineModule = compile(shipped('quickjs.wasm'), options);
const urlModule = compile(shipped('extensions/url/url.so'), options);

/** The parts of quickjs-wasi's virtual machine that its declarations keep to themselves. */
interface Internals {
  readonly exports: Record<string, (...args: number[]) => number> & { memory: WebAssembly.Memory };
  readonly loadedExtensions: readonly { readonly instance: WebAssembly.Instance }[];
}

async function engine(hooks: Partial<MeterHooks> = {}): Promise<{ vm: QuickJS; inside: Internals; meter: Meter }> {
  const vm = await QuickJS.create({ wasm: engineModule, extensions: [{ name: 'url', wasm: urlModule }] });
  const inside = vm as unknown as Internals;
  const meter = new Meter({ onOutOfFuel: () => 'continue', onYield: async () => 'continue', ...hooks });
  meter.attach({ exports: inside.exports } as unknown as WebAssembly.Instance);
  for (const { instance } of inside.loadedExtensions) meter.attach(instance);
  meter.reset();
  meter.startSlice(2_000_000);
  return { vm, inside, meter };
}

const NATIVE_LOOPS = [
  "'a'.repeat(2e6).indexOf('a'.repeat(1e6) + 'b')",
  'JSON.stringify(new Array(2e6).fill({ a: [1, 2, 3] }))',
  "/(a+)+b/.test('a'.repeat(40))",
  '(7n ** 300000n).toString()',
  'for (;;) try { for (;;); } finally { continue; }',
];

for (const code of NATIVE_LOOPS) {
  test(`the JavaScript engine is killed in the middle of ${code}`, async () => {
    let end = Number.POSITIVE_INFINITY;
    const { vm, meter } = await engine({ onOutOfFuel: () => (performance.now() > end ? 'kill' : 'continue') });
    end = performance.now() + 50;
    expect(() => vm.evalCode(code)).toThrow(WebAssembly.RuntimeError);
    expect(meter.killed).toBe(true);
    expect(performance.now() - end).toBeLessThan(250);
  });
}

test('the JavaScript engine gives the same results and the same fuel twice', async () => {
  const code = "JSON.stringify([1, 'x', new URL('../a?b=c', 'http://example.com/p/q').href].concat([3, 1, 2].sort()))";
  const runs = [];
  for (let i = 0; i < 2; i++) {
    const { vm, meter } = await engine();
    runs.push({ text: vm.evalCode(code).toString(), fuel: meter.fuelUsed });
  }
  expect(runs[0]!.text).toBe('[1,"x","http://example.com/a?b=c",1,2,3]');
  expect(runs[1]).toEqual(runs[0]);
});

test('a C++ side module yields anywhere: no JavaScript frame stands between its own calls', async () => {
  let yields = 0;
  const { inside, meter } = await engine({
    onOutOfFuel: () => 'yield',
    onYield: async () => {
      yields++;
      return 'continue';
    },
  });
  const { exports } = inside;
  const code = new TextEncoder().encode("new URL('../ä?b=c#d', 'http://bücher.example:8080/p/q/').href.length\0");
  const text = exports.malloc!(code.length);
  new Uint8Array(exports.memory.buffer).set(code, text);
  meter.startSlice(50);
  await jspi.promising(exports.qjs_eval!)(text, code.length - 1, text + code.length - 1, 0);
  expect(yields).toBeGreaterThan(500);
});
