/** API keys and Idempotency-Key on two whole nodes over one database. */

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts';
import { startTestPostern, type TestPostern } from './support.ts';

let db: TestDatabase;
let nodes: TestPostern[];

beforeAll(async () => {
  db = await createTestDatabase();
  nodes = await Promise.all([startTestPostern(db), startTestPostern(db)]);
  await nodes[0]!.deploy(
    'who',
    `import { db } from 'postern';
     export const handler = async () => (await db.query(
       "select current_user as role, current_setting('request.jwt.claims', true)::json->>'api_key' as key"))[0];`,
  );
  await nodes[0]!.deploy(
    'slow',
    'export const handler = async () => { await new Promise((r) => setTimeout(r, 300)); return Math.random(); };',
  );
});
afterAll(async () => {
  await Promise.all(nodes.map((node) => node.stop()));
  await db.drop();
});

interface Created {
  readonly id: string;
  readonly key: string;
}
const create = async (body: Record<string, unknown>): Promise<Created> => {
  const created = await nodes[0]!.admin('POST', '/api-keys', body);
  expect(created.status, JSON.stringify(created.body)).toBe(201);
  return created.body as unknown as Created;
};
const call = (node: number, name: string, { key }: Created, init: RequestInit = {}) =>
  nodes[node]!.call(`/functions/v1/${name}`, {
    ...init,
    headers: { authorization: `Bearer ${key}`, ...(init.headers as object) },
  });

describe('the control API', () => {
  test('gives a key when it is made, with its defaults, and never again', async () => {
    const { key, ...created } = (await create({ name: 'first' })) as Created & Record<string, unknown>;
    expect(created).toMatchObject({
      name: 'first',
      display: key.slice(0, 9),
      functions: null,
      role: 'anon',
      rate: { limit: 100, window_seconds: 60 },
      expires_at: null,
      revoked_at: null,
      last_used_at: null,
      refused: { rate: 0, scope: 0, inactive: 0 },
    });
    const listed = (await nodes[1]!.admin('GET', '/api-keys')).body.api_keys as unknown[];
    expect(listed[0]).toEqual(created);
    expect(JSON.stringify(listed)).not.toContain(key.slice(0, 12));
  });

  test.each([
    [{}, 'name'],
    [{ name: 'a\nb' }, 'name'],
    [{ name: 'x', functions: [] }, 'functions'],
    [{ name: 'x', functions: ['No Name'] }, 'functions.0'],
    [{ name: 'x', role: 'postgres' }, 'role'],
    [{ name: 'x', rate: { limit: 0, window_seconds: 1 } }, 'rate.limit'],
    [{ name: 'x', rate: { limit: 1, window_seconds: 86_401 } }, 'rate.window_seconds'],
    [{ name: 'x', expires_at: '2020-01-01T00:00:00Z' }, 'expires_at'],
    [{ name: 'x', key: 'pstn_mine' }, 'key'],
  ])('refuses %j and names the field', async (body, field) => {
    const refused = await nodes[0]!.admin('POST', '/api-keys', body);
    expect([refused.status, refused.body.code]).toEqual([400, 'INVALID_REQUEST']);
    expect(refused.body.message).toContain(field);
  });

  test('knows no key by another id', async () => {
    for (const id of ['nothing', '00000000-0000-4000-8000-000000000000'])
      expect((await nodes[0]!.admin('DELETE', `/api-keys/${id}`)).status).toBe(404);
  });
});

describe('on two nodes', () => {
  test('a key is good on both when the call that made it has returned, and on neither when it was revoked', async () => {
    for (let round = 0; round < 5; round++) {
      const made = await create({ name: `round ${round}`, role: 'authenticated', functions: ['who'] });
      for (const node of [1, 0]) {
        const response = await call(node, 'who', made);
        expect(await response.json()).toMatchObject({ role: expect.stringContaining('authenticated'), key: made.id });
      }
      expect((await call(1, 'slow', made)).status).toBe(403);
      expect((await nodes[round % 2]!.admin('DELETE', `/api-keys/${made.id}`)).status).toBe(204);
      for (const node of [1, 0]) expect((await call(node, 'who', made)).status).toBe(401);
    }
  });

  test('a change of a key leaves functions where they are', async () => {
    const warm = await create({ name: 'warm' });
    expect((await call(0, 'who', warm)).status).toBe(200);
    const before = await sandboxes();
    await create({ name: 'another' });
    expect((await call(0, 'who', warm)).status).toBe(200);
    expect(await sandboxes()).toBe(before);
  });

  test('the same request on both at once runs the function once, and its answer is given by both', async () => {
    const made = await create({ name: 'once' });
    const send = (node: number) =>
      call(node, 'slow', made, { method: 'POST', body: 'x', headers: { 'idempotency-key': 'order-1' } });
    const answers = await Promise.all([0, 1, 0, 1].map(send));
    expect(answers.map(({ status }) => status).toSorted()).toEqual([200, 409, 409, 409]);
    const first = await answers.find(({ status }) => status === 200)!.json();
    for (const node of [0, 1]) {
      const again = await send(node);
      expect([again.headers.get('idempotent-replayed'), await again.json()]).toEqual(['true', first]);
    }
  });
});

test('a node that is stopped writes what its keys were used for', async () => {
  const made = await create({ name: 'last words', rate: { limit: 2, window_seconds: 86_400 } });
  const leaving = await startTestPostern(db);
  for (const expected of [200, 200, 429]) {
    const response = await leaving.call('/functions/v1/who', { headers: { apikey: made.key } });
    expect(response.status).toBe(expected);
  }
  await leaving.stop();
  const listed = (await nodes[0]!.admin('GET', '/api-keys')).body.api_keys as Record<string, unknown>[];
  expect(listed.find(({ id }) => id === made.id)).toMatchObject({
    last_used_at: expect.any(String),
    refused: { rate: 1 },
  });
  // And the others know of it when they first meet the key.
  await expect.poll(async () => (await call(1, 'who', made)).status).toBe(429);
});

async function sandboxes(): Promise<string> {
  const text = await (
    await nodes[0]!.call('/metrics', { headers: { authorization: 'Bearer an-admin-key-for-tests' } })
  ).text();
  return /\npostern_sandboxes (\d+)/.exec(text)![1]!;
}
