import { mkdtemp, readFile, rm } from 'node:fs/promises';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ControlClient } from '../../cli/control-client.ts';
import { deployRequest } from '../../cli/deploy-request.ts';
import { DEV_USER_ID, type DevRole, signToken } from '../../cli/dev-keys.ts';
import { applySchema } from '../../cli/dev-session.ts';
import { findFunctions } from '../../cli/function-files.ts';
import { startShippingApi } from '../../examples/_shipping-api.ts';
import { type RunningPostern, startPostern } from '../../server/index.ts';
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts';

const EXAMPLES = resolve('examples');

let db: TestDatabase;
let postern: RunningPostern;
let client: ControlClient;
let dataDir: string;
let shipping: Server;

beforeAll(async () => {
  db = await createTestDatabase();
  dataDir = await mkdtemp(join(tmpdir(), 'postern-examples-'));
  shipping = await startShippingApi(0);
  const options = { mode: 'dev', host: '127.0.0.1', port: 0, dataDir, databaseUrl: db.url, executors: 1 } as const;
  postern = await startPostern(options, { logOutput: { write: () => undefined } });
  client = new ControlClient({ url: postern.url });
  await applySchema(db.url, await readFile(join(EXAMPLES, 'schema.sql'), 'utf8'));
  for (const file of await findFunctions(EXAMPLES)) {
    const { body } = await deployRequest(file);
    await client.deploy(file.name === 'ship-order' ? { ...body, config: { http: { allow: [shippingUrl()] } } } : body);
  }
});

afterAll(async () => {
  await postern?.stop();
  shipping.close();
  await rm(dataDir, { recursive: true, force: true });
  await db.drop();
});

const shippingUrl = (): string => `http://localhost:${(shipping.address() as AddressInfo).port}`;

async function call(path: string, options: { method?: string; body?: unknown; role?: DevRole; subject?: string } = {}) {
  const { method = 'POST', body, role } = options;
  const response = await fetch(`${postern.url}${path}`, {
    method,
    headers: {
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      ...(role === undefined ? {} : { authorization: `Bearer ${await signToken(postern.jwtSecret!, role)}` }),
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const text = await response.text();
  return { status: response.status, body: text === '' ? null : (JSON.parse(text) as unknown) };
}

/** The first row, once there is one. */
async function rowOf(sql: string, params: readonly unknown[]): Promise<Record<string, unknown>> {
  return expect
    .poll(async () => (await db.pool.query<Record<string, unknown>>(sql, [...params])).rows[0], {
      timeout: 20_000,
      interval: 20,
    })
    .toBeDefined()
    .then(async () => (await db.pool.query<Record<string, unknown>>(sql, [...params])).rows[0]!);
}

test('every function of examples/ is deployed', async () => {
  const names = (await client.list()).map(({ name }) => name).sort();
  expect(names).toEqual(['check-order', 'create-profile', 'greeter', 'hello', 'ship-order', 'todo-app']);
});

test('schema.sql may be applied again', async () => {
  await applySchema(db.url, await readFile(join(EXAMPLES, 'schema.sql'), 'utf8'));
});

describe('hello', () => {
  test('greets over HTTP, with and without a name', async () => {
    expect(await call('/functions/v1/invoke/hello', { body: { name: 'World' } })).toEqual({
      status: 200,
      body: { message: 'Hello, World!' },
    });
    expect(await call('/functions/v1/hello', { method: 'GET' })).toEqual({
      status: 200,
      body: { message: 'Hello, World!' },
    });
  });
});

describe('create-profile', () => {
  test('writes a profile for a user who signs up', async () => {
    const { rows } = await db.pool.query<{ id: string }>(
      "insert into users (email) values ('ada@example.com') returning id",
    );
    expect(await rowOf('select display_name from profiles where user_id = $1', [rows[0]!.id])).toEqual({
      display_name: 'ada',
    });
  });
});

describe('ship-order', () => {
  test('sends a paid order to the shipping company and marks it shipped', async () => {
    await client.setSecret('SHIPPING_API', shippingUrl());
    const { rows } = await db.pool.query<{ id: string }>(
      "insert into orders (item, address) values ('lamp', 'Main Street 1') returning id",
    );
    expect(
      await rowOf("select status, tracking from orders where id = $1 and status = 'shipped'", [rows[0]!.id]),
    ).toEqual({
      status: 'shipped',
      tracking: expect.stringMatching(/^PST-[0-9a-f]{8}$/),
    });
  });

  test('gives up at once on an order that the company refuses', async () => {
    await db.pool.query("insert into orders (item, address) values ('lamp', '')");
    await expect
      .poll(() => client.events({ status: 'dead', function: 'ship-order' }), { timeout: 20_000 })
      .toHaveLength(1);
    const [event] = await client.events({ status: 'dead', function: 'ship-order' });
    expect(event).toMatchObject({ operation: 'INSERT', table: 'orders', attempt: 1 });
  });

  test('is not fired by an order that is not paid', async () => {
    const since = Date.now();
    const { rows } = await db.pool.query<{ id: string }>(
      "insert into orders (item, address, status) values ('lamp', 'x', 'new') returning id",
    );
    await db.pool.query("update orders set status = 'paid' where id = $1", [rows[0]!.id]);
    await rowOf("select from orders where id = $1 and status = 'shipped'", [rows[0]!.id]);
    const runs = async () =>
      (await client.invocations('ship-order', {})).filter(({ started_at }) => Date.parse(started_at) >= since).length;
    await expect.poll(runs).toBe(1);
  });
});

describe('todo-app', () => {
  test('serves its routes under both paths, and each caller sees only their own rows', async () => {
    await db.pool.query("insert into todos (owner, title) values (gen_random_uuid(), 'somebody else''s')");
    const made = await call('/functions/v1/todo-app', { body: { title: 'write tests' }, role: 'authenticated' });
    expect(made).toEqual({ status: 201, body: { id: expect.any(Number), title: 'write tests', done: false } });
    const { id } = made.body as { id: number };
    expect(await call(`/functions/v1/invoke/todo-app/${id}/done`, { role: 'authenticated' })).toEqual({
      status: 204,
      body: null,
    });
    expect(await call('/functions/v1/todo-app', { method: 'GET', role: 'authenticated' })).toEqual({
      status: 200,
      body: [{ id, title: 'write tests', done: true }],
    });
    expect((await db.pool.query('select owner from todos where id = $1', [id])).rows).toEqual([{ owner: DEV_USER_ID }]);
  });

  test('wants a token', async () => {
    expect((await call('/functions/v1/todo-app', { method: 'GET' })).status).toBe(401);
  });

  test('answers 400 without a title', async () => {
    expect(await call('/functions/v1/todo-app', { body: {}, role: 'authenticated' })).toEqual({
      status: 400,
      body: { error: 'a todo needs a title' },
    });
  });
});

describe('check-order', () => {
  test('takes an order that zod takes', async () => {
    const order = { item: 'lamp', quantity: 2, email: 'ada@example.com' };
    expect(await call('/functions/v1/invoke/check-order', { body: order })).toEqual({
      status: 200,
      body: { accepted: true, order },
    });
  });

  test('names the problems of one that it does not', async () => {
    const answer = await call('/functions/v1/invoke/check-order', { body: { item: '', quantity: 0, email: 'x' } });
    expect(answer).toMatchObject({
      status: 422,
      body: {
        accepted: false,
        problems: { item: [expect.any(String)], quantity: [expect.any(String)], email: [expect.any(String)] },
      },
    });
  });
});

describe('greeter', () => {
  test('answers the bare event over /invoke/{id}, as GraalFaaS does', async () => {
    expect(await call('/invoke/greeter', { body: { name: 'World' } })).toEqual({
      status: 200,
      body: { message: 'Hello, World!' },
    });
  });
});

test('the stand-in shipping API ships once for one key', async () => {
  const ship = async (): Promise<unknown> =>
    (
      await fetch(`${shippingUrl()}/shipments`, {
        method: 'POST',
        headers: { 'idempotency-key': 'k' },
        body: '{"address":"x"}',
      })
    ).json();
  expect(await ship()).toEqual(await ship());
});
