/**
 * What does one invocation of a trivial handler cost, in a sandbox that is clean before and after, metered? Runtime only:
 * one thread, no pipe, no HTTP, no database. Run: `npm run bench -- invocation`.
 */

import { publish, summarize } from './support/report.ts';
import { HTTP_EVENT, LocalFunction, META, TRIVIAL_HANDLER } from './support/runtime.ts';

const WARM_UP = 20_000;
const SAMPLES = 30_000;

const fn = await LocalFunction.create(TRIVIAL_HANDLER);
const event = Buffer.from(HTTP_EVENT);
const meta = Buffer.from(META);
for (let index = 0; index < WARM_UP; index++) await fn.run(event, meta);

const samples: number[] = [];
for (let index = 0; index < SAMPLES; index++) {
  const start = performance.now();
  const { end } = await fn.run(event, meta);
  samples.push((performance.now() - start) * 1000);
  if (end.reason !== 'finished' || end.finish.kind !== 'status') throw new Error(`ended with ${end.reason}`);
}
const { p50, p99, max } = summarize(samples);
publish({
  bench: 'invocation',
  question: 'one invocation of a trivial handler in a fresh sandbox, runtime only, metered',
  figures: [
    { name: 'p50', value: p50, unit: 'µs', target: { op: '<=', value: 90 } },
    { name: 'p99', value: p99, unit: 'µs' },
    { name: 'max', value: max, unit: 'µs' },
    { name: 'image, not zero', value: fn.image.residentBytes / 1024, unit: 'KB' },
  ],
  notes: [`${SAMPLES} samples one after the other, after ${WARM_UP}; restoring the memory is part of each`],
});
