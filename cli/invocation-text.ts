/** An invocation and its log lines for a terminal. Every word in them may come from a hostile function. */

import type { Invocation } from './control-client.ts';
import type { Output, Style } from './output.ts';
import { safeLine, safeText } from './terminal-text.ts';

const LEVEL_STYLES: Readonly<Record<string, Style>> = { DEBUG: 'dim', WARN: 'yellow', ERROR: 'red' };
/** Of a log record: said elsewhere on the line, or in the line of the invocation. */
const KNOWN_FIELDS = ['level', 'message', 'timestamp', 'source', 'request_id', 'invocation_id', 'fields'];

export function invocationLines(invocation: Invocation, output: Output, withStack: boolean): string[] {
  const { started_at, function: name, version, trigger, outcome, duration_ms, error } = invocation;
  const mark = outcome === 'ok' ? output.style('green', 'ok') : output.style('red', safeLine(outcome));
  const head = `${output.style('dim', clock(started_at))} ${safeLine(name)} v${version} ${safeLine(trigger)} ${mark} ${duration(duration_ms)}`;
  const lines = [head, ...invocation.logs.map((record) => logLine(record, output))];
  if (error !== null) lines.push(`  ${output.style('red', safeLine(error.code))} ${safeLine(error.message ?? '')}`);
  if (withStack && error?.stack)
    lines.push(
      ...safeText(error.stack)
        .split('\n')
        .map((line) => `    ${line}`),
    );
  return lines;
}

/** One line of the log of a running server, as `dev` shows it. */
export function logText(line: string, output: Output): string {
  const record = parseRecord(line);
  if (record === undefined) return safeLine(line.trimEnd());
  const source = String(record.source ?? '').replace(/^function:/, '');
  return `${output.style('dim', clock(String(record.timestamp ?? '')))} ${safeLine(source)}${logLine(record, output).slice(1)}`;
}

function parseRecord(line: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}

function logLine(record: Readonly<Record<string, unknown>>, output: Output): string {
  const level = String(record.level ?? 'INFO').toUpperCase();
  const style = LEVEL_STYLES[level];
  const shown = safeLine(level.slice(0, 5).padEnd(5));
  const more = fieldsOf(record);
  const message = typeof record.message === 'string' ? record.message : JSON.stringify(record.message ?? '');
  return `  ${style === undefined ? shown : output.style(style, shown)} ${safeLine(message)}${more === '' ? '' : ` ${output.style('dim', safeLine(more))}`}`;
}

function fieldsOf(record: Readonly<Record<string, unknown>>): string {
  const own = Object.fromEntries(Object.entries(record).filter(([key]) => !KNOWN_FIELDS.includes(key)));
  const { fields } = record;
  const all = typeof fields === 'object' && fields !== null ? { ...own, ...fields } : own;
  return Object.keys(all).length === 0 ? '' : JSON.stringify(all);
}

function clock(time: string): string {
  const date = new Date(time);
  return Number.isNaN(date.getTime()) ? safeLine(time) : date.toISOString().slice(11, 23);
}

export function duration(ms: number): string {
  return ms < 10 ? `${ms.toFixed(1)} ms` : ms < 10_000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}
