/**
 * `npm run chaos [-- --seconds 600 --seed 42]`: hurts a cluster for so long and says what was lost. A seed gives the same faults
 * in the same order, though not at the same instant of what the cluster does. Linux only. Ledgers and logs stay where it says.
 */

import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { runChaos } from './chaos.ts';
import { keyedCalls } from './keyed-calls.ts';
import { rowChanges } from './row-changes.ts';
import { Schedules } from './schedules.ts';
import { webhooks } from './webhooks.ts';

const { values } = parseArgs({
  options: { seconds: { type: 'string', default: '600' }, seed: { type: 'string' } },
});
const seconds = wholeNumber('--seconds', values.seconds);
const seed = wholeNumber('--seed', values.seed ?? String(Math.floor(Math.random() * 1e9)));
const folder = await mkdtemp(join(tmpdir(), 'postern-chaos-'));
console.log(`seed ${seed}, ${seconds} s, in ${folder}`);

const report = await runChaos({
  folder,
  seed,
  seconds,
  nodes: 3,
  leaseMs: 5_000,
  workloads: [rowChanges, new Schedules(), webhooks, keyedCalls],
  log: (message) => console.log(`${(performance.now() / 1_000).toFixed(1).padStart(7)} s  ${message}`),
});
const { violations, functions, ...others } = report;
console.log(JSON.stringify({ seed, seconds, ...others }, null, 2));
console.table(functions);
for (const { invariant, message } of violations) console.error(`${invariant}: ${message}`);
if (violations.length > 0) {
  console.error(`${violations.length} violations; run it again with --seed ${seed}`);
  process.exitCode = 1;
}

function wholeNumber(flag: string, text: string): number {
  if (/^\d{1,9}$/.test(text)) return Number(text);
  console.error(`${flag} is "${text}"; it has to be a whole number`);
  process.exit(2);
}
