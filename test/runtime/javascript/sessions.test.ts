/** An invocation that goes on from the memory of an earlier one: it finds what that kept, and nothing else. */

import { zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { beforeAll, describe, expect, it } from 'vitest';
import type { Image } from '../../../runtime/index.ts';
import { decodeSession, putSessionMemory } from '../../../runtime/snapshot/index.ts';
import { type Ran, type RunOptions, TestRuntime } from './support/sandboxes.ts';

let runtime: TestRuntime;
let image: Image;
/** Evaluates `event.code` in the global scope. */
const EVALUATE = `export const handler = async (event, context) => (globalThis.context = context, await (0, eval)(event.code))`;
const MEMORY_BYTES = 64 * 2 ** 20;
beforeAll(async () => {
  runtime = await TestRuntime.boot();
  image = await runtime.program(EVALUATE);
});

const run = (code: string, session: RunOptions['session'] = 'new', more: RunOptions = {}): Promise<Ran> =>
  runtime.run(image, { ...more, session, event: { code, ...(more.event as object) } });

/** The image that a run leaves, which has to end well. */
async function leftBy(code: string, session?: RunOptions['session'], more?: RunOptions): Promise<Uint8Array> {
  const ran = await run(code, session, more);
  if (ran.image === undefined) throw new Error(`${code} ended as ${ran.how}: ${ran.text}`);
  return ran.image;
}

/** The memory that a run with this session begins with. */
async function memoryOf(stored: Uint8Array): Promise<Buffer> {
  const session = await decodeSession(stored, runtime.sessionBase(image), MEMORY_BYTES);
  const memory = Buffer.from(new ArrayBuffer(session.memoryBytes));
  memory.set(image.flat);
  await putSessionMemory(session, memory);
  return memory;
}

const answerRows = (text: string): RunOptions => ({
  onHostCall: (call) => call.answer(true, `{"rows":[["${text}"]],"fields":[["a","text"]],"rowCount":1}`),
});

it('a run finds globals, functions, classes and promises as the last one left them', async () => {
  let left = await leftBy(
    'var count = 1; function next() { return ++count } class Point { x = 3 }; globalThis.Point = Point; 1',
  );
  left = await leftBy(
    'globalThis.later = Promise.resolve(next()); new Map([[1, next()]]); globalThis.point = new Point()',
    left,
  );
  const ran = await run('later.then((value) => [value, next(), point instanceof Point, point.x])', left);
  expect(JSON.parse(ran.text)).toEqual([2, 4, true, 3]);
});

it('one image can be gone on from many times, and each branch is its own', async () => {
  const left = await leftBy('var list = [1]');
  const branches = await Promise.all(['list.push(2)', 'list.push(3, 4)'].map((code) => leftBy(code, left)));
  const lists = [...branches, left].map(async (session) => (await run('list', session)).text);
  expect(await Promise.all(lists)).toEqual(['[1,2]', '[1,3,4]', '[1]']);
});

it('what is stored is what the code kept: a few kilobytes, and no more after many runs', async () => {
  let left = await leftBy('var count = 0; const total = () => ++count; globalThis.total = total; 1');
  const first = left.length;
  for (let n = 0; n < 40; n++) left = await leftBy('total()', left, { event: { text: 'x'.repeat(10_000) } });
  expect((await run('total()', left)).text).toBe('41');
  expect(first).toBeLessThan(24 * 1024);
  expect(left.length).toBeLessThan(first + 16 * 1024);
});

it('SES-01 a sandbox is kept for its function and not for the session, and holds nothing of it', async () => {
  const marker = 'kept-by-the-session-91c2';
  const few = runtime.withPool({});
  const session = { event: { code: `globalThis.kept = ${JSON.stringify(marker)} + 1` }, session: 'new' as const };
  for (let n = 0; n < 5; n++) await few.run(image, session);
  expect(few.pool.size).toBe(1);
  await few.run(image, {
    event: { code: 'typeof kept' },
    onSandboxFree: (sandbox) => expect(Buffer.from(sandbox?.instance.bytes ?? []).includes(marker)).toBe(false),
  });
});

describe('SES-01 no image has what the code did not keep', () => {
  const canary = (name: string): string => `${name}-canary-0123456789abcdef`;
  const kept = canary('kept');
  const gone = ['event', 'secret', 'answer', 'computed', 'thrown', 'request'].map(canary);
  const options: RunOptions = {
    event: { other: canary('event'), list: Array(50).fill(canary('event')) },
    meta: { env: { SECRET: canary('secret') }, requestId: canary('request') },
    ...answerRows(canary('answer')),
  };

  it.each([
    ['a value', '1'],
    ['variables that were read', `env('SECRET').length + context.env.SECRET.length`],
    ['a host call that was answered', `db.query('select 1').then((rows) => rows[0].a.length)`],
    ['a timer that is open', `setTimeout((secret) => secret, 60_000, env('SECRET')); 1`],
    [
      'jobs that are left',
      `(async () => { const secret = env('SECRET'); await null; await null; await db.query(secret) })(); 1`,
    ],
    ['text that was made', `['comp', 'uted', '-canary-', '0123456789abcdef'].join('').repeat(3).length`],
    [
      'work behind the answer',
      `const secret = env('SECRET'); context.waitUntil(new Promise((done) => setTimeout(done, 1, secret))); 1`,
    ],
    ['an error that was caught', `try { throw new Error(['thro', 'wn-canary-0123456789abcdef'].join('')) } catch {} 1`],
    ['rejections', `Promise.reject(new Error(env('SECRET'))); 1`],
    ['the environment of packages', `structuredClone({ a: env('SECRET') }).a.length`],
  ])('%s', async (_name, code) => {
    const stored = await leftBy(`globalThis.mine = ${JSON.stringify(kept)}; { ${code} }`, 'new', options);
    const memory = await memoryOf(stored);
    expect(memory.includes(kept)).toBe(true);
    for (const text of gone) {
      expect([text, memory.includes(text)]).toEqual([text, false]);
      expect([text, memory.includes(Buffer.from(text, 'utf16le'))]).toEqual([text, false]);
    }
    const ran = await run('mine', stored);
    expect(ran).toMatchObject({ how: 'value', text: JSON.stringify(kept) });
  });
});

describe('what was under way is forgotten', () => {
  it('host calls that nobody answered, whose ids are the next run’s', async () => {
    const left = await leftBy(`globalThis.seen = []; db.query('old').then((rows) => seen.push(rows.length)); 1`);
    const ran = await run(`db.query('new').then((rows) => [rows[0].a, seen])`, left, answerRows('answered'));
    expect(ran).toMatchObject({ how: 'value', text: '["answered",[]]' });
    expect(ran.hostCalls.map(({ callId }) => callId)).toEqual([1]);
  });

  it('timers, which a run with timers of its own does not meet', async () => {
    const left = await leftBy(`globalThis.fired = []; globalThis.old = setTimeout(() => fired.push('old'), 1); 1`);
    const code = `new Promise((done) => { setTimeout(() => done(fired), 5); clearTimeout(old); })`;
    expect((await run(code, left)).text).toBe('[]');
  });

  it('work behind an answer is awaited, and what an earlier run held back holds back no later one', async () => {
    const work = `context.waitUntil(new Promise((done) => setTimeout(() => { globalThis.worked = true; done() }, 5)))`;
    const left = await leftBy(`globalThis.free = undefined; ${work}; 1`);
    expect((await run('worked', left)).text).toBe('true');
    const cut = await run(`context.waitUntil(new Promise(() => {})); 1`, left, { limits: { timeoutMs: 60 } });
    expect(cut).toMatchObject({ how: 'time', image: undefined });
  });

  it('variables: those of one run are not those of the next', async () => {
    const left = await leftBy(`env('NAME')`, 'new', { meta: { env: { NAME: 'first' } } });
    const code = `[env('NAME') ?? null, context.env.NAME ?? null]`;
    expect((await run(code, left)).text).toBe('[null,null]');
    expect((await run(code, left, { meta: { env: { NAME: 'second' } } })).text).toBe('["second","second"]');
  });
});

it('two runs from one image draw other randomness', async () => {
  const left = await leftBy('Math.random()');
  const draws = await Promise.all(
    [1, 2, 3].map(async () => (await run('[Math.random(), crypto.randomUUID()]', left)).text),
  );
  expect(new Set(draws).size).toBe(3);
});

it('a listener for unhandledrejection goes on listening in the next run', async () => {
  const left = await leftBy(
    `globalThis.heard = 0; addEventListener('unhandledrejection', (e) => { heard++; e.preventDefault() }); 1`,
  );
  const next = await leftBy(`Promise.reject(new Error('nobody')); new Promise((done) => setTimeout(done, 1, 2))`, left);
  expect((await run('heard', next)).text).toBe('1');
});

describe('a run that does not end well leaves no image', () => {
  it.each([
    ['one that throws', `globalThis.x = 2; throw new Error('no')`, 'exception'],
    ['one that never ends', `globalThis.x = 2; for (;;);`, 'time'],
    ['one whose jobs never end', `const again = () => Promise.resolve().then(again); again(); 2`, 'time'],
    ['one that is out of memory', `globalThis.x = 2; const all = []; for (;;) all.push(new Uint8Array(1e6))`, 'memory'],
    ['one that is out of stack', `globalThis.x = 2; (function f() { f(); })()`, 'panic'],
    ['one whose value is none', `globalThis.x = 2; Symbol('x')`, 'invalid'],
  ])('%s', async (_name, code, how) => {
    const left = await leftBy('globalThis.x = 1');
    const limits = how === 'time' ? { timeoutMs: 150 } : { memoryPages: 512 };
    const ran = await run(code, left, { limits });
    expect(ran).toMatchObject({ how, image: undefined, afterEnd: [] });
    expect((await run('x', left)).text).toBe('1');
  });
});

it('MEM-01 a session that holds more than the memory of a run is refused by that run', async () => {
  const left = await leftBy('globalThis.all = new Uint8Array(20e6).fill(7); 1');
  expect(await run('1', left, { limits: { memoryPages: 128 } })).toMatchObject({ how: 'memory' });
  expect((await run('all[19_999_999]', left)).text).toBe('7');
});

it('SES-02 what holds more pages than an executor should handle is too large, and the sandbox serves others', async () => {
  const code = 'globalThis.all = Array.from({ length: 70 }, (_, i) => new Uint8Array(1e6).fill(i + 1)); all.length';
  const ran = await run(code, 'new', { limits: { memoryPages: 2_000 } });
  expect(ran).toMatchObject({ how: 'value', image: undefined, tooLarge: expect.any(Number), afterEnd: [] });
  expect(ran.tooLarge).toBeGreaterThan(64 * 2 ** 20);
  expect((await run('typeof all')).text).toBe('"undefined"');
});

it('MEM-08 a session that the process has no room for is refused as overload', async () => {
  const left = await leftBy('globalThis.all = new Uint8Array(20e6).fill(7); 1');
  const small = runtime.withPool({ maxGrownBytes: 4 * 2 ** 20 });
  expect(await small.run(image, { event: { code: '1' }, session: left })).toMatchObject({ how: 'overloaded' });
  expect(small.pool.grownBytes).toBe(0);
});

describe('an image that is none is refused before the guest is entered', () => {
  /** The stored form with another header. */
  const forged = (stored: Uint8Array, change: (header: Record<string, unknown>) => void, content?: Buffer): Buffer => {
    const bytes = Buffer.from(stored);
    const end = 8 + bytes.readUInt32LE(4);
    const header = JSON.parse(bytes.toString('utf8', 8, end)) as Record<string, unknown>;
    change(header);
    const json = Buffer.from(JSON.stringify(header));
    const prefix = Buffer.from(bytes.subarray(0, 8));
    prefix.writeUInt32LE(json.length, 4);
    return Buffer.concat([prefix, json, content ?? bytes.subarray(end)]);
  };
  const contentOf = (stored: Uint8Array): Buffer => {
    const bytes = Buffer.from(stored);
    return zstdDecompressSync(bytes.subarray(8 + bytes.readUInt32LE(4)));
  };

  it('SES-02 of another engine, or of another program: it says so', async () => {
    const left = await leftBy('1');
    const other = await runtime.program(`${EVALUATE} // other`);
    const foreign = forged(left, (header) => (header.engineId = 'e'.repeat(64)));
    for (const how of [runtime.run(other, { event: { code: '1' }, session: left }), run('1', foreign)])
      expect(await how).toMatchObject({ how: 'outdated' });
  });

  it('SES-02 garbage, cut off, with other sizes, with words where a reset keeps its notes, or a bomb', async () => {
    const left = await leftBy('globalThis.x = 1');
    const none = () => {};
    /** Runs of which the first is changed. */
    const firstRun = (gap: number, count: number): Uint8Array => {
      const content = contentOf(left);
      content.writeUInt32LE(gap, 0);
      content.writeUInt32LE(count, 4);
      return forged(left, none, zstdCompressSync(content));
    };
    const lengthOfFirst = contentOf(left).readUInt32LE(4);
    const bad: Uint8Array[] = [
      Buffer.from('PSES'),
      Buffer.alloc(100_000, 0x5a),
      left.subarray(0, 40),
      left.subarray(0, left.length - 100),
      firstRun((0x11 * 4096) / 4, lengthOfFirst),
      firstRun(0, lengthOfFirst),
      firstRun(0xffff_ffff, lengthOfFirst),
      firstRun(300_000, 0),
      firstRun(300_000, 0xffff_ffff),
      firstRun(300_000, lengthOfFirst + 1),
      forged(left, (header) => (header.runs = 1e9)),
      forged(left, (header) => (header.runs = 1.5)),
      forged(left, (header) => (header.runs = null)),
      forged(left, (header) => (header.runs = [1])),
      forged(left, (header) => Object.assign(header, { runs: -1, words: Number(header.words) + 4 })),
      forged(left, (header) => Object.assign(header, { runs: 0, words: 0 }), zstdCompressSync(Buffer.alloc(4))),
      forged(left, (header) => (header.words = Number(header.words) + 1)),
      forged(left, (header) => (header.memoryBytes = 65_536)),
      forged(left, (header) => (header.memoryBytes = -65_536)),
      forged(left, (header) => (header.memoryBytes = '2097152')),
      forged(left, none, zstdCompressSync(Buffer.alloc(64 * 2 ** 20))),
      forged(left, (header) => (header.words = 2 ** 24), zstdCompressSync(Buffer.alloc(2 ** 26))),
    ];
    for (const session of bad) {
      const ran = await run('1', session);
      expect([bad.indexOf(session), ran.how]).toEqual([bad.indexOf(session), 'unreadable']);
    }
    const huge = forged(left, (header) => (header.memoryBytes = 2 ** 40));
    expect(await run('1', huge)).toMatchObject({ how: 'memory' });
    expect(runtime.pool.size).toBeGreaterThan(0);
  });

  it('SES-02 words with other bytes end that run at worst, and no other one', async () => {
    const left = await leftBy('globalThis.x = { a: [1, 2, 3] }; function f() { return x.a.length } f()');
    const original = contentOf(left);
    const bytes = Buffer.from(left);
    const header = JSON.parse(bytes.toString('utf8', 8, 8 + bytes.readUInt32LE(4))) as { readonly runs: number };
    const wordsAt = header.runs * 8;
    for (let seed = 1; seed <= 12; seed++) {
      const content = Buffer.from(original);
      for (let n = 0; n < 40; n++) {
        const at = wordsAt + ((seed * 7919 + n * 104_729 * seed) % (content.length - wordsAt));
        content[at] = (content[at] as number) ^ ((seed * 31 + n) & 0xff);
      }
      const ran = await run(
        'f()',
        forged(left, () => {}, zstdCompressSync(content)),
        { limits: { timeoutMs: 200 } },
      );
      expect(ran.afterEnd).toEqual([]);
      expect((await runtime.run(image, { event: { code: '[typeof x, 1 + 1]' } })).text).toBe('["undefined",2]');
    }
  });
});
