/** Promises that a guest leaves rejected: what the log says of them, and that nothing else changes. */

import { beforeAll, describe, expect, it } from 'vitest';
import { type Ran, TestRuntime } from './support/sandboxes.ts';

let runtime: TestRuntime;
beforeAll(async () => {
  runtime = await TestRuntime.boot();
});

const lines = ({ casts }: Ran): { level: string; message: string }[] => casts.map((cast) => JSON.parse(cast));
const run = async (body: string, limits = {}): Promise<Ran> =>
  runtime.run(await runtime.handler(body), {
    limits,
    onHostCall: (call) => call.answer(!call.payload.includes('fail'), '{"message":"refused","rows":[],"fields":[]}'),
  });

describe('a rejection that nobody handles', () => {
  it('is one line of level error with message and stack, and the outcome is what it was', async () => {
    const ran = await run(`
      async function sendMail() { throw new TypeError('no server'); }
      sendMail();
      await db.query('x');
      return 'sent';`);
    expect(ran).toMatchObject({ how: 'value', text: '"sent"', reusable: true, afterEnd: [] });
    expect(lines(ran)).toEqual([
      { level: 'error', message: expect.stringMatching(/^unhandled rejection: TypeError: no server\n +at sendMail /) },
    ]);
  });

  it.each([
    ['a string', `Promise.reject('because')`, 'unhandled rejection: Error: because'],
    ['nothing', `Promise.reject()`, 'unhandled rejection: Error: undefined'],
    ['a host call', `db.query('fail')`, 'unhandled rejection: Error: refused'],
    ['a chain that goes on without a catch', `Promise.reject(1).then(() => 2)`, 'unhandled rejection: Error: 1'],
    ['what can not be described', `Promise.reject({ toJSON() { throw 1 }, toString: 0 })`, 'can not be described'],
  ])('may be of %s', async (_what, expression, text) => {
    const ran = await run(`${expression}; await db.query('x'); await null; return 1;`);
    expect(ran).toMatchObject({ how: 'value', text: '1' });
    expect(lines(ran)).toEqual([{ level: 'error', message: expect.stringContaining(text) }]);
  });

  it.each([
    ['at once', `Promise.reject(1).catch(() => {})`],
    ['by await', `const failing = async () => { throw 1 }; try { await failing() } catch {}`],
    ['later', `const late = Promise.reject(1); await db.query('x'); await late.catch(() => {})`],
    ['of many', `await Promise.allSettled(Array.from({ length: 500 }, async (_, n) => { throw n }))`],
    ['by waitUntil', `context.waitUntil(Promise.reject(1))`],
  ])('is none where it is handled: %s', async (_when, body) => {
    const ran = await run(`${body}; await db.query('x'); return 1;`);
    expect(ran).toMatchObject({ how: 'value', text: '1', reusable: true, casts: [] });
  });

  it('is none where the handler itself throws: that is the outcome', async () => {
    const ran = await run(`throw new Error('mine')`);
    expect(ran).toMatchObject({ how: 'exception', casts: [] });
  });

  it('counts until the work behind the answer is done', async () => {
    const ran = await run(`
      const late = Promise.reject(new Error('handled late'));
      context.waitUntil(db.query('x').then(() => { late.catch(() => {}); Promise.reject(new Error('behind')); }));
      return 'early';`);
    expect(ran.answered?.body?.toString()).toBe('"early"');
    expect(lines(ran).map(({ message }) => message.split('\n')[0])).toEqual(['unhandled rejection: Error: behind']);
  });

  it('is cut, and a hundred at most are told of', async () => {
    const ran = await run(`
      for (let n = 0; n < 1_000; n++) Promise.reject(new Error('x'.repeat(20_000)));
      await db.query('x');
      return 1;`);
    expect(ran.how).toBe('value');
    expect(ran.casts.length).toBeGreaterThan(50);
    expect(ran.casts.length).toBeLessThanOrEqual(100);
    for (const { message } of lines(ran)) expect(message.length).toBeLessThanOrEqual(8_000);
  });

  it('of a guest that spins while it is described leaves the answer as it is', async () => {
    const spins = `Promise.reject(Object.defineProperty(new Error('x'), 'message', { get() { for (;;); } })); return 'done';`;
    for (const limits of [{ timeoutMs: 1_000 }, { fuel: 20_000_000 }])
      expect(await run(spins, limits)).toMatchObject({ how: 'value', text: '"done"', reusable: false, casts: [] });
  });

  it('of a guest that frees what is described harms nobody', async () => {
    const ran = await run(`
      let mine;
      const reason = Object.defineProperty(new Error('x'), 'message', { get() { mine?.catch(() => {}); mine = undefined; return 'got'; } });
      mine = Promise.reject(reason);
      await db.query('x');
      return 'done';`);
    expect(ran).toMatchObject({ how: 'value', text: '"done"' });
    expect(lines(ran)[0]?.message).toContain('unhandled rejection: Error: got');
  });

  it('costs an invocation without one no fuel, and the next guest hears nothing of it', async () => {
    const image = await runtime.handler(`if (event.reject) Promise.reject(new Error('x')); return 1;`);
    const clean = await runtime.run(image);
    const rejecting = await runtime.run(image, { event: { reject: true } });
    expect(rejecting.casts).toHaveLength(1);
    const again = await runtime.run(image);
    expect(again).toMatchObject({ casts: [], usage: { fuel: clean.usage.fuel } });
  });
});
