/** What every benchmark prints and writes: a question, its figures, and the conditions they were measured under. */

import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus, loadavg, totalmem } from 'node:os';
import { join } from 'node:path';

export interface Figure {
  readonly name: string;
  readonly value: number;
  readonly unit: string;
  /** What the issue asks for, e.g. `<= 90`; absent where a figure is only context. */
  readonly target?: { readonly op: '<=' | '>='; readonly value: number };
}

export interface Report {
  readonly bench: string;
  readonly question: string;
  readonly figures: readonly Figure[];
  readonly notes?: readonly string[];
}

const NS_PER_MS = 1_000_000;
const MS_PER_TICK = 10;
/** user, nice, system, idle, iowait, irq, softirq, steal. */
const STEAL_COLUMN = 8;

const stolenBefore = stolenMs();
const RESULTS = join(import.meta.dirname, '../results');

export function percentile(sorted: readonly number[], fraction: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * fraction))] as number;
}

export function summarize(samples: readonly number[]): { p50: number; p99: number; max: number; count: number } {
  const sorted = [...samples].sort((a, b) => a - b);
  return {
    p50: percentile(sorted, 0.5),
    p99: percentile(sorted, 0.99),
    max: sorted.at(-1) as number,
    count: sorted.length,
  };
}

export function meets(figure: Figure): boolean | undefined {
  if (figure.target === undefined) return undefined;
  return figure.target.op === '<=' ? figure.value <= figure.target.value : figure.value >= figure.target.value;
}

export function publish(report: Report): void {
  console.log(`\n${report.bench}: ${report.question}`);
  const rows = report.figures.map((figure) => [
    figure.name,
    `${round(figure.value)} ${figure.unit}`,
    figure.target === undefined ? '' : `${figure.target.op} ${figure.target.value}`,
    { true: 'ok', false: 'MISSED', undefined: '' }[String(meets(figure)) as 'true'],
  ]);
  const widths = [0, 1, 2].map((column) => Math.max(...rows.map((row) => (row[column] as string).length)));
  for (const row of rows)
    console.log(`  ${row.map((cell, column) => (cell as string).padEnd(widths[column] ?? 0)).join('  ')}`);
  const measured = conditions();
  const { loadAverage, waitedForCoreMs, stolenMs } = measured;
  const machine = `load average ${loadAverage}; waited ${waitedForCoreMs} ms for a core; the host took ${stolenMs} ms of them`;
  for (const note of [...(report.notes ?? []), machine]) console.log(`  (${note})`);
  mkdirSync(RESULTS, { recursive: true });
  writeFileSync(
    join(RESULTS, `${report.bench}.json`),
    `${JSON.stringify({ ...report, conditions: measured }, null, 2)}\n`,
  );
}

function round(value: number): string {
  if (Math.abs(value) >= 1000) return Math.round(value).toLocaleString('en');
  return String(Number(value.toPrecision(3)));
}

export function conditions(): Record<string, string | number> {
  return {
    date: new Date().toISOString(),
    node: process.version,
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: cpus().length,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    /** Of the last minute, the benchmark's own load included. */
    loadAverage: Math.round((loadavg()[0] as number) * 10) / 10,
    /** What other work took: a maximum or a p99 far above the rest is often nothing else. */
    waitedForCoreMs: waitedForCoreMs(),
    stolenMs: stolenMs() - stolenBefore,
    commit: git('rev-parse', '--short', 'HEAD'),
  };
}

/** How long this thread stood ready and had no core, since its start; 0 where the system does not say. */
function waitedForCoreMs(): number {
  return Math.round(Number(read('/proc/self/schedstat').split(' ')[1] ?? 0) / NS_PER_MS);
}

/** How long all cores were the hypervisor's, since the machine's start. */
function stolenMs(): number {
  return Number(read('/proc/stat').split('\n', 1)[0]?.split(/ +/)[STEAL_COLUMN] ?? 0) * MS_PER_TICK;
}

/** Nothing but Linux has these. */
function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

function git(...args: string[]): string {
  try {
    return execFileSync('git', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  } catch {
    return 'unknown';
  }
}
