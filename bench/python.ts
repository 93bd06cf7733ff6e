/**
 * What does one invocation of a trivial Python function cost, in a sandbox that is clean before and after, metered? Beside it:
 * a start of CPython without a snapshot, and an invocation in an instance that is new. Runtime only: one thread, no pipe,
 * no HTTP, no database. Run: `npm run bench -- python`.
 */

import {
  buildPython,
  buildPythonSource,
  createInterpreter,
  DEFAULT_PYTHON_POOL_OPTIONS,
  type ExecutionEnd,
  type ExecutionLimits,
  encodePythonImage,
  PythonExecution,
  PythonPool,
  type PythonProgram,
  Scheduler,
} from '../runtime/index.ts';
import { publish, summarize } from './support/report.ts';
import { HTTP_EVENT, META } from './support/runtime.ts';

const WARM_UP = 2_000;
const SAMPLES = 5_000;
const STARTS = 10;
const NEW_INSTANCES = 100;
const LIMITS: ExecutionLimits = {
  timeoutMs: 60_000,
  memoryPages: 2_048,
  fuel: Number.POSITIVE_INFINITY,
  maxResultBytes: 6 * 1024 * 1024,
};
const SOURCE = 'def handler(event, context):\n    return {"statusCode": 200, "body": {"hello": event["method"]}}\n';

const event = Buffer.from(HTTP_EVENT);
const meta = Buffer.from(META);
const scheduler = new Scheduler();
const source = buildPythonSource();

const interpreter = await createInterpreter(source);
const fn = { source: SOURCE, fileName: 'function.py', handler: 'handler', dependencies: {} };
const { image } = await buildPython(interpreter, scheduler, fn, { timeoutMs: 30_000, memoryPages: 2_048 });
const stored = encodePythonImage(interpreter, image);

/** Resolves when the sandbox is clean again: the whole cost of an invocation. */
function run(program: PythonProgram): Promise<void> {
  return new Promise((resolve, reject) => {
    let end: ExecutionEnd | undefined;
    const execution = new PythonExecution(scheduler, 'bench', LIMITS, program, {
      onHostCall: () => {},
      onCast: () => {},
      mayHold: () => true,
      onEnd: (ended) => {
        end = ended;
      },
      onFree: () => {
        if (end?.reason === 'finished' && end.finish.kind === 'status') resolve();
        else reject(new Error(`ended with ${end?.reason}`));
      },
    });
    execution.start(event, meta);
  });
}

async function sample(count: number, work: () => Promise<unknown>): Promise<ReturnType<typeof summarize>> {
  const samples: number[] = [];
  for (let index = 0; index < count; index++) {
    const start = performance.now();
    await work();
    samples.push(performance.now() - start);
  }
  return summarize(samples);
}

const pooled = { image, pool: new PythonPool(interpreter) };
await sample(WARM_UP, () => run(pooled));
const { p50, p99, max } = await sample(SAMPLES, () => run(pooled));
const unpooled = { image, pool: new PythonPool(interpreter, { ...DEFAULT_PYTHON_POOL_OPTIONS, maxIdlePerImage: 0 }) };
const fresh = await sample(NEW_INSTANCES, () => run(unpooled));
const starts = await sample(STARTS, () => createInterpreter(source));

publish({
  bench: 'python',
  question: 'one invocation of a trivial Python handler in a fresh sandbox, runtime only, metered',
  figures: [
    { name: 'p50', value: p50 * 1000, unit: 'µs', target: { op: '<=', value: 1_000 } },
    { name: 'p99', value: p99 * 1000, unit: 'µs' },
    { name: 'max', value: max * 1000, unit: 'µs' },
    { name: 'in a new instance, p50', value: fresh.p50 * 1000, unit: 'µs' },
    { name: 'full start of the interpreter, compiled anew, p50', value: starts.p50 * 1000, unit: 'µs' },
    { name: 'interpreter, not zero', value: interpreter.base.residentBytes / 1024, unit: 'KB' },
    { name: 'image, beside the interpreter', value: image.residentBytes / 1024, unit: 'KB' },
    { name: 'image, as stored', value: stored.length / 1024, unit: 'KB' },
  ],
  notes: [`${SAMPLES} samples one after the other, after ${WARM_UP}; restoring the memory is part of each`],
});
