/** Secrets that a function sends and never sees: `{{secret:NAME}}` in the value of a header. */

import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { createHttpHostFunction, type HttpHostFunctionOptions } from '../../host-functions/index.ts';
import type { HostCallError, HostFunctionProvider } from '../../runtime/host-function.ts';
import { Invocation, recordingLog, type ScopeOptions } from './support.ts';

const SECRETS: Record<string, string> = {
  STRIPE_KEY: 'sk_live_1234567890',
  READABLE: 'one that env may read',
  TWO_LINES: 'a\r\nx-injected: 1',
  FORM_FEED: 'a\fb',
  EMOJI: 'key 🔑',
  LONG: 'x'.repeat(40_000),
  NESTED: '{{secret:STRIPE_KEY}}',
  UNLISTED: 'never to be sent',
};

let server: http.Server;
let port: number;
const seen: { url: string; headers: http.IncomingHttpHeaders; rawHeaders: string[]; body: string }[] = [];
const providers: HostFunctionProvider[] = [];

beforeAll(async () => {
  server = http.createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const { url = '', headers, rawHeaders } = request;
    seen.push({ url, headers, rawHeaders, body: Buffer.concat(chunks).toString() });
    const target = new URL(url, 'http://x').searchParams.get('to');
    if (target === null) response.end();
    else response.writeHead(302, { location: target }).end();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  port = (server.address() as AddressInfo).port;
});
afterAll(async () => {
  await Promise.all(providers.map((provider) => provider.stop?.()));
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
});
afterEach(() => {
  seen.length = 0;
});

const resolved: string[][] = [];
const secrets = {
  async resolve(names: readonly string[]) {
    resolved.push([...names]);
    return { values: Object.fromEntries(names.flatMap((name) => (name in SECRETS ? [[name, SECRETS[name]!]] : []))) };
  },
};

function guest(scope: ScopeOptions = {}, options: HttpHostFunctionOptions = { secrets }): Invocation {
  const provider = createHttpHostFunction(options);
  providers.push(provider);
  const names = ['STRIPE_KEY', 'TWO_LINES', 'FORM_FEED', 'EMOJI', 'LONG', 'NESTED', 'MISSING'];
  return new Invocation(provider, { allow: [`localhost:${port}`, `127.0.0.1:${port}`], secrets: names, ...scope });
}

const send = (
  from: Invocation,
  headers: Record<string, string>,
  init: Record<string, unknown> = {},
): Promise<unknown> =>
  from.call('http.fetch', {
    url: `http://localhost:${port}/`,
    method: 'GET',
    headers: Object.entries(headers),
    bodyBase64: null,
    redirect: 'follow',
    ...init,
  });
const refusal = (...given: Parameters<typeof send>): Promise<HostCallError> =>
  send(...given).then(
    () => expect.fail('was sent'),
    (error) => error,
  );

test('ENV-04 a listed secret is put into the header, by itself or amid text, and the guest is told nothing of it', async () => {
  const answer = await send(guest({ env: ['READABLE'] }), {
    authorization: 'Bearer {{secret:STRIPE_KEY}}',
    'x-both': '{{secret:STRIPE_KEY}}/{{secret:READABLE}}',
  });
  expect(seen[0]?.headers).toMatchObject({
    authorization: 'Bearer sk_live_1234567890',
    'x-both': 'sk_live_1234567890/one that env may read',
  });
  expect(JSON.stringify(answer)).not.toContain('sk_live');
});

test.each([
  [
    'a name that is not listed',
    '{{secret:UNLISTED}}',
    /x-key refers to UNLISTED, which is not in the function's http.secrets or env/,
  ],
  ['a name in another case', '{{secret:stripe_key}}', /refers to stripe_key/],
  ['a name of Object', '{{secret:constructor}}', /refers to constructor/],
  ['a listed name without a value', '{{secret:MISSING}}', /the secret MISSING is not set/],
  ['no name', '{{secret:}}', /a reference that is not like/],
  ['an open end', '{{secret:STRIPE_KEY', /a reference that is not like/],
  ['a space', '{{secret: STRIPE_KEY}}', /a reference that is not like/],
  ['a reference in a reference', '{{secret:{{secret:STRIPE_KEY}}}}', /a reference that is not like/],
  ['a value with a line break', '{{secret:TWO_LINES}}', /the secret TWO_LINES can not stand in a header/],
  ['a value with a control character', '{{secret:FORM_FEED}}', /the secret FORM_FEED can not stand in a header/],
  ['a value beyond Latin-1', '{{secret:EMOJI}}', /the secret EMOJI can not stand in a header/],
])('ENV-04 %s is an error that says so, and nothing is sent', async (_what, value, message) => {
  const error = await refusal(guest(), { 'x-key': value, 'x-other': '{{secret:STRIPE_KEY}}' });
  expect(error).toMatchObject({
    name: 'TypeError',
    code: 'HTTP_INVALID_REQUEST',
    message: expect.stringMatching(message),
  });
  expect(error.toPayload()).not.toMatch(/sk_live|x-injected|🔑/);
  expect(seen).toEqual([]);
});

test('ENV-04 the limit on headers counts what is sent, and before that what was written', async () => {
  const from = guest();
  expect(await refusal(from, { 'x-key': '{{secret:LONG}}' })).toMatchObject({ code: 'HTTP_HEADERS_LIMIT' });
  expect(await refusal(from, { 'x-key': '{{secret:STRIPE_KEY}}'.repeat(2_000) })).toMatchObject({
    code: 'HTTP_HEADERS_LIMIT',
  });
  expect(seen).toEqual([]);
});

test('ENV-04 a value is put in once: a reference that is in a value stays text', async () => {
  await send(guest(), { 'x-key': '{{secret:NESTED}}' });
  expect(seen[0]?.headers['x-key']).toBe('{{secret:STRIPE_KEY}}');
});

test('ENV-04 in a URL, a body and the name of a header there are no references', async () => {
  const from = guest();
  const text = '{{secret:STRIPE_KEY}}';
  await send(
    from,
    {},
    {
      url: `http://localhost:${port}/${text}?q=${text}`,
      method: 'POST',
      bodyBase64: Buffer.from(text).toString('base64'),
    },
  );
  expect(seen).toMatchObject([
    { url: `/{{secret:STRIPE_KEY}}?q=${text}`.replace('/{{', '/%7B%7B').replace('}}?', '%7D%7D?'), body: text },
  ]);
  expect(JSON.stringify(seen)).not.toContain('sk_live');
  expect(await refusal(from, { '{{secret:STRIPE_KEY}}': 'v' })).toMatchObject({ code: 'HTTP_INVALID_REQUEST' });
});

test('ENV-04 a host that is not listed gets nothing, and no secret is even looked up for it', async () => {
  resolved.length = 0;
  const log = recordingLog();
  const from = guest({ allow: ['api.example.com'] }, { secrets, log });
  expect(await refusal(from, { 'x-key': '{{secret:STRIPE_KEY}}' })).toMatchObject({ code: 'HTTP_NOT_ALLOWED' });
  expect(await refusal(from, { 'x-key': '{{secret:STRIPE_KEY}}' }, { url: 'http://api.example.com/' })).toMatchObject({
    code: 'HTTP_NOT_ALLOWED',
  });
  expect(resolved).toEqual([]);
  expect(JSON.stringify(log.lines)).not.toContain('sk_live');
});

test('ENV-04 NET-07 a redirect to another origin takes no secret along, whatever header it is in; one within the origin does', async () => {
  const headers = {
    authorization: 'Bearer {{secret:STRIPE_KEY}}',
    accept: 'text/{{secret:STRIPE_KEY}}',
    'user-agent': '{{secret:STRIPE_KEY}}',
  };
  await send(guest(), headers, { url: `http://localhost:${port}/?to=/same` });
  expect(seen[1]).toMatchObject({ url: '/same', headers: { authorization: 'Bearer sk_live_1234567890' } });
  seen.length = 0;
  await send(guest(), headers, { url: `http://localhost:${port}/?to=http://127.0.0.1:${port}/other` });
  expect(seen[1]).toMatchObject({ url: '/other', headers: { 'user-agent': 'postern', accept: '*/*' } });
  expect(JSON.stringify(seen[1])).not.toMatch(/sk_live|secret:/);
});

test('ENV-07 a request with a secret that fails is told of without it', async () => {
  const log = recordingLog();
  const from = guest({ allow: ['localhost:9'.replace(':9', ':59999')] }, { secrets, log });
  const error = await refusal(from, { authorization: '{{secret:STRIPE_KEY}}' }, { url: 'http://localhost:59999/' });
  expect(error).toMatchObject({ code: 'HTTP_FAILED', details: { reason: 'ECONNREFUSED' } });
  expect(error.toPayload() + JSON.stringify(log.lines)).not.toContain('sk_live');
});
