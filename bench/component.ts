/**
 * What does one invocation of a trivial component cost, in fresh instances of all its core modules, metered? One component is
 * JavaScript by componentize-qjs, nine core modules; the other is C, one core module and two that wasm-tools puts around it.
 * Runtime only: one thread, no pipe, no HTTP, no database.
 * Run: `npm run bench -- component`.
 */

import { transpileComponent } from '../runtime/component/index.ts';
import { ComponentExecution, loadComponent } from '../runtime/index.ts';
import { compileComponent } from '../test/support/compile-c.ts';
import { componentBytes } from './support/guests.ts';
import { publish } from './support/report.ts';
import { guestOf, HTTP_EVENT, sample } from './support/runtime.ts';

const COUNT = { warmUp: 500, samples: 3_000 };
const JAVASCRIPT = `export function handler(event) {
  return JSON.stringify({ statusCode: 200, body: { hello: JSON.parse(event).body.name } });
}`;

const C = `
#include "postern-component.h"
bool handler(postern_text event, postern_text *answer) {
  *answer = postern_text_of("{\\"statusCode\\":200,\\"body\\":{\\"hello\\":\\"world\\"}}");
  return event.length > 0;
}`;

const component = await componentBytes(JAVASCRIPT);
const transpileStart = performance.now();
const stored = await transpileComponent(component);
const transpileMs = performance.now() - transpileStart;
const loadStart = performance.now();
const javascript = await loadComponent(stored);
const loadMs = performance.now() - loadStart;
const c = await loadComponent(await transpileComponent(await compileComponent(C)));

const inC = await sample(guestOf(ComponentExecution, c), { event: HTTP_EVENT }, COUNT);
const inJavaScript = await sample(guestOf(ComponentExecution, javascript), { event: HTTP_EVENT }, COUNT);
publish({
  bench: 'component',
  question: 'one invocation of a trivial component in fresh instances, runtime only, metered',
  figures: [
    { name: 'C, p50', value: inC.p50, unit: 'ms', target: { op: '<=', value: 0.6 } },
    { name: 'C, p99', value: inC.p99, unit: 'ms' },
    { name: 'C, max', value: inC.max, unit: 'ms' },
    { name: 'JavaScript, p50', value: inJavaScript.p50, unit: 'ms', target: { op: '<=', value: 1.2 } },
    { name: 'JavaScript, p99', value: inJavaScript.p99, unit: 'ms' },
    { name: 'JavaScript, max', value: inJavaScript.max, unit: 'ms' },
    { name: 'JavaScript, transpile and meter, first', value: transpileMs, unit: 'ms' },
    { name: 'JavaScript, load', value: loadMs, unit: 'ms' },
    { name: 'JavaScript, stored', value: stored.length / 1024, unit: 'KB' },
  ],
  notes: [`${COUNT.samples} samples of each, one after the other, after ${COUNT.warmUp}`],
});
