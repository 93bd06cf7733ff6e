import { afterAll, beforeAll, expect, test } from 'vitest';
import { keyOf, ResultCache } from '../../../triggers/execute/result-cache.ts';
import { createTestDatabase, type TestDatabase } from '../../support/postgres.ts';

let db: TestDatabase;
beforeAll(async () => {
  db = await createTestDatabase();
});
afterAll(() => db.drop());

test('an API key keeps so much at a time, and takes nothing from others', async () => {
  const cache = new ResultCache({ pool: db.pool, onError: (error) => expect.fail(error.message) });
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
