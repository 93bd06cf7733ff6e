/** Senders' and receivers' own libraries on the other side of the wire. */

import { randomUUID } from 'node:crypto';
import { createRequire } from 'node:module';
import { Webhooks } from '@octokit/webhooks';
import { Webhook } from 'standardwebhooks';
import Stripe from 'stripe';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createTestDatabase, type TestDatabase } from '../../support/postgres.ts';
import { SECRET, secretOf, startNode, TestFunctions, type WebhookNode, WHSEC } from './support.ts';

/** What GitHub documents of each of its events. */
const GITHUB = createRequire(import.meta.url)('@octokit/webhooks-examples') as readonly {
  readonly name: string;
  readonly examples: readonly object[];
}[];
/** A refusal waits, so that a stranger's requests are slow; these wait together. */
const AT_ONCE = 16;

let db: TestDatabase;
let functions: TestFunctions;
let node: WebhookNode;

beforeAll(async () => {
  db = await createTestDatabase();
  functions = new TestFunctions(db);
  node = await startNode(functions);
});
afterAll(async () => {
  await node.stop();
  await db.drop();
});

/** The bytes of the body in the event that a function is handed. */
async function bodyOf(deliveryId: string): Promise<string> {
  const { rows } = await db.pool.query<{ json: string }>(
    `select e.new_row::text as json from postern.events e join postern.webhook_deliveries d on d.event_id = e.id
     where d.delivery_id = $1`,
    [deliveryId],
  );
  const { json } = rows[0]!;
  return json.slice(json.indexOf(',"body":') + 8, json.lastIndexOf(',"timestamp":'));
}

/** The text with one byte changed. */
function flipped(text: string): Buffer {
  const bytes = Buffer.from(text);
  bytes[Math.floor(Math.random() * bytes.length)]! ^= 1 << Math.floor(Math.random() * 8);
  return bytes;
}

const FORMS = [
  ['as it is sent', (payload: object) => JSON.stringify(payload)],
  [
    'in lines, and not in ASCII alone',
    (payload: object) => JSON.stringify({ note: 'ünïcödé \u2028 👋', ...payload }, null, 2),
  ],
] as const;

test.each(FORMS)(
  "every example of GitHub's events, signed by Octokit, is accepted %s; a flipped byte is not",
  async (_, form) => {
    const { path, id } = await functions.add({ scheme: 'github', secret: 'SECRET' });
    const octokit = new Webhooks({ secret: SECRET });
    const deliver = async (name: string, payload: object): Promise<void> => {
      const body = form(payload);
      const delivery = randomUUID();
      const headers = {
        'x-github-event': name,
        'x-github-delivery': delivery,
        'x-hub-signature-256': await octokit.sign(body),
      };
      const spoiled = { ...headers, 'x-github-delivery': randomUUID() };
      const [accepted, refused] = await Promise.all([
        node.post(path, body, headers),
        node.post(path, flipped(body), spoiled),
      ]);
      expect([name, accepted.status, refused.status]).toEqual([name, 202, 401]);
      expect(await bodyOf(delivery)).toBe(body);
    };
    const waiting = GITHUB.flatMap(({ name, examples }) => examples.map((payload) => () => deliver(name, payload)));
    const count = waiting.length;
    expect(count).toBeGreaterThan(200);
    const work = async (): Promise<void> => {
      for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) await next();
    };
    await Promise.all(Array.from({ length: AT_ONCE }, work));
    expect([await functions.deliveries(id), (await functions.events(id)).length]).toEqual([count, count]);
  },
);

test('what the library of Standard Webhooks signs is accepted byte by byte; a flipped byte is not', async () => {
  const { path, id } = await functions.add({ scheme: 'standard-webhooks', secret: secretOf('standard-webhooks') });
  const sender = new Webhook(WHSEC);
  for (const body of ['{"type":"user.created","data":{"n":1.50}}', '{ "ö" : "\\u00f6👋" }\n', '[]']) {
    const message = `msg_${randomUUID()}`;
    const at = new Date();
    const headers = {
      'webhook-id': message,
      'webhook-timestamp': String(Math.floor(at.getTime() / 1_000)),
      'webhook-signature': sender.sign(message, at, body),
    };
    expect((await node.post(path, flipped(body), headers)).status).toBe(401);
    expect((await node.post(path, body, headers)).status).toBe(202);
    expect((await bodyOf(message)).trim()).toBe(body.trim());
  }
  expect(await functions.deliveries(id)).toBe(3);
});

test("a test header of Stripe's library is accepted with the time and the keys that it is given; a flipped byte is not", async () => {
  const { path, id } = await functions.add({ scheme: 'stripe', secret: 'SECRET' });
  const now = Math.floor(Date.now() / 1_000);
  const send = (
    payload: string,
    options: { timestamp?: number; secret?: string } = {},
    body: string | Buffer = payload,
  ) =>
    node.post(path, body, {
      'stripe-signature': Stripe.webhooks.generateTestHeaderString({ payload, secret: SECRET, ...options }),
    });
  const event = `evt_${randomUUID()}`;
  const payload = JSON.stringify({ id: event, object: 'event', type: 'invoice.paid' }, null, 2);
  expect((await send(payload, {}, flipped(payload))).status).toBe(401);
  expect((await send(payload, { secret: 'another secret of many bytes' })).status).toBe(401);
  for (const timestamp of [now - 400, now + 400]) expect((await send(payload, { timestamp })).status).toBe(401);
  expect(await functions.deliveries(id)).toBe(0);
  expect((await send(payload, { timestamp: now - 200 })).status).toBe(202);
  expect(await bodyOf(event)).toBe(payload);
});
