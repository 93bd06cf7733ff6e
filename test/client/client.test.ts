/** `postern/client` by itself: what it sends, what it makes of answers. Against a node: `callers.test.ts`. */

import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { inspect } from 'node:util';
import { runInNewContext } from 'node:vm';
import { build, stop } from 'esbuild';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import * as client from '../../client/index.ts';
import { ERROR_CODES } from '../../runtime/index.ts';
import { HTTP_STATUS } from '../../server/index.ts';
import type * as declared from '../../types/client.d.ts';
import { type Received, StandIn } from '../cli/support.ts';

const { PosternClient, PosternClientError } = client;

let node: StandIn;
beforeAll(async () => {
  node = await StandIn.start();
});
afterAll(async () => {
  await node.stop();
  await stop();
});
beforeEach(() => {
  node.received.length = 0;
});

const make = (options: Partial<client.ClientOptions> = {}) => new PosternClient({ url: node.url, ...options });
const failure = async (work: Promise<unknown>): Promise<client.PosternClientError> => {
  const error = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(PosternClientError);
  return error as client.PosternClientError;
};
const refusal = (code: string, more: object = {}, status = 400, headers: Record<string, string> = {}) => ({
  status,
  headers: { 'content-type': 'application/json', ...headers },
  body: { error: `${status} …`, message: 'because', code, request_id: 'the-request', ...more },
});
const json = (body: unknown) => ({ status: 200, headers: { 'content-type': 'application/json' }, body });

test('what is declared for users is what there is', () => {
  // Checked by the compiler; at run time, that no name of it is missing.
  const there: Pick<typeof declared, 'PosternClient'> = client;
  const fields = { code: 'C', status: 0, body: null };
  const errors: declared.PosternClientError[] = [
    new client.PosternClientError('', fields),
    new client.PolicyError('', fields) satisfies declared.PolicyError,
    new client.FunctionAnswerError('', fields) satisfies declared.FunctionAnswerError,
  ];
  expect(there.PosternClient).toBeTypeOf('function');
  expect(errors.map(({ name }) => name)).toEqual(['PosternClientError', 'PolicyError', 'FunctionAnswerError']);
  expect(Object.keys(client).sort()).toEqual(
    [...readFileSync('types/client.d.ts', 'utf8').matchAll(/^export class (\w+)/gm)].map(([, name]) => name).sort(),
  );
});

test('it runs where there is nothing but the interfaces of the web', async () => {
  const { outputFiles } = await build({
    entryPoints: ['client/index.ts'],
    bundle: true,
    platform: 'browser',
    format: 'iife',
    globalName: 'postern',
    write: false,
  });
  const web = { AbortSignal, Response, TextDecoder, URL, URLSearchParams, clearTimeout, fetch, setTimeout };
  node.answer = () => json({ result: 3 });
  const code = `${outputFiles[0]!.text}; new postern.PosternClient({ url: ${JSON.stringify(node.url)} }).execute({ code: '3' })`;
  expect(await runInNewContext(code, web)).toEqual({ result: 3 });
});

describe('errors', () => {
  test('each code of a node has the class that docs/client.md says', async () => {
    const page = readFileSync('docs/client.md', 'utf8');
    const rows = [...page.matchAll(/^\| `(\w+Error)` +\| (.+?) +\|/gm)];
    const classes = new Map(
      rows.flatMap(([, name, codes]) => [...codes!.matchAll(/`([A-Z_]+)`/g)].map(([, code]) => [code, name] as const)),
    );
    for (const code of Object.keys(ERROR_CODES)) {
      node.answer = () => refusal(code, {}, HTTP_STATUS[code as keyof typeof HTTP_STATUS]);
      const error = await failure(make().execute({ code: '1' }));
      expect(error).toMatchObject({ name: classes.get(code) ?? 'PosternClientError', code, requestId: 'the-request' });
    }
    for (const [code] of classes) {
      expect([...Object.keys(ERROR_CODES), 'UNREACHABLE', 'CLIENT_TIMEOUT', 'FUNCTION_ANSWERED_ERROR']).toContain(code);
    }
  });

  test('a refusal of the policy names rule, given and allowed', async () => {
    node.answer = () => refusal('POLICY_REFUSED', { details: { rule: 'env', given: ['A'], allowed: [] } }, 403);
    const error = await failure(make().execute({ code: '1' }));
    expect(error).toBeInstanceOf(client.PolicyError);
    expect(error).toMatchObject({ rule: 'env', given: ['A'], allowed: [], status: 403, run: undefined });
  });

  test('nobody at the address is a ConnectionError, with the reason', async () => {
    const error = await failure(new PosternClient({ url: 'http://127.0.0.1:40001' }).execute({ code: '1' }));
    expect(error).toBeInstanceOf(client.ConnectionError);
    expect(error).toMatchObject({
      code: 'UNREACHABLE',
      status: 0,
      message: 'http://127.0.0.1:40001 can not be reached (ECONNREFUSED)',
    });
  });

  test('an answer of somebody else is told from one of a node, and a redirect is not followed', async () => {
    node.answer = () => ({ status: 502, headers: { 'content-type': 'text/html' }, body: '<h1>Bad Gateway' });
    expect(await failure(make().execute({ code: '1' }))).toMatchObject({
      code: 'UNEXPECTED_ANSWER',
      status: 502,
      message: `${node.url}/execute answered 502: <h1>Bad Gateway`,
    });
    node.answer = () => ({ status: 307, headers: { location: `${node.url}/elsewhere` } });
    expect(await failure(make({ apiKey: 'k' }).execute({ code: '1' }))).toMatchObject({ status: 307 });
    expect(node.received.map(({ url }) => url)).toEqual(['/execute', '/execute']);
  });

  test("a function's own error answer keeps its body", async () => {
    node.answer = () => ({ ...json({ problem: 'no stock' }), status: 409 });
    const error = await failure(make().invoke('order'));
    expect(error).toBeInstanceOf(client.FunctionAnswerError);
    expect(error).toMatchObject({ code: 'FUNCTION_ANSWERED_ERROR', status: 409, body: { problem: 'no stock' } });
  });
});

describe('what is sent', () => {
  test('each call goes with its own key, which printing a client does not show', async () => {
    node.answer = ({ url }) => json(url.includes('/invocations') ? { invocations: [] } : { functions: [] });
    const all = make({ apiKey: 'the-api-key', adminKey: 'the-admin-key', url: `${node.url}/` });
    await all.execute({ code: '1' });
    await all.invoke('f');
    await all.apiKey();
    await all.deploy({ name: 'f', source: 's' });
    await all.functions();
    await all.invocations('f', { limit: 3 });
    await make({ apiKey: 'the-api-key', token: 'a-jwt' }).invoke('f');
    expect(node.received.map(({ method, url, headers }) => [method, url, headers.authorization?.slice(7)])).toEqual([
      ['POST', '/execute', 'the-api-key'],
      ['POST', '/functions/v1/invoke/f', 'the-api-key'],
      ['GET', '/api-key', 'the-api-key'],
      ['POST', '/functions', 'the-admin-key'],
      ['GET', '/functions', 'the-admin-key'],
      ['GET', '/functions/f/invocations?limit=3&logs=true', 'the-admin-key'],
      ['POST', '/functions/v1/invoke/f', 'a-jwt'],
    ]);
    expect(inspect(all, { showHidden: true })).not.toContain('the-a');
  });

  test('invoke takes method, path, headers and an Idempotency-Key, and reads the answer by its type', async () => {
    const answers = [
      { ...json('[1]') },
      { status: 200, headers: { 'content-type': 'text/csv' }, body: 'a,b' },
      { status: 200, headers: { 'content-type': 'image/png' }, body: 'png' },
      { status: 204 },
    ];
    node.answer = () => answers.shift()!;
    const it = make();
    expect(await it.invoke('api', undefined, { method: 'get', path: '/orders?limit=1' })).toEqual([1]);
    expect(await it.invoke('a/b', { n: 1 }, { idempotencyKey: 'once', headers: { 'x-a': 'b' } })).toBe('a,b');
    expect(await it.invoke('bytes')).toEqual(new TextEncoder().encode('png'));
    expect(await it.invoke('nothing')).toBeNull();
    expect(node.received[0]).toMatchObject({ method: 'GET', url: '/functions/v1/invoke/api/orders?limit=1', body: '' });
    expect(node.received[1]).toMatchObject({
      url: '/functions/v1/invoke/a%2Fb',
      body: '{"n":1}',
      headers: { 'idempotency-key': 'once', 'x-a': 'b', 'content-type': 'application/json' },
    });
  });

  test.each([
    [{ url: 'localhost:8787' }, /^url is "localhost:8787"/],
    [{ timeoutMs: 0 }, /^timeoutMs is 0/],
    [{ retries: -1 }, /^retries is -1/],
    [{ apikey: 'k' } as object, /^there is no option apikey; options are url, apiKey, token,/],
  ])('options that can not be are refused: %j', (options, message) => {
    expect(() => make(options)).toThrow(message);
  });

  test('without options the client says what it needs', () => {
    const Untyped = PosternClient as new () => unknown;
    expect(() => new Untyped()).toThrow('the client needs options: new PosternClient({ url, apiKey })');
  });
});

describe('waiting', () => {
  test('an AbortSignal ends a call with its reason, also one that waits to try again', async () => {
    const reason = new Error('enough');
    const abort = new AbortController();
    node.answer = () => refusal('OVERLOADED', {}, 503, { 'retry-after': '30' });
    const work = make({ retries: 1, fetch: fetchThen(() => abort.abort(reason)) }).execute(
      { code: '1' },
      { signal: abort.signal },
    );
    await expect(work).rejects.toBe(reason);
    await expect(make().execute({ code: '1' }, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    expect(node.received).toHaveLength(1);
  });

  test('timeoutMs ends a call that is not answered', async () => {
    const silent = createServer(() => {});
    await new Promise<void>((listening) => silent.listen(0, '127.0.0.1', listening));
    const url = `http://127.0.0.1:${(silent.address() as AddressInfo).port}`;
    const error = await failure(new PosternClient({ url, timeoutMs: 20 }).execute({ code: '1' }));
    silent.closeAllConnections();
    silent.close();
    expect(error).toBeInstanceOf(client.TimeoutError);
    expect(error).toMatchObject({ code: 'CLIENT_TIMEOUT', message: `${url} did not answer within 0.02 s` });
  });

  test('a call that was refused is made again when the node says so, if the client was told to', async () => {
    const first = (request: Received, answer: ReturnType<typeof refusal>) =>
      node.received.indexOf(request) === 0 ? answer : json({ result: 1 });
    const busy = refusal('OVERLOADED', {}, 503, { 'retry-after': '0' });
    node.answer = (request) => first(request, busy);
    expect(await make({ retries: 1 }).execute({ code: '1' })).toEqual({ result: 1 });
    node.received.length = 0;
    expect((await failure(make().execute({ code: '1' }))).retryAfterMs).toBe(0);
    expect(node.received).toHaveLength(1);
  });

  test.each([
    ['the node does not say when', refusal('OVERLOADED', {}, 503)],
    ['it may have run', refusal('EXECUTOR_LOST', {}, 503, { 'retry-after': '0' })],
    ['it ran in part', refusal('OVERLOADED', { id: 'x', stdout: '', usage: { cpu: 7 } }, 503, { 'retry-after': '0' })],
    ['it would be too late', refusal('RATE_LIMITED', {}, 429, { 'retry-after': '60' })],
    ['a function said it', { ...refusal('', {}, 503, { 'retry-after': '0' }), body: 'busy' }],
  ])('a call is not made again where %s', async (_why, answer) => {
    node.answer = () => answer;
    await failure(make({ retries: 5, timeoutMs: 30_000 }).invoke('f'));
    expect(node.received).toHaveLength(1);
  });
});

/** The global fetch, and then something that happens a moment later. */
function fetchThen(then: () => void): typeof fetch {
  return async (...given) => {
    const response = await fetch(...given);
    setTimeout(then, 5);
    return response;
  };
}
