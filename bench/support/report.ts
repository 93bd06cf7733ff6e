/** What every benchmark prints and writes: a question, its figures, and the conditions they were measured under. */

import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
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
  for (const note of [...(report.notes ?? []), `load average ${measured.loadAverage}`]) console.log(`  (${note})`);
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
    commit: git('rev-parse', '--short', 'HEAD'),
  };
}

function git(...args: string[]): string {
  try {
    return execFileSync('git', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  } catch {
    return 'unknown';
  }
}
