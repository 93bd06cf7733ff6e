/**
 * What does one invocation of a trivial component cost, in fresh instances of all its core modules, metered? The component is
 * JavaScript by componentize-qjs: nine core modules. Runtime only: one thread, no pipe, no HTTP, no database.
 * Run: `npm run bench -- component`.
 */

import { transpileComponent } from '../runtime/component/index.ts';
import { ComponentExecution, loadComponent } from '../runtime/index.ts';
import { componentBytes } from './support/guests.ts';
import { publish } from './support/report.ts';
import { guestOf, HTTP_EVENT, sample } from './support/runtime.ts';

const WARM_UP = 500;
const SAMPLES = 3_000;
const SOURCE = `export function handler(event) {
  return JSON.stringify({ statusCode: 200, body: { hello: JSON.parse(event).body.name } });
}`;

const component = await componentBytes(SOURCE);
const transpileStart = performance.now();
const stored = await transpileComponent(component);
const transpileMs = performance.now() - transpileStart;
const loadStart = performance.now();
const program = loadComponent(stored);
const loadMs = performance.now() - loadStart;

const guest = guestOf(ComponentExecution, program);
const { p50, p99, max } = await sample(guest, { event: HTTP_EVENT }, { warmUp: WARM_UP, samples: SAMPLES });
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
  notes: [`${SAMPLES} samples one after the other, after ${WARM_UP}`],
});
