import { afterAll, beforeAll, expect, test } from 'vitest';
import { createSystemPool } from '../../database/index.ts';
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts';

let db: TestDatabase;
beforeAll(async () => {
  db = await createTestDatabase({ empty: true });
});
afterAll(() => db.drop());

test('F2 a connection that is lost between two queries of its borrower ends no process, and the pool makes another', async () => {
  const pool = createSystemPool(db.url, { maxConnections: 1 });
  const client = await pool.connect();
  const { rows } = await client.query<{ pid: number }>('select pg_backend_pid() as pid');
  // An error event that nobody listens to would throw in the socket's callback, and fail this run.
  const lost = new Promise((resolve) => client.once('end', resolve));
  await db.pool.query('select pg_terminate_backend($1)', [rows[0]?.pid]);
  await lost;
  await expect(client.query('select 1')).rejects.toThrow();
  client.release();
  expect((await pool.query('select 1 as one')).rows).toEqual([{ one: 1 }]);
  await pool.end();
});
