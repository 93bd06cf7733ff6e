/** What makes reuse by copying memory safe: nothing but memory changes, and all of it is set back. */

import { beforeAll, describe, expect, it } from 'vitest';
import { TopLevelAmbient } from '../../../runtime/ambient.ts';
import type { Image, Sandbox, SandboxPool } from '../../../runtime/index.ts';
import { buildEngineModule, createEngine, linkEngine } from '../../../runtime/javascript/engine.ts';
import { meter, SLACK_BYTES, trackWrites } from '../../../runtime/metering/index.ts';
import { MAP_ADDRESS, TRACKED_PAGE_BYTES } from '../../../runtime/snapshot/index.ts';
import { parseModule } from '../../../runtime/wasm/module-parser.ts';
import { scanCode } from './support/code-scan.ts';
import { type RunOptions, TestRuntime } from './support/sandboxes.ts';

describe('the code of the engine', () => {
  const linked = linkEngine();
  const module = parseModule(linked);
  const exported = new Map(module.exports.map(({ name, index }) => [name, index]));
  const metered = meter(trackWrites(linked, MAP_ADDRESS), { maxMemoryPages: 8_192 }).bytes;

  it.each([
    ['linked', linked],
    ['rewritten', metered],
  ])('MEM-09 %s, has no instruction that writes a table or uses up a segment', (_name, bytes) => {
    const { instructions, dataReaders, callees } = scanCode(bytes);
    expect(Object.keys(instructions)).toEqual(['memory.init']);
    // Only the function that loads the data before a VM is booted: an image's instance never runs it.
    const loader = exported.get('link.load_data') as number;
    expect([...dataReaders]).toEqual([loader]);
    expect(callees.has(loader) || module.referencedFunctions.has(loader)).toBe(false);
  });

  it('MEM-09 writes no global but the stack pointer, unless when an instance is made', () => {
    const { globalWriters, callees, start } = scanCode(linked);
    const functions = new Set(module.exports.filter(({ kind }) => kind === 'function').map(({ index }) => index));
    for (const [global, writers] of globalWriters) {
      if (global === exported.get('__stack_pointer')) continue;
      // The relocations of addresses, which the start function calls: nothing else can.
      for (const writer of writers) {
        expect(functions.has(writer) || module.referencedFunctions.has(writer)).toBe(false);
        expect([...(callees.get(writer) ?? [])]).toEqual([start]);
      }
    }
  });

  it('MEM-09 exports no mutable global but the stack pointer and two flags of the host', () => {
    const globals = module.exports.filter(({ kind, index }) => kind === 'global' && module.globals[index]?.mutable);
    const names = globals.map(({ name }) => name);
    expect(names.sort()).toEqual(['__stack_pointer', 'link.demanded', 'pump.stop']);
  });
});

/** Ways to leave a sandbox that may be used again, and some that may not. */
const ENDINGS: Readonly<
  Record<string, { top?: string; body: string; how: string; reusable: boolean; options?: RunOptions }>
> = {
  'a value': {
    body: `return { list: Array.from({ length: 500 }, () => 'MARKER' + event.n) }`,
    how: 'value',
    reusable: true,
  },
  'a Response': { body: `return new Response('MARKER', { headers: { a: 'MARKER' } })`, how: 'http', reusable: true },
  'an exception': { body: `throw new TypeError('MARKER')`, how: 'exception', reusable: true },
  'a result that can not be represented': {
    body: `const a = { MARKER: 1 }; a.a = a; return a`,
    how: 'invalid',
    reusable: true,
  },
  'an exhausted stack': { body: `const f = (n) => f(n + 'MARKER') + 1; return f('')`, how: 'panic', reusable: true },
  'a timeout while it waits': {
    body: `globalThis.MARKER = 'MARKER'; setInterval(() => {}, 1e6); db.query('MARKER'); await new Promise(() => {})`,
    how: 'time',
    reusable: true,
    options: { limits: { timeoutMs: 60 } },
  },
  'a timeout while it runs': {
    body: `globalThis.MARKER = 1; for (;;);`,
    how: 'time',
    reusable: false,
    options: { limits: { timeoutMs: 60 } },
  },
  'the CPU limit': { body: `for (;;);`, how: 'cpu', reusable: false, options: { limits: { fuel: 20e6 } } },
  'a cancellation while it waits': {
    body: `await db.query('MARKER')`,
    how: 'canceled',
    reusable: true,
    options: { onStart: (execution) => setTimeout(() => execution.end('canceled', ''), 20) },
  },
  'open calls, timers and chains of promises': {
    body: `
      const storm = () => Promise.resolve('MARKER').then(storm);
      storm(); storm();
      for (let i = 0; i < 40; i++) { db.query('MARKER' + i); setTimeout(() => {}, i); }
      return 1`,
    how: 'value',
    reusable: true,
  },
  'a walk through the builtins': {
    body: `
      const out = [];
      for (const name of Object.getOwnPropertyNames(globalThis)) {
        if (name === 'self' || name === 'globalThis') continue;
        const made = globalThis[name];
        for (const holder of [made, made?.prototype]) {
          if (holder === null || (typeof holder !== 'object' && typeof holder !== 'function')) continue;
          for (const key of Reflect.ownKeys(holder)) {
            if (key === 'waitUntil' || key === 'reportError') continue;
            for (const args of [[new Uint8Array(300).fill(7), 5], [[3, 1, 2], (x) => x]]) {
              try { out.push(String(holder[key](...args)).length); } catch (e) { out.push(String(e).length); }
              try { out.push(Object.keys(new holder[key](...args)).length); } catch (e) { out.push(1); }
            }
          }
        }
      }
      return out.length > 1000`,
    how: 'value',
    reusable: true,
    options: { limits: { timeoutMs: 15_000 } },
  },
  'strings, numbers and buffers of all sizes': {
    body: `
      const keep = [];
      for (let size = 1; size < 1 << 16; size = (size * 2.3 + 1) | 0) {
        const text = 'M\u00e9\u4e2d'.repeat(size);
        keep.push(text.split('').length, new TextEncoder().encode(text).length, BigInt('9'.repeat(Math.min(size, 2000))) ** 3n + '');
        const data = new DataView(new ArrayBuffer(size + 16));
        for (let at = 0; at < size; at += 61) { data.setFloat64(at, at / 3); data.setBigInt64(at + 1, -1n); data.setInt16(at + 3, 7); }
        keep.push(new Uint8Array(data.buffer).sort().toReversed().fill(9, 3), structuredClone(data), text.replace(/M/g, '$&$&').normalize('NFD').length);
        keep.push(Float64Array.from({ length: size & 4095 }, Math.random).sort(), new URL('http://a/' + size + '?' + 'x=y&'.repeat(size & 255)).href);
        if (keep.length > 40) keep.length = 7;
      }
      return keep.length`,
    how: 'value',
    reusable: true,
    options: { limits: { timeoutMs: 15_000 } },
  },
  'an event of many pages': {
    body: 'return event.text.length',
    how: 'value',
    reusable: true,
    options: { event: { text: 'MARKER'.repeat(40_000) } },
  },
  'an answer of many pages': {
    body: `return (await db.query('x')).length`,
    how: 'value',
    reusable: true,
    options: {
      onHostCall: (call) => call.answer(true, `{"rows":[],"fields":[],"x":"${'MARKER'.repeat(40_000)}"}`),
    },
  },
  'random bytes in a buffer of the image': {
    top: 'const bytes = new Uint8Array(65_536);',
    body: 'crypto.getRandomValues(bytes); return bytes.length',
    how: 'value',
    reusable: true,
  },
  'side modules in the middle of something': {
    body: `
      const td = new TextDecoder(); td.decode(new Uint8Array([0xe2, 0x82]), { stream: true });
      const u = new URL('http://MARKER.example/?a=b'); u.searchParams.append('MARKER', 'MARKER');
      const h = new Headers({ MARKER: 'MARKER' });
      const key = await crypto.subtle.generateKey({ name: 'HMAC', hash: 'SHA-256' }, true, ['sign']);
      const copy = structuredClone({ MARKER: [u.href, h.get('MARKER')], big: new Uint8Array(5000).fill(77) });
      crypto.subtle.digest('SHA-512', copy.big);
      return copy.MARKER`,
    how: 'value',
    reusable: true,
  },
  'patched builtins': {
    body: `
      Math.random = () => 4; Array.prototype.push = () => 'MARKER'; delete globalThis.Map;
      Object.freeze(Object.prototype); Object.defineProperty(globalThis, 'JSON', { value: 'MARKER', configurable: false });
      return 'MARKER'`,
    how: 'value',
    reusable: true,
  },
  'a memory limit that was reached': {
    body: `const a = []; for (;;) a.push(new Uint8Array(1 << 18).fill(77))`,
    how: 'memory',
    reusable: true,
    options: { limits: { memoryPages: 128 } },
  },
};

describe('a sandbox that goes back to the pool', () => {
  let runtime: TestRuntime;
  beforeAll(async () => {
    // Also those that grew are kept here: so their growth is seen to be cleared.
    runtime = (await TestRuntime.boot()).withPool({ maxGrowthBytes: 64 * 1024 * 1024 });
  });

  it.each(Object.entries(ENDINGS))(
    'MEM-09 is the image, byte for byte, after %s',
    async (_name, { top = '', body, how, reusable, options }) => {
      const image = await runtime.handler(body, top);
      let left: Sandbox | undefined;
      const before = runtime.pool.size;
      let missed: number[] = [];
      const ran = await runtime.run(image, {
        event: { n: 1 },
        ...options,
        onSandboxFree(sandbox, mayBeUsed) {
          left = sandbox;
          if (sandbox !== undefined && mayBeUsed) missed = unnotedWrites(sandbox, image);
        },
      });
      expect(missed).toEqual([]);
      expect(ran).toMatchObject({ how, reusable, afterEnd: [] });
      if (!reusable) {
        expect(runtime.pool.size).toBe(before);
        return;
      }
      const again = runtime.pool.acquire(image, NOBODY);
      expect(again).toBe(left);
      expectImage(again, image);
      runtime.pool.release(again, image, false);
    },
  );

  it('MEM-09 is the image after a hundred endings of all kinds, mixed', async () => {
    const image = await runtime.program(`
      const endings = [
        () => 'a', () => { throw 1 }, () => new Promise((r) => setTimeout(r, 1)), () => db.query('x'), () => ({ statusCode: 204 }),
        () => new Uint8Array(200_000).fill(1).length, () => { for (let i = 0; i < 100; i++) setTimeout(() => {}, i) },
      ];
      export const handler = (event) => endings[event.n % endings.length]();`);
    const sandboxes = new Set<Sandbox | undefined>();
    for (let n = 0; n < 100; n++) {
      await runtime.run(image, {
        event: { n },
        onHostCall: (call) => call.answer(n % 2 === 0, '{"rows":[],"fields":[],"message":"no"}'),
        onSandboxFree: (sandbox) => sandboxes.add(sandbox),
      });
    }
    expect(sandboxes.size).toBe(1);
    const again = runtime.pool.acquire(image, NOBODY);
    expectImage(again, image);
    runtime.pool.release(again, image, false);
  });

  it('MEM-09 is dropped, not cleared, when its memory grew further than the pool allows', async () => {
    const small = runtime.withPool({ maxGrowthBytes: 0 });
    const image = await small.handler(`globalThis.keep = new Uint8Array(event.bytes); return event.bytes`);
    await small.value(image, { event: { bytes: 10 } });
    expect(small.pool.size).toBe(1);
    await small.value(image, { event: { bytes: 8_000_000 } });
    expect(small.pool).toMatchObject({ size: 0, grownBytes: 0 });
    expect(await small.value(image, { event: { bytes: 20 } })).toBe(20);
  });

  it('ENG-07 a sandbox of one image never serves another', async () => {
    const mine = await runtime.handler(`globalThis.secret = 'MARKER'; return 1`);
    const theirs = await runtime.handler(`return typeof globalThis.secret`);
    const used: (Sandbox | undefined)[] = [];
    await runtime.value(mine, { onSandboxFree: (sandbox) => used.push(sandbox) });
    expect(await runtime.value(theirs, { onSandboxFree: (sandbox) => used.push(sandbox) })).toBe('undefined');
    expect(used[0]).not.toBe(used[1]);
  });

  it('MEM-08 beyond its number of sandboxes an invocation is overloaded, and the next one has room again', async () => {
    const few = runtime.withPool({ maxSandboxes: 8, maxIdle: 4 });
    const image = await few.handler(`if (event.wait) await db.query('x'); return 'done'`);
    const waiting: (() => void)[] = [];
    const onHostCall = (call: { answer(ok: boolean, payload: string): void }): void => {
      waiting.push(() => call.answer(true, '{"rows":[],"fields":[]}'));
    };
    const all = Array.from({ length: 50 }, () => few.run(image, { event: { wait: true }, onHostCall }));
    const refused = await Promise.race(all);
    expect(refused).toMatchObject({ how: 'overloaded' });
    expect(few.pool.size).toBe(8);
    for (const answer of waiting) answer();
    const ended = (await Promise.all(all)).map(({ how }) => how);
    expect(ended.filter((how) => how === 'value')).toHaveLength(8);
    expect(ended.filter((how) => how === 'overloaded')).toHaveLength(42);
    expect(await few.value(image)).toBe('done');
    expect(few.pool.size).toBeLessThanOrEqual(8);
  });

  it('MEM-08 guests that grow share a bound, and what they held is given back', async () => {
    const shared = runtime.withPool({ maxGrownBytes: 40 * 1024 * 1024, maxGrowthBytes: 0 });
    const image = await shared.handler(`
      globalThis.keep = new Uint8Array(event.bytes);
      if (event.wait) await db.query('x');
      return keep.length`);
    const asked = Promise.withResolvers<() => void>();
    const first = shared.run(image, {
      event: { bytes: 30e6, wait: true },
      onHostCall: (call) => asked.resolve(() => call.answer(true, '{"rows":[],"fields":[]}')),
    });
    const goOn = await asked.promise;
    expect(await shared.run(image, { event: { bytes: 30e6 } })).toMatchObject({ how: 'overloaded' });
    expect(await shared.value(image, { event: { bytes: 1e6 } })).toBe(1e6);
    goOn();
    expect(await first).toMatchObject({ how: 'value' });
    expect(await shared.value(image, { event: { bytes: 30e6 } })).toBe(30e6);
    expect(shared.pool.grownBytes).toBe(0);
  });

  it('MEM-08 growth that was allowed and that V8 then refused is not held against the guests that come after', async () => {
    const { pool } = runtime.withPool({ maxGrownBytes: 40 * 1024 * 1024 });
    const image = await runtime.handler('return 1');
    const pages = (30 * 1024 * 1024) / 65_536;
    // What a growth looks like that the engine refuses: allowed, and the memory stays as it is.
    for (const reusable of [true, true, false]) {
      const sandbox = pool.acquire(image, NOBODY);
      for (let tries = 0; tries < 3; tries++) expect(pool.mayGrow(sandbox, pages)).toBe(true);
      pool.release(sandbox, image, reusable);
      expect(pool.grownBytes).toBe(0);
    }
    const grown = pool.acquire(image, NOBODY);
    expect(pool.mayGrow(grown, 16)).toBe(true);
    grown.instance.memory.grow(16);
    expect(pool.mayGrow(grown, 2 * pages)).toBe(false);
    expect(pool.grownBytes).toBe(16 * 65_536);
    pool.release(grown, image, true);
    // It is kept with what it grew, and so is the count, until it is dropped.
    expect(pool).toMatchObject({ size: 1, grownBytes: 16 * 65_536 });
    pool.forget(image);
    expect(pool).toMatchObject({ size: 0, grownBytes: 0 });
  });

  it('ISO-15 a sandbox that was killed can not be restored', async () => {
    const image = await runtime.handler('for (;;);');
    let killed: Sandbox | undefined;
    await runtime.run(image, { limits: { timeoutMs: 40 }, onSandboxFree: (sandbox) => (killed = sandbox) });
    expect(() => killed?.restore(image)).toThrow();
  });

  it('a fresh sandbox and a used one give the same answer for the same fuel', async () => {
    const fresh = runtime.withPool({});
    const image = await fresh.handler(`return JSON.parse(JSON.stringify(event)).list.map((x) => x * 2)`);
    const runs = [];
    for (let n = 0; n < 3; n++) runs.push(await fresh.run(image, { event: { list: [1, 2, 3] } }));
    expect(new Set(runs.map(({ text }) => text))).toEqual(new Set(['[2,4,6]']));
    expect(new Set(runs.map(({ usage }) => usage.fuel)).size).toBe(1);
  });
});

/** A pool's sandbox without an invocation. */
const NOBODY: Parameters<SandboxPool['acquire']>[1] = {
  onOutOfFuel: () => 'kill',
  onYield: () => Promise.resolve('kill'),
  onGrow: () => false,
  onDoor: () => undefined,
  ambient: new TopLevelAmbient(),
};

/** Addresses (one a page) that differ from the image and that the reset would not look at. */
function unnotedWrites(sandbox: Sandbox, image: Image): number[] {
  const { bytes } = sandbox.instance;
  const expected = memoryOf(sandbox, image);
  const noted = (page: number): boolean => page >= 0 && bytes[MAP_ADDRESS + page] !== 0;
  const pages = bytes.length / TRACKED_PAGE_BYTES;
  const mapPages = [MAP_ADDRESS, MAP_ADDRESS + pages].map((address) => Math.floor(address / TRACKED_PAGE_BYTES));
  const missed: number[] = [];
  for (let page = 0; page < pages; page++) {
    const isMap = page >= (mapPages[0] as number) && page <= (mapPages[1] as number);
    if (isMap || noted(page)) continue;
    const start = page * TRACKED_PAGE_BYTES + (noted(page - 1) ? SLACK_BYTES : 0);
    const end = (page + 1) * TRACKED_PAGE_BYTES;
    const was = expected.subarray(start, end);
    if (was.equals(bytes.subarray(start, end))) continue;
    missed.push(start + was.findIndex((byte, index) => byte !== bytes[start + index]));
  }
  return missed;
}

const TABLES = createEngine({ id: '', module: buildEngineModule(), prelude: '', parts: {} }).tables;

/** The image as this sandbox has it: where nothing has asked for the engine's tables, zeros may stand in their place. */
function memoryOf({ instance }: Sandbox, image: Image): Buffer {
  const expected = Buffer.alloc(instance.bytes.length);
  for (const { start, bytes } of image.spans) expected.set(bytes, start);
  if (instance.hasTables.value !== 0) return expected;
  for (let at = TABLES[0]; at < TABLES[1]; at++) if (instance.bytes[at] === 0) expected[at] = 0;
  return expected;
}

function expectImage(sandbox: Sandbox, image: Image): void {
  const { instance } = sandbox;
  const expected = memoryOf(sandbox, image);
  const actual = Buffer.from(instance.bytes);
  expect(Buffer.compare(actual, expected)).toBe(0);
  expect(instance.stackPointer.value).toBe(image.stackPointer);
  expect(instance.pump.stop.value).toBe(0);
  expect(instance.meter.fuelUsed).toBe(0);
  expect(instance.meter.growFailed).toBe(false);
}
