/** Python, commands and components: guests whose whole run is one call. */

import { beforeAll, describe, expect, test, vi } from 'vitest';
import type { PythonImage } from '../../../runtime/index.ts';
import { type ReplayReport, TapePlayer, TapeRecorder } from '../../../runtime/tape/index.ts';
import { programOf, run as runCommand } from '../command/support/commands.ts';
import { data, store, wasiModule } from '../command/support/wasi-module.ts';
import { component, core } from '../component/support/component-builder.ts';
import { program as componentOf, TestComponents } from '../component/support/components.ts';
import { i32 } from '../metering/wasm-builder.ts';
import { type HostCall, type Ran, type RunOptions, TestPython } from '../python/support/python.ts';

let python: TestPython;
beforeAll(async () => {
  python = await TestPython.boot();
});

const program = (source: string): Promise<PythonImage> => python.program(`from postern import *\n${source}`);

/** Rows that say what was asked for; the later, the more a call's payload has of the letter z. */
function answer({ payload, answer: settle }: HostCall): void {
  const text = JSON.stringify({ fields: [['asked', 'json']], rows: [[JSON.parse(payload)]], rowCount: 1 });
  setTimeout(() => settle(true, text), 3 * (payload.split('z').length - 1));
}

async function record(image: PythonImage, options: RunOptions = {}): Promise<{ ran: Ran; tape: Buffer }> {
  const recorder = new TapeRecorder(1_000_000);
  const ran = await python.run(image, { onHostCall: answer, ...options, ambient: recorder });
  const { recording } = recorder;
  if ('lost' in recording) throw new Error(recording.lost);
  return { ran, tape: recording.tape };
}

async function replay(
  image: PythonImage,
  tape: Buffer,
  options: RunOptions = {},
  goesOn = false,
): Promise<{ ran: Ran; report: ReplayReport }> {
  const player = new TapePlayer(tape, goesOn);
  const clock = vi.spyOn(Date, 'now').mockReturnValue(1_000_000);
  const ran = await python.run(image, { ...options, ambient: player }).finally(() => clock.mockRestore());
  expect(ran.calls).toEqual([]);
  return { ran, report: player.report };
}

describe('the replay of a recorded Python function is the same,', () => {
  test.each([
    ['whatever it asks for', `what()\n  return db.query('two', [1])`],
    ['when it fails', `what()\n  raise ValueError(str(db.query('zz')))`],
    // Whether it gets one answer or both at once is chance where nobody records.
    [
      'when it writes requests and does not wait for answers',
      `os.write(0, b'{"op":"db.query","n":"z"}\\n{"op":"db.query","n":"zz"}\\n')
  time.sleep(event['seconds'])
  got = b''
  while got.count(b'\\n') < 2:
    part = os.read(0, 65536)
    print(len(part))
    got += part
  return got.decode()`,
    ],
  ])('%s', async (_what, body) => {
    const image = await program(`import os, random, time, uuid
def what():
  log.info('found', rows=db.query('one z', [random.random()]))
  time.sleep(0.01)
  print(time.time(), time.monotonic(), uuid.uuid4())
def handler(event):
  ${body}`);
    const { ran, tape } = await record(image, { event: { seconds: 0.02 } });
    const again = await replay(image, tape, { event: { seconds: 0.02 } });
    expect(again.report).toMatchObject({ same: true, end: 'finished' });
    expect([again.ran.how, again.ran.text, again.ran.log]).toEqual([ran.how, ran.text, ran.log]);
  });

  test('in a session too, from the memory that it went on from', async () => {
    const image = await program(`names = {}
def handler(event):
  exec(event['code'], globals(), names)
  return names.get('result')`);
    const codes = [
      'import random, time, uuid\nrows = db.query("one", [random.random()])\nstate = random.getstate()[1][:3]',
      'random.seed(); result = [rows, state, random.random(), str(uuid.uuid4()), time.time()]; print(result)',
      'rows.append(db.query("two", [random.random()])); result = rows',
    ];
    let session: Uint8Array | 'new' = 'new';
    for (const code of codes) {
      const given = { event: { code }, session };
      const { ran, tape } = await record(image, given);
      const again = await replay(image, tape, given);
      expect(again.report).toMatchObject({ same: true, end: 'finished' });
      expect([again.ran.text, again.ran.log]).toEqual([ran.text, ran.log]);
      session = ran.image as Uint8Array;
    }
    const { report } = await replay(image, (await record(image, { event: { code: codes[1] }, session })).tape, {
      event: { code: codes[1] },
      session: 'new',
    });
    expect(report).toMatchObject({ same: false });
  });

  test('up to where one was stopped in the middle of a line', async () => {
    const image = await program(
      `import time\ndef handler(event):\n  print('half', end='', flush=True)\n  time.sleep(60)`,
    );
    const { ran, tape } = await record(image, { limits: { timeoutMs: 500 } });
    expect(ran.how).toBe('time');
    expect((await replay(image, tape)).report).toMatchObject({ same: true });
  });
});

describe('what a Python function does otherwise is found', () => {
  const QUERY = `def handler(event):\n  rows = db.query('one', [event['n']])\n  return rows[0]['asked']['params']`;

  test('in the call that another event leads to', async () => {
    const image = await program(QUERY);
    const { tape } = await record(image, { event: { n: 1 } });
    const { report } = await replay(image, tape, { event: { n: 2 } });
    expect(report.difference).toMatchObject({ recorded: { kind: 'call' }, now: { kind: 'call' } });
  });

  test('and a changed run goes on with the answers that there are', async () => {
    const image = await program(QUERY);
    const other = await program(QUERY.replace('rows =', 'log.info("new")\n  rows ='));
    const { ran, tape } = await record(image, { event: { n: 1 } });
    const { report } = await replay(other, tape, { event: { n: 1 } }, true);
    expect(report).toMatchObject({ same: false, end: 'finished', difference: { now: { kind: 'cast' } } });
    expect(report.finish?.body?.toString()).toBe(ran.text);
  });
});

describe('a command', () => {
  const REQUEST = '{"op":"db.query","x":"................"}';
  const START = 64;
  const X = START + REQUEST.indexOf('....');
  const ANSWER = 1_024;
  /** Its only call has what the clock said and eight random bytes in it, and its result is the answer. */
  const module = wasiModule({
    uses: ['clock_time_get', 'random_get', 'call', 'take', 'fd_write'],
    locals: [],
    raw: { 11: data(START, REQUEST) },
    code: (fn) => [
      [...i32(0), 0x42, 0, ...i32(X), ...fn('clock_time_get'), 0x1a],
      [...i32(X + 8), ...i32(8), ...fn('random_get'), 0x1a],
      store(0, ANSWER),
      [...i32(4), ...i32(START), ...i32(REQUEST.length), ...fn('call'), 0x36, 2, 0],
      [...i32(ANSWER), ...fn('take')],
      [...i32(1), ...i32(0), ...i32(1), ...i32(16), ...fn('fd_write'), 0x1a],
    ],
  });

  test('is replayed with the bytes that it was given', async () => {
    const command = await programOf(module);
    const recorder = new TapeRecorder(10_000);
    const ran = await runCommand(command, {
      onHostCall: (call) => call.answer(true, '[1]'),
      ambient: recorder,
    });
    expect([ran.how, ran.text]).toEqual(['value', '{"ok":true,"value":[1]}']);
    const { tape } = recorder.recording as { tape: Buffer };
    const player = new TapePlayer(tape, false);
    const again = await runCommand(command, { ambient: player });
    expect([again.text, again.hostCalls]).toEqual([ran.text, []]);
    expect(player.report).toMatchObject({ same: true, hostCalls: 1 });
  });
});

describe('a component', () => {
  test('is recorded as other programs are: test/runtime/component', async () => {
    const guest = await componentOf(component({ modules: [core()] }));
    const { report, steps } = await new TestComponents().replay(guest, {});
    expect([report.same, steps]).toEqual([true, ['finish']]);
  });
});

test('a recording of a function of another kind is said to be one', async () => {
  const recorder = new TapeRecorder(100);
  recorder.call('x', Buffer.from('{}'), 1);
  recorder.deliver({ kind: 'fire', timerId: 1 });
  recorder.end('finished');
  const { tape } = recorder.recording as { tape: Buffer };
  const image = await program(`import os\ndef handler(event):\n  os.write(0, b'{"op":"x"}\\n')\n  os.read(0, 1)`);
  const { report } = await replay(image, tape);
  expect(report).toMatchObject({ same: false, lost: 'the recording is of a function of another kind' });
});
