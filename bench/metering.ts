/**
 * What do metering and write tracking cost? QuickJS as it is shipped, metered, and metered with its writes tracked (as
 * executors run it), on five JavaScript programs, in turns in one process. Run: `npm run bench -- metering`.
 */

import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { QuickJS } from 'quickjs-wasi';
import { Meter, meter, trackWrites } from '../runtime/metering/index.ts';
import { publish } from './support/report.ts';

const PROGRAMS: Readonly<Record<string, string>> = {
  'calls (fib)': '(function fib(n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); })(25)',
  'strings and sort': `(() => { let words = []; for (let i = 0; i < 20000; i++) words.push('w' + (i * 7919 % 20011));
    words.sort(); return words.map((w) => w.toUpperCase()).join(',').split(',').length; })()`,
  JSON: `(() => { const o = { a: [] }; for (let i = 0; i < 2000; i++) o.a.push({ i, s: 'x' + i, n: [i, null, true] });
    let n = 0; for (let k = 0; k < 8; k++) n += JSON.stringify(JSON.parse(JSON.stringify(o))).length; return n; })()`,
  'regular expressions': `(() => { const text = 'The quick brown fox 1234 jumps over 5678 lazy dogs. '.repeat(300);
    let n = 0; for (let k = 0; k < 6; k++) n += text.replace(/([a-z]+) (\\d+)/g, '$2-$1').match(/\\b\\w{4,6}\\b/g).length; return n; })()`,
  'objects and maps': `(() => { const m = new Map(); for (let i = 0; i < 30000; i++) m.set('k' + (i % 977), { i, next: m.get('k' + (i % 31)) });
    let s = 0; for (const v of m.values()) s += v.i; const a = []; for (let i = 0; i < 60000; i++) { a.push(i ^ s); if (a.length > 100) a.splice(0, 50); } return s + a.length; })()`,
};
const ROUNDS = 15;
const MAX_PAGES = 8_192;
const MAP_ADDRESS = 0x11100;

const shipped = new Uint8Array(readFileSync(fileURLToPath(import.meta.resolve('quickjs-wasi/quickjs.wasm'))));
const metered = meter(shipped, { maxMemoryPages: MAX_PAGES }).bytes;
const tracked = meter(trackWrites(shipped, MAP_ADDRESS), { maxMemoryPages: MAX_PAGES }).bytes;

interface Variant {
  readonly vm: QuickJS;
  readonly meter: Meter | undefined;
}

async function create(bytes: Uint8Array): Promise<Variant> {
  const wasm = new WebAssembly.Module(bytes as Uint8Array<ArrayBuffer>);
  const vm = await QuickJS.create({ wasm } as unknown as Parameters<typeof QuickJS.create>[0]);
  const { instance } = vm as unknown as { instance: WebAssembly.Instance };
  if (bytes === shipped) return { vm, meter: undefined };
  const bound = new Meter({ onOutOfFuel: () => 'continue', onYield: () => Promise.resolve('continue') });
  bound.attach(instance);
  bound.startSlice(2_000_000);
  return { vm, meter: bound };
}

function time({ vm }: Variant, program: string): number {
  const start = performance.now();
  vm.evalCode(program).dispose();
  return performance.now() - start;
}

const variants = { shipped: await create(shipped), metered: await create(metered), tracked: await create(tracked) };
const figures = Object.entries(PROGRAMS).flatMap(([name, program]) => {
  const best = {
    shipped: Number.POSITIVE_INFINITY,
    metered: Number.POSITIVE_INFINITY,
    tracked: Number.POSITIVE_INFINITY,
  };
  for (let round = 0; round < ROUNDS; round++) {
    for (const key of ['shipped', 'metered', 'tracked'] as const)
      best[key] = Math.min(best[key], time(variants[key], program));
  }
  return [
    { name: `${name}: metered`, value: best.metered / best.shipped, unit: '×' },
    {
      name: `${name}: metered, writes tracked`,
      value: best.tracked / best.shipped,
      unit: '×',
      target: { op: '<=', value: 1.75 } as const,
    },
  ];
});
publish({
  bench: 'metering',
  question: 'QuickJS metered / as shipped, five JavaScript programs',
  figures,
  notes: [`best of ${ROUNDS}, in turns; with the V8 flags of executors`],
});
