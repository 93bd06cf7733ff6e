/**
 * What does one invocation of a trivial handler cost, in a sandbox that is clean before and after, metered? Runtime only:
 * one thread, no pipe, no HTTP, no database. Run: `npm run bench -- invocation`.
 */

import { JavaScriptGuest } from './support/guests.ts';
import { publish } from './support/report.ts';
import { HTTP_EVENT, sample } from './support/runtime.ts';

const WARM_UP = 20_000;
const SAMPLES = 30_000;
const SOURCE = `export async function handler(event) {
  return { statusCode: 200, body: { hello: event.body.name } };
}`;

const guest = await JavaScriptGuest.create(SOURCE);
const { p50, p99, max } = await sample(guest, { event: HTTP_EVENT }, { warmUp: WARM_UP, samples: SAMPLES });
publish({
  bench: 'invocation',
  question: 'one invocation of a trivial handler in a fresh sandbox, runtime only, metered',
  figures: [
    { name: 'p50', value: p50 * 1000, unit: 'µs', target: { op: '<=', value: 90 } },
    { name: 'p99', value: p99 * 1000, unit: 'µs' },
    { name: 'max', value: max * 1000, unit: 'µs' },
    { name: 'image, not zero', value: guest.image.residentBytes / 1024, unit: 'KB' },
  ],
  notes: [`${SAMPLES} samples one after the other, after ${WARM_UP}; restoring the memory is part of each`],
});
