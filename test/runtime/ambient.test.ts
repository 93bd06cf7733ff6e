import { beforeAll, describe, expect, test } from 'vitest';
import { TestRuntime } from './javascript/support/sandboxes.ts';

let runtime: TestRuntime;
beforeAll(async () => {
  runtime = await TestRuntime.boot();
});

/** What an invocation of this handler was given of time and randomness. */
async function given(body: string): Promise<[clockReads: number, randomBytes: number]> {
  const { usage } = await runtime.run(await runtime.handler(body));
  return [usage.clockReads, usage.randomBytes];
}

const SLEEP = 'const sleep = (ms) => new Promise((done) => setTimeout(done, ms));';

describe('what a JavaScript guest is given of the world', () => {
  test.each([
    ['nothing for an answer', 'return { sum: [1, 2].reduce((a, b) => a + b), at: new Date(0) };', [0, 0]],
    ['a clock for Date.now', 'return Date.now();', [1, 0]],
    ['a clock for new Date', 'return new Date();', [1, 0]],
    ['a clock for performance.now', 'return performance.now();', [2, 0]],
    ['no clock for one timer after the other', `${SLEEP} await sleep(1); await sleep(0); return 1;`, [0, 0]],
    [
      'a clock for each timer that may come before another',
      `${SLEEP} await Promise.race([sleep(2), sleep(1), sleep(1)]);`,
      [2, 0],
    ],
    ['the seed once for Math.random', 'return [Math.random(), Math.random()];', [0, 8]],
    ['sixteen bytes for a UUID', 'return crypto.randomUUID();', [0, 16]],
    ['as many bytes as it asks for', 'return [...crypto.getRandomValues(new Uint8Array(100))];', [0, 100]],
  ])('is %s', async (_what, body, expected) => {
    expect(await given(body)).toEqual(expected);
  });

  test('is a look at others where the process has no room for memory that it may have', async () => {
    const image = await runtime.handler('try { new Uint8Array(3e7); } catch {} return 1;');
    expect((await runtime.run(image)).usage.clockReads).toBe(0);
    expect((await runtime.withPool({ maxGrownBytes: 0 }).run(image)).usage.clockReads).toBe(1);
  });

  test('is counted anew in the next invocation', async () => {
    const image = await runtime.handler('return event.look ? Date.now() + Math.random() : 0;');
    const looked = await runtime.run(image, { event: { look: true } });
    const blind = await runtime.run(image, { event: { look: false } });
    expect([looked.usage.clockReads, looked.usage.randomBytes]).toEqual([1, 8]);
    expect([blind.usage.clockReads, blind.usage.randomBytes]).toEqual([0, 0]);
  });
});
