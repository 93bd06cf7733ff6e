/** A Python invocation that goes on from the memory of an earlier one: it finds what that kept, and nothing else. */

import { beforeAll, describe, expect, it } from 'vitest';
import type { PythonImage } from '../../../runtime/index.ts';
import { decodeSession, putSessionMemory } from '../../../runtime/snapshot/index.ts';
import { type Ran, type RunOptions, TestPython } from './support/python.ts';

let python: TestPython;
let image: PythonImage;
/** Runs `event.code` in one namespace; the value is that of `result`. */
const EXECUTE = `
names = {}
def handler(event, context):
    names.update(result=None, context=context)
    exec(compile(event['code'], 'code.py', 'exec'), names)
    return names.pop('result')
`;
const MEMORY_BYTES = 64 * 2 ** 20;
beforeAll(async () => {
  python = await TestPython.boot();
  image = await python.program(EXECUTE);
});

const run = (code: string, session: RunOptions['session'] = 'new', more: RunOptions = {}): Promise<Ran> =>
  python.run(image, { ...more, session, event: { code, ...(more.event as object) } });

async function leftBy(code: string, session?: RunOptions['session'], more?: RunOptions): Promise<Uint8Array> {
  const ran = await run(code, session, more);
  if (ran.image === undefined) throw new Error(`${code} ended as ${ran.how}: ${ran.text}`);
  return ran.image;
}

/** The memory that a run with this session begins with. */
async function memoryOf(stored: Uint8Array): Promise<Buffer> {
  const session = await decodeSession(stored, python.sessionBase(image), MEMORY_BYTES);
  const memory = Buffer.from(new ArrayBuffer(session.memoryBytes));
  image.fillFresh(memory);
  await putSessionMemory(session, memory);
  return memory;
}

it('a run finds globals, functions, classes and imports as the last one left them, and branches are their own', async () => {
  let left = await leftBy('import json\ncount = 1\ndef bump():\n  global count\n  count += 1\n  return count');
  left = await leftBy('class Point:\n  x = 3\npoint = Point(); bump()', left);
  const branch = await leftBy('bump(); bump()', left);
  expect((await run('result = [json.dumps([bump()]), point.x, isinstance(point, Point)]', left)).text).toBe(
    '["[3]",3,true]',
  );
  expect((await run('result = count', branch)).text).toBe('4');
  expect(left.length).toBeLessThan(200 * 1024);
});

it('what is stored does not grow with the runs, and one sandbox serves them all', async () => {
  let left = await leftBy('count = 0');
  left = await leftBy('count += 1', left, { event: { text: 'x'.repeat(10_000) } });
  const second = left.length;
  for (let n = 0; n < 8; n++) left = await leftBy('count += 1', left, { event: { text: 'x'.repeat(10_000) } });
  expect((await run('result = count', left)).text).toBe('9');
  expect(left.length).toBeLessThan(second + 32 * 1024);
  expect(python.pool.idle).toBe(1);
});

describe('SES-01 no image has what the code did not keep', () => {
  const canary = (name: string): string => `${name}-canary-0123456789abcdef`;
  const kept = canary('kept');
  const gone = ['event', 'secret', 'answer', 'computed', 'request'].map(canary);
  const options: RunOptions = {
    event: { other: canary('event'), list: Array(50).fill(canary('event')) },
    meta: { env: { TOKEN: canary('secret') }, requestId: canary('request') },
    onHostCall: (call) => call.answer(true, `{"rows":[["${canary('answer')}"]],"fields":[["a","text"]],"rowCount":1}`),
  };

  it.each([
    ['a value', '1'],
    ['variables that were read', `len(context.env['TOKEN'] + __import__('os').environ['TOKEN'] + context.request_id)`],
    ['a host call that was answered', `len(__import__('postern').db.query('select 1')[0]['a'])`],
    ['what was printed', `print(__import__('os').environ['TOKEN'])`],
    ['what was logged', `__import__('logging').error(context.env['TOKEN'])`],
    ['text that was made', `len(''.join(['comp', 'uted', '-canary-', '0123456789abcdef']) * 3)`],
    ['text by the thousand', `len([f'{n}' + context.env['TOKEN'] for n in range(3000)])`],
  ])('%s', async (_name, expression) => {
    const stored = await leftBy(`mine = ${JSON.stringify(kept)}\nresult = ${expression}`, 'new', options);
    const memory = await memoryOf(stored);
    expect(memory.includes(kept)).toBe(true);
    for (const text of gone) expect([text, memory.includes(text)]).toEqual([text, false]);
    expect((await run('import os\nresult = [mine, os.environ.get("TOKEN")]', stored)).text).toBe(
      JSON.stringify([kept, null]),
    );
  });
});

it('two runs from one image draw other randomness, from generators of their own too, unless those have a seed', async () => {
  const left = await leftBy('import random\nown = random.Random()\nseeded = random.Random(7)\nown.random()');
  const draw = 'result = [random.random(), own.random(), seeded.random()]';
  const [first, second] = await Promise.all([run(draw, left), run(draw, left)]);
  const [a, b] = [JSON.parse(first.text), JSON.parse(second.text)] as [number[], number[]];
  expect(a[0]).not.toBe(b[0]);
  expect(a[1]).not.toBe(b[1]);
  expect(a[2]).toBe(b[2]);
});

it('a run that does not end well leaves no image', async () => {
  const left = await leftBy('x = 1');
  const ends = [
    ['x = 2\nraise ValueError(1)', 'exception'],
    ['x = 2\nwhile True: pass', 'time'],
    ['x = 2\nall = [bytearray(10**6) for _ in range(200)]', 'memory'],
    ['x = 2\nimport os\nos._exit(3)', 'exception'],
    ['x = 2\nresult = object()', 'invalid'],
  ] as const;
  for (const [code, how] of ends) {
    const limits = how === 'time' ? { timeoutMs: 300 } : { memoryPages: 512 };
    const ran = await run(code, left, { limits });
    expect([code, ran.how, ran.image]).toEqual([code, how, undefined]);
  }
  expect((await run('result = x', left)).text).toBe('1');
});

it('MEM-01 a session that holds more than the memory of a run is refused by that run', async () => {
  const left = await leftBy('all = bytearray(20_000_000)');
  expect(await run('result = 1', left, { limits: { memoryPages: 256 } })).toMatchObject({ how: 'memory' });
  expect((await run('result = len(all)', left)).text).toBe('20000000');
});

it('SES-02 an image of another program, or none, is refused before the guest is entered', async () => {
  const left = await leftBy('x = 1');
  const other = await python.program(`${EXECUTE}\nother = 1\n`);
  expect(await python.run(other, { event: { code: '' }, session: left })).toMatchObject({ how: 'outdated' });
  for (const bad of [Buffer.alloc(5_000, 0x5a), left.subarray(0, 60), left.subarray(0, left.length - 100)])
    expect(await run('result = 1', bad)).toMatchObject({ how: 'unreadable' });
});
