/** What becomes of an Idempotency-Key whose node is killed while the function runs for it. */

import { afterAll, beforeAll, expect, test } from 'vitest';
import { startTestPostern, type TestPostern } from '../server/support.ts';
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts';
import { SERVE_SECRETS, spawnCli } from './support.ts';

let db: TestDatabase;
let other: TestPostern;
let doomed: ReturnType<typeof spawnCli>;

beforeAll(async () => {
  db = await createTestDatabase();
  other = await startTestPostern(db, { masterKey: SERVE_SECRETS.POSTERN_MASTER_KEY });
  doomed = spawnCli(['serve', '--port', '0', '--executors', '1'], { env: { ...SERVE_SECRETS, DATABASE_URL: db.url } });
  await doomed.prints(/Postern serves on http:\/\/127\.0\.0\.1:\d+/);
}, 60_000);
afterAll(async () => {
  doomed?.child.kill('SIGKILL');
  await doomed?.ended;
  await other?.stop();
  await db?.drop();
});

test('a key whose node was killed is in use until its lease is over, and then the same request runs the function, on any node', {
  timeout: 60_000,
}, async () => {
  await db.pool.query(
    'create table runs (id serial); grant insert on runs to anon; grant usage on runs_id_seq to anon',
  );
  const source = `import { db } from 'postern';
    export const handler = async (event) => {
      await db.query('insert into runs default values');
      if (event.headers['x-never-ends'] === 'yes') await new Promise(() => setTimeout(() => {}, 299_000));
      return 'done';
    };`;
  expect((await other.deploy('pay', source, { auth: 'none', timeout: '300s' })).status).toBe(201);
  const runs = async () => (await db.pool.query('select count(*)::int as runs from runs')).rows[0].runs;
  const pay = (url: string, headers: Record<string, string> = {}) =>
    fetch(`${url}/functions/v1/pay`, {
      method: 'POST',
      body: '{"amount":1}',
      headers: { 'content-type': 'application/json', 'idempotency-key': 'k-1', ...headers },
    });

  const url = /http:\/\/127\.0\.0\.1:\d+/.exec(doomed.text.stdout)![0];
  const first = pay(url, { 'x-never-ends': 'yes' }).then(
    ({ status }) => status,
    () => 'cut off',
  );
  await expect.poll(runs, { timeout: 20_000 }).toBe(1);
  doomed.child.kill('SIGKILL');
  expect(await first).toBe('cut off');

  const meanwhile = await pay(other.url);
  expect(meanwhile.status).toBe(409);
  expect(meanwhile.headers.get('retry-after')).toBe('1');
  expect(await meanwhile.json()).toMatchObject({ code: 'IDEMPOTENCY_KEY_IN_USE' });
  const { rows } = await db.pool.query(
    `select lease_expires_at < clock_timestamp() + interval '331 seconds' as ends from postern.idempotency_keys`,
  );
  expect(rows).toEqual([{ ends: true }]);

  // What time does; the test does not wait for it.
  await db.pool.query('update postern.idempotency_keys set lease_expires_at = clock_timestamp()');
  const again = await pay(other.url);
  expect([again.status, again.headers.get('idempotent-replayed'), await again.json()]).toEqual([200, null, 'done']);
  const replayed = await pay(other.url);
  expect([replayed.headers.get('idempotent-replayed'), await replayed.json()]).toEqual(['true', 'done']);
  expect(await runs()).toBe(2);
});
