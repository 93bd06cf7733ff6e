/**
 * What does one invocation of a trivial component cost, in fresh instances of all its core modules, metered? The component is
 * JavaScript by componentize-qjs: nine core modules. Runtime only: one thread, no pipe, no HTTP, no database.
 * Run: `npm run bench -- component`.
 */

import { loadavg } from 'node:os';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { componentize } from 'componentize-qjs';
import { ComponentExecution, loadComponent, transpileComponent } from '../runtime/component/index.ts';
import { type ExecutionEnd, Scheduler } from '../runtime/index.ts';
import { publish, summarize } from './support/report.ts';
import { HTTP_EVENT, META } from './support/runtime.ts';

// As executors run: else all garbage is collected for every 64 MB of guests' memories.
setFlagsFromString('--external-memory-accounted-in-global-limit');

const WARM_UP = 500;
const SAMPLES = 3_000;
/** Memories of ended invocations are garbage: it is collected where the event loop gets its turn. */
const TURN_EVERY = 10;
const LIMITS = { timeoutMs: 60_000, memoryPages: 2_048, fuel: Number.POSITIVE_INFINITY, maxResultBytes: 6 * 2 ** 20 };
const SOURCE = `export function handler(event) {
  return JSON.stringify({ statusCode: 200, body: { hello: JSON.parse(event).body.name } });
}`;

const witPath = join(import.meta.dirname, '../wit');
const { component } = await componentize({ witPath, world: 'function', jsSource: SOURCE, sync: true });
const transpileStart = performance.now();
const stored = await transpileComponent(component);
const transpileMs = performance.now() - transpileStart;
const loadStart = performance.now();
const program = loadComponent(stored);
const loadMs = performance.now() - loadStart;

const scheduler = new Scheduler();
const event = Buffer.from(HTTP_EVENT);
const meta = Buffer.from(META);

function run(): Promise<ExecutionEnd> {
  return new Promise((resolve) => {
    let ended: ExecutionEnd | undefined;
    const execution = new ComponentExecution(scheduler, 'bench', LIMITS, program, {
      onHostCall: () => {},
      onCast: () => {},
      mayHold: () => true,
      onEnd: (end) => {
        ended = end;
      },
      onFree: () => resolve(ended as ExecutionEnd),
    });
    execution.start(event, meta);
  });
}

const samples: number[] = [];
for (let index = 0; index < WARM_UP + SAMPLES; index++) {
  const start = performance.now();
  const end = await run();
  if (index >= WARM_UP) samples.push(performance.now() - start);
  if (end.reason !== 'finished' || end.finish.kind !== 'status') throw new Error(`ended with ${end.reason}`);
  if (index % TURN_EVERY === 0) await new Promise(setImmediate);
}
const { p50, p99, max } = summarize(samples);
publish({
  bench: 'component',
  question: 'one invocation of a trivial component by componentize-qjs in fresh instances, runtime only, metered',
  figures: [
    { name: 'p50', value: p50, unit: 'ms', target: { op: '<=', value: 1.2 } },
    { name: 'p99', value: p99, unit: 'ms' },
    { name: 'max', value: max, unit: 'ms' },
    { name: 'transpile and meter, first', value: transpileMs, unit: 'ms' },
    { name: 'load', value: loadMs, unit: 'ms' },
    { name: 'stored', value: stored.length / 1024, unit: 'KB' },
  ],
  notes: [
    `${SAMPLES} samples one after the other, after ${WARM_UP}`,
    `load average of the machine: ${loadavg()[0]?.toFixed(1)}`,
  ],
});
