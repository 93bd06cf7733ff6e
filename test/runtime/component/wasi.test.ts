/** What WASI 0.2 is here: clocks, randomness, streams to the log, and nothing of the host's. */

import { beforeAll, expect, test } from 'vitest';
import type { ComponentProgram } from '../../../runtime/component/index.ts';
import { Stopwatch } from '../../support/timed.ts';
import { componentOf, program, TestComponents } from './support/components.ts';
import { script } from './support/script-component.ts';
import { SYSTEM_WIT } from './support/wasi-wit.ts';

const components = new TestComponents();
let system: ComponentProgram;
let command: ComponentProgram;

beforeAll(async () => {
  system = await program(await componentOf(SYSTEM_WIT, 'system', SYSTEM));
  command = await program(await componentOf(SYSTEM_WIT, 'command', COMMAND));
}, 240_000);

const SYSTEM = `
import * as environment from 'wasi:cli/environment@0.2.3';
import * as exit from 'wasi:cli/exit@0.2.3';
import * as stdin from 'wasi:cli/stdin@0.2.3';
import * as stdout from 'wasi:cli/stdout@0.2.3';
import * as clock from 'wasi:clocks/monotonic-clock@0.2.3';
import * as random from 'wasi:random/random@0.2.3';
import * as preopens from 'wasi:filesystem/preopens@0.2.3';
export function handler(event) {
  const wasi = { environment, exit, stdin, stdout, clock, random, preopens };
  return JSON.stringify(new Function('wasi', JSON.parse(event).code)(wasi) ?? null);
}`;

/** Reads stdin, and does what the event says. */
const COMMAND = `
import * as stdin from 'wasi:cli/stdin@0.2.3';
import * as stdout from 'wasi:cli/stdout@0.2.3';
import * as exit from 'wasi:cli/exit@0.2.3';
export const run = { run() {
  const input = String.fromCharCode(...stdin.getStdin().read(4096));
  const out = stdout.getStdout();
  const print = (text) => out.blockingWriteAndFlush(Uint8Array.from(text, (char) => char.charCodeAt(0)));
  new Function('input', 'print', 'exit', JSON.parse(input).code)(input, print, exit.exit);
} };`;

test('ENV-02 environment and arguments have the function alone, and there is no working directory', async () => {
  const code = 'const e = wasi.environment; return [e.getEnvironment(), e.getArguments(), e.initialCwd() ?? null]';
  expect(await components.value(system, { ...script(code), meta: { env: { A: 'b' } } })).toEqual([
    [['A', 'b']],
    ['test'],
    null,
  ]);
});

test('ISO-06 exit ends the invocation, not the process, also where it is caught', async () => {
  for (const [tag, code] of [
    ['ok', 0],
    ['err', 1],
  ] as const) {
    const ran = await components.run(system, script(`for (;;) try { wasi.exit.exit({ tag: "${tag}" }) } catch {}`));
    expect(ran.how).toBe('exception');
    expect(JSON.parse(ran.text)).toMatchObject({ name: 'ExitError', message: expect.stringContaining(`code ${code}`) });
  }
});

test('stdout of a handler is the log, a line a line, and never that of the process', async () => {
  const written: unknown[] = [];
  const { write } = process.stdout;
  process.stdout.write = (chunk: unknown) => written.push(chunk) > 0;
  try {
    const code = `const out = wasi.stdout.getStdout();
      for (const part of [[104], [105, 10, 111]]) { out.checkWrite(); out.write(new Uint8Array(part)) }`;
    const ran = await components.run(system, script(code));
    expect(ran.casts.map(({ message }) => message)).toEqual(['hi', 'o']);
  } finally {
    process.stdout.write = write;
  }
  expect(written).toEqual([]);
});

test('there is no directory, and nothing to read', async () => {
  const code =
    'let closed; try { wasi.stdin.getStdin().read(1) } catch (error) { closed = error.payload } return [wasi.preopens.getDirectories(), closed]';
  expect(await components.value(system, script(code))).toEqual([[], { tag: 'closed' }]);
});

test('ISO-13 randomness is fresh in each invocation, and no more of it is given at once than a call should take', async () => {
  const code = 'return [...wasi.random.getRandomBytes(16)].join()';
  const all = await Promise.all(Array.from({ length: 20 }, () => components.value(system, script(code))));
  expect(new Set(all).size).toBe(20);
  expect(await components.run(system, script('wasi.random.getRandomBytes(2 ** 40)'))).toMatchObject({
    how: 'panic',
    text: expect.stringContaining('random bytes'),
  });
});

test('ISO-12 the clock goes in milliseconds, and a sleep costs no CPU, and is replayed in no time', async () => {
  const code =
    'const start = wasi.clock.now(); wasi.clock.subscribeDuration(1000000000).block(); return [start, wasi.clock.now()]';
  const { ran, again, report } = await components.replay(system, script(code));
  const [start, end] = JSON.parse(ran.text) as [number, number];
  expect(end - start).toBeGreaterThanOrEqual(999_000_000);
  expect(end % 1_000_000).toBe(0);
  expect(ran.usage.durationMs - ran.usage.cpuMs).toBeGreaterThan(900);
  expect([report.same, again.text]).toEqual([true, ran.text]);
  expect(again.usage.durationMs).toBeLessThan(ran.usage.durationMs);
});

test('a sleep beyond the deadline ends there', async () => {
  const code = 'wasi.clock.subscribeDuration(2 ** 60).block()';
  const watch = new Stopwatch();
  const { ran, report } = await components.replay(system, { ...script(code), limits: { timeoutMs: 1_000 } });
  expect(ran).toMatchObject({ how: 'time', afterEnd: [] });
  expect(report.same).toBe(true);
  watch.expectBelow(1_250);
});

test('resources that are never dropped end the invocation before they fill the host', async () => {
  const code = 'const all = []; for (;;) all.push(wasi.clock.subscribeDuration(0))';
  const ran = await components.run(system, script(code));
  expect(ran).toMatchObject({ how: 'memory', text: 'too many resources of the host' });
});

test('resources that are dropped cost nothing', async () => {
  const code = `const drop = Symbol.dispose in wasi.stdout.getStdout() ? Symbol.dispose : undefined;
    for (let i = 0; i < 70000; i++) wasi.stdout.getStdout()[drop]?.(); return typeof drop`;
  expect(await components.value(system, script(code))).toBe('symbol');
});

test('a command reads the event on stdin, and its stdout is the result', async () => {
  expect(await components.run(command, script('print(input.slice(0, 8)); print(input.slice(8))'))).toMatchObject({
    how: 'value',
    text: JSON.stringify({ code: 'print(input.slice(0, 8)); print(input.slice(8))' }),
  });
  expect(await components.run(command, script('print("no JSON")'))).toMatchObject({ how: 'value', text: '"no JSON"' });
  expect(await components.run(command, script(''))).toMatchObject({ how: 'value', text: 'null' });
});

test('ABI-03 what a command prints that is not UTF-8 is an invalid result', async () => {
  const ran = await components.run(command, script('print("\\xff")'));
  expect(ran).toMatchObject({ how: 'invalid', text: '{"message":"stdout is not UTF-8"}' });
});

test('a command that exits with 0 has succeeded, with another code failed', async () => {
  expect(await components.run(command, script('print("1"); exit({ tag: "ok" })'))).toMatchObject({
    how: 'value',
    text: '1',
  });
  const failed = await components.run(command, script('print("1"); exit({ tag: "err" })'));
  expect(failed.how).toBe('exception');
  expect(failed.text).toContain('exit code 1');
});

test('MEM-04 stdout over its limit is no result', async () => {
  const code = 'for (let i = 0; i < 100; i++) print("x".repeat(100))';
  const ran = await components.run(command, { ...script(code), limits: { maxResultBytes: 5_000 } });
  expect(ran.end).toMatchObject({ finish: { kind: 'value', body: null } });
});

test('MEM-04 text on stdout that is over its limit as JSON is no result', async () => {
  const ran = await components.run(command, {
    ...script('print("\\x01".repeat(900))'),
    limits: { maxResultBytes: 1_000 },
  });
  expect(ran.end).toMatchObject({ finish: { kind: 'value', body: null } });
});
