/**
 * What does one invocation of a trivial Python function cost, in a sandbox that is clean before and after, metered; and what
 * memory does one that waits take? Beside it: a start of CPython without a snapshot, and an invocation in an instance that
 * is new. Runtime only: one thread, no pipe, no HTTP, no database. Run: `npm run bench -- python`.
 */

import {
  buildPythonSource,
  DEFAULT_PYTHON_POOL_OPTIONS,
  encodePythonImage,
  PythonExecution,
  PythonPool,
  startInterpreter,
} from '../runtime/index.ts';
import { pythonGuest, pythonImage, pythonInterpreter } from './support/guests.ts';
import { publish, summarize } from './support/report.ts';
import { guestOf, HTTP_EVENT, sample } from './support/runtime.ts';
import { letWait } from './support/waiting.ts';

const COUNT = { warmUp: 2_000, samples: 5_000 };
const STARTS = 10;
const NEW_INSTANCES = 100;
const WAITING = 1_000;
const CALL = { event: HTTP_EVENT };
const SOURCE = 'def handler(event, context):\n    return {"statusCode": 200, "body": {"hello": event["method"]}}\n';
const QUERYING = `from postern import db

def handler(event):
    return db.query('select 1')
`;

const interpreter = await pythonInterpreter();
const image = await pythonImage(SOURCE);
const stored = encodePythonImage(interpreter, image);

const pooled = guestOf(PythonExecution, { image, pool: new PythonPool(interpreter) });
const { p50, p99, max } = await sample(pooled, CALL, COUNT);
const noneKept = new PythonPool(interpreter, { ...DEFAULT_PYTHON_POOL_OPTIONS, maxIdlePerImage: 0 });
const unpooled = guestOf(PythonExecution, { image, pool: noneKept });
const fresh = await sample(unpooled, CALL, { warmUp: 0, samples: NEW_INSTANCES });
const source = buildPythonSource();
const starts: number[] = [];
for (let index = 0; index < STARTS; index++) {
  const before = performance.now();
  await startInterpreter(source);
  starts.push(performance.now() - before);
}
const waiting = await letWait(await pythonGuest(QUERYING), CALL, WAITING);

publish({
  bench: 'python',
  question: 'one invocation of a trivial Python handler in a fresh sandbox, runtime only, metered; and one that waits',
  figures: [
    { name: 'p50', value: p50 * 1000, unit: 'µs', target: { op: '<=', value: 1_000 } },
    { name: 'p99', value: p99 * 1000, unit: 'µs' },
    { name: 'max', value: max * 1000, unit: 'µs' },
    { name: 'in a new instance, p50', value: fresh.p50 * 1000, unit: 'µs' },
    { name: 'full start of the interpreter, compiled anew, p50', value: summarize(starts).p50 * 1000, unit: 'µs' },
    { name: 'interpreter, not zero', value: interpreter.base.residentBytes / 1024, unit: 'KB' },
    { name: 'image, beside the interpreter', value: image.residentBytes / 1024, unit: 'KB' },
    { name: 'image, as stored', value: stored.length / 1024, unit: 'KB' },
    {
      name: 'waiting in db.query, each',
      value: waiting.bytesEach / 2 ** 20,
      unit: 'MB',
      target: { op: '<=', value: 12 },
    },
    { name: 'answered', value: waiting.answered, unit: '', target: { op: '>=', value: WAITING } },
  ],
  notes: [
    `${COUNT.samples} samples one after the other, after ${COUNT.warmUp}; restoring the memory is part of each`,
    `${WAITING} wait for a host call at once; what the second half of them adds to the process' resident memory (VmRSS)`,
  ],
});
