/** What may happen to a dispatcher and to its way to Postgres, one fault a test (THREATS 3.2). */

import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { Pool } from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { TcpProxy } from '../../../chaos/tcp-proxy.ts';
import { createSystemPool, type Failpoint } from '../../../database/index.ts';
import type { InvocationResult } from '../../../invoker/index.ts';
import { Dispatcher, type DispatcherOptions } from '../../../triggers/database/index.ts';
import { createTestDatabase, type TestDatabase } from '../../support/postgres.ts';
import { sharedPartsEnv } from '../../support/shared-parts-env.ts';
import { databaseTrigger, FakeInvoker, installFunction, SettlementLog } from './support.ts';

const LEASE_MS = 400;

let db: TestDatabase;
const ended: (() => Promise<unknown>)[] = [];

beforeAll(async () => {
  db = await createTestDatabase();
});
afterAll(() => db.drop());
beforeEach(async () => {
  await db.pool.query('create table things (id int); create table ledger (event_id uuid, attempt int)');
  await installFunction(db.pool, databaseTrigger({ table: 'things' }));
});
afterEach(async () => {
  for (const end of ended.splice(0).toReversed()) await end();
  await db.pool.query('truncate postern.events; delete from postern.functions; drop table things, ledger');
});

interface Started {
  readonly settled: SettlementLog;
  readonly said: string[];
}

async function start(parts: Partial<DispatcherOptions> & Pick<DispatcherOptions, 'invoker'>): Promise<Started> {
  const settled = new SettlementLog();
  const said: string[] = [];
  const dispatcher = new Dispatcher({
    pool: db.pool,
    connection: { connectionString: db.url },
    policy: () => ({
      retry: { maxAttempts: 5, backoff: { initialMs: 1, factor: 1, maxMs: 1 } },
      version: 1,
      concurrency: null,
    }),
    nodeId: randomUUID(),
    leaseMs: LEASE_MS,
    pollMs: 20,
    metrics: settled.metrics,
    log: (message) => said.push(message),
    ...parts,
  });
  ended.push(() => dispatcher.stop(0));
  await dispatcher.start();
  return { settled, said };
}

/** A way to Postgres that can be hurt, and a pool on it. */
async function hurtableLine(): Promise<{ proxy: TcpProxy; pool: Pool; url: string }> {
  const { hostname: host, port } = new URL(db.url);
  const proxy = await TcpProxy.start({ host, port: Number(port) });
  const url = Object.assign(new URL(db.url), { port: String(proxy.port) }).href;
  const pool = createSystemPool(url);
  ended.push(async () => {
    await pool.end();
    await proxy.stop();
  });
  return { proxy, pool, url };
}

/** The dispatcher of dispatcher-process.ts; `lines` is what it printed so far. */
function startProcess(env: Record<string, string>) {
  const child = spawn(process.execPath, [new URL('./dispatcher-process.ts', import.meta.url).pathname], {
    env: { ...sharedPartsEnv(), DATABASE_URL: db.url, NODE_ID: randomUUID(), LEASE_MS: String(LEASE_MS), ...env },
    stdio: ['pipe', 'pipe', 'ignore'],
  });
  const lines = createInterface({ input: child.stdout });
  const gone = once(child, 'exit');
  ended.push(async () => {
    child.kill('SIGKILL');
    await gone;
  });
  return { child, gone, lines };
}

async function events(): Promise<{ id: string; attempt: number; leasedBy: string | null }[]> {
  return (await db.pool.query('select id, attempt, leased_by as "leasedBy" from postern.events')).rows;
}

async function ledger(): Promise<{ event_id: string; attempt: number }[]> {
  return (await db.pool.query('select event_id, attempt from ledger')).rows;
}

/** `ran`: whether the function ran before the kill; `again`: the attempt under which it runs on another node. */
const KILLS: readonly { at: Failpoint; behaviour: 'succeed' | 'fail'; ran: boolean; again: number | null }[] = [
  { at: 'before_lease', behaviour: 'succeed', ran: false, again: 1 },
  { at: 'after_lease_commit', behaviour: 'succeed', ran: false, again: 2 },
  { at: 'before_dispatch', behaviour: 'succeed', ran: false, again: 2 },
  { at: 'after_result', behaviour: 'succeed', ran: true, again: 2 },
  { at: 'before_ack', behaviour: 'succeed', ran: true, again: 2 },
  { at: 'after_ack_commit', behaviour: 'succeed', ran: true, again: null },
  { at: 'before_setback', behaviour: 'fail', ran: true, again: 2 },
  { at: 'after_setback_commit', behaviour: 'fail', ran: true, again: 2 },
];

test.for(KILLS)(
  'F1 F3 a node that is killed $at loses nothing, and what runs again has the same event id',
  async ({ at, behaviour, ran, again }) => {
    await db.pool.query('insert into things values (1)');
    const { gone } = startProcess({ BEHAVIOUR: behaviour, POSTERN_FAILPOINTS: `${at}:kill` });
    expect(await gone).toEqual([null, 'SIGKILL']);
    const before = await ledger();
    expect(before.map(({ attempt }) => attempt)).toEqual(ran ? [1] : []);
    if (again === null) return expect(await events()).toEqual([]);

    const invoker = new FakeInvoker();
    const { settled } = await start({ invoker });
    await settled.until({ finished: 1 });
    expect(invoker.calls.map(({ attempt }) => attempt)).toEqual([again]);
    for (const { event_id } of before) expect(event_id).toBe(invoker.calls[0]?.eventId);
    expect(await events()).toEqual([]);
  },
);

test('F5 a node that was frozen for longer than its lease acknowledges nothing when it wakes up', async () => {
  await db.pool.query('insert into things values (1)');
  const { child, lines } = startProcess({ BEHAVIOUR: 'wait' });
  await once(lines, 'line');
  child.kill('SIGSTOP');

  const nodeId = randomUUID();
  const released = Promise.withResolvers<Partial<InvocationResult>>();
  const invoker = new FakeInvoker(() => released.promise);
  const { settled } = await start({ invoker, nodeId });
  await invoker.called(1);
  expect(invoker.calls[0]?.attempt).toBe(2);

  const said = once(lines, 'line');
  child.stdin.write('go on\n');
  child.kill('SIGCONT');
  expect(await said).toEqual(['settled lost']);
  expect(await events()).toEqual([{ id: invoker.calls[0]?.eventId, attempt: 2, leasedBy: nodeId }]);
  released.resolve({});
  await settled.until({ finished: 1 });
});

test('F10 what is committed while the listening connection is gone is found without it', async () => {
  const invoker = new FakeInvoker();
  const { settled, said } = await start({ invoker });
  await db.pool.query(
    `select pg_terminate_backend(pid) from pg_stat_activity
     where application_name = 'postern doorbell' and datname = current_database()`,
  );
  await db.pool.query('insert into things select generate_series(1, 1000)');
  await settled.until({ finished: 1_000 });
  expect(new Set(invoker.calls.map(({ eventId }) => eventId)).size).toBe(1_000);
  expect(said).toContain('the connection that listens for events was lost; polling until it is back');
});

test('F11 half-open connections, of the listener and of the pool, do not keep a dispatcher from its events', async () => {
  const { proxy, pool, url } = await hurtableLine();
  const invoker = new FakeInvoker();
  const { settled } = await start({ invoker, pool, connection: { connectionString: url } });
  await db.pool.query('insert into things values (1)');
  await settled.until({ finished: 1 });
  proxy.halfOpen();
  await db.pool.query('insert into things values (2)');
  await settled.until({ finished: 2 });
  expect(invoker.calls.map(({ eventJson }) => JSON.parse(eventJson).new.id)).toEqual([1, 2]);
});

test('F13 a node that is cut off from Postgres stops its functions before others run them', async () => {
  const { proxy, pool, url } = await hurtableLine();
  const stoppedAt = Promise.withResolvers<number>();
  const first = new FakeInvoker(
    ({ signal }) =>
      new Promise((resolve) =>
        signal?.addEventListener('abort', () => {
          stoppedAt.resolve(performance.now());
          resolve({ outcome: 'canceled' });
        }),
      ),
  );
  const { settled } = await start({ invoker: first, pool, connection: { connectionString: url } });
  await db.pool.query('insert into things values (1)');
  await first.called(1);
  proxy.partition();

  let begun = Number.NaN;
  const second = new FakeInvoker(() => {
    begun = performance.now();
    return {};
  });
  const other = await start({ invoker: second });
  await other.settled.until({ finished: 1 });
  expect(await stoppedAt.promise).toBeLessThan(begun);
  expect(second.calls.map(({ attempt }) => attempt)).toEqual([2]);
  proxy.heal();
  await settled.until({ lost: 1 });
});

test('F14 a lease whose commit nobody heard of runs out, and the event runs under the next attempt', async () => {
  const { proxy, pool } = await hurtableLine();
  const invoker = new FakeInvoker();
  // What Postgres says of a leased event has its row.
  proxy.cutReplies(1, '"id":1');
  const { settled, said } = await start({ invoker, pool });
  await db.pool.query('insert into things values (1)');
  await settled.until({ finished: 1 });
  expect(said).toContain('events can not be leased; trying again');
  expect(invoker.calls.map(({ attempt }) => attempt)).toEqual([2]);
});

test('F14 an acknowledgement whose commit nobody heard of is sent again, and the function is not run again', async () => {
  const { proxy, pool } = await hurtableLine();
  const invoker = new FakeInvoker();
  proxy.cutReplies(1, 'DELETE 1');
  const { settled, said } = await start({ invoker, pool });
  await db.pool.query('insert into things values (1)');
  await settled.until({ lost: 1 });
  expect(said).toContain('1 acknowledgements wait for the database');
  expect(await events()).toEqual([]);
  expect(invoker.calls).toHaveLength(1);
});
