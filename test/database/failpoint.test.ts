import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { resolve } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterEach, describe, expect, test } from 'vitest';
import { armFailpoints, failpoint, seededRandom } from '../../database/index.ts';

afterEach(() => armFailpoints(null));

/** Passes `name` `times` times in a process of its own. */
async function pass(failpoints: string | undefined, name: string, times: number) {
  const module = resolve('database/failpoint.ts');
  const script = `const { failpoint } = await import(${JSON.stringify(module)});
    for (let n = 0; n < ${times}; n++) {
      let sign = '.';
      try { failpoint(${JSON.stringify(name)}); } catch { sign = 'x'; }
      process.stdout.write(sign);
    }`;
  const child = spawn(process.execPath, ['--input-type=module', '--eval', script], {
    env: failpoints === undefined ? {} : { POSTERN_FAILPOINTS: failpoints },
  });
  const [stdout, stderr, [code, signal]] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, 'close'),
  ]);
  return { stdout, stderr, code, signal };
}

describe('a failpoint', () => {
  test('does nothing and says nothing where the variable is not set', async () => {
    expect(await pass(undefined, 'before_ack', 2)).toEqual({ stdout: '..', stderr: '', code: 0, signal: null });
  });

  test('kills its process before the next instruction', async () => {
    expect(await pass('before_ack:kill', 'before_ack', 2)).toEqual({
      stdout: '',
      stderr: 'failpoint before_ack passed\nfailpoint before_ack kill\n',
      code: null,
      signal: 'SIGKILL',
    });
  });

  test('says once that it was passed, where another one is set', async () => {
    expect(await pass('before_lease:kill', 'before_ack', 3)).toEqual({
      stdout: '...',
      stderr: 'failpoint before_ack passed\n',
      code: 0,
      signal: null,
    });
  });

  test('throws an error with its name', () => {
    armFailpoints('before_ack:throw;before_lease:note');
    expect(() => failpoint('before_ack')).toThrow('failpoint before_ack');
    failpoint('before_lease');
  });

  test('blocks the event loop for as long as it is told', () => {
    armFailpoints('before_ack:delay:ms=40');
    const from = performance.now();
    failpoint('before_ack');
    expect(performance.now() - from).toBeGreaterThanOrEqual(39);
  });

  test('comes as often as its probability says, at the same passes for the same seed', async () => {
    const thrown = async (spec: string) => (await pass(spec, 'after_result', 1_000)).stdout;
    const first = await thrown('after_result:throw:p=0.1:seed=7');
    const often = first.replaceAll('.', '').length;
    expect(often).toBeGreaterThan(60);
    expect(often).toBeLessThan(140);
    expect(await thrown('after_result:throw:p=0.1:seed=7')).toBe(first);
    expect(await thrown('after_result:throw:p=0.1:seed=8')).not.toBe(first);
  });
});

describe('a list of failpoints that can not be read is refused', () => {
  test.for([
    ['before_luck:kill', 'failpoint "before_luck" in "before_luck:kill"; allowed: before_fire_commit'],
    ['before_ack:explode', 'action "explode" in "before_ack:explode"; allowed: kill, throw, delay, note'],
    ['before_ack', 'action "" in "before_ack"'],
    ['before_ack:kill:p=2', 'p=2 in'],
    ['before_ack:kill:p=', 'p= in'],
    ['before_ack:delay:ms=-1', 'ms=-1 in'],
    ['before_ack:kill:often=1', 'often=1 in'],
  ] as const)('%s', ([given, message]) => {
    expect(() => armFailpoints(given)).toThrow(`POSTERN_FAILPOINTS: ${message}`);
  });
});

test('seeded numbers lie in [0, 1) and spread over it', () => {
  const random = seededRandom(3);
  const numbers = Array.from({ length: 10_000 }, random);
  expect(Math.min(...numbers)).toBeGreaterThanOrEqual(0);
  expect(Math.max(...numbers)).toBeLessThan(1);
  expect(numbers.reduce((sum, one) => sum + one, 0) / numbers.length).toBeCloseTo(0.5, 1);
});
