/** What a component of the world `function` finds, and how what it gives back is read. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect, test, vi } from 'vitest';
import type { ComponentProgram } from '../../../runtime/component/index.ts';
import { TapePlayer, TapeRecorder } from '../../../runtime/tape/index.ts';
import { Stopwatch } from '../../support/timed.ts';
import { componentFrom, type HostCall, program, TestComponents } from './support/components.ts';
import { script, scriptComponent } from './support/script-component.ts';

const components = new TestComponents();
let guest: ComponentProgram;

beforeAll(async () => {
  guest = await scriptComponent();
}, 120_000);

test('the JavaScript of docs/components.md answers what the database said, and fails with what it refused', async () => {
  const page = readFileSync(join(import.meta.dirname, '../../../docs/components.md'), 'utf8');
  const [, source] = /```js\n(.*?)```/s.exec(page) ?? [];
  const shown = await program(await componentFrom(source as string));
  const said = { fields: [['count', 'int8']], rows: [['2']], rowCount: 1 };
  const answered = await components.run(shown, { onHostCall: (call) => call.answer(true, said) });
  expect(answered).toMatchObject({ how: 'value', text: '{"fields":[["count","int8"]],"rows":[["2"]]}' });
  const refusal = { name: 'DatabaseError', message: 'no such table', code: '42P01' };
  const refused = await components.run(shown, { onHostCall: (call) => call.answer(false, refusal) });
  expect(refused.how).toBe('exception');
  expect(JSON.parse(refused.text)).toMatchObject({ message: 'no such table' });
}, 60_000);

test('a component gets the event as JSON text and answers with JSON text', async () => {
  const event = { code: 'return JSON.parse(event).given', given: { text: 'h\u00e9llo \ud83d\ude00' } };
  expect(await components.value(guest, { event })).toEqual({ text: 'h\u00e9llo \ud83d\ude00' });
});

test('a result with a statusCode is a response', async () => {
  const ran = await components.run(guest, script('return {statusCode: 201, body: "made"}'));
  expect(ran).toMatchObject({ how: 'status', text: '{"statusCode":201,"body":"made"}' });
});

test('an error result is the exception that the function failed with', async () => {
  const ran = await components.run(guest, script('throw new TypeError("no such thing")'));
  expect(ran.how).toBe('exception');
  expect(JSON.parse(ran.text)).toEqual({ name: 'Error', message: 'no such thing', stack: '' });
});

test('CPU-12 a result of nothing but brackets is recognized without values made of it', async () => {
  const code = 'return "raw:" + "[".repeat(3e5) + "]".repeat(3e5)';
  const parsed = vi.spyOn(JSON, 'parse');
  expect(await components.run(guest, { ...script(code), limits: { maxResultBytes: 6e6 } })).toMatchObject({
    how: 'value',
  });
  const longest = Math.max(...parsed.mock.calls.map(([text]) => text.length));
  parsed.mockRestore();
  expect(longest).toBeLessThan(1e5);
});

test('text that is no JSON is an invalid result', async () => {
  const ran = await components.run(guest, script('return "raw:{"'));
  expect(ran).toMatchObject({ how: 'invalid', text: '{"message":"the handler returned text that is no JSON"}' });
});

test('a result over its limit is not handed on', async () => {
  const ran = await components.run(guest, { ...script('return "x".repeat(2000)'), limits: { maxResultBytes: 1_000 } });
  expect(ran.end).toMatchObject({ reason: 'finished', finish: { kind: 'value', body: null } });
});

test('database.query waits for the answer, with the parameters as they were written', async () => {
  const answer = { fields: [['id', 'int4']], rows: [[1]], rowCount: 1 };
  const ran = await components.run(guest, {
    ...script('return JSON.parse(db.query("select $1::int8", "[9007199254740993]"))'),
    onHostCall: (call) => call.answer(true, answer),
  });
  expect(JSON.parse(ran.text)).toEqual(answer);
  expect(ran.hostCalls.map(({ operation, payload }) => [operation, payload])).toEqual([
    ['db.query', '{"sql":"select $1::int8","params":[9007199254740993]}'],
  ]);
  expect(ran.usage.hostCalls).toBe(1);
});

test('ISO-11 a failed call gives the guest name, message and code, and nothing else of the error', async () => {
  const ran = await components.run(guest, {
    ...script('try { db.query("select", "") } catch (error) { return error.payload }'),
    onHostCall: (call) =>
      call.answer(false, { name: 'DatabaseError', message: 'no', code: '42601', where: '/srv/postern/secret' }),
  });
  expect(JSON.parse(ran.text)).toEqual({ name: 'DatabaseError', message: 'no', code: '42601' });
});

test('a transaction is a resource of its own', async () => {
  const ran = await components.run(guest, {
    ...script(`const one = db.Transaction.begin(); const two = db.Transaction.begin();
      one.query("insert", "[]"); two.rollback(); one.commit();`),
    onHostCall: ({ operation, answer }) => answer(true, operation === 'db.begin' ? { tx: nextTransaction++ } : {}),
  });
  expect(ran.how).toBe('value');
  expect(ran.hostCalls.slice(2).map(({ operation, payload }) => [operation, payload])).toEqual([
    ['db.query', '{"sql":"insert","tx":1,"params":[]}'],
    ['db.rollback', '{"tx":2}'],
    ['db.commit', '{"tx":1}'],
  ]);
});
let nextTransaction = 1;

test('http.fetch sends what the guest says, and bodies are bytes', async () => {
  const ran = await components.run(guest, {
    ...script(`const body = new Uint8Array([0, 255]);
      const got = http.fetch({ method: "POST", url: "https://a.example/x", headers: [["x-a", "1"]], body });
      return [got.status, got.headers, [...got.body]]`),
    onHostCall: (call) => call.answer(true, { status: 201, headers: [['x-b', '2']], bodyBase64: '/wA=' }),
  });
  expect(JSON.parse(ran.text)).toEqual([201, [['x-b', '2']], [255, 0]]);
  expect(JSON.parse(ran.hostCalls[0]?.payload as string)).toEqual({
    url: 'https://a.example/x',
    method: 'POST',
    headers: [['x-a', '1']],
    bodyBase64: 'AP8=',
    redirect: 'follow',
  });
});

test('ENV-02 environment has the variables that the function may read, and none of the process', async () => {
  const ran = await components.run(guest, {
    ...script('return ["A", "a", "PATH", "HOME", "__proto__", "toString"].map((name) => env.get(name) ?? null)'),
    meta: { env: { A: 'value' } },
  });
  expect(JSON.parse(ran.text)).toEqual(['value', null, null, null, null, null]);
});

test('logging writes lines with fields; fields that are no JSON object are left out', async () => {
  const ran = await components.run(
    guest,
    script(`log.log("warn", "one", '{"a":1}'); log.log("error", 'tw"o', '{"a":1},"level":"debug"')`),
  );
  expect(ran.casts).toEqual([
    { level: 'warn', message: 'one', fields: { a: 1 } },
    { level: 'error', message: 'tw"o' },
  ]);
});

test('what a panic prints is in the log', async () => {
  const ran = await components.run(guest, script('throw { no: "text" }'));
  expect(ran.how).toBe('panic');
  expect(ran.casts.map(({ message }) => message).join('\n')).toContain('panicked at');
});

test('ISO-01 an invocation sees nothing of the one before it', async () => {
  const leave = script('globalThis.left = 1; Object.prototype.left = 1; return ++state.count');
  expect(await components.value(guest, leave)).toBe(1);
  expect(await components.value(guest, script('return [state.count, typeof left, ({}).left ?? null]'))).toEqual([
    0,
    'undefined',
    null,
  ]);
});

test('many invocations wait at the same time, and each gets its own answer', async () => {
  const waiting: HostCall[] = [];
  const runs = Array.from({ length: 20 }, (_, index) =>
    components.run(guest, {
      ...script(`return JSON.parse(db.query("${index}", "")).answer`),
      onHostCall: (call) => {
        waiting.push(call);
        if (waiting.length === 20)
          for (const one of waiting.reverse()) one.answer(true, { answer: JSON.parse(one.payload).sql });
      },
    }),
  );
  const answers = (await Promise.all(runs)).map(({ text }) => JSON.parse(text));
  expect(answers).toEqual(Array.from({ length: 20 }, (_, index) => String(index)));
});

test('ISO-02 an invocation that is cancelled while it waits ends at once, and a late answer reaches nobody', async () => {
  let late: HostCall | undefined;
  const ran = await components.run(guest, {
    ...script('try { db.query("select 1", "") } catch {} ; db.query("select 2", "")'),
    onHostCall: (call) => {
      late = call;
    },
    onStart: (execution) => {
      const whenWaiting = (): void => {
        if (late === undefined) setImmediate(whenWaiting);
        else execution.end('canceled', '');
      };
      whenWaiting();
    },
  });
  late?.answer(true, {});
  expect(ran).toMatchObject({ how: 'canceled', afterEnd: [] });
  expect(ran.hostCalls).toHaveLength(1);
  expect(ran.heldBytes).toBe(ran.askedBytes);
});

test('an invocation that waits for ever ends at its deadline', async () => {
  const watch = new Stopwatch();
  const ran = await components.run(guest, {
    ...script('db.query("select pg_sleep(100)", "")'),
    limits: { timeoutMs: 1_000 },
  });
  watch.expectBelow(1_250);
  expect(ran.how).toBe('time');
  expect(ran.usage.durationMs - ran.usage.cpuMs).toBeGreaterThan(100);
});

test('a component of the asynchronous ABI runs as well, and ends at its deadline, and is not recorded', async () => {
  const source = `import { query } from 'postern:function/database@0.1.0';
    export function handler(event) {
      const answer = query(event, '');
      if (event === '"loop"') for (;;);
      return answer;
    }`;
  const asynchronous = await program(await componentFrom(source, false));
  const onHostCall = (call: HostCall): void => call.answer(true, { rows: [] });
  expect(await components.run(asynchronous, { onHostCall })).toMatchObject({ how: 'value', text: '{"rows":[]}' });
  const limits = { timeoutMs: 1_000 };
  expect(await components.run(asynchronous, { event: '"loop"', limits, onHostCall })).toMatchObject({ how: 'time' });
  expect(await components.run(asynchronous, { limits })).toMatchObject({ how: 'time', afterEnd: [] });
  const recorder = new TapeRecorder(10_000);
  expect((await components.run(asynchronous, { onHostCall, ambient: recorder })).how).toBe('value');
  expect(recorder.recording).toEqual({ lost: "a component of the asynchronous ABI can't be recorded yet" });
}, 60_000);

test('a recorded run is replayed the same, and asks nobody', async () => {
  const code = `const first = db.query("select", JSON.stringify([Math.random(), Date.now()]));
    log.log("info", first, "");
    try { db.query("fail", "") } catch (error) { log.log("warn", error.payload.code, '{"a":1}') }
    return [first, Date.now() > 0, Math.random()]`;
  const { ran, again, report } = await components.replay(guest, {
    ...script(code),
    onHostCall: ({ payload, answer }) =>
      setTimeout(() => answer(!payload.includes('fail'), payload.includes('fail') ? { code: 'X' } : [payload]), 2),
  });
  expect(report).toMatchObject({ same: true, hostCalls: 2, end: 'finished' });
  expect([again.text, again.casts, again.hostCalls]).toEqual([ran.text, ran.casts, []]);
});

test('a recorded run that throws, ends at a limit or does something else is found as what it is', async () => {
  const onHostCall = ({ answer }: HostCall): void => answer(true, [1]);
  expect((await components.replay(guest, script('throw new Error(String(Math.random()))'))).report.same).toBe(true);
  const endless = { ...script('db.query("select", ""); for (;;) Math.random()'), limits: { fuel: 1e8 }, onHostCall };
  const { ran, report } = await components.replay(guest, endless);
  expect([ran.how, report.same, report.hostCalls]).toEqual(['cpu', true, 1]);
  const recorder = new TapeRecorder(10_000);
  const asks = (sql: string) => ({
    ...script(`return db.query(event.includes("${sql}") ? "${sql}" : "", "")`),
    onHostCall,
  });
  await components.run(guest, { ...asks('one'), ambient: recorder });
  const { tape } = recorder.recording as { tape: Buffer };
  const player = new TapePlayer(tape, false);
  const other = await components.run(guest, { ...asks('two'), ambient: player });
  expect([other.how, other.hostCalls, other.afterEnd]).toEqual(['canceled', [], []]);
  expect(player.report.difference).toMatchObject({ recorded: { kind: 'call' }, now: { kind: 'call' } });
});
