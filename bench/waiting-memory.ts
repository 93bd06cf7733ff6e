/**
 * What does an invocation that waits cost? 10,000 of them asleep at once in one executor process, all answered.
 * Run: `npm run bench -- waiting-memory`.
 */

import { readFileSync } from 'node:fs';
import { startInvoker } from './support/invoker.ts';
import { publish } from './support/report.ts';

const COUNT = 10_000;
const SLEEP_MS = 45_000;

const residentBytes = (pid: number): number =>
  Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) * 1024;

const host = await startInvoker({
  executors: 1,
  source: `export async function handler(event) {
    await new Promise((resolve) => setTimeout(resolve, event.ms));
    return event.n;
  }`,
  timeoutMs: 300_000,
});
const [pid] = host.pids as [number];
const before = residentBytes(pid);
const started = performance.now();
let asleep = 0;
const all = Array.from({ length: COUNT }, (_, n) => host.invoke({ ms: SLEEP_MS, n }));
// Every one has its sandbox when the executor reports as many.
while (asleep < COUNT && performance.now() - started < SLEEP_MS) {
  await new Promise((resolve) => setTimeout(resolve, 250));
  asleep = host.sandboxes();
}
const startMs = performance.now() - started;
const during = residentBytes(pid);
const results = await Promise.all(all);
const answered = results.filter(
  (result, n) => result.response?.kind === 'value' && result.response.json === String(n),
).length;
await host.stop();
publish({
  bench: 'waiting-memory',
  question: `memory per waiting invocation, ${COUNT.toLocaleString('en')} asleep at once in one process`,
  figures: [
    {
      name: 'resident, each',
      value: (during - before) / COUNT / 1024 / 1024,
      unit: 'MB',
      target: { op: '<=', value: 0.8 },
    },
    { name: 'asleep at once', value: asleep, unit: '', target: { op: '>=', value: COUNT } },
    { name: 'answered', value: answered, unit: '', target: { op: '>=', value: COUNT } },
    { name: 'until all slept', value: startMs / 1000, unit: 's' },
  ],
  notes: ['resident memory (VmRSS) of the executor, less what it had before'],
});
