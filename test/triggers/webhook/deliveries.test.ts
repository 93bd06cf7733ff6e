import { randomUUID } from 'node:crypto';
import type { Pool } from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { InvocationRequest } from '../../../invoker/index.ts';
import { DeliverySweeper, Dispatcher } from '../../../triggers/index.ts';
import { createTestDatabase, type TestDatabase } from '../../support/postgres.ts';
import { SettlementLog } from '../database/support.ts';
import { seconds, sign, startNode, TestFunctions, value, type WebhookNode } from './support.ts';

const BODY = '{"event":"payment.succeeded","amount":1000}';

let db: TestDatabase;
let functions: TestFunctions;
let node: WebhookNode;
let other: WebhookNode;

beforeAll(async () => {
  db = await createTestDatabase();
  functions = new TestFunctions(db);
  [node, other] = await Promise.all([startNode(functions), startNode(functions)]);
});
afterAll(async () => {
  await Promise.all([node.stop(), other.stop()]);
  await db.drop();
});

const runsOf = (name: string): InvocationRequest[] =>
  functions.requests.filter(({ functionName }) => functionName === name);

/** A pool whose connection ends when a statement has been done and before that is known. */
const cut = (pool: Pool): Pool =>
  new Proxy(pool, {
    get: (target, key) =>
      key === 'query'
        ? async (text: string, values?: unknown[]) => {
            await target.query(text, values);
            throw Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET' });
          }
        : Reflect.get(target, key),
  });

describe('the event', () => {
  test('has the body as it came, lower-case headers, the time and the ids', async () => {
    const { path, id } = await functions.add({ secret: 'SECRET' });
    const body = '{ "n": 12345678901234567890, "__proto__": {"x": 1}, "n": 1.0e2 }';
    const headers = {
      ...sign('hmac-sha256', body, { id: 'd-1' }),
      'X-Custom': 'yes',
      authorization: 'Bearer x',
      cookie: 'c=1',
    };
    const answer = await node.post(path, body, headers);
    expect(answer.status).toBe(202);
    const { rows } = await db.pool.query<{ json: string }>(
      'select new_row::text as json from postern.events where function_id = $1',
      [id],
    );
    const { json } = rows[0]!;
    expect(json).toMatch(/^\{"trigger":"webhook","headers":\{/);
    expect(json).toContain(`,"body":${body},"timestamp":"`);
    const event = JSON.parse(json);
    expect(event).toMatchObject({ delivery_id: 'd-1', headers: { 'x-custom': 'yes', 'x-webhook-id': 'd-1' } });
    expect(Object.keys(event)).toEqual(['trigger', 'headers', 'body', 'timestamp', 'delivery_id']);
    expect(Math.abs(Date.now() - Date.parse(event.timestamp))).toBeLessThan(60_000);
    expect(Object.keys(event.headers)).not.toContain('authorization');
    expect(Object.keys(event.headers)).not.toContain('cookie');
    expect(({} as { x?: number }).x).toBeUndefined();
  });

  test.each([
    ['a form', 'application/x-www-form-urlencoded', 'a=1&b=2', { body: 'a=1&b=2' }],
    ['bytes', 'application/octet-stream', Buffer.from([0, 255]), { body: 'AP8=', isBase64Encoded: true }],
    ['nothing', 'application/json', '', { body: null }],
  ])('%s is handed on as a function with HTTP gets it', async (_, type, body, expected) => {
    const { path, id } = await functions.add({ secret: 'SECRET' });
    expect((await node.post(path, body, { ...sign('hmac-sha256', body), 'content-type': type })).status).toBe(202);
    expect(await functions.events(id)).toMatchObject([expected]);
  });

  test('a signed body that is said to be JSON and is not is INVALID_BODY, and may be sent again', async () => {
    const { path, id } = await functions.add({ secret: 'SECRET' });
    const answer = await node.post(path, '{', sign('hmac-sha256', '{'));
    expect(answer).toMatchObject({ status: 400, body: { code: 'INVALID_BODY' } });
    expect(await functions.deliveries(id)).toBe(0);
  });

  test('reaches the function through the outbox, with its id and attempt', async () => {
    const { path, name } = await functions.add({ secret: 'SECRET' });
    const log = new SettlementLog();
    const dispatcher = new Dispatcher({
      pool: db.pool,
      connection: { connectionString: db.url },
      invoker: { invoke: (request) => functions.invoke(request) },
      nodeId: randomUUID(),
      policy: () => ({
        retry: { maxAttempts: 5, backoff: { initialMs: 1, factor: 1, maxMs: 1 } },
        version: 1,
        concurrency: null,
      }),
      metrics: log.metrics,
    });
    const { rows } = await db.pool.query<{ count: number }>('select count(*)::int as count from postern.events');
    await dispatcher.start();
    try {
      const { body } = await node.post(path, BODY, sign('hmac-sha256', BODY));
      await log.until({ finished: rows[0]!.count + 1 });
      const [run] = runsOf(name);
      expect(run).toMatchObject({ trigger: 'webhook', eventId: body.id, attempt: 1, identity: { role: 'anon' } });
      expect(JSON.parse(run!.eventJson)).toMatchObject({ body: { amount: 1000 }, event_id: body.id, attempt: 1 });
    } finally {
      await dispatcher.stop();
    }
  });
});

describe('a delivery that comes again', () => {
  test('WH-04 is answered as before, marked, and makes no second event, on any node and after a restart', async () => {
    const { path, id } = await functions.add({ secret: 'SECRET' });
    const headers = sign('hmac-sha256', BODY);
    const first = await node.post(path, BODY, headers);
    expect(first).toMatchObject({ status: 202, body: { id: expect.any(String) } });
    const restarted = await startNode(functions);
    try {
      for (const one of [node, other, restarted]) {
        const again = await one.post(path, BODY, headers);
        expect(again).toMatchObject({ status: 202, body: { id: first.body.id, duplicate: true } });
      }
    } finally {
      await restarted.stop();
    }
    expect(await functions.events(id)).toHaveLength(1);
  });

  test('WH-04 to two nodes at once becomes one event', async () => {
    const { path, id } = await functions.add({ scheme: 'standard-webhooks', secret: 'WHSEC' });
    for (let round = 0; round < 10; round++) {
      const headers = sign('standard-webhooks', BODY);
      const answers = await Promise.all(
        Array.from({ length: 6 }, (_, index) => (index % 2 === 0 ? node : other).post(path, BODY, headers)),
      );
      expect(answers.map(({ status }) => status)).toEqual(Array(6).fill(202));
      expect(new Set(answers.map(({ body }) => body.id)).size).toBe(1);
      expect(answers.filter(({ body }) => body.duplicate !== true)).toHaveLength(1);
      expect(await functions.events(id)).toHaveLength(round + 1);
    }
  });

  test('WH-04 the ids of one function mean nothing to another', async () => {
    const headers = sign('hmac-sha256', BODY);
    for (let index = 0; index < 2; index++) {
      const { path } = await functions.add({ secret: 'SECRET' });
      expect((await node.post(path, BODY, headers)).body.duplicate).toBeUndefined();
    }
  });

  test('WH-05 with another body under the same id is refused and logged, though it is signed', async () => {
    const { path, id, name } = await functions.add({ secret: 'SECRET' });
    await node.post(path, BODY, sign('hmac-sha256', BODY, { id: 'd-7' }));
    const changed = BODY.replace('1000', '9999');
    const answer = await node.post(path, changed, sign('hmac-sha256', changed, { id: 'd-7' }));
    expect(answer).toMatchObject({ status: 409, body: { code: 'CONFLICT' } });
    expect(node.logged.filter((line) => line.includes(name) && line.includes('d-7'))).toHaveLength(1);
    expect(await functions.events(id)).toHaveLength(1);
  });

  test('WH-06 without an id is known by what was signed', async () => {
    const { path, id } = await functions.add({ secret: 'SECRET' });
    const { 'x-webhook-id': _, ...headers } = sign('hmac-sha256', BODY);
    expect((await node.post(path, BODY, headers)).body.duplicate).toBeUndefined();
    expect((await node.post(path, BODY, headers)).body.duplicate).toBe(true);
    const [event] = await functions.events(id);
    expect(event!.delivery_id).toMatch(/^sha256:[0-9a-f]{64}$/);
    // Slack's commands have no id; two of the same text are two when they were sent at two times.
    const slack = await functions.add({ scheme: 'slack', secret: 'SECRET' });
    const form = { 'content-type': 'application/x-www-form-urlencoded' };
    for (const timestamp of [seconds(), seconds(-1)]) {
      const signed = { ...sign('slack', 'text=hello', { timestamp }), ...form };
      expect((await node.post(slack.path, 'text=hello', signed)).body.duplicate).toBeUndefined();
      expect((await node.post(slack.path, 'text=hello', signed)).body.duplicate).toBe(true);
    }
  });

  test('WH-06 of Stripe and Slack is known by the event id in the signed body, whatever else changed in it', async () => {
    for (const [scheme, key] of [
      ['stripe', 'id'],
      ['slack', 'event_id'],
    ] as const) {
      const { path, id } = await functions.add({ scheme, secret: 'SECRET' });
      const send = (event: string, pending: number, timestamp: string) => {
        const body = JSON.stringify({ [key]: event, pending_webhooks: pending });
        return node.post(path, body, sign(scheme, body, { timestamp }));
      };
      expect((await send('evt_1', 2, seconds(-60))).body.duplicate).toBeUndefined();
      expect(await send('evt_1', 1, seconds())).toMatchObject({ status: 202, body: { duplicate: true } });
      expect((await send('evt_2', 1, seconds())).body.duplicate).toBeUndefined();
      expect(await functions.events(id)).toMatchObject([{ delivery_id: 'evt_1' }, { delivery_id: 'evt_2' }]);
    }
  });

  test.each(['', 'a b', 'a.b', 'x'.repeat(201), 'ü'])('WH-07 under an id that is none (%j) is refused', async (id) => {
    const { path } = await functions.add({ secret: 'SECRET' });
    const headers = { ...sign('hmac-sha256', BODY), 'x-webhook-id': id };
    expect((await node.post(path, BODY, headers)).status).toBe(401);
  });
});

describe('WH-09 the sender is told', () => {
  test('202 when the event is committed, and not when the function has run', async () => {
    const { path, id, name } = await functions.add({ secret: 'SECRET' });
    const answer = await node.post(path, BODY, sign('hmac-sha256', BODY));
    expect(answer.status).toBe(202);
    expect(await functions.events(id)).toHaveLength(1);
    expect(runsOf(name)).toEqual([]);
  });

  test('no success where the commit is in doubt, and its next try is the same delivery', async () => {
    const { path, id } = await functions.add({ secret: 'SECRET' });
    const doubtful = await startNode(functions, { pool: cut(db.pool) });
    try {
      const headers = sign('hmac-sha256', BODY);
      const answer = await doubtful.post(path, BODY, headers);
      expect(answer).toMatchObject({ status: 503, body: { code: 'DATABASE_UNAVAILABLE' } });
      expect(await node.post(path, BODY, headers)).toMatchObject({ status: 202, body: { duplicate: true } });
      expect(await functions.events(id)).toHaveLength(1);
    } finally {
      await doubtful.stop();
    }
  });

  test('no success where the event was not written, and its next try writes it', async () => {
    const { path, id } = await functions.add({ secret: 'SECRET' });
    const headers = sign('hmac-sha256', BODY);
    await db.pool.query(`alter table postern.events add constraint full_disk check (function_id <> ${id}) not valid`);
    try {
      expect((await node.post(path, BODY, headers)).status).toBe(500);
    } finally {
      await db.pool.query('alter table postern.events drop constraint full_disk');
    }
    expect(await functions.deliveries(id)).toBe(0);
    expect((await node.post(path, BODY, headers)).body.duplicate).toBeUndefined();
    expect(await functions.events(id)).toHaveLength(1);
  });
});

describe('a secret', () => {
  test('WH-08 old and new are valid together, and a removed one at once is not', async () => {
    const { path } = await functions.add({ secrets: ['NEW', 'OLD'] });
    const [old, fresh] = ['the old secret of many bytes', 'the new secret of many bytes'];
    const send = async (secret: string) => (await node.post(path, BODY, sign('hmac-sha256', BODY, { secret }))).status;
    functions.secrets.set('OLD', old);
    expect([await send(old), await send(fresh)]).toEqual([202, 401]);
    functions.secrets.set('NEW', fresh);
    expect([await send(old), await send(fresh)]).toEqual([202, 202]);
    functions.secrets.set('OLD', null);
    expect([await send(old), await send(fresh)]).toEqual([401, 202]);
  });

  test.each([
    ['hmac-sha256', 'x'.repeat(23), 'has 23 bytes'],
    ['standard-webhooks', `whsec_${Buffer.alloc(23).toString('base64')}`, 'has 23 bytes'],
    ['standard-webhooks', 'whsec_this is not base64 at all, but long', 'is not base64'],
  ] as const)(
    'WH-08 that is too short or malformed verifies nothing, and is said once: %s %s',
    async (scheme, secret, text) => {
      const bad = `BAD_${randomUUID().slice(0, 8)}`;
      functions.secrets.set(bad, secret);
      const { path, name } = await functions.add({
        scheme,
        secrets: [bad, scheme === 'hmac-sha256' ? 'SECRET' : 'WHSEC'],
      });
      const key = secret.startsWith('whsec_') ? Buffer.alloc(23).toString() : secret;
      for (let index = 0; index < 3; index++) {
        expect((await node.post(path, BODY, sign(scheme, BODY, { secret: key }))).status).toBe(401);
      }
      expect((await node.post(path, BODY, sign(scheme, BODY))).status).toBe(202);
      const said = node.logged.filter((line) => line.includes(name));
      expect(said).toEqual([expect.stringContaining(`secret ${bad} ${text}`)]);
      expect(said.join()).not.toContain(secret);
    },
  );

  test('WH-08 that is not set verifies nothing, not even with an empty key, and is said once', async () => {
    const { path, name } = await functions.add({ secrets: ['NOT_SET', 'NOR_THIS'] });
    for (let index = 0; index < 2; index++) {
      expect((await node.post(path, BODY, sign('hmac-sha256', BODY, { secret: '' }))).status).toBe(401);
    }
    expect(node.logged.filter((line) => line.includes(name))).toEqual([
      `webhook of function ${name}: NOT_SET, NOR_THIS: no such secret is set; every delivery is refused`,
    ]);
  });
});

describe("with respond: 'result'", () => {
  test('the answer of the function is the response, and stays it for the same delivery', async () => {
    const { path, name } = await functions.add({ secret: 'SECRET', respond: 'result' }, () => ({
      kind: 'http',
      status: 201,
      headers: [
        ['content-type', 'text/plain'],
        ['x-mine', 'yes'],
      ],
      body: `run ${runsOf(name).length}`,
    }));
    const headers = sign('hmac-sha256', BODY);
    for (const one of [node, other, node]) {
      const answer = await one.post(path, BODY, headers);
      expect(answer).toMatchObject({ status: 201, text: 'run 1' });
      expect(answer.headers.get('x-mine')).toBe('yes');
    }
    expect(runsOf(name)).toHaveLength(1);
    expect(runsOf(name)[0]).toMatchObject({ trigger: 'webhook', attempt: 1, answered: true });
    expect(JSON.parse(runsOf(name)[0]!.eventJson)).toMatchObject({
      trigger: 'webhook',
      event_id: runsOf(name)[0]!.eventId,
      attempt: 1,
    });
  });

  test('one run at a time for a delivery, on all nodes: others are told to come later', async () => {
    const gate = Promise.withResolvers<void>();
    const started = Promise.withResolvers<void>();
    const { path, name } = await functions.add({ secret: 'SECRET', respond: 'result' }, async () => {
      started.resolve();
      await gate.promise;
      return value('done');
    });
    const headers = sign('hmac-sha256', BODY);
    const first = node.post(path, BODY, headers);
    await started.promise;
    for (const one of [node, other]) {
      expect(await one.post(path, BODY, headers)).toMatchObject({ status: 409, body: { code: 'CONFLICT' } });
    }
    gate.resolve();
    expect(await first).toMatchObject({ status: 200, text: '"done"' });
    expect(await other.post(path, BODY, headers)).toMatchObject({ status: 200, text: '"done"' });
    expect(runsOf(name)).toHaveLength(1);
  });

  test('after a failure, or an answer that is no success, the next try runs it again as the same event', async () => {
    const outcomes = [
      () => {
        throw new Error('not yet');
      },
      () => ({ kind: 'http', status: 503, headers: [], body: 'later' }) as const,
      () => value('done'),
    ];
    const { path, name } = await functions.add({ secret: 'SECRET', respond: 'result' }, () =>
      outcomes[runsOf(name).length - 1]!(),
    );
    const headers = sign('hmac-sha256', BODY);
    const answers = [];
    for (let index = 0; index < 4; index++) answers.push((await node.post(path, BODY, headers)).status);
    expect(answers).toEqual([500, 503, 200, 200]);
    expect(runsOf(name).map(({ attempt }) => attempt)).toEqual([1, 2, 3]);
    expect(new Set(runsOf(name).map(({ eventId }) => eventId)).size).toBe(1);
  });

  test('a node that died in the middle leaves the delivery to the next try, once its lease is over', async () => {
    const { path, id, name } = await functions.add({ secret: 'SECRET', respond: 'result' });
    const headers = sign('hmac-sha256', BODY, { id: 'd-9' });
    // What such a node leaves behind.
    await db.pool.query(
      `insert into postern.webhook_deliveries (function_id, delivery_id, trigger_id, fingerprint, event_id, lease_id, lease_expires_at)
       values ($1, 'd-9', gen_random_uuid(), sha256($2::bytea), gen_random_uuid(), gen_random_uuid(), clock_timestamp() + interval '1 hour')`,
      [id, Buffer.from(BODY)],
    );
    expect((await node.post(path, BODY, headers)).status).toBe(409);
    expect(runsOf(name)).toEqual([]);
    await db.pool.query(
      `update postern.webhook_deliveries set lease_expires_at = clock_timestamp() where function_id = $1`,
      [id],
    );
    expect((await node.post(path, BODY, headers)).status).toBe(200);
    expect(runsOf(name)).toMatchObject([{ attempt: 2 }]);
  });

  test('a delivery that failed is accepted under its event id by a version that answers 202', async () => {
    const { path, id } = await functions.add({ secret: 'SECRET' });
    const headers = sign('hmac-sha256', BODY, { id: 'd-10' });
    const event = randomUUID();
    // What a version with another answer left behind, first with a lease that counts.
    await db.pool.query(
      `insert into postern.webhook_deliveries (function_id, delivery_id, trigger_id, fingerprint, event_id, lease_id, lease_expires_at)
       values ($1, 'd-10', gen_random_uuid(), sha256($2::bytea), $3, gen_random_uuid(), clock_timestamp() + interval '1 hour')`,
      [id, Buffer.from(BODY), event],
    );
    expect((await node.post(path, BODY, headers)).status).toBe(409);
    await db.pool.query(
      `update postern.webhook_deliveries set lease_expires_at = clock_timestamp() where function_id = $1`,
      [id],
    );
    expect(await node.post(path, BODY, headers)).toMatchObject({ status: 202, body: { id: event } });
    expect((await node.post(path, BODY, headers)).body).toEqual({ id: event, duplicate: true });
    expect(await functions.events(id)).toMatchObject([{ event_id: event, delivery_id: 'd-10' }]);
  });

  test('a node that lost its lease does not answer for the delivery', async () => {
    const { path, id } = await functions.add({ secret: 'SECRET', respond: 'result' }, async () => {
      await db.pool.query('update postern.webhook_deliveries set lease_id = gen_random_uuid() where function_id = $1', [
        id,
      ]);
      return value('mine');
    });
    expect((await node.post(path, BODY, sign('hmac-sha256', BODY))).status).toBe(409);
    const { rows } = await db.pool.query('select status, body from postern.webhook_deliveries where function_id = $1', [
      id,
    ]);
    expect(rows).toEqual([{ status: null, body: null }]);
  });

  test('a sender that hangs up does not end the run, and its next try gets the answer', async () => {
    const gate = Promise.withResolvers<void>();
    const started = Promise.withResolvers<void>();
    const { path, name } = await functions.add({ secret: 'SECRET', respond: 'result' }, async ({ signal }) => {
      started.resolve();
      await gate.promise;
      return value(signal?.aborted ?? 'went on');
    });
    const headers = sign('hmac-sha256', BODY);
    const gone = new AbortController();
    const first = fetch(node.url + path, {
      method: 'POST',
      body: BODY,
      headers: { ...headers, 'content-type': 'application/json' },
      signal: gone.signal,
    });
    await started.promise;
    gone.abort();
    await expect(first).rejects.toThrow();
    gate.resolve();
    const again = async () => (await node.post(path, BODY, headers)).text;
    await expect.poll(again).toBe('"went on"');
    expect(runsOf(name)).toHaveLength(1);
  });
});

test('ISO-16 a function that sends itself webhooks in a circle is stopped', async () => {
  const { path, id } = await functions.add({ secret: 'SECRET' });
  const send = (depth: number) =>
    node.post(path, BODY, { ...sign('hmac-sha256', BODY), 'x-postern-depth': String(depth) });
  expect((await send(17)).status).toBe(403);
  expect((await send(16)).status).toBe(202);
  const { rows } = await db.pool.query('select depth from postern.events where function_id = $1', [id]);
  expect(rows).toEqual([{ depth: '15' }]);
});

test('I13 deliveries are forgotten after four days, in batches, and not before three', async () => {
  const { id } = await functions.add({ secret: 'SECRET' });
  await db.pool.query(
    `insert into postern.webhook_deliveries (function_id, delivery_id, trigger_id, fingerprint, event_id, status, received_at)
     select $1::bigint, 'old-' || i, gen_random_uuid(), ''::bytea, gen_random_uuid(), 202, clock_timestamp() - interval '97 hours'
     from generate_series(1, 2500) i
     union all
     select $1::bigint, 'young-' || i, gen_random_uuid(), ''::bytea, gen_random_uuid(), 202, clock_timestamp() - interval '3 days'
     from generate_series(1, 5) i`,
    [id],
  );
  const sweepers = [new DeliverySweeper(db.pool, () => {}), new DeliverySweeper(db.pool, () => {})];
  await Promise.all(sweepers.map((sweeper) => sweeper.sweep()));
  const { rows } = await db.pool.query<{ id: string }>(
    'select delivery_id as id from postern.webhook_deliveries where function_id = $1 order by 1',
    [id],
  );
  expect(rows.map((row) => row.id)).toEqual(['young-1', 'young-2', 'young-3', 'young-4', 'young-5']);
  await Promise.all(sweepers.map((sweeper) => sweeper.stop()));
});
