/**
 * What does a guest's `db.query('select 1')` cost? Two questions. Against the same transaction by hand: eight invocations
 * at a time, each in a sandbox of an executor process, each a loop of queries (begin, settings, statement, commit, then
 * DISCARD ALL), and eight clients of `pg` in this process that send the same statements one after the other. And proven
 * claims: the database host function alone, with and without them. Run: `npm run bench -- guest-sql`.
 */

import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { createSystemPool, GuestLogins, migrate, startEmbeddedPostgres } from '../database/index.ts';
import { createDatabaseHostFunction, createGuestPools } from '../host-functions/index.ts';
import type { HostFunctionProvider } from '../runtime/index.ts';
import { startInvoker } from './support/invoker.ts';
import { publish, summarize } from './support/report.ts';

const CLIENTS = 8;
/** Short turns, many of them: what else the machine does hits all sides alike. */
const ROUNDS = 12;
const TURN_MS = 1_000;
const QUERIES_PER_INVOCATION = 50;
const SOURCE = `export async function handler() {
  for (let i = 0; i < ${QUERIES_PER_INVOCATION}; i++) await db.query('select 1');
  return {};
}`;
const SETTINGS = `select set_config('statement_timeout', $1, true), set_config('idle_in_transaction_session_timeout', $2, true),
  set_config('standard_conforming_strings', 'on', true), set_config('request.jwt.claims', $3, true),
  set_config('postern.depth', $4, true), set_config('role', $5, true)`;

const dataDir = await mkdtemp(join(tmpdir(), 'postern-bench-'));
await chmod(dataDir, 0o755);
const server = await startEmbeddedPostgres({ dataDir });
const pool = createSystemPool(server.url);
await migrate(pool);
const logins = new GuestLogins(pool, Buffer.alloc(32, 1));
await logins.start();
const proven = createDatabaseHostFunction({ guestPools: createGuestPools(logins) });
const unproven = createDatabaseHostFunction({
  guestPools: createGuestPools({ guestConnection: (role) => logins.guestConnection(role) }),
});
const invoker = await startInvoker({ executors: 1, source: SOURCE, providers: [proven] });
const plain = new pg.Pool({ ...(await logins.guestConnection('anon')), max: CLIENTS });
// The server may end before the last goodbye is out.
plain.on('error', () => undefined);
try {
  const sides = {
    guest: () => repeat(invokeOnce, QUERIES_PER_INVOCATION),
    plain: () => repeat(queryByHand, 1),
    proven: () => throughHostFunction(proven),
    unproven: () => throughHostFunction(unproven),
  };
  const names = Object.keys(sides) as (keyof typeof sides)[];
  const rates: Record<keyof typeof sides, number[]> = { guest: [], plain: [], proven: [], unproven: [] };
  for (const name of names) await sides[name]();
  for (let round = 0; round < ROUNDS; round++) {
    for (const name of round % 2 === 0 ? names : names.toReversed()) rates[name].push(await sides[name]());
  }
  const middle = (name: keyof typeof sides): number => summarize(rates[name]).p50;
  publish({
    bench: 'guest-sql',
    question: `db.query('select 1') of a guest, relative to the same transaction through pg; proven claims on and off`,
    figures: [
      { name: 'guest / pg', value: middle('guest') / middle('plain'), unit: '×', target: { op: '>=', value: 0.7 } },
      {
        name: 'proven claims on / off',
        value: middle('proven') / middle('unproven'),
        unit: '×',
        target: { op: '>=', value: 0.85 },
      },
      { name: 'guest in a sandbox', value: middle('guest'), unit: '/s' },
      { name: 'pg', value: middle('plain'), unit: '/s' },
      { name: 'host function, claims proven', value: middle('proven'), unit: '/s' },
      { name: 'host function, not proven', value: middle('unproven'), unit: '/s' },
    ],
    notes: [
      `${CLIENTS} at a time, medians of ${ROUNDS} turns of ${TURN_MS / 1000} s each; load and Postgres on the same cores`,
    ],
  });
} finally {
  await invoker.stop();
  await Promise.all([proven.stop?.(), unproven.stop?.(), plain.end()]);
  await pool.end();
  await server.stop();
  await rm(dataDir, { recursive: true, force: true });
}

/** Statements a second of `CLIENTS` loops. */
async function repeat(work: () => Promise<void>, statements: number): Promise<number> {
  const startMs = performance.now();
  let count = 0;
  const loop = async (): Promise<void> => {
    while (performance.now() - startMs < TURN_MS) {
      await work();
      count += statements;
    }
  };
  await Promise.all(Array.from({ length: CLIENTS }, loop));
  return (count * 1_000) / (performance.now() - startMs);
}

async function invokeOnce(): Promise<void> {
  const { outcome, error } = await invoker.invoke({});
  if (outcome !== 'ok') throw new Error(`the guest ended with ${outcome}: ${error?.message}`);
}

async function queryByHand(): Promise<void> {
  const client = await plain.connect();
  await client.query('begin');
  await client.query(SETTINGS, ['10500', '10500', '{"role":"anon"}', '0', 'anon']);
  await client.query({ text: 'select 1', rowMode: 'array' });
  await client.query('commit');
  await client.query('discard all');
  client.release();
}

async function throughHostFunction(provider: HostFunctionProvider): Promise<number> {
  const payload = JSON.stringify({ sql: 'select 1', params: [] });
  return repeat(async () => {
    const session = provider.open({
      invocationId: 'bench',
      requestId: 'bench',
      functionName: 'bench',
      version: 1,
      identity: { role: 'anon', claims: null, userId: null },
      policy: {
        db: { role: 'invoker' },
        env: [],
        http: { allow: [], secrets: [], rateLimit: { requests: 1, windowMs: 1 } },
      },
      deadlineMs: performance.now() + 10_000,
      signal: new AbortController().signal,
      redact: (text) => text,
      log() {},
      depth: 0,
    });
    for (let query = 0; query < 20; query++) await session.call('db.query', payload);
    await session.close();
  }, 20);
}
