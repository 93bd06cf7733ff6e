/**
 * What does one invocation of a trivial WASI command cost, in a fresh instance, metered; and what memory does one that
 * waits take? Runtime only: one thread, no pipe. Run: `npm run bench -- command`. C is compiled by `@yowasp/clang`.
 */

import { readFileSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';
import { assemblyScriptGuest, cGuest, commandGuest } from './support/guests.ts';
import { publish } from './support/report.ts';
import { sample } from './support/runtime.ts';
import { letWait } from './support/waiting.ts';

const COUNT = { warmUp: 3_000, samples: 10_000 };
const WAITING = 2_000;
/** V8 optimises 20 MB of Go beside the first invocations, which take ten times as long meanwhile. */
const OPTIMIZING_MS = 10_000;
const CALL = { event: '{"name":"world","n":1}' };

const C_TRIVIAL = `#include <stdio.h>
int main(void) {
  char event[4096];
  size_t length = fread(event, 1, sizeof event - 1, stdin);
  event[length] = 0;
  printf("{\\"statusCode\\":200,\\"length\\":%zu}", length);
  return 0;
}`;
const C_WAITING = `#include "postern.h"
int main(void) { postern_call("{\\"op\\":\\"db.query\\"}"); return 0; }`;

const AS_TRIVIAL = `import { Json } from "postern";
export function handler(event: Json): Json {
  return Json.object().set("statusCode", Json.integer(200)).set("name", event.get("name"));
}`;

const c = await sample(await cGuest(C_TRIVIAL), CALL, COUNT);
const assemblyScript = await sample(await assemblyScriptGuest(AS_TRIVIAL), CALL, COUNT);
const goModule = readFileSync(new URL('../node_modules/@esbuild/wasi-preview1/esbuild.wasm', import.meta.url));
const goGuest = await commandGuest(goModule);
await setTimeout(OPTIMIZING_MS);
const go = await sample(goGuest, { event: '[1]' }, { warmUp: 10, samples: 100 });
const waiting = await letWait(await cGuest(C_WAITING), CALL, WAITING);

publish({
  bench: 'command',
  question: 'one invocation of a trivial WASI command in a fresh instance, metered, runtime only; and one that waits',
  figures: [
    { name: 'C, p50', value: c.p50, unit: 'ms', target: { op: '<=', value: 0.15 } },
    { name: 'C, p99', value: c.p99, unit: 'ms' },
    { name: 'AssemblyScript, p50', value: assemblyScript.p50, unit: 'ms', target: { op: '<=', value: 0.15 } },
    { name: 'AssemblyScript, p99', value: assemblyScript.p99, unit: 'ms' },
    { name: 'Go (all of esbuild), p50', value: go.p50, unit: 'ms' },
    {
      name: 'C waiting, each',
      value: waiting.bytesEach / 2 ** 20,
      unit: 'MB',
      target: { op: '<=', value: 0.5 },
    },
    { name: 'answered', value: waiting.answered, unit: '', target: { op: '>=', value: WAITING } },
  ],
  notes: [
    `C and AssemblyScript: ${COUNT.samples} samples one after the other, after ${COUNT.warmUp}; Go is all of esbuild (20 MB), which reads stdin and answers: an upper bound, where there is no compiler for the trivial program that is to take 6 ms at most`,
    `${WAITING} wait for a host call at once; what the second half of them adds to the process' resident memory (VmRSS)`,
  ],
});
