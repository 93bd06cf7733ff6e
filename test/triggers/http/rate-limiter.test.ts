import { randomUUID } from 'node:crypto';
import fc from 'fast-check';
import type { Pool } from 'pg';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { ApiKeyStore, RateLimiter } from '../../../triggers/index.ts';
import { createTestDatabase, type TestDatabase } from '../../support/postgres.ts';

const WINDOW_MS = 60_000;
const LIMIT = 100;
/** The start of a window that is not over, so that no exchange of another test removes it. */
const START_MS = Math.ceil(Date.now() / WINDOW_MS) * WINDOW_MS + WINDOW_MS;

let db: TestDatabase;
let clockMs = START_MS;
const limiters: RateLimiter[] = [];

beforeAll(async () => {
  db = await createTestDatabase();
});
afterEach(async () => {
  await Promise.all(limiters.splice(0).map((limiter) => limiter.stop()));
  clockMs = START_MS;
});
afterAll(() => db.drop());

const nodes = (count: number, pool: Pool = db.pool): RateLimiter[] => {
  const made = Array.from(
    { length: count },
    () =>
      new RateLimiter({
        pool,
        nodeId: randomUUID(),
        onError: (error) => {
          if (pool === db.pool) throw error;
        },
        now: () => clockMs,
      }),
  );
  limiters.push(...made);
  return made;
};
const aKey = (id: string = randomUUID()) => ({ id, rateLimit: LIMIT, rateWindowMs: WINDOW_MS });
const takes = (limiter: RateLimiter, key: ReturnType<typeof aKey>, count: number): number =>
  Array.from({ length: count }, () => limiter.take(key)).filter(({ admitted }) => admitted).length;

describe('one node', () => {
  test('lets in exactly the limit in each window, and says what remains and when the window ends', () => {
    const [node] = nodes(1);
    const key = aKey();
    clockMs += 15_000;
    expect(node!.take(key)).toEqual({ admitted: true, limit: 100, remaining: 99, resetMs: 45_000 });
    expect(takes(node!, key, 150)).toBe(99);
    expect(node!.take(key)).toEqual({ admitted: false, limit: 100, remaining: 0, resetMs: 45_000 });
    expect(takes(node!, aKey(), 1)).toBe(1);
    clockMs = START_MS + WINDOW_MS;
    expect(node!.look(key)).toMatchObject({ remaining: 100 });
    expect(takes(node!, key, 150)).toBe(100);
  });
});

describe('several nodes on one database', () => {
  test('know of what the others let in after an exchange, and go by it until the window ends', async () => {
    const [a, b] = nodes(2);
    const key = aKey();
    expect([takes(a!, key, 60), takes(b!, key, 10)]).toEqual([60, 10]);
    await a!.exchange();
    await b!.exchange();
    expect(b!.look(key)).toMatchObject({ remaining: 30 });
    expect(takes(b!, key, 100)).toBe(30);
    await b!.exchange();
    await a!.exchange();
    expect(takes(a!, key, 100)).toBe(0);
    clockMs += WINDOW_MS;
    expect(takes(a!, key, 1)).toBe(1);
  });

  test('let in n times the limit at most where they hear nothing of each other', () => {
    const key = aKey();
    expect(nodes(3).map((node) => takes(node, key, 250))).toEqual([100, 100, 100]);
  });

  test('never let in fewer than the limit, and beyond it only what the others let in within two exchanges', async () => {
    const each = 7;
    const all = nodes(2);
    const key = aKey();
    let admitted = 0;
    for (let round = 0; round < 20; round++) {
      for (const node of all) admitted += takes(node, key, each);
      for (const node of all) await node.exchange();
    }
    expect(admitted).toBeGreaterThanOrEqual(LIMIT);
    expect(admitted).toBeLessThanOrEqual(LIMIT + 2 * each);
  });

  test('stay within the limit and what the one that let in last had not heard of, whatever the order', async () => {
    const step = fc.record({
      node: fc.nat({ max: 2 }),
      takes: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 60 })),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 10, maxLength: 40 }), async (steps) => {
        const all = nodes(3);
        const key = aKey();
        const own = [0, 0, 0];
        const told = [0, 0, 0];
        const heard = [0, 0, 0];
        const sum = (counts: readonly number[]) => counts.reduce((total, count) => total + count, 0);
        for (const { node, takes: count } of steps) {
          // No takes: the node exchanges.
          if (count === 0) {
            await all[node]!.exchange();
            told[node] = own[node]!;
            // A node that has not met the key in this window does not ask about it.
            if (own[node]! > 0) heard[node] = sum(told) - told[node]!;
            continue;
          }
          const admitted = takes(all[node]!, key, count);
          own[node]! += admitted;
          const unheard = sum(own) - own[node]! - heard[node]!;
          if (admitted > 0) expect(sum(own)).toBeLessThanOrEqual(LIMIT + unheard);
          if (admitted < count) expect(sum(own)).toBeGreaterThanOrEqual(LIMIT);
        }
      }),
      { numRuns: 30 },
    );
  });

  test('hear of the others soon after the first request in a window, without being told to', async () => {
    const [a, b] = nodes(2);
    const key = aKey();
    takes(a!, key, 100);
    await a!.exchange();
    expect(takes(b!, key, 1)).toBe(1);
    await vi.waitFor(() => expect(b!.look(key).remaining).toBe(0), { interval: 5 });
  });

  test('exchange many keys at once without waiting for each other in a circle, and lose no refusal', async () => {
    const store = new ApiKeyStore(db.pool);
    const keys = await Promise.all(Array.from({ length: 30 }, (_, index) => makeKey(store, `many ${index}`)));
    const all = nodes(4);
    for (let round = 0; round < 10; round++) {
      for (const [index, node] of all.entries()) {
        for (const id of index % 2 === 0 ? keys : keys.toReversed()) node.noteRefusal(id, 'scope');
      }
      await Promise.all(all.map((node) => node.exchange()));
    }
    const listed = await store.list();
    expect(keys.map((id) => listed.find((info) => info.id === id)!.refused.scope)).toEqual(keys.map(() => 40));
  });
});

describe('what is written', () => {
  test('stop writes when a key was last used and how often it was refused; another node adds to it', async () => {
    const store = new ApiKeyStore(db.pool);
    const id = await makeKey(store, 'noted');
    const [a, b] = nodes(2);
    takes(a!, aKey(id), 103);
    a!.noteRefusal(id, 'inactive');
    await a!.stop();
    clockMs += 5_000;
    takes(b!, aKey(id), 1);
    await b!.stop();
    const info = (await store.list()).find((one) => one.id === id)!;
    expect(info.refused).toEqual({ rate: 3, scope: 0, inactive: 1 });
    expect(info.lastUsedAt).toEqual(new Date(START_MS + 5_000));
  });

  test('windows that are over are removed by an exchange', async () => {
    await db.pool.query(
      `insert into postern.api_key_windows (key_id, starts_at, node_id, ends_at, used)
       select gen_random_uuid(), now() - interval '3 minutes', gen_random_uuid(), now() - interval '2 minutes', 1
         from generate_series(1, 10)`,
    );
    const [node] = nodes(1);
    takes(node!, aKey(), 1);
    await node!.exchange();
    const { rows } = await db.pool.query('select count(*)::int from postern.api_key_windows where ends_at < now()');
    expect(rows).toEqual([{ count: 0 }]);
  });

  test('an exchange that fails loses nothing, and the node goes on to count', async () => {
    const store = new ApiKeyStore(db.pool);
    const id = await makeKey(store, 'cut off');
    let away = true;
    const query = (...args: unknown[]) =>
      away ? Promise.reject(new Error('the database is away')) : Reflect.apply(db.pool.query, db.pool, args);
    const [node] = nodes(1, { query } as unknown as Pool);
    const key = aKey(id);
    expect(takes(node!, key, 102)).toBe(100);
    await node!.exchange();
    expect(takes(node!, key, 1)).toBe(0);
    away = false;
    await node!.exchange();
    expect((await store.list()).find((one) => one.id === id)!.refused.rate).toBe(3);
    const [other] = nodes(1);
    takes(other!, key, 1);
    await other!.exchange();
    expect(takes(other!, key, 1)).toBe(0);
  });
});

async function makeKey(store: ApiKeyStore, name: string): Promise<string> {
  const wanted = {
    name,
    role: 'anon',
    functions: null,
    rateLimit: LIMIT,
    rateWindowSeconds: 60,
    policy: null,
    expiresAt: null,
  };
  return (await store.create(wanted)).info.id;
}
