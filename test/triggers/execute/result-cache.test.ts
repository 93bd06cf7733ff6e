import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { keyOf, ResultCache } from '../../../triggers/execute/result-cache.ts';
import { createTestDatabase, type TestDatabase } from '../../support/postgres.ts';

let db: TestDatabase;
beforeAll(async () => {
  db = await createTestDatabase();
});
afterAll(() => db.drop());

const KEY = randomBytes(32);
const cacheOn = (masterKey = KEY, errors?: Error[]) =>
  new ResultCache({
    pool: db.pool,
    masterKey,
    onError: (error) => (errors === undefined ? expect.fail(error.message) : errors.push(error)),
  });

test('an API key keeps so much at a time, and takes nothing from others', async () => {
  const cache = cacheOn();
  const answer = 'x'.repeat(256 * 1_024);
  const keep = (owner: string, n: number) => cache.keep(owner, keyOf([owner, n]), answer);
  const reasons = Array.from({ length: 70 }, (_, n) => keep('one', n));
  expect(reasons.filter((reason) => reason === undefined)).toHaveLength(64);
  expect(reasons.at(-1)).toBe('the API key keeps as much as it may');
  expect(keep('other', 1)).toBeUndefined();
  expect(cache.keep('third', keyOf([3]), `${answer}x`)).toBe('its answer is too large');
  expect(await cache.find(keyOf(['one', 63]))).toBe(answer);
  expect(await cache.find(keyOf(['one', 64]))).toBeUndefined();
  // All are written: another node finds them.
  await expect
    .poll(async () => (await db.pool.query('select count(*)::integer as n from postern.execute_results')).rows[0].n)
    .toBe(65);
});

test('what is kept is sealed, and is found under its key, by nodes that have the master key', async () => {
  const [one, other] = [keyOf(['one']), keyOf(['other'])];
  expect(cacheOn().keep('owner', one, 'an answer that says something')).toBeUndefined();
  expect(cacheOn().keep('owner', other, 'another')).toBeUndefined();
  const found = () => cacheOn().find(one);
  await expect.poll(found).toBe('an answer that says something');
  await expect.poll(() => cacheOn().find(other)).toBe('another');
  expect(await cacheOn(randomBytes(32)).find(one)).toBeUndefined();
  const { rows } = await db.pool.query('select sealed from postern.execute_results where key = $1', [
    Buffer.from(one, 'hex'),
  ]);
  expect(rows[0].sealed.includes('says')).toBe(false);
  await db.pool.query(
    `update postern.execute_results r set sealed = o.sealed, nonce = o.nonce
       from postern.execute_results o where r.key = $1 and o.key = $2`,
    [Buffer.from(one, 'hex'), Buffer.from(other, 'hex')],
  );
  const errors: Error[] = [];
  expect(await cacheOn(KEY, errors).find(one)).toBeUndefined();
  expect(errors[0]?.message).toMatch(/changed in the table/);
});
