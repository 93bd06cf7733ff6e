/** wasi:http: the event of an HTTP trigger as a request, the response that is set, and requests that go out. */

import { beforeAll, expect, test } from 'vitest';
import type { ComponentProgram } from '../../../runtime/component/index.ts';
import { componentOf, program, TestComponents } from './support/components.ts';
import { HTTP_WIT } from './support/wasi-wit.ts';

const components = new TestComponents();
let guest: ComponentProgram;

beforeAll(async () => {
  guest = await program(await componentOf(HTTP_WIT, 'http', SOURCE));
}, 240_000);

/** Evaluates the header x-code. */
const SOURCE = `
import * as types from 'wasi:http/types@0.2.3';
import * as outgoing from 'wasi:http/outgoing-handler@0.2.3';
import * as poll from 'wasi:io/poll@0.2.3';
const text = (bytes) => String.fromCharCode(...bytes);
const bytes = (text) => Uint8Array.from(text, (char) => char.charCodeAt(0));
const readAll = (message) => {
  const all = [];
  const stream = message.consume().stream();
  try { for (;;) all.push(...stream.blockingRead(65536)); } catch (error) { if (error.payload.tag !== 'closed') throw error; }
  return text(all);
};
export const incomingHandler = { handle(request, out) {
  const headers = request.headers().entries().map(([name, value]) => [name, text(value)]);
  const answer = (status, content, given = []) => {
    const response = new types.OutgoingResponse(types.Fields.fromList(given.map(([name, value]) => [name, bytes(value)])));
    response.setStatusCode(status);
    const body = response.body();
    body.write().blockingWriteAndFlush(typeof content === 'string' ? bytes(content) : content);
    types.OutgoingBody.finish(body, undefined);
    types.ResponseOutparam.set(out, { tag: 'ok', val: response });
  };
  const send = (authority, path, content) => {
    const message = new types.OutgoingRequest(types.Fields.fromList([['x-sent', bytes('1')]]));
    message.setMethod({ tag: 'post' });
    message.setAuthority(authority);
    message.setPathWithQuery(path);
    const body = message.body();
    const future = outgoing.handle(message, undefined);
    body.write().blockingWriteAndFlush(bytes(content));
    types.OutgoingBody.finish(body, undefined);
    return future;
  };
  const code = headers.find(([name]) => name === 'x-code')?.[1] ?? 'answer(200, readAll(request))';
  new Function('request', 'headers', 'answer', 'readAll', 'send', 'types', 'out', 'poll', 'outgoing', code)(
    request, headers, answer, readAll, send, types, out, poll, outgoing);
} };`;

const event = (code: string, more: Record<string, unknown> = {}): { event: unknown } => ({
  event: {
    trigger: 'http',
    method: 'PUT',
    url: 'https://fn.example/functions/v1/invoke/x/a%20b?q=1',
    headers: { 'x-code': code },
    body: null,
    ...more,
  },
});

test('a component sees the request that came', async () => {
  const code =
    'answer(200, JSON.stringify([request.method(), request.scheme(), request.authority(), request.pathWithQuery()]))';
  const ran = await components.run(guest, event(code));
  expect(ran.how).toBe('http');
  expect(JSON.parse(ran.text)).toEqual([
    { tag: 'put' },
    { tag: 'HTTPS' },
    'fn.example',
    '/functions/v1/invoke/x/a%20b?q=1',
  ]);
});

test('a JSON body arrives as the bytes that were sent', async () => {
  const body = '{ "a" : 1.0 }';
  const head = JSON.stringify({ trigger: 'http', method: 'POST', url: 'http://a/', headers: {} }).slice(0, -1);
  const json = `${head},"body":${body}}`;
  const ran = await components.run(guest, { event: json, meta: { bodyAt: json.length - 1 - body.length } });
  expect(ran.text).toBe(body);
});

test('a body of bytes arrives, and leaves, as it is', async () => {
  const given = { body: Buffer.from([0, 255, 10]).toString('base64'), isBase64Encoded: true };
  const code = 'answer(200, Uint8Array.from(readAll(request), (char) => char.charCodeAt(0)))';
  const ran = await components.run(guest, event(code, given));
  expect(JSON.parse(ran.meta)).toMatchObject({ base64: true });
  expect(Buffer.from(ran.text, 'base64')).toEqual(Buffer.from([0, 255, 10]));
});

test('status and headers of the response are those that were set', async () => {
  const ran = await components.run(
    guest,
    event('answer(404, "no", [["X-A", "1"], ["x-a", "2"], ["set-cookie", "a=b"]])'),
  );
  expect(ran).toMatchObject({ how: 'http', text: 'no' });
  expect(JSON.parse(ran.meta)).toEqual({
    status: 404,
    headers: [
      ['x-a', '1'],
      ['x-a', '2'],
      ['set-cookie', 'a=b'],
    ],
  });
});

test('HTTP-07 a header that would end its line is refused to the guest', async () => {
  const code =
    'try { answer(200, "", [["x\\r\\ny", "1"]]) } catch (error) { answer(500, JSON.stringify(error.payload)) }';
  expect(await components.run(guest, event(code))).toMatchObject({ text: '{"tag":"invalid-syntax"}' });
});

test('no response, and an error in its place, are exceptions', async () => {
  const none = await components.run(guest, event('0'));
  expect(none).toMatchObject({ how: 'exception', text: expect.stringContaining('set no response') });
  const error = 'types.ResponseOutparam.set(out, { tag: "err", val: { tag: "internal-error", val: "broken" } })';
  const failed = await components.run(guest, event(error));
  expect(failed).toMatchObject({ how: 'exception', text: expect.stringContaining('internal-error: broken') });
});

test('an event of another trigger is posted', async () => {
  const ran = await components.run(guest, { event: { trigger: 'database', table: 'users' } });
  expect(JSON.parse(ran.text)).toEqual({ trigger: 'database', table: 'users' });
});

test('requests that go out are host calls, several at once', async () => {
  const code = `const futures = ["one", "two"].map((path) => send("api.example", "/" + path, "body of " + path));
    const pollables = futures.map((future) => future.subscribe());
    const seen = [];
    while (seen.length < 2) for (const index of poll.poll(pollables)) {
      const got = futures[index].get();
      if (got?.tag === 'ok' || got?.val) seen.push(index);
    }
    answer(200, String(seen.length))`;
  const ran = await components.run(guest, {
    ...event(code),
    onHostCall: (call) => call.answer(true, { status: 200, headers: [], bodyBase64: 'aGk=' }),
  });
  expect(ran.hostCalls.map(({ operation, payload }) => [operation, JSON.parse(payload)])).toEqual(
    ['one', 'two'].map((path) => [
      'http.fetch',
      {
        url: `https://api.example/${path}`,
        method: 'POST',
        headers: [['x-sent', '1']],
        bodyBase64: Buffer.from(`body of ${path}`).toString('base64'),
        redirect: 'follow',
      },
    ]),
  );
});

test("nothing but the host call reaches out: a refusal is the guest's to see", async () => {
  const { fetch } = globalThis;
  let reached = 0;
  globalThis.fetch = () => {
    reached++;
    return fetch('data:,');
  };
  try {
    const code = `const future = send("169.254.169.254", "/", ""); future.subscribe().block();
      answer(200, JSON.stringify(future.get()))`;
    const ran = await components.run(guest, {
      ...event(code),
      onHostCall: (call) => call.answer(false, { name: 'HttpError', message: 'no', code: 'HTTP_NOT_ALLOWED' }),
    });
    expect(ran.text).toContain('HTTP-request-denied');
  } finally {
    globalThis.fetch = fetch;
  }
  expect(reached).toBe(0);
});

test('MEM-06 header fields without end, end the invocation before they fill the host', async () => {
  const code = 'const all = []; const f = new types.Fields(); for (;;) f.append("x", new Uint8Array(1e6))';
  expect(await components.run(guest, event(code))).toMatchObject({ how: 'memory' });
});

test('a response over its limit is not handed on', async () => {
  const ran = await components.run(guest, {
    ...event('answer(200, "x".repeat(2000))'),
    limits: { maxResultBytes: 1_000 },
  });
  expect(ran.end).toMatchObject({ reason: 'finished', finish: { kind: 'http', body: null } });
});

test('headers over their limit are not handed on', async () => {
  const ran = await components.run(guest, event('answer(200, "", [["x", "y".repeat(300000)]])'));
  expect(ran.end).toMatchObject({ reason: 'finished', finish: { kind: 'http', meta: null } });
});

test('headers over their limit are not sent', async () => {
  const code = `const f = new types.Fields(); f.append("x", new Uint8Array(3e5));
    answer(200, JSON.stringify(outgoing.handle(new types.OutgoingRequest(f), undefined).get().val))`;
  const ran = await components.run(guest, event(code));
  expect(JSON.parse(ran.text)).toEqual({ tag: 'err', val: { tag: 'HTTP-request-header-section-size', val: 262_144 } });
  expect(ran.hostCalls).toEqual([]);
});

test('CPU-12 a field is looked for in one go through the fields, however long its name is', async () => {
  const code = `const f = new types.Fields(); for (let i = 0; i < 5000; i++) f.append("x", new Uint8Array(0));
    const name = "A".repeat(4e6); f.has(name); answer(200, String(f.has("X")))`;
  const ran = await components.run(guest, { ...event(code), limits: { timeoutMs: 3_000 } });
  expect(ran).toMatchObject({ how: 'http', text: 'true' });
});

test('MEM-06 header fields are there once, however often they are asked for', async () => {
  const code = `const f = new types.Fields(); f.append("x", new Uint8Array(4e6));
    const response = new types.OutgoingResponse(f); const all = [];
    for (let i = 0; i < 200; i++) all.push(response.headers());
    send("api.example", "/", ""); answer(200, String(all[0].has("x")))`;
  const before = process.memoryUsage().arrayBuffers;
  let after = 0;
  const onHostCall = (): void => {
    after = process.memoryUsage().arrayBuffers;
  };
  expect(await components.run(guest, { ...event(code), onHostCall })).toMatchObject({ how: 'http', text: 'true' });
  expect(after - before).toBeLessThan(200 * 1024 * 1024);
});

test('MEM-06 what the host keeps for a guest is counted as the memory of the process, and given back', async () => {
  const kept = 'const f = new types.Fields(); for (let i = 0; i < 8; i++) f.append("x", new Uint8Array(1e6))';
  const [little, much] = [
    await components.run(guest, event('answer(200, "")')),
    await components.run(guest, event(kept)),
  ];
  expect(much.askedBytes - little.askedBytes).toBeGreaterThanOrEqual(8e6);
  expect(much.heldBytes).toBe(much.askedBytes);
  let asked = 0;
  const mayHold = (bytes: number): boolean => {
    asked += bytes;
    return asked < little.askedBytes + 4e6;
  };
  expect(await components.run(guest, { ...event(kept), mayHold })).toMatchObject({ how: 'overloaded' });
});

test('a recorded run that waits for several answers, or looks for them again and again, is replayed the same', async () => {
  const code = `const futures = ["zzz", "z", "zz"].map((path) => send("api.example", "/" + path, path));
    const pollables = futures.map((future) => future.subscribe());
    const seen = [];
    for (const at of poll.poll(pollables)) seen.push([at, pollables.map((one) => one.ready())]);
    let spins = 0;
    while (!pollables[2].ready()) spins++;
    seen.push(spins);
    seen.push(futures[2].get() !== undefined, futures.map((future) => future.get() === undefined));
    pollables[0].block();
    answer(200, JSON.stringify(seen))`;
  const { ran, again, report, steps } = await components.replay(guest, {
    ...event(code),
    onHostCall: ({ payload, answer }) =>
      setTimeout(
        () => answer(true, { status: 200, headers: [], bodyBase64: '' }),
        15 * (payload.split('z').length - 1),
      ),
  });
  expect(report).toMatchObject({ same: true, hostCalls: 3, end: 'finished' });
  expect(steps).toContain('fire');
  expect([again.text, again.hostCalls]).toEqual([ran.text, []]);
});
