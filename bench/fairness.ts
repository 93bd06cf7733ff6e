/**
 * How long does a short call take beside four guests that spin, of each kind? All share one thread, and each spins for the
 * whole measurement: a plain loop, and filling memory in instructions of milliseconds. Runtime only, and through the real
 * invoker with one executor. Run: `npm run bench -- fairness`.
 */

import { createRuntime, RuntimeClosedError } from '../embed/index.ts';
import { assemblyScriptGuest, cGuest, componentGuest, JavaScriptGuest, pythonGuest } from './support/guests.ts';
import { type Figure, publish, summarize } from './support/report.ts';
import { type Guest, sample } from './support/runtime.ts';

const SPINNERS = 4;
/** Of JavaScript; of each other kind fewer. */
const SAMPLES = 500;
const SAMPLES_EACH = 200;
const WARM_UP = 20;
const SPIN_MS = 300_000;
const SHORT = '{"do":"answer"}';
const WAYS = ['spin', 'fill'] as const;
const TARGET = { op: '<=', value: 25 } as const;

const JAVASCRIPT = `export function handler(event) {
  if (event.do === 'spin') for (;;);
  if (event.do === 'fill') { const room = new Uint8Array(16 << 20); for (;;) room.fill(1); }
  return 42;
}`;
const PYTHON = `def handler(event):
    if event['do'] == 'spin':
        while True: pass
    if event['do'] == 'fill':
        room = bytearray(16 << 20)
        while True: room[:] = bytes(16 << 20)
    return 42
`;
const ASSEMBLYSCRIPT = `import { Json } from 'postern';
export function handler(event: Json): i32 {
  const task = event.get('do').asString();
  if (task == 'spin') while (true) {}
  if (task == 'fill') {
    const room = new Uint8Array(16 << 20);
    while (true) memory.fill(room.dataStart, 1, 16 << 20);
  }
  return 42;
}`;
const C = `#include <stdio.h>
#include <stdlib.h>
#include <string.h>
int main(void) {
  char event[256] = {0};
  fread(event, 1, sizeof event - 1, stdin);
  if (strstr(event, "spin")) for (volatile int i = 0;; i++);
  if (strstr(event, "fill")) { volatile char *room = malloc(16 << 20); for (;;) __builtin_memset((char *)room, room[0], 16 << 20); }
  printf("42");
  return 0;
}`;
const COMPONENT = `export function handler(text) {
  const event = JSON.parse(text);
  if (event.do === 'spin') for (;;);
  if (event.do === 'fill') { const room = new Uint8Array(16 << 20); for (;;) room.fill(1); }
  return '42';
}`;

const kinds: Readonly<Record<string, Guest>> = {
  JavaScript: await JavaScriptGuest.create(JAVASCRIPT),
  Python: await pythonGuest(PYTHON),
  AssemblyScript: await assemblyScriptGuest(ASSEMBLYSCRIPT),
  C: await cGuest(C, ['-mbulk-memory']),
  component: await componentGuest(COMPONENT),
};
const javaScript = kinds.JavaScript as Guest;
const component = kinds.component as Guest;

/** Starts the guests, each a function of its own, and ends them when `measure` is over; throws where one ended before. */
async function beside<T>(guests: readonly Guest[], event: string, measure: () => Promise<T>): Promise<T> {
  const started = guests.map((guest, index) => guest.start({ event, lane: `spinning ${index}` }));
  const measured = await measure();
  for (const each of started) each.cancel();
  for (const each of started) {
    const { reason } = await each.freed;
    if (reason !== 'canceled') throw new Error(`a guest that spins ended with ${reason}`);
  }
  return measured;
}

const four = (guest: Guest): Guest[] => Array.from({ length: SPINNERS }, () => guest);
const short = (guest: Guest, samples: number) => sample(guest, { event: SHORT }, { warmUp: WARM_UP, samples });

const alone = await short(component, SAMPLES);
const figures: Figure[] = [{ name: 'beside nobody: component, p99', value: alone.p99, unit: 'ms' }];
for (const [name, guest] of Object.entries(kinds)) {
  for (const event of WAYS) {
    const call = await beside(four(guest), JSON.stringify({ do: event }), () => short(javaScript, SAMPLES));
    const what = `beside ${SPINNERS} in ${name} that ${event}: JavaScript`;
    figures.push({ name: `${what}, p50`, value: call.p50, unit: 'ms' });
    figures.push({ name: `${what}, p99`, value: call.p99, unit: 'ms', target: TARGET });
  }
  const slowest = { name: '', p99: 0 };
  for (const other of ['Python', 'AssemblyScript', 'C', 'component']) {
    const caller = kinds[other] as Guest;
    const { p99 } = await beside(four(guest), '{"do":"spin"}', () => short(caller, SAMPLES_EACH));
    if (caller === component)
      figures.push({ name: `beside ${SPINNERS} in ${name} that spin: component, p99`, value: p99, unit: 'ms' });
    else if (p99 > slowest.p99) Object.assign(slowest, { name: other, p99 });
  }
  const what = `beside ${SPINNERS} in ${name} that spin: the slowest of Python, AssemblyScript, C (${slowest.name}), p99`;
  figures.push({ name: what, value: slowest.p99, unit: 'ms', target: TARGET });
}

/** Over the pipe: four that spin are one executor's, and so is the short call. */
async function overInvoker(language: 'javascript' | 'python' | 'assemblyscript', source: string) {
  const runtime = await createRuntime({ executors: 1 });
  const spin = { language, source, event: { do: 'spin' }, cpu: 'unlimited', timeoutMs: SPIN_MS } as const;
  const short = { source: JAVASCRIPT, event: { do: 'answer' } };
  await Promise.all([runtime.invoke({ ...spin, event: { do: 'answer' } }), runtime.invoke(short)]);
  const spinning = Array.from({ length: SPINNERS }, () => runtime.invoke(spin).catch((error: unknown) => error));
  const samples: number[] = [];
  for (let index = 0; index < WARM_UP + SAMPLES; index++) {
    const before = performance.now();
    await runtime.invoke(short);
    if (index >= WARM_UP) samples.push(performance.now() - before);
  }
  await runtime.close();
  for (const error of await Promise.all(spinning)) if (!(error instanceof RuntimeClosedError)) throw error;
  return summarize(samples);
}

const overPipe = { javascript: JAVASCRIPT, python: PYTHON, assemblyscript: ASSEMBLYSCRIPT } as const;
for (const [language, source] of Object.entries(overPipe)) {
  const { p50, p99 } = await overInvoker(language as keyof typeof overPipe, source);
  const what = `over the invoker, beside ${SPINNERS} in ${language} that spin: JavaScript`;
  figures.push({ name: `${what}, p50`, value: p50, unit: 'ms' });
  figures.push({ name: `${what}, p99`, value: p99, unit: 'ms', target: TARGET });
}
publish({
  bench: 'fairness',
  question: `a short call beside ${SPINNERS} guests that spin, in one executor's thread`,
  figures,
  notes: [
    "a component's call has no aim: it leaves 0.3 MB of garbage, whose collection, 10 to 20 ms, comes once in less than 100 calls",
  ],
});
