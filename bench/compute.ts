/**
 * What does computing in a guest cost, beside the same programs in Node and in C on the machine itself? Metering is in it, and
 * for JavaScript and Python the interpreter. Runtime only. Run: `npm run bench -- compute`; C on the machine by its `cc`.
 */

import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ASSEMBLYSCRIPT, C, JAVASCRIPT, PYTHON, TASKS, type Task } from './support/compute-programs.ts';
import { assemblyScriptGuest, cGuest, JavaScriptGuest, pythonGuest } from './support/guests.ts';
import { type Figure, publish } from './support/report.ts';
import { answerOf, type Guest } from './support/runtime.ts';

/** CPU time is counted in ticks of milliseconds. */
const MIN_MS = 400;
const TURNS = 3;
/** A program that has taken so long for a task is measured well enough. */
const ENOUGH_MS = 5_000;
const NAMES: Readonly<Record<Task, string>> = {
  fib: 'fib(27)',
  sha: 'SHA-256 of 1 MB, by hand',
  json: '1 MB of JSON, parsed and written',
  sort: '200,000 numbers sorted',
};

interface Event {
  readonly task: Task;
  readonly rounds: number;
}
interface Measured {
  /** CPU time of the rounds: what else runs on the machine counts little. */
  readonly ms: number;
  readonly result: string;
}
type Program = (event: Event) => Promise<Measured>;

const folder = mkdtempSync(join(tmpdir(), 'postern-bench-'));

async function inNode(): Promise<Program> {
  const file = join(folder, 'compute.mjs');
  writeFileSync(file, JAVASCRIPT);
  const { handler } = (await import(file)) as { handler(event: Event): string };
  return inThread((event) => handler(event));
}

function inC(): Program {
  writeFileSync(join(folder, 'compute.c'), C);
  execFileSync('cc', ['-O2', '-o', 'compute', 'compute.c'], { cwd: folder, stdio: ['ignore', 'ignore', 'inherit'] });
  return async (event) => {
    const output = execFileSync(join(folder, 'compute'), { input: JSON.stringify(event), encoding: 'utf8' });
    const [ms, result] = output.split(' ') as [string, string];
    return { ms: Number(ms), result: JSON.parse(result) as string };
  };
}

function inGuest(guest: Guest): Program {
  return inThread((event) => answerOf(guest.start({ event: JSON.stringify(event) })) as Promise<string>);
}

/** Of this thread, less what it takes to prepare the input. */
function inThread(run: (event: Event) => string | Promise<string>): Program {
  return async ({ task, rounds }) => {
    const start = threadMs();
    await run({ task, rounds: 0 });
    const prepared = threadMs();
    const result = await run({ task, rounds });
    return { ms: threadMs() - prepared - (prepared - start), result };
  };
}

function threadMs(): number {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1000;
}

const programs: Readonly<Record<string, Program>> = {
  Node: await inNode(),
  'C, native': inC(),
  JavaScript: inGuest(await JavaScriptGuest.create(JAVASCRIPT)),
  Python: inGuest(await pythonGuest(PYTHON)),
  AssemblyScript: inGuest(await assemblyScriptGuest(ASSEMBLYSCRIPT)),
  C: inGuest(await cGuest(C)),
};
const isC = (name: string): boolean => name.startsWith('C');

/** Milliseconds of a round, the best of some turns, in which all take part. */
async function measure(task: Task): Promise<Map<string, number>> {
  const runs = Object.entries(programs).filter(([name]) => task !== 'json' || !isC(name));
  const first = new Map<string, number>();
  const best = new Map<string, number>();
  const results = new Set<string>();
  for (const [name, program] of runs) {
    // Node's compiler is at its best after a while.
    if (name === 'Node') await program({ task, rounds: 20 });
    const { ms, result } = await program({ task, rounds: 1 });
    first.set(name, ms);
    results.add(result);
  }
  if (results.size !== 1) throw new Error(`${task}: the languages differ: ${[...results].join(', ')}`);
  for (let turn = 0; turn < TURNS; turn++) {
    for (const [name, program] of runs) {
      const firstMs = first.get(name) as number;
      const rounds = Math.ceil(MIN_MS / Math.max(firstMs, 1));
      const ms = firstMs > ENOUGH_MS ? firstMs : (await program({ task, rounds })).ms / rounds;
      best.set(name, Math.min(best.get(name) ?? Number.POSITIVE_INFINITY, ms));
    }
  }
  return best;
}

const figures: Figure[] = [];
for (const task of TASKS) {
  const best = await measure(task);
  for (const [name, ms] of best) {
    figures.push({ name: `${NAMES[task]}: ${name}`, value: ms, unit: 'ms' });
    const beside = isC(name) ? 'C, native' : 'Node';
    const base = best.get(beside) as number;
    if (name !== beside) figures.push({ name: `${NAMES[task]}: ${name} / ${beside}`, value: ms / base, unit: '×' });
  }
}
rmSync(folder, { recursive: true });
publish({
  bench: 'compute',
  question: 'computing in a guest, metered / the same in Node, or for C in C on the machine',
  figures,
  notes: [`best of ${TURNS} turns of ${MIN_MS} ms and more, CPU time; cc -O2, clang -O2`],
});
