/** The global's events: what nobody caught and what nobody handled, to the listeners of a guest that has some. */

import { beforeAll, describe, expect, it } from 'vitest';
import { type Ran, TestRuntime } from './support/sandboxes.ts';

let runtime: TestRuntime;
beforeAll(async () => {
  runtime = await TestRuntime.boot();
});

const lines = ({ casts }: Ran): string[] =>
  casts
    .map((cast) => JSON.parse(cast) as { level: string; message: string })
    .map(({ level, message }) => `${level} ${message.split('\n')[0]}`);
const run = async (body: string, top = '', limits = {}): Promise<Ran> =>
  runtime.run(await runtime.handler(body, top), {
    limits,
    onHostCall: (call) => call.answer(true, '{"rows":[],"fields":[]}'),
  });

const TOP = `
  const seen = [];
  addEventListener('error', (event) => { seen.push(['error', event.message, event.error?.message, event.isTrusted, event.target === globalThis, event.cancelable]); if (event.error.message.includes('prevented')) event.preventDefault(); });
  addEventListener('unhandledrejection', (event) => { seen.push(['unhandled', event.reason, event.promise instanceof Promise, event.isTrusted]); if (event.reason === 'prevented') event.preventDefault(); });
  addEventListener('rejectionhandled', (event) => { seen.push(['handled', event.reason, event.cancelable]); });
`;

describe('an error that nobody caught', () => {
  it.each([
    ['in a timer', `setTimeout(() => { throw new TypeError('prevented') }, 1)`],
    [
      'in a listener',
      `const t = new EventTarget(); t.addEventListener('x', () => { throw new TypeError('prevented') }); t.dispatchEvent(new Event('x'))`,
    ],
    ['in a job', `queueMicrotask(() => reportError(new TypeError('prevented')))`],
  ])('%s goes to the listeners for error, and ends nothing where one prevents it', async (_where, code) => {
    const ran = await run(`${code}; await new Promise((resolve) => setTimeout(resolve, 10)); return seen;`, TOP);
    expect(ran).toMatchObject({ how: 'value', casts: [] });
    expect(JSON.parse(ran.text)).toEqual([['error', 'TypeError: prevented', 'prevented', true, true, true]]);
  });

  it('ends the invocation where no listener prevents it', async () => {
    const ran = await run(`setTimeout(() => { throw new Error('mine') }); await new Promise(() => {});`, TOP);
    expect(ran).toMatchObject({ how: 'exception', casts: [] });
    expect(ran.text).toContain('mine');
  });

  it('is a line of level error once the invocation has answered', async () => {
    const ran = await run(
      `context.waitUntil(new Promise((resolve) => setTimeout(() => { setTimeout(resolve); throw new Error('late') })));
       return 1;`,
    );
    expect(ran.answered?.body?.toString()).toBe('1');
    expect(lines(ran)).toEqual(['error uncaught error: Error: late']);
  });

  it('that a listener for error throws goes to no listener and ends the invocation; the first is logged', async () => {
    const ran = await run(
      `addEventListener('error', () => { throw new Error('second') }); reportError(new Error('first')); return 1;`,
    );
    expect(ran.how).toBe('exception');
    expect(lines(ran)).toEqual(['error uncaught error: Error: first']);
    expect(ran.text).toContain('second');
  });

  it('reaches onerror in five arguments, and true prevents; null takes it away', async () => {
    const ran = await run(`
      let seen;
      globalThis.onerror = (...args) => { seen = args.map((one) => one instanceof Error ? one.message : one); return true; };
      reportError(new RangeError('mine'));
      const kept = typeof onerror;
      onerror = null;
      return [seen, kept, onerror];`);
    expect(JSON.parse(ran.text)).toEqual([['RangeError: mine', '', 0, 0, 'mine'], 'function', null]);
  });
});

describe('a rejection that nobody handled', () => {
  it('goes to the listeners that the top level of the module has added, and is no line where one prevents it', async () => {
    const ran = await run(
      `Promise.reject('prevented'); Promise.reject('told'); await db.query('x'); return seen;`,
      TOP,
    );
    expect(JSON.parse(ran.text)).toEqual([
      ['unhandled', 'prevented', true, true],
      ['unhandled', 'told', true, true],
    ]);
    expect(lines(ran)).toEqual(['error unhandled rejection: Error: told']);
  });

  it('goes to listeners that the handler adds, and to on… handlers, where false prevents', async () => {
    const ran = await run(`
      const seen = [];
      onunhandledrejection = (event) => { seen.push(event.reason); return false; };
      Promise.reject(1);
      await db.query('x');
      return seen;`);
    expect(ran).toMatchObject({ how: 'value', text: '[1]', casts: [] });
  });

  it('is told once, and again when it is handled after all', async () => {
    const ran = await run(
      `const late = Promise.reject('told'); await db.query('x'); await db.query('x'); late.catch(() => {}); await db.query('x'); return seen;`,
      TOP,
    );
    expect(JSON.parse(ran.text)).toEqual([
      ['unhandled', 'told', true, true],
      ['handled', 'told', false],
    ]);
    expect(ran.casts).toEqual([]);
  });

  it('that its listener handles is neither told again nor a line', async () => {
    const ran = await run(`
      const seen = [];
      addEventListener('unhandledrejection', ({ promise }) => { promise.catch((reason) => seen.push(reason)); });
      addEventListener('rejectionhandled', () => seen.push('handled'));
      Promise.reject(1);
      await db.query('x');
      await db.query('x');
      return seen;`);
    expect(ran).toMatchObject({ how: 'value', text: '[1]', casts: [] });
  });

  it('at the end of an invocation is told before it is logged, and the answer stands', async () => {
    const ran = await run(
      `addEventListener('unhandledrejection', (event) => { console.warn('told', event.reason); event.preventDefault(); });
       Promise.reject('at the end');
       return 'done';`,
    );
    expect(ran).toMatchObject({ how: 'value', text: '"done"', reusable: true });
    expect(lines(ran)).toEqual(['warn told at the end']);
  });

  it('of a guest whose listener spins, rejects and throws leaves the answer as it is', async () => {
    for (const listener of [`for (;;);`, `Promise.reject(1);`, `throw 1;`]) {
      const ran = await run(
        `addEventListener('unhandledrejection', () => { ${listener} }); Promise.reject(0); return 'done';`,
        '',
        { timeoutMs: 1_500 },
      );
      expect(ran).toMatchObject({ how: 'value', text: '"done"', afterEnd: [] });
    }
  });

  it('costs a guest without listeners nothing, and the next guest of the sandbox hears nothing of it', async () => {
    const image = await runtime.handler(
      `if (event.listen) { addEventListener('unhandledrejection', (one) => one.preventDefault()); Promise.reject(1); } return 1;`,
    );
    const clean = await runtime.run(image);
    expect((await runtime.run(image, { event: { listen: true } })).casts).toEqual([]);
    expect(await runtime.run(image)).toMatchObject({ casts: [], usage: { fuel: clean.usage.fuel } });
  });
});
