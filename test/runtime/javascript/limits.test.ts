/** Guests that will not stop, that take all the memory, that drown the host: each ends at its limit, and the next is right. */

import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { QUANTUM_FUEL } from '../../../runtime/execution.ts';
import type { Execution, Image } from '../../../runtime/index.ts';
import { Stopwatch } from '../../support/timed.ts';
import { type Ran, type RunOptions, TestRuntime } from './support/sandboxes.ts';

const TIMEOUT_MS = 50;
/** THREATS CPU-01. The usual figure is below 10 ms. */
const LATE_MS = 250;

let runtime: TestRuntime;
let calm: Image;
beforeAll(async () => {
  runtime = await TestRuntime.boot();
  calm = await runtime.handler('return event.n + 1');
});

/** Whatever a guest did, the others of the pool are right. */
afterEach(async () => {
  expect(await runtime.value(calm, { event: { n: 41 } })).toBe(42);
});

/** Runs `body` until it is stopped, then calls the same function calmly. */
async function endsAtTimeout(body: string, options: RunOptions = {}): Promise<Ran> {
  const image = await runtime.handler(`if (event.calm) return 'calm'; ${body}`);
  const watch = new Stopwatch();
  const ran = await runtime.run(image, { ...options, limits: { timeoutMs: TIMEOUT_MS, ...options.limits } });
  watch.expectBelow(TIMEOUT_MS + LATE_MS);
  expect(ran).toMatchObject({ how: 'time', afterEnd: [] });
  expect(await runtime.value(image, { event: { calm: true } })).toBe('calm');
  return ran;
}

const answerAll = {
  onHostCall: (call: { answer(ok: boolean, payload: string): void }) => call.answer(true, '{"rows":[],"fields":[]}'),
};

describe('a guest that will not stop ends at the timeout', () => {
  it.each([
    ['CPU-01 an empty loop', 'for (;;);'],
    [
      'CPU-01 recursion that catches its own end',
      'const f = () => { try { return f() + 1 } catch { return f() } }; return f()',
    ],
    [
      'CPU-04 a native indexOf over megabytes',
      `'a'.repeat(2e6).indexOf('a'.repeat(1e6) + 'b'); for (;;) 'a'.repeat(2e6).indexOf('a'.repeat(1e6) + 'b')`,
    ],
    ['CPU-05 a join of a billion holes', `return (new Array(1e9) + '').length`],
    ['CPU-05 a power of BigInts', 'for (let x = 3n; ; ) { try { x = x * x } catch { x = 3n } }'],
    ['CPU-05 the decimal digits of a huge BigInt', 'return (7n ** 2000000n).toString().length'],
    ['CPU-05 a division of huge BigInts', 'const a = 10n ** 300000n; for (;;) (a * a + 1n) / a'],
    [
      'CPU-05 a sort of a million numbers',
      'const a = Array.from({ length: 3e5 }, (_, i) => (i * 7919) % 1000003); for (;;) a.toSorted()',
    ],
    ['CPU-05 a sort of a typed array', 'const a = new Float64Array(2e6); for (;;) a.sort()'],
    ['CPU-05 split and join of megabytes', `for (;;) 'ab'.repeat(1e6).split('a').join('b')`],
    [
      'CPU-05 JSON.stringify of a million objects',
      'const a = Array.from({ length: 1e5 }, (_, i) => ({ i })); for (;;) JSON.stringify(a)',
    ],
    ['CPU-05 JSON.parse of megabytes', `const s = '[' + '1,'.repeat(5e5) + '1]'; for (;;) JSON.parse(s)`],
    [
      'CPU-05 a structured clone of many objects',
      'const a = Array.from({ length: 5e4 }, (_, i) => ({ i })); for (;;) structuredClone(a)',
    ],
    ['CPU-05 fill of megabytes', 'const a = new Uint8Array(3e7); for (;;) a.fill(1)'],
    ['CPU-05 padEnd to megabytes', `for (;;) 'x'.padEnd(3e7, 'ab')`],
    ['CPU-05 replaceAll over megabytes', `const s = 'a'.repeat(1e6); for (;;) s.replaceAll('a', 'bc')`],
    ['CPU-05 normalize over megabytes', `const s = 'e\\u0301'.repeat(1e6); for (;;) s.normalize('NFC')`],
    ['CPU-05 indexOf of a huge array', 'const a = new Array(1e6).fill({}); for (;;) a.indexOf(1)'],
    ['CPU-05 a spread of ten million arguments', 'for (;;) { try { Math.max(...new Array(1e7)) } catch {} }'],
    ['CPU-05 code of megabytes given to eval', `eval('1+'.repeat(5e6) + '1')`],
    ['CPU-06 a regular expression that backtracks', `/^(a+)+$/.test('a'.repeat(40) + 'b')`],
    ['CPU-06 a regular expression that scans megabytes', `const s = 'x'.repeat(5e6); for (;;) /x*y/.test(s)`],
    ['CPU-06 a regular expression with a callback', `for (;;) 'a'.repeat(1e5).replace(/a/g, (x) => x + x)`],
    ['CPU-07 promise jobs without end', 'for (;;) await 0'],
    [
      'CPU-07 promise jobs that double',
      'const f = () => { Promise.resolve().then(f); Promise.resolve().then(f) }; f(); await new Promise(() => {})',
    ],
    ['CPU-07 a queue of microtasks', 'const f = () => queueMicrotask(f); f(); await new Promise(() => {})'],
    ['CPU-07 a chain of timers', 'const f = () => setTimeout(f, 0); f(); await new Promise(() => {})'],
    [
      'CPU-07 a hundred intervals',
      'for (let i = 0; i < 100; i++) setInterval(() => {}, 1); await new Promise(() => {})',
    ],
    ['CPU-07 a promise that never settles', 'await new Promise(() => {})'],
    ['CPU-07 a thenable that calls back for ever', 'await { then(resolve) { resolve(this) } }'],
    ['CPU-09 a finally that loops', 'try { for (;;); } finally { for (;;); }'],
    ['CPU-09 a catch around the loop', 'for (;;) { try { for (;;); } catch {} finally { continue } }'],
    [
      'CPU-09 an async generator with a finally',
      'async function* g() { try { for (;;) yield 1 } finally { for (;;); } } for await (const x of g());',
    ],
    ['CPU-11 a getter of the result', 'return { get x() { for (;;); } }'],
    ['CPU-11 toJSON of the result', 'return { toJSON() { for (;;); } }'],
    ['CPU-11 a proxy as the result', 'return new Proxy({}, { ownKeys() { for (;;); } })'],
    ['CPU-11 headers of the result', 'return { statusCode: 200, headers: { get a() { for (;;); } } }'],
    ['CPU-11 a then of the result', 'return { get then() { for (;;); } }'],
    ['CPU-11 the message of what was thrown', 'throw { get message() { for (;;); }, toString() { for (;;); } }'],
    [
      'CPU-11 the stack of what was thrown',
      `throw Object.defineProperty(new Error(''), 'stack', { get() { for (;;); } })`,
    ],
    ['CPU-11 the fields of a log line', `console.log({ get x() { for (;;); } }); for (;;);`],
    ['CPU-05 the native TextEncoder', `const t = new TextEncoder(), s = '\\u00e9'.repeat(4e6); for (;;) t.encode(s)`],
    [
      'CPU-05 the native TextDecoder',
      `const t = new TextDecoder('utf-16le'), s = new Uint8Array(4e6); for (;;) t.decode(s)`,
    ],
    ['CPU-05 the native URL', `const s = 'http://a/' + '\\u00e9/../'.repeat(3e5); for (;;) new URL(s)`],
    ['CPU-05 the native URLSearchParams', `const s = 'a=b&'.repeat(2e5); for (;;) new URLSearchParams(s).sort()`],
    [
      'CPU-05 the native Headers',
      `const h = new Headers(); for (let i = 0; ; i++) h.append('a', 'b'.repeat(1000) + i)`,
    ],
    ['CPU-05 native digests', `const b = new Uint8Array(8e6); for (;;) await crypto.subtle.digest('SHA-512', b)`],
    [
      'CPU-05 native key derivation',
      `
      const key = await crypto.subtle.importKey('raw', new Uint8Array(16), 'PBKDF2', false, ['deriveBits']);
      for (;;) await crypto.subtle.deriveBits({ name: 'PBKDF2', hash: 'SHA-512', salt: new Uint8Array(8), iterations: 1e9 }, key, 256)`,
    ],
    ['CPU-05 random bytes', 'const b = new Uint8Array(65536); for (;;) crypto.getRandomValues(b)'],
    ['CPU-05 base64', `const s = btoa('x'.repeat(1e6)); for (;;) atob(s)`],
    ['CPU-07 host calls that are answered at once', `for (;;) await db.query('select 1').catch(() => 0)`],
    ['MEM-06 lines of log without end', `for (;;) console.log('x'.repeat(1e5))`],
  ])('%s', (_name, body) => endsAtTimeout(body, answerAll).then(() => undefined));
});

describe('the CPU limit', () => {
  it.each([
    ['CPU-01 an empty loop', 'for (;;);'],
    ['CPU-05 a native builtin', 'const a = new Float64Array(1e6); for (;;) a.sort()'],
    ['CPU-05 a side module', `const t = new TextEncoder(), s = '\\u00e9'.repeat(1e6); for (;;) t.encode(s)`],
    ['CPU-06 a regular expression', `/^(a+)+$/.test('a'.repeat(40) + 'b')`],
    ['CPU-07 promise jobs', 'for (;;) await 0'],
    [
      'CPU-07 timers',
      `const f = () => { for (let i = 0; i < 1e4; i++); setTimeout(f, 0) }; f(); await new Promise(() => {})`,
    ],
    ['CPU-11 the result', 'return { toJSON() { for (;;); } }'],
  ])('%s ends at the fuel that it may use', async (_name, body) => {
    const fuel = 60e6;
    const image = await runtime.handler(body);
    const ran = await runtime.run(image, { limits: { fuel, timeoutMs: 20_000 } });
    expect(ran).toMatchObject({ how: 'cpu', afterEnd: [] });
    // Each of the six modules may be a quantum of two million ahead.
    expect(ran.usage.fuel).toBeGreaterThan(fuel);
    expect(ran.usage.fuel).toBeLessThan(fuel + 13e6);
  });

  it('CPU-01 time that others had the thread is not billed', async () => {
    const spin = await runtime.handler('for (;;);');
    const spins = [1, 2, 3].map((n) => runtime.run(spin, { lane: `spin${n}`, limits: { timeoutMs: 300 } }));
    const usages = (await Promise.all(spins)).map(({ usage }) => usage);
    const billedMs = usages.reduce((sum, usage) => sum + usage.cpuMs, 0);
    expect(billedMs).toBeLessThanOrEqual(Math.max(...usages.map((usage) => usage.durationMs)) * 1.1);
  });

  it('CPU-12 short calls go on beside guests that spin, each in a lane of its own', async () => {
    const spin = await runtime.handler('for (;;);');
    const running: Execution[] = [];
    const onStart = (execution: Execution): void => void running.push(execution);
    const limits = { timeoutMs: 25_000 };
    const spins = Array.from({ length: 20 }, () => runtime.run(spin, { lane: 'spin', limits, onStart }));
    for (let n = 0; n < 15; n++) expect(await runtime.value(calm, { lane: 'calm', event: { n } })).toBe(n + 1);
    for (const execution of running) execution.end('canceled', '');
    const ends = await Promise.all(spins);
    expect(ends.map(({ how }) => how)).toEqual(Array(20).fill('canceled'));
    // A slice or two for each of its own; were each of the twenty to have its turn, there would be 20.
    const slices = ends.reduce((sum, { usage }) => sum + usage.fuel, 0) / QUANTUM_FUEL;
    expect(slices / 15).toBeLessThan(8);
  });
});

describe('the memory limit', () => {
  const memoryPages = 192;
  const memoryBytes = memoryPages * 65_536;

  it.each([
    ['MEM-01 buffers', 'const a = []; for (;;) a.push(new Uint8Array(1 << 20))'],
    ['MEM-01 one buffer', 'return new Uint8Array(1e9).length'],
    ['MEM-02 strings of a MiB', `const a = []; for (;;) a.push('x'.repeat(1 << 20) + a.length).toString()`],
    ['MEM-02 a map that grows', 'const m = new Map(); for (let i = 0; ; i++) m.set(i, i)'],
    ['MEM-02 properties of an object', `const o = {}; for (let i = 0; ; i++) o['k' + i] = i`],
    ['MEM-02 a chain of small objects, after an await', 'await 0; let a = null; for (;;) a = { a, b: new Array(100) }'],
    ['MEM-02 closures', 'let f = () => 1; for (;;) { const g = f; f = () => g }'],
    ['MEM-02 a Response', `return new Response('x'.repeat(3e7))`],
    ['MEM-04 a result of a gigabyte', `return 'x'.repeat(1e9 / 2).padEnd(1e9)`],
  ])('%s up to the limit ends the invocation', async (_name, body) => {
    const image = await runtime.handler(`if (event.calm) return 'calm'; ${body}`);
    const ran = await runtime.run(image, { limits: { memoryPages, timeoutMs: 20_000 } });
    expect(ran).toMatchObject({ how: 'memory', afterEnd: [] });
    expect(ran.usage.peakMemoryBytes).toBeLessThanOrEqual(memoryBytes);
    expect(await runtime.value(image, { event: { calm: true }, limits: { memoryPages } })).toBe('calm');
  });

  it('MEM-01 a guest that catches the lack of memory goes on with what it has', async () => {
    const image = await runtime.handler(`
      let got = 0;
      try { const keep = []; for (;;) { keep.push(new Uint8Array(1 << 20)); got++; } } catch (error) { return [error.name, got > 3] }`);
    expect(await runtime.value(image, { limits: { memoryPages } })).toEqual(['InternalError', true]);
  });

  it('MEM-01 an event that does not fit ends as out of memory', async () => {
    const image = await runtime.handler('return event.text.length');
    const event = { text: 'x'.repeat(12e6) };
    expect(await runtime.run(image, { event, limits: { memoryPages } })).toMatchObject({ how: 'memory' });
    expect(await runtime.value(image, { event: { text: 'abc' }, limits: { memoryPages } })).toBe(3);
  });

  it('ABI-06 an answer that does not fit ends as out of memory', async () => {
    const image = await runtime.handler(`return (await db.query('select 1')).rowCount`);
    const ran = await runtime.run(image, {
      limits: { memoryPages },
      onHostCall: (call) => call.answer(true, `{"rows":[["${'x'.repeat(12e6)}"]],"fields":[]}`),
    });
    expect(ran).toMatchObject({ how: 'memory', afterEnd: [] });
  });
});

describe('deep nesting and recursion', () => {
  it.each([
    ['MEM-03 a function that calls itself', 'const f = () => f() + 1; return f()', ['panic']],
    ['MEM-03 a getter that reads itself', 'const o = { get x() { return this.x } }; return o.x', ['panic']],
    ['MEM-03 a toString that calls itself', `const o = { toString() { return '' + o } }; return '' + o`, ['panic']],
    [
      'MEM-03 a chain of proxies',
      'let p = {}; for (let i = 0; i < 3e4; i++) p = new Proxy(p, {}); return p.x',
      ['panic'],
    ],
    [
      'MEM-03 a chain of bound functions',
      'let f = () => 1; for (let i = 0; i < 3e4; i++) f = f.bind(); return f()',
      ['panic', 'memory'],
    ],
    ['MEM-03 a generator that delegates to itself', 'function* g() { yield* g() } return [...g()]', ['panic']],
    [
      'MEM-03 a pattern nested deeply',
      `return new RegExp('(?:'.repeat(2e5) + ')'.repeat(2e5)).test('')`,
      ['panic', 'exception'],
    ],
    ['MEM-03 code nested deeply', `return eval('('.repeat(2e5) + ')'.repeat(2e5))`, ['panic', 'exception']],
    [
      'MEM-05 JSON text nested a million deep',
      `return JSON.parse('['.repeat(1e6) + ']'.repeat(1e6))`,
      ['panic', 'exception'],
    ],
    [
      'MEM-05 an array nested a hundred thousand deep',
      'let a = []; for (let i = 0; i < 1e5; i++) a = [a]; return a',
      ['invalid', 'panic'],
    ],
    [
      'MEM-05 a clone of an array nested deeply',
      'let a = []; for (let i = 0; i < 1e5; i++) a = [a]; return structuredClone(a)',
      ['panic', 'exception'],
    ],
    ['MEM-05 a result that contains itself', 'const a = {}; a.a = a; return a', ['invalid']],
    [
      'MEM-03 a toJSON that returns its like',
      'const f = () => ({ toJSON: f }); return f()',
      ['value', 'invalid', 'panic'],
    ],
  ])('%s ends with a typed error', async (_name, body, allowed) => {
    const image = await runtime.handler(`if (event.calm) return 'calm'; ${body}`);
    const ran = await runtime.run(image, { limits: { timeoutMs: 20_000 } });
    expect(allowed).toContain(ran.how);
    expect(ran.afterEnd).toEqual([]);
    expect(await runtime.value(image, { event: { calm: true } })).toBe('calm');
  });

  it('MEM-05 an event nested a hundred thousand deep is an error of the function, not of the host', async () => {
    const image = await runtime.handler('return 1');
    const deep = `${'['.repeat(1e5)}${']'.repeat(1e5)}`;
    const ran = await runtime.run(image, { event: { toJSON: () => ({ deep: 'DEEP' }) } });
    expect(ran.how).toBe('value');
    const nested = await runtime.handler(
      `try { JSON.parse(event.deep); return 'parsed' } catch (error) { return error.name }`,
    );
    expect(['value', 'panic']).toContain((await runtime.run(nested, { event: { deep } })).how);
  });
});

describe('results', () => {
  const maxResultBytes = 1024 * 1024;

  it.each([
    ['MEM-04 a string over the limit', `return 'x'.repeat(2e6)`],
    ['MEM-04 a body over the limit', `return { statusCode: 200, body: 'x'.repeat(2e6) }`],
    ['MEM-04 a body of bytes over the limit', 'return { statusCode: 200, body: new Uint8Array(2e6) }'],
    ['MEM-04 a Response over the limit', `return new Response('x'.repeat(2e6))`],
    ['MEM-04 an array of a million', 'return new Array(4e5).fill(12)'],
    ['MEM-04 two-byte text that is over the limit as UTF-8', `return '\\u4e2d'.repeat(4e5)`],
    ['MEM-04 text that escapes to more than the limit', `return '\\u0001'.repeat(3e5)`],
  ])('%s comes without its body', async (_name, body) => {
    const image = await runtime.handler(body);
    const { end } = await runtime.run(image, { limits: { maxResultBytes, timeoutMs: 20_000 } });
    expect(end).toMatchObject({ reason: 'finished', finish: { body: null } });
  });

  it('MEM-04 a result just within the limit comes whole', async () => {
    const image = await runtime.handler(`return 'x'.repeat(${maxResultBytes - 2})`);
    const ran = await runtime.run(image, { limits: { maxResultBytes } });
    expect([ran.how, ran.text.length]).toEqual(['value', maxResultBytes]);
  });

  it('MEM-04 headers over their limit come without them', async () => {
    const image = await runtime.handler(`return new Response('b', { headers: { a: 'x'.repeat(3e5) } })`);
    const { end } = await runtime.run(image);
    expect(end).toMatchObject({ reason: 'finished', finish: { meta: null } });
  });

  it('MEM-04 a message of a megabyte is cut', async () => {
    const image = await runtime.handler(`throw new Error('x'.repeat(1e6))`);
    const ran = await runtime.run(image);
    expect(ran.how).toBe('exception');
    expect(ran.text.length).toBeLessThan(20_000);
  });

  it.each([
    ['a toString that throws', 'throw { toString() { throw 1 }, toJSON() { throw 2 } }'],
    ['a name that throws', `throw Object.defineProperty(new Error('a'), 'name', { get() { throw 1 } })`],
    ['a code that throws', 'throw { get code() { throw 1 } }'],
    ['no prototype', 'throw Object.create(null)'],
    ['a symbol', `throw Symbol('a')`],
    ['a revoked proxy', 'const { proxy, revoke } = Proxy.revocable({}, {}); revoke(); throw proxy'],
    ['nothing', 'throw undefined'],
  ])('CPU-11 what is thrown with %s ends the invocation at once, as an error', async (_name, body) => {
    const image = await runtime.handler(body);
    expect(await runtime.run(image)).toMatchObject({ how: 'exception', reusable: true });
  });

  it.each([
    ['a BigInt', 'return 1n'],
    ['a function', 'return () => 1'],
    ['a symbol', `return Symbol('a')`],
    ['a toJSON that throws', 'return { toJSON() { throw { toString() { throw 1 } } } }'],
    ['a revoked proxy', 'const { proxy, revoke } = Proxy.revocable({}, {}); revoke(); return [proxy]'],
  ])('CPU-11 a result that is %s is invalid, and the invocation ends at once', async (_name, body) => {
    const image = await runtime.handler(body);
    expect(await runtime.run(image)).toMatchObject({ how: 'invalid', reusable: true });
  });
});

describe('floods through the door', () => {
  it.each([
    ['a million empty lines', `for (let i = 0; i < 1e6; i++) console.log('')`],
    ['lines of a hundred megabytes', `for (;;) console.log('x'.repeat(1e8))`],
    ['fields of megabytes', `const o = { a: 'x'.repeat(1e6) }; for (;;) log.info('m', o)`],
  ])('MEM-06 %s reach the host as no more than the log holds', async (_name, body) => {
    const image = await runtime.handler(body);
    const ran = await runtime.run(image, { limits: { timeoutMs: 400, memoryPages: 4_096 } });
    expect(ran.afterEnd).toEqual([]);
    expect(ran.casts.length).toBeLessThanOrEqual(1_100);
    expect(ran.casts.reduce((sum, cast) => sum + cast.length, 0)).toBeLessThanOrEqual(512 * 1024);
  });

  it('ABI-05 of thousands of host calls 32 are open at once, and those beyond a thousand are refused', async () => {
    const image = await runtime.handler(`
      const outcomes = {};
      const calls = [];
      for (let i = 0; i < 5_000; i++) calls.push(db.query('select 1').then(() => 'ok', (error) => error.name + ' ' + error.code));
      for (const outcome of await Promise.all(calls)) outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
      return outcomes`);
    const open: (() => void)[] = [];
    let most = 0;
    const ran = await runtime.run(image, {
      limits: { timeoutMs: 20_000 },
      onHostCall(call) {
        open.push(() => call.answer(true, '{"rows":[],"fields":[]}'));
        most = Math.max(most, open.length);
        // The last set is not full.
        if (open.length === 32 || call.callId === 1_000)
          setImmediate(() => {
            for (const answer of open.splice(0)) answer();
          });
      },
    });
    expect(most).toBe(32);
    expect(JSON.parse(ran.text)).toEqual({ ok: 1_000, 'LimitError HOST_CALL_LIMIT': 4_000 });
    expect(ran.usage.hostCalls).toBe(1_000);
  });

  it('ABI-05 arguments too large for one call are refused, and the guest goes on', async () => {
    const image = await runtime.handler(`return db.query('x'.repeat(17e6)).then(() => 'ok', (error) => error.code)`);
    expect(await runtime.value(image, { limits: { memoryPages: 4_096, timeoutMs: 20_000 } })).toBe(
      'HOST_CALL_TOO_LARGE',
    );
  });

  it('MEM-06 more than ten thousand timers end the invocation, and nothing of it comes after', async () => {
    const image = await runtime.handler(`
      for (let i = 0; i < 10_001; i++) setTimeout(() => {}, 1e6);
      for (let i = 0; i < 100; i++) { db.query('select 1'); setTimeout(() => {}, 1e6); console.log('x'); }
      return 1`);
    const ran = await runtime.run(image, { limits: { timeoutMs: 20_000 } });
    expect(ran).toMatchObject({ how: 'panic', reusable: false, afterEnd: [], hostCalls: [] });
  });

  it('ABI-02 a slice may end anywhere in a host call: ten thousand crossings of the door go well', async () => {
    const image = await runtime.handler(`
      for (let i = 0; i < 12_000; i++) clearTimeout(setTimeout(() => {}, 1e6));
      for (let i = 0; i < 900; i++) await db.query('select 1');
      return 'well'`);
    expect(await runtime.value(image, { ...answerAll, limits: { timeoutMs: 25_000 } })).toBe('well');
  });
});

describe('an end from outside', () => {
  it.each([
    ['waits', `await db.query('x')`, true],
    ['runs', 'for (;;);', false],
    ['makes promise jobs', 'for (;;) await 0', false],
    ['waits with an answer given', `context.waitUntil(db.query('x')); return 1`, true],
  ])('ISO-15 a guest that %s is canceled at once', async (_name, body, reusable) => {
    const image = await runtime.handler(body);
    const watch = new Stopwatch();
    const ran = await runtime.run(image, {
      limits: { timeoutMs: 25_000 },
      onStart: (execution) => setTimeout(() => execution.end('canceled', ''), 30),
    });
    watch.expectBelow(30 + LATE_MS * 2);
    expect(ran).toMatchObject({ how: 'canceled', reusable, afterEnd: [] });
  });

  it('ISO-15 one that has not had its first turn takes no sandbox', async () => {
    const before = runtime.pool.size;
    const image = await runtime.handler('return 1');
    const ran = await runtime.run(image, { onStart: (execution) => execution.end('canceled', '') });
    expect(ran).toMatchObject({ how: 'canceled', afterEnd: [] });
    expect(runtime.pool.size).toBe(before);
  });
});
