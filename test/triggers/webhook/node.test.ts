/** Webhooks of whole nodes: real functions, secrets, dispatch; and what functions sign themselves. */

import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import pino from 'pino';
import { Webhook } from 'standardwebhooks';
import Stripe from 'stripe';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { signToken } from '../../../cli/dev-keys.ts';
import { type RunningPostern, startPostern } from '../../../server/index.ts';
import { createTestDatabase, type TestDatabase } from '../../support/postgres.ts';
import { SECRET, sign } from './support.ts';

let db: TestDatabase;
let dataDir: string;
let nodes: RunningPostern[];

beforeAll(async () => {
  db = await createTestDatabase();
  dataDir = await mkdtemp(join(tmpdir(), 'postern-webhook-'));
  const start = () =>
    startPostern(
      { mode: 'dev', host: '127.0.0.1', port: 0, dataDir, databaseUrl: db.url, executors: 1 },
      { logOutput: { write: () => true }, log: pino({ level: 'silent' }) },
    );
  nodes = [await start(), await start()];
});
afterAll(async () => {
  await Promise.all((nodes ?? []).map((node) => node.stop()));
  await rm(dataDir, { recursive: true, force: true });
  await db.drop();
});

async function control(method: string, path: string, body?: unknown) {
  const response = await fetch(nodes[0]!.url + path, {
    method,
    headers: body === undefined ? {} : { 'content-type': 'application/json' },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const text = await response.text();
  return { status: response.status, body: (text === '' ? {} : JSON.parse(text)) as Record<string, unknown> };
}

async function post(node: RunningPostern, name: string, body: string, headers: Record<string, string>) {
  const response = await fetch(`${node.url}/functions/v1/webhook/${name}`, {
    method: 'POST',
    body,
    headers: { 'content-type': 'application/json', ...headers },
  });
  return { status: response.status, text: await response.text(), headers: response.headers };
}

/** The records of a function's invocations. */
async function invocations(name: string): Promise<Record<string, unknown>[]> {
  return (await control('GET', `/functions/${name}/invocations`)).body.invocations as Record<string, unknown>[];
}

test('WH-09 an accepted webhook runs its function once, whichever nodes the delivery came to', async () => {
  await control('PUT', '/secrets/STRIPE_SECRET', { value: SECRET });
  const deployed = await control('POST', '/functions', {
    name: 'payments',
    trigger: { type: 'webhook', scheme: 'stripe', secret: 'STRIPE_SECRET' },
    source: `export async function handler(event) {
      if (event.trigger !== 'webhook' || event.body.type !== 'charge.succeeded') throw new Error(JSON.stringify(event));
      return { statusCode: 'not a status here', id: event.event_id };
    }`,
  });
  expect(deployed).toMatchObject({ status: 201, body: { url: '/functions/v1/webhook/payments' } });
  const payload = JSON.stringify({ id: 'evt_9', type: 'charge.succeeded' });
  const header = Stripe.webhooks.generateTestHeaderString({ payload, secret: SECRET });
  const answers = await Promise.all(
    [0, 1, 0, 1].map((index) => post(nodes[index]!, 'payments', payload, { 'stripe-signature': header })),
  );
  expect(answers.map(({ status }) => status)).toEqual([202, 202, 202, 202]);
  const ids = answers.map(({ text }) => JSON.parse(text).id as string);
  expect(new Set(ids).size).toBe(1);
  await expect
    .poll(() => invocations('payments'), { timeout: 10_000 })
    .toMatchObject([{ status: 'ok', trigger: 'webhook', attempt: 1 }]);
  const { rows } = await db.pool.query(
    'select count(*)::int as runs from postern.function_invocations where event_id = $1',
    [ids[0]],
  );
  expect(rows).toEqual([{ runs: 1 }]);
});

test("with respond: 'result' a status that the function gives is the sender's, on both nodes", async () => {
  await control('PUT', '/secrets/HOOK', { value: SECRET });
  const { status } = await control('POST', '/functions', {
    name: 'answers',
    trigger: { type: 'webhook', secret: 'HOOK', respond: 'result' },
    source: `export const handler = (event) =>
      ({ statusCode: 201, headers: { 'x-attempt': String(event.attempt) }, body: { got: event.body.n, once: Math.random() } });`,
  });
  expect(status).toBe(201);
  const headers = sign('hmac-sha256', '{"n":7}');
  const first = await post(nodes[0]!, 'answers', '{"n":7}', headers);
  expect(first.status).toBe(201);
  expect(JSON.parse(first.text)).toMatchObject({ got: 7 });
  expect(first.headers.get('x-attempt')).toBe('1');
  expect(await post(nodes[1]!, 'answers', '{"n":7}', headers)).toMatchObject({ status: 201, text: first.text });
});

test('WH-08 a secret that was removed or changed is refused by every node when the change has returned', async () => {
  const [old, fresh] = ['the old secret of many bytes', 'the new secret of many bytes'];
  await control('PUT', '/secrets/OLD', { value: old });
  await control('POST', '/functions', {
    name: 'rotating',
    trigger: { type: 'webhook', secrets: ['NEW', 'OLD'] },
    source: 'export const handler = () => 1;',
  });
  const send = async (secret: string) =>
    Promise.all(
      nodes.map(async (node) => (await post(node, 'rotating', '{}', sign('hmac-sha256', '{}', { secret }))).status),
    );
  expect(await send(old)).toEqual([202, 202]);
  await control('PUT', '/secrets/NEW', { value: fresh });
  expect([await send(old), await send(fresh)].flat()).toEqual([202, 202, 202, 202]);
  await control('DELETE', '/secrets/OLD');
  expect([await send(old), await send(fresh)].flat()).toEqual([401, 401, 202, 202]);
  await control('PUT', '/secrets/NEW', { value: old });
  expect([await send(old), await send(fresh)].flat()).toEqual([202, 202, 401, 401]);
});

test('WH-08 a version whose secret is too short is refused at deploy, without its value, and nothing is deployed', async () => {
  await control('PUT', '/secrets/SHORT', { value: 'only-a-few-bytes' });
  const refused = await control('POST', '/functions', {
    name: 'weak',
    triggers: ['http', { type: 'webhook', secrets: ['LATER', 'SHORT'] }],
    source: 'export const handler = () => 1;',
  });
  expect(refused).toMatchObject({ status: 422, body: { code: 'INVALID_FUNCTION' } });
  expect(refused.body.message).toBe(
    'function "weak", trigger 2 (webhook): secret SHORT has 16 bytes, and signing takes 24 at least',
  );
  expect((await control('GET', '/functions/weak')).status).toBe(404);
});

test('a function that only answers HTTP requests is refused a webhook trigger', async () => {
  const refused = await control('POST', '/functions', {
    name: 'fetcher',
    trigger: { type: 'webhook', secret: 'HOOK' },
    source: 'export default { fetch: () => new Response("x") };',
  });
  expect(refused).toMatchObject({ status: 422 });
  expect(refused.body.message).toContain('has a webhook trigger but exports only fetch()');
});

test('a function with a webhook trigger alone can not be called past its signature, whatever token the caller has', async () => {
  await control('PUT', '/secrets/HOOK', { value: SECRET });
  const trigger = { type: 'webhook', secret: 'HOOK' };
  const source = 'export const handler = (event) => event;';
  const call = async (path: string) => {
    const response = await fetch(nodes[0]!.url + path, {
      method: 'POST',
      body: '{"trigger":"webhook","body":{"paid":true}}',
      headers: {
        'content-type': 'application/json',
        authorization: `Bearer ${await signToken(nodes[0]!.jwtSecret!, 'service_role')}`,
      },
    });
    return response.status;
  };
  const paths = (id: unknown) => [
    '/functions/v1/vault',
    '/functions/v1/invoke/vault',
    '/invoke/vault',
    `/invoke/${id}`,
  ];
  const alone = await control('POST', '/functions', { name: 'vault', trigger, source });
  for (const path of paths(alone.body.id)) expect([path, await call(path)]).toEqual([path, 404]);
  const both = await control('POST', '/functions', { name: 'vault', triggers: ['http', trigger], source });
  for (const path of paths(both.body.id)) expect([path, await call(path)]).toEqual([path, 200]);
});

/** The indented block that follows this line of docs/webhooks.md. */
function documented(after: string): string {
  const page = readFileSync('docs/webhooks.md', 'utf8');
  const block = /(?:^ {4}.*\n|^\n(?= {4}))+/m.exec(page.slice(page.indexOf(after)));
  return block![0].replaceAll(/^ {4}/gm, '');
}

test('the page on webhooks shows a function that is taken, and a call that is accepted', async () => {
  await control('PUT', '/secrets/STRIPE_WEBHOOK_SECRET', { value: SECRET });
  await control('PUT', '/secrets/HOOK_SECRET', { value: SECRET });
  const shown = await control('POST', '/functions', { name: 'payments', source: documented('# Webhooks') });
  expect(shown.status).toBe(201);
  const hooks = {
    name: 'hooks',
    trigger: { type: 'webhook', secret: 'HOOK_SECRET' },
    source: 'export const handler = (event) => event.body.amount;',
  };
  expect((await control('POST', '/functions', hooks)).status).toBe(201);
  const script = documented('## By hand').replace('http://127.0.0.1:8787', nodes[0]!.url);
  const { stdout } = await promisify(execFile)('sh', ['-c', script], { env: { PATH: process.env.PATH, SECRET } });
  expect(JSON.parse(stdout)).toEqual({ id: expect.stringMatching(/^[0-9a-f-]{36}$/) });
});

test("what a function signs with signWebhook is the published example's, and is accepted here and by the published library", async () => {
  const secret = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw';
  await control('PUT', '/secrets/WHSEC', { value: secret });
  await control('POST', '/functions', {
    name: 'sender',
    auth: 'none',
    env: ['WHSEC'],
    source: `import { env, signWebhook } from 'postern';
      export async function handler({ body }) {
        const { at, ...webhook } = body;
        const time = at === undefined ? {} : { timestamp: new Date(at * 1000) };
        return signWebhook(body.secret ?? env('WHSEC'), { ...webhook, ...time });
      }`,
  });
  await control('POST', '/functions', {
    name: 'receiver',
    trigger: { type: 'webhook', scheme: 'standard-webhooks', secret: 'WHSEC', respond: 'result' },
    source: 'export const handler = (event) => event.body;',
  });
  const signed = async (webhook: Record<string, unknown>) => {
    const response = await fetch(`${nodes[0]!.url}/functions/v1/sender`, {
      method: 'POST',
      body: JSON.stringify(webhook),
      headers: { 'content-type': 'application/json' },
    });
    return { status: response.status, body: (await response.json()) as Record<string, string> };
  };
  // https://docs.svix.com/receiving/verifying-payloads/how-manual
  const example = { id: 'msg_p5jXN8AQM9LWM0D4loKWxJek', body: '{"test": 2432232314}', at: 1_614_265_330 };
  expect((await signed(example)).body).toEqual({
    'webhook-id': 'msg_p5jXN8AQM9LWM0D4loKWxJek',
    'webhook-timestamp': '1614265330',
    'webhook-signature': 'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=',
  });
  const now = (await signed({ id: 'msg_2', body: '{"é":1}' })).body;
  expect(await post(nodes[1]!, 'receiver', '{"é":1}', now)).toMatchObject({ status: 200, text: '{"é":1}' });
  const verifier = new Webhook(secret);
  expect(verifier.verify('{"é":1}', now)).toEqual({ é: 1 });
  expect(() => verifier.verify('{"é":2}', now)).toThrow('No matching signature found');
  for (const bad of [{ id: 'a.b' }, { id: '' }, { secret: 'whsec_c2hvcnQ=' }, { secret: '%' }, { body: 1 }]) {
    const refused = await signed({ id: 'msg_3', body: '{}', ...bad });
    expect(refused).toMatchObject({ status: 500, body: { code: 'FUNCTION_ERROR' } });
    expect(refused.body.message).toContain('signWebhook needs');
  }
});
