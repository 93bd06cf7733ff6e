/**
 * The one way out of the sandbox. The prelude takes it away from user code; nothing of the host may depend on that. So
 * here a guest has kept it, and says through it whatever it likes.
 */

import fc from 'fast-check';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { Image } from '../../../runtime/index.ts';
import { type Ran, TestRuntime } from './support/sandboxes.ts';

/** Numbers of the door (`runtime/javascript/guest/door.ts`). */
const [CALL, CAST, SET_TIMER, CLEAR_TIMER, FINISH, RELEASE] = [1, 2, 3, 4, 5, 6] as const;
const [VALUE, HTTP, EXCEPTION, HELD] = [1, 2, 3, 16] as const;

let runtime: TestRuntime;
let calm: Image;
beforeAll(async () => {
  runtime = await TestRuntime.boot({
    changePrelude: (source) => `globalThis.door = globalThis.__postern_host;${source}`,
  });
  calm = await runtime.handler('return event.n + 1');
});
afterEach(async () => {
  expect(await runtime.value(calm, { event: { n: 1 } })).toBe(2);
});

function activeTimers(): number {
  return process.getActiveResourcesInfo().filter((resource) => resource === 'Timeout').length;
}

async function withDoor(body: string, limits = {}): Promise<Ran> {
  const image = await runtime.handler(`if (event.calm) return 'calm'; ${body}`);
  const ran = await runtime.run(image, { limits: { timeoutMs: 1_000, ...limits } });
  // What comes after the end would be a message for an invocation that the node has forgotten: it kills executors for it.
  expect(ran.afterEnd).toEqual([]);
  expect(await runtime.value(image, { event: { calm: true } })).toBe('calm');
  return ran;
}

describe('a guest that holds the raw door', () => {
  it.each([
    ['no arguments', 'door()'],
    ['an operation that there is not', 'door(99)'],
    ['NaN', 'door(NaN)'],
    ['an object with a toString', `door({ toString: () => '1', valueOf: () => 1 }, 'db.query', '{}')`],
    ['a boolean', `door(true, 'db.query', '{}')`],
    ['a string for the operation', `door('1', 'db.query', '{}')`],
    ['a BigInt', `door(1n, 'db.query', '{}')`],
    ['a call without a payload', `door(${CALL}, 'db.query')`],
    ['a call with an object for a payload', `door(${CALL}, 'db.query', { toString: () => '{}' })`],
    ['a call with a symbol for its name', `door(${CALL}, Symbol('x'), '{}')`],
    ['a call whose name is too long', `door(${CALL}, 'x'.repeat(65), '{}')`],
    ['a cast without anything', `door(${CAST})`],
    ['a finish of a kind that there is not', `door(${FINISH}, 7, '', '')`],
    ['a finish without a kind', `door(${FINISH})`],
    ['a finish of a fractional, negative kind', `door(${FINISH}, -1.5, '', '')`],
    ['a finish of kind 1e300', `door(${FINISH}, 1e300, '', '')`],
  ])('ABI-03 %s ends its own invocation, as a panic', async (_name, body) => {
    const timersBefore = activeTimers();
    const ran = await withDoor(
      `${body}; for (let i = 0; i < 50; i++) { door(${CALL}, 'db.query', '{}'); door(${SET_TIMER}, i, 1e6); door(${CAST}, 'log', '{}'); } return 1`,
    );
    expect(ran).toMatchObject({ how: 'panic', reusable: false, hostCalls: [], casts: [] });
    // A timer that stayed would hold the sandbox for as long as the guest has asked.
    expect(activeTimers()).toBeLessThanOrEqual(timersBefore);
  });

  it.each([
    [
      'a finish twice: the first counts',
      `door(${FINISH}, ${VALUE}, '', '"first"'); door(${FINISH}, ${VALUE}, '', '"second"'); return 'third'`,
      '"first"',
    ],
    ['a finish with numbers in it that wrap', `door(${FINISH}, 2 ** 32 + ${VALUE}, '', '"wrapped"')`, '"wrapped"'],
    ['a release without a finish', `door(${RELEASE}); return 'fine'`, '"fine"'],
    [
      'a release before and after',
      `door(${RELEASE}); door(${FINISH}, ${VALUE}, '', '1'); door(${RELEASE}); door(${RELEASE})`,
      '1',
    ],
    [
      'timers with impossible numbers',
      `for (const n of [NaN, -1, 1e300, -0, Infinity, {}, 'x', null]) { door(${SET_TIMER}, n, n); door(${CLEAR_TIMER}, n); } return 'fine'`,
      '"fine"',
    ],
    [
      'timers that were never set, firing',
      `door(${SET_TIMER}, 12345, 1); await new Promise((r) => setTimeout(r, 10)); return 'fine'`,
      '"fine"',
    ],
    ['too many arguments', `door(${CAST}, 'log', '{}', ...new Array(60_000).fill(1)); return 'fine'`, '"fine"'],
    ['calls after the finish', `door(${FINISH}, ${VALUE}, '', '2'); return [door(${CALL}, 'db.query', '{}')]`, '2'],
    [
      'a finish with kinds of strings that are not UTF-8',
      `door(${FINISH}, ${VALUE}, '\\ud800', '"\\ud800\\0"')`,
      undefined,
    ],
  ])('ABI-02 %s', async (_name, body, text) => {
    const ran = await withDoor(body);
    expect(ran.how).toBe('value');
    if (text !== undefined) expect(ran.text).toBe(text);
    expect(ran.hostCalls).toEqual([]);
  });

  it('ABI-02 an answer held for ever ends at the timeout, answered', async () => {
    const ran = await withDoor(`door(${FINISH}, ${VALUE | HELD}, '', '1'); await new Promise(() => {})`, {
      timeoutMs: 60,
    });
    expect(ran).toMatchObject({ how: 'time', reusable: true });
    expect(ran.answered?.body?.toString()).toBe('1');
  });

  it('ABI-02 an answer is given once, however often it is given', async () => {
    const ran = await withDoor(
      `for (let i = 0; i < 100; i++) door(${FINISH}, ${HTTP | HELD}, '{"n":' + i + '}', ''); door(${RELEASE});`,
    );
    expect(ran.answered?.meta?.toString()).toBe('{"n":0}');
    expect(ran.how).toBe('http');
  });

  it('ABI-02 a guest that finishes and goes on ends at the timeout', async () => {
    const ran = await withDoor(`door(${FINISH}, ${VALUE}, '', '1'); for (;;);`, { timeoutMs: 60 });
    expect(ran.how).toBe('time');
  });

  it('ABI-02 the door used inside of what the host calls back: settle, timers, then, toJSON, getters', async () => {
    const image = await runtime.handler(`
      const poke = () => { door(${SET_TIMER}, 7, 1e6); door(${CLEAR_TIMER}, 7); door(${CAST}, 'log', '{"level":"info","message":"x"}'); };
      db.query('x').then(poke);
      setTimeout(poke, 1);
      await new Promise((r) => setTimeout(r, 10));
      return { toJSON() { poke(); return { get a() { poke(); return 1 } } } };`);
    const ran = await runtime.run(image, { onHostCall: (call) => call.answer(true, '{"rows":[],"fields":[]}') });
    expect([ran.how, ran.text, ran.casts.length]).toEqual(['value', '{"a":1}', 4]);
  });

  it('ABI-02 at the top level the door does nothing', async () => {
    const image = await runtime.program(`
      const said = [door(${CALL}, 'db.query', '{}'), door(${CAST}, 'log', '{}'), door(${SET_TIMER}, 1, 1), door(${FINISH}, ${VALUE}, '', '1'), door(${RELEASE}), door(99)];
      export const handler = () => said;`);
    const ran = await runtime.run(image);
    expect(JSON.parse(ran.text)).toEqual([-1, null, null, null, null, null]);
    expect(ran).toMatchObject({ hostCalls: [], casts: [], answered: undefined });
  });

  it('ABI-05 calls through the raw door are capped as those of the prelude', async () => {
    const ran = await withDoor(
      `const ids = []; for (let i = 0; i < 5_000; i++) ids.push(door(${CALL}, 'db.query', '{}')); return [Math.max(...ids), ids.filter((id) => id < 0).length]`,
    );
    expect(JSON.parse(ran.text)).toEqual([1_000, 4_000]);
    expect(ran.hostCalls).toHaveLength(32);
  });

  it('ABI-05 payloads that wait are bounded in bytes', async () => {
    const ran = await withDoor(
      `const big = 'x'.repeat(8e6); const ids = []; for (let i = 0; i < 40; i++) ids.push(door(${CALL}, 'db.query', i < 32 ? '{}' : big)); return ids.filter((id) => id === -2).length`,
      { timeoutMs: 20_000, memoryPages: 4_096 },
    );
    expect(JSON.parse(ran.text)).toBe(4);
  });

  it('MEM-06 casts through the raw door are capped in number and bytes', async () => {
    const many = await withDoor(`for (let i = 0; i < 20_000; i++) door(${CAST}, 'log', 'x'); return 1`, {
      timeoutMs: 20_000,
    });
    expect(many.casts).toHaveLength(1_100);
    const large = await withDoor(`for (let i = 0; i < 10; i++) door(${CAST}, 'log', 'x'.repeat(1e5)); return 1`);
    expect(large.casts).toHaveLength(5);
  });

  it('ABI-01 an error through the raw door may not be told from an engine failure without one', async () => {
    const ran = await withDoor(
      `door(${FINISH}, ${EXCEPTION}, '{"name":"InternalError","message":"out of memory"}', '')`,
    );
    // Claimed, but the memory never failed to grow: an error like any other.
    expect(ran.how).toBe('exception');
  });

  it('ABI-07 random conversations harm nobody', { timeout: 30_000 }, async () => {
    const image = await runtime.program(`
      const build = (arg) => {
        if (arg === null || typeof arg !== 'object') return arg;
        switch (arg.special) {
          case 'NaN': return NaN;
          case 'Infinity': return -Infinity;
          case 'undefined': return undefined;
          case 'symbol': return Symbol('a');
          case 'bigint': return 7n;
          case 'trap': return { toString() { door(5, 1, '', '"from a toString"'); return 'x' }, valueOf() { for (;;); } };
          case 'door': return door;
          case 'long': return 'x'.repeat(arg.length);
          case 'surrogate': return '\\ud800'.repeat(arg.length);
          default: return arg;
        }
      };
      export async function handler(event) {
        for (const args of event.steps) {
          if (args === 'await') await 0;
          else if (args === 'timer') await new Promise((r) => setTimeout(r, 0));
          else door(...args.map(build));
        }
        return 'done';
      }`);
    const arg = fc.oneof(
      { weight: 6, arbitrary: fc.integer({ min: -1, max: 20 }) },
      fc.double(),
      fc.constantFrom('', '{}', 'db.query', 'log', '"x"', '__proto__', 'constructor'),
      fc.string(),
      fc.constantFrom(null, true, false),
      fc.record({
        special: fc.constantFrom(
          'NaN',
          'Infinity',
          'undefined',
          'symbol',
          'bigint',
          'trap',
          'door',
          'long',
          'surrogate',
          'object',
        ),
        length: fc.integer({ min: 0, max: 300_000 }),
      }),
    );
    const operation = fc.oneof({ weight: 8, arbitrary: fc.integer({ min: 1, max: 6 }) }, arg);
    const step = fc.oneof(
      {
        weight: 8,
        arbitrary: fc.tuple(operation, fc.array(arg, { maxLength: 5 })).map(([first, rest]) => [first, ...rest]),
      },
      fc.constantFrom('await' as const, 'timer' as const),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 30 }), async (steps) => {
        const ran = await runtime.run(image, {
          event: { steps },
          limits: { timeoutMs: 300 },
          onHostCall: (call) => call.answer(call.callId % 2 === 0, '{"message":"x"}'),
        });
        expect(ran.afterEnd).toEqual([]);
        expect(['value', 'http', 'status', 'exception', 'invalid', 'panic', 'time']).toContain(ran.how);
      }),
      { numRuns: 120 },
    );
  });
});

describe('user code of an ordinary guest', () => {
  let ordinary: TestRuntime;
  beforeAll(async () => {
    ordinary = await TestRuntime.boot();
  });

  /** Walks everything that can be reached and reports a native function of the door's name. */
  const WALK = `
    const seen = new Set(); const found = [];
    const names = (x) => { try { return Reflect.ownKeys(x) } catch { return [] } };
    const walk = (root, path) => {
      const todo = [[root, path]];
      while (todo.length > 0) {
        const [x, at] = todo.pop();
        if (x === null || (typeof x !== 'object' && typeof x !== 'function') || seen.has(x)) continue;
        seen.add(x);
        if (typeof x === 'function') { try { if (x.name === 'door' || String(x.name).includes('postern')) found.push(at) } catch {} }
        for (const key of names(x)) {
          let d; try { d = Object.getOwnPropertyDescriptor(x, key) } catch { continue }
          const to = at + '.' + String(key);
          if (d === undefined) continue;
          if ('value' in d) todo.push([d.value, to]); else { todo.push([d.get, to + ' get'], [d.set, to + ' set']) }
        }
        try { todo.push([Object.getPrototypeOf(x), at + ' proto']) } catch {}
      }
    };`;

  it('ISO-10 reaches the door neither from the global object nor from what it is handed', async () => {
    const image = await ordinary.handler(`${WALK}
      for (const name of ['Blob', 'Event', 'ReadableStream', 'AbortController', 'FormData']) try { new globalThis[name]('x') } catch {}
      walk(globalThis, 'globalThis'); walk(event, 'event'); walk(context, 'context'); walk(await db.query('x'), 'rows');
      try { await db.query(1) } catch (e) { walk(e, 'error') }
      return { found, seen: seen.size > 300 }`);
    const ran = await ordinary.run(image, {
      limits: { timeoutMs: 20_000 },
      onHostCall: (call) => call.answer(true, '{"rows":[],"fields":[]}'),
    });
    expect(ran.text).toBe('{"found":[],"seen":true}');
  });

  it('ISO-10 does not get it from the frames of a stack, wherever an error is made', async () => {
    const image = await ordinary.handler(`${WALK}
      let frames = 0;
      Error.prepareStackTrace = (error, sites) => {
        for (const site of sites) {
          frames++;
          for (const key of names(Object.getPrototypeOf(site))) {
            try { walk(site[key](), 'site.' + String(key)) } catch {}
          }
        }
        return 'mine';
      };
      const provoke = () => new Error('x').stack;
      console.log({ get a() { provoke(); return 1 }, toJSON() { provoke(); return {} } });
      log.info({ toString() { provoke(); return 'x' } });
      setTimeout(provoke, 1); queueMicrotask(provoke);
      db.query('x', [{ toJSON() { provoke(); return 1 } }, new Date(0)]).catch(provoke).then(provoke);
      try { db.query('\\u00e9'.repeat(3e7)).catch(provoke) } catch { provoke() }
      const f = () => f() + 1; try { f() } catch (e) { e.stack }
      for (const bad of [() => new URL('no'), () => setTimeout(1), () => fetch({ get url() { provoke(); return 'x' } }), () => crypto.getRandomValues(1), () => structuredClone(f), () => atob('*')]) {
        try { const r = bad(); r?.catch?.((e) => e.stack) } catch (e) { e.stack }
      }
      await new Promise((r) => setTimeout(r, 20));
      return { found, frames: frames > 5, toJSON() { provoke(); return { found, frames: frames > 5 } } }`);
    const ran = await ordinary.run(image, {
      limits: { timeoutMs: 20_000, memoryPages: 2_048 },
      onHostCall: (call) => call.answer(call.callId % 2 === 0, '{"rows":[],"fields":[],"message":"m"}'),
    });
    expect(ran.text).toBe('{"found":[],"frames":true}');
  });

  const SPIES = `
    const { log: shout } = console;
    const suspect = (x) => typeof x === 'function' && (x.name === 'door' || x.name === '__postern_host');
    const apply = Reflect.apply, construct = Reflect.construct, keys = Reflect.ownKeys, define = Object.defineProperty, describe = Object.getOwnPropertyDescriptor;
    let watching = false, spied = 0;
    const watch = (where, self, values) => {
      if (!watching) return;
      watching = false;
      if (spied++ === 0) shout('SPIED');
      for (let i = -1; i < values.length; i++) if (suspect(i < 0 ? self : values[i])) shout('CAUGHT in ' + where);
      watching = true;
    };`;
  const PROBES = `
    watching = true;
    for (const probe of [
      () => console.log('x', { a: 1 }), () => log.info('x', { a: 1 }), () => setTimeout(() => {}, 1), () => clearTimeout(1),
      () => db.query('x', [1, 'a', new Date(0), { a: 1n }]), () => fetch('http://a/', { headers: { a: 'b' }, body: 'x', method: 'POST' }), () => env('x'),
      () => crypto.randomUUID(), () => new Blob(['x']).text(), () => new Response('x').json(), () => structuredClone([1]), () => context.waitUntil(1), () => db.query(1),
    ]) try { probe()?.catch?.(() => {}) } catch {}`;

  it.each([
    [
      'every builtin',
      `
      const spy = (holder, key) => {
        const d = describe(holder, key);
        if (d === undefined || !d.configurable || typeof d.value !== 'function' || key === 'constructor') return;
        const original = d.value;
        const mine = function (...args) {
          watch(String(key), this, args);
          return new.target ? construct(original, args, new.target === mine ? original : new.target) : apply(original, this, args);
        };
        mine.prototype = original.prototype;
        define(holder, key, { ...d, value: mine });
      };
      const classes = [Function, Array, Map, Set, WeakMap, WeakSet, Promise, RegExp, String, Number, Date, Error, Symbol, Uint8Array, Headers, URL, TextEncoder, TextDecoder, Request, Response];
      for (const c of classes) for (const holder of [c.prototype, c]) for (const key of keys(holder)) try { spy(holder, key) } catch {}
      for (const o of [JSON, Object, Math, Reflect]) for (const key of keys(o)) try { spy(o, key) } catch {}`,
    ],
    [
      'the prototype of all objects',
      `
      for (const key of ['then', 'name', 'resolve', 'reject', 'level', 'toJSON', 'headers', 'body', 'call', 'what', 'op', 'handler', 'fetch', '0', '1', '2', Symbol.toPrimitive, Symbol.iterator]) {
        define(Object.prototype, key, {
          configurable: true,
          get() { watch('get ' + String(key), this, []); return undefined },
          set(value) { watch('set ' + String(key), this, [value]); define(this, key, { value, writable: true, configurable: true, enumerable: true }) },
        });
      }
      for (let i = 0; i < 30; i++) ({}).then;`,
    ],
  ])('ISO-10 does not get it by putting itself in the place of %s', async (_name, spies) => {
    const image = await ordinary.handler(`${SPIES}${spies}${PROBES}`);
    // It may break itself by that, in any way. What it must not do is come by the door.
    const ran = await ordinary.run(image, {
      limits: { timeoutMs: 500 },
      onHostCall: (call) => call.answer(true, '{"rows":[],"fields":[]}'),
    });
    expect(ran.afterEnd).toEqual([]);
    expect(ran.casts.join('\n')).toContain('SPIED');
    expect(ran.casts.join('\n')).not.toContain('CAUGHT');
  });
});
