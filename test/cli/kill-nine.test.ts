/**
 * At least once, through SIGKILL of the whole node at any point: a writer, a function that writes a ledger, and a node
 * that is killed again and again (THREATS 3.1: I1, I2, I3, I5).
 */

import { afterAll, beforeAll, expect, test } from 'vitest';
import { ReceiptReader, verifyReceipts } from '../../invoker/receipts/index.ts';
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts';
import { SERVE_SECRETS, spawnCli } from './support.ts';

const ROUNDS = 3;
const ROWS_A_ROUND = 100;
const MAX_WAIT_MS = 250;

let db: TestDatabase;
let node: ReturnType<typeof spawnCli> | undefined;

beforeAll(async () => {
  db = await createTestDatabase();
  await db.pool.query('create table sources (id int primary key)');
  await db.pool.query('create table ledger (source int, event_id text, attempt int)');
  await db.pool.query('create role service_role nologin bypassrls').catch(() => {});
  await db.pool.query('grant insert on ledger to service_role');
});
afterAll(async () => {
  node?.child.kill('SIGTERM');
  await node?.ended;
  await db.drop();
});

async function start(): Promise<string> {
  node = spawnCli(['serve', '--port', '0', '--executors', '1'], { env: { ...SERVE_SECRETS, DATABASE_URL: db.url } });
  await node.prints(/Postern serves on http:\/\/127\.0\.0\.1:\d+/);
  return /http:\/\/127\.0\.0\.1:\d+/.exec(node.text.stdout)![0];
}

async function url(): Promise<string> {
  return /http:\/\/127\.0\.0\.1:\d+/.exec(node!.text.stdout)![0];
}

async function deploy(url: string): Promise<void> {
  const response = await fetch(`${url}/functions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: `Bearer ${SERVE_SECRETS.POSTERN_ADMIN_KEY}` },
    body: JSON.stringify({
      name: 'keep-ledger',
      trigger: { type: 'database', table: 'sources', operations: ['INSERT'] },
      db: { role: 'service_role' },
      retry: { maxAttempts: 50 },
      source: `export const handler = (event) => db.query(
        'insert into ledger values ($1, $2, $3)', [event.new.id, event.event_id, event.attempt]);`,
    }),
  });
  expect(response.status, await response.clone().text()).toBe(201);
}

/** What time does to the leases of a node that is gone; the test does not wait for it. */
async function expireLeases(): Promise<void> {
  await db.pool.query('update postern.events set lease_expires_at = clock_timestamp() where leased_by is not null');
}

test('every committed row is handled and no rolled-back one, whenever the node is killed', {
  timeout: 120_000,
}, async () => {
  const url = await start();
  await deploy(url);
  const pauses: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    if (round > 0) await start();
    const pause = Math.random() * MAX_WAIT_MS;
    pauses.push(Math.round(pause));
    const killed = new Promise<void>((resolve) => {
      setTimeout(() => {
        node!.child.kill('SIGKILL');
        resolve();
      }, pause);
    });
    for (let row = 0; row < ROWS_A_ROUND; row++) {
      await db.pool.query('insert into sources values ($1)', [round * ROWS_A_ROUND + row]);
      await db.pool.query('begin; insert into sources values (-1); rollback');
    }
    await killed;
    await node!.ended;
    await expireLeases();
  }
  await start();
  const waiting = async () => (await db.pool.query('select count(*)::int as n from postern.events')).rows[0].n;
  await expect.poll(waiting, { timeout: 30_000, message: `killed after ${pauses.join(', ')} ms` }).toBe(0);

  const { rows } = await db.pool.query<{ source: number; events: string[]; attempts: number[] }>(
    'select source, array_agg(distinct event_id) as events, array_agg(attempt) as attempts from ledger group by source',
  );
  expect(rows.map(({ source }) => source).sort((a, b) => a - b)).toEqual(
    Array.from({ length: ROUNDS * ROWS_A_ROUND }, (_, id) => id),
  );
  for (const { source, events, attempts } of rows) {
    // Handled twice: the same event, and each time another attempt.
    expect(events, `source ${source}`).toHaveLength(1);
    expect(new Set(attempts).size, `source ${source}`).toBe(attempts.length);
  }
});

test('with atomic delivery the effects of each committed row are there exactly once, whenever the node is killed', {
  timeout: 120_000,
}, async () => {
  await db.pool.query('create table orders (id int primary key); create table effects (order_id int)');
  await db.pool.query('grant insert on effects to service_role');
  const response = await fetch(`${await url()}/functions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization: `Bearer ${SERVE_SECRETS.POSTERN_ADMIN_KEY}` },
    body: JSON.stringify({
      name: 'once',
      trigger: { type: 'database', table: 'orders', operations: ['INSERT'], delivery: 'atomic' },
      db: { role: 'service_role' },
      retry: { maxAttempts: 50, backoff: 'fixed' },
      source: `export const handler = (event) => db.query('insert into effects values ($1)', [event.new.id]);`,
    }),
  });
  expect(response.status, await response.clone().text()).toBe(201);
  for (let round = 0; round < ROUNDS; round++) {
    const killed = new Promise<void>((resolve) => {
      setTimeout(() => {
        node!.child.kill('SIGKILL');
        resolve();
      }, Math.random() * MAX_WAIT_MS);
    });
    for (let row = 0; row < ROWS_A_ROUND; row++) {
      await db.pool.query('insert into orders values ($1)', [round * ROWS_A_ROUND + row]);
    }
    await killed;
    await node!.ended;
    await expireLeases();
    await start();
  }
  const waiting = async () => (await db.pool.query('select count(*)::int as n from postern.events')).rows[0].n;
  await expect.poll(waiting, { timeout: 30_000 }).toBe(0);
  const { rows } = await db.pool.query<{ id: number }>('select order_id as id from effects order by 1');
  expect(rows.map(({ id }) => id)).toEqual(Array.from({ length: ROUNDS * ROWS_A_ROUND }, (_, id) => id));
});

test('the receipts of nodes that were killed are proven up to their last checkpoint', async () => {
  const reader = new ReceiptReader(db.pool, async () => {});
  await expect.poll(async () => (await reader.chains()).length).toBeGreaterThan(0);
  for (const { chain } of await reader.chains()) {
    const { lines } = await reader.page(chain, 0);
    expect((await verifyReceipts(lines.trimEnd().split('\n'))).chains).toMatchObject([{ first: 0, dropped: 0 }]);
  }
});
