/**
 * What does one invocation of a trivial WASI command cost, in a fresh instance, metered; and what memory does one that
 * waits take? Runtime only: one thread, no pipe. Run: `npm run bench -- command`. C is compiled by `@yowasp/clang`.
 */

import { readFileSync } from 'node:fs';
import { compileAssemblyScript } from '../runtime/assemblyscript/index.ts';
import { CommandExecution } from '../runtime/command/command-execution.ts';
import { buildCommand, type CommandProgram, loadCommand } from '../runtime/command/command-program.ts';
import { Scheduler } from '../runtime/scheduler.ts';
import { publish, summarize } from './support/report.ts';

const WARM_UP = 3_000;
const SAMPLES = 10_000;
const WAITING = 1_000;
const MAX_PAGES = 8_192;
const LIMITS = { timeoutMs: 60_000, memoryPages: 2_048, fuel: 1e12, maxResultBytes: 6_000_000 };
const EVENT = Buffer.from('{"name":"world","n":1}');
const META = Buffer.from('{"functionName":"bench","env":{"A":"1"}}');
const BUNDLE = '@yowasp/clang';

const C_TRIVIAL = `#include <stdio.h>
int main(void) {
  char event[4096];
  size_t length = fread(event, 1, sizeof event - 1, stdin);
  event[length] = 0;
  printf("{\\"statusCode\\":200,\\"length\\":%zu}", length);
  return 0;
}`;
const C_WAITING = `__attribute__((import_module("postern"), import_name("call"))) extern int call(const char *, int);
int main(void) { call("{\\"op\\":\\"db.query\\"}", 17); return 0; }`;

const AS_TRIVIAL = `import { Json } from "postern";
export function handler(event: Json): Json {
  return Json.object().set("statusCode", Json.integer(200)).set("name", event.get("name"));
}`;

const scheduler = new Scheduler();

async function compile(source: string): Promise<CommandProgram> {
  const { runClang } = (await import(BUNDLE)) as {
    runClang(args: string[], files: object, options: object): Promise<Record<string, Uint8Array>>;
  };
  const out = await runClang(['clang', '-O2', 'a.c', '-o', 'a.wasm'], { 'a.c': source }, { fetchProgress: () => {} });
  return load(out['a.wasm'] as Uint8Array);
}

function load(module: Uint8Array): Promise<CommandProgram> {
  return loadCommand(buildCommand(module, MAX_PAGES));
}

function start(program: CommandProgram, event: Buffer, onHostCall: (answer: () => void) => void): Promise<string> {
  return new Promise((resolve) => {
    let how = '';
    const execution = new CommandExecution(scheduler, 'bench', LIMITS, program, {
      onHostCall: (id) => onHostCall(() => execution.settle(id, true, Buffer.from('null'))),
      onCast: () => {},
      onEnd: (end) => {
        how = end.reason === 'finished' ? end.finish.kind : end.reason;
      },
      mayHold: () => true,
      onFree: () => resolve(how),
    });
    execution.start(event, META);
  });
}

async function measure(program: CommandProgram, event: Buffer, kind: string, warmUp: number, count: number) {
  const samples: number[] = [];
  for (let index = 0; index < warmUp + count; index++) {
    const before = performance.now();
    const how = await start(program, event, () => {});
    if (index >= warmUp) samples.push(performance.now() - before);
    if (how !== kind) throw new Error(`ended with ${how}`);
  }
  return summarize(samples);
}

function residentBytes(): number {
  return Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]) * 1024;
}

const c = await measure(await compile(C_TRIVIAL), EVENT, 'status', WARM_UP, SAMPLES);

const asModule = await compileAssemblyScript({ 'index.ts': AS_TRIVIAL }, 'index.ts', 'handler');
const assemblyScript = await measure(await load(asModule), EVENT, 'status', WARM_UP, SAMPLES);

const goModule = readFileSync(new URL('../node_modules/@esbuild/wasi-preview1/esbuild.wasm', import.meta.url));
const go = await measure(await load(goModule), Buffer.from('[1]'), 'value', 3, 20);

// Two thousand wait; what the second thousand adds is no garbage of before.
const waiting = await compile(C_WAITING);
const answers: (() => void)[] = [];
const all: Promise<string>[] = [];

async function letWait(count: number): Promise<number> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const until = answers.length + count;
  for (let index = 0; index < count; index++) {
    const run = start(waiting, EVENT, (answer) => {
      if (answers.push(answer) === until) resolve();
    });
    all.push(run);
  }
  await promise;
  return residentBytes();
}

const before = await letWait(WAITING);
const during = await letWait(WAITING);
for (const answer of answers) answer();
const answered = (await Promise.all(all)).filter((how) => how === 'value').length;

publish({
  bench: 'command',
  question: 'one invocation of a trivial WASI command in a fresh instance, metered, runtime only; and one that waits',
  figures: [
    { name: 'C, p50', value: c.p50, unit: 'ms', target: { op: '<=', value: 0.15 } },
    { name: 'C, p99', value: c.p99, unit: 'ms' },
    { name: 'AssemblyScript, p50', value: assemblyScript.p50, unit: 'ms', target: { op: '<=', value: 0.15 } },
    { name: 'AssemblyScript, p99', value: assemblyScript.p99, unit: 'ms' },
    { name: 'Go, p50', value: go.p50, unit: 'ms' },
    {
      name: 'C waiting, each',
      value: (during - before) / WAITING / 1024 / 1024,
      unit: 'MB',
      target: { op: '<=', value: 0.5 },
    },
    { name: 'answered', value: answered, unit: '', target: { op: '>=', value: 2 * WAITING } },
  ],
  notes: [
    `C and AssemblyScript: ${SAMPLES} samples one after the other, after ${WARM_UP}; Go is all of esbuild (20 MB), which reads stdin and answers`,
    `${WAITING} more wait for a host call beside as many: resident memory (VmRSS) of the process, less what it had before`,
  ],
});
