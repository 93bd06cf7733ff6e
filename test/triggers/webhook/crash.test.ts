/** A node that is killed when the delivery is committed and nobody has been told: a process of its own, over a real database. */

import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createTestDatabase, type TestDatabase } from '../../support/postgres.ts';
import { sharedPartsEnv } from '../../support/shared-parts-env.ts';
import { SECRET, sign } from './support.ts';

const PROCESS = join(import.meta.dirname, '../../../bench/support/server-process.ts');
/** Any number that nobody else locks. */
const GATE = 4_711;

let db: TestDatabase;
let dataDir: string;
const started: ChildProcess[] = [];

beforeAll(async () => {
  db = await createTestDatabase();
  dataDir = await mkdtemp(join(tmpdir(), 'postern-crash-'));
});
afterAll(async () => {
  await Promise.all(started.map((child) => end(child, 'SIGKILL')));
  await rm(dataDir, { recursive: true, force: true });
  await db.drop();
});

async function end(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = new Promise((resolve) => child.once('exit', resolve));
  child.kill(signal);
  await gone;
}

/** The url of a node in a process of its own. */
async function startProcess(functions: readonly unknown[]): Promise<{ child: ChildProcess; url: string }> {
  const env = { ...process.env, ...sharedPartsEnv(), DATABASE_URL: db.url, POSTERN_EXECUTORS: '1' };
  const child = spawn(process.execPath, [PROCESS, JSON.stringify({ dataDir, functions })], {
    env,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  started.push(child);
  let text = '';
  for await (const chunk of child.stdout!.setEncoding('utf8')) {
    text += chunk as string;
    const ready = /^ready (.*)\n/m.exec(text);
    if (ready !== null) return { child, url: (JSON.parse(ready[1]!) as { url: string }).url };
  }
  throw new Error('the node ended before it was ready');
}

/** Resolves when the statement has a row. */
async function until(sql: string): Promise<void> {
  while ((await db.pool.query(sql)).rowCount === 0) await db.pool.query('select pg_sleep(0.01)');
}

test('WH-09 a delivery of a node that was killed between commit and response is known to the next, and runs once', async () => {
  const hook = {
    name: 'hook',
    source: 'export const handler = (event) => event.body.n;',
    config: { trigger: { type: 'webhook', secret: 'HOOK' } },
  };
  const first = await startProcess([hook]);
  const secret = { method: 'PUT', body: JSON.stringify({ value: SECRET }) };
  const headers = { 'content-type': 'application/json' };
  expect((await fetch(`${first.url}/secrets/HOOK`, { ...secret, headers })).status).toBe(204);
  // Holds every commit of a delivery at its very end, until the test opens the gate.
  await db.pool.query(`
    create function hold() returns trigger language plpgsql as
      $$ begin perform pg_advisory_xact_lock_shared(${GATE}); return null; end $$;
    create constraint trigger hold after insert on postern.webhook_deliveries deferrable initially deferred
      for each row execute function hold()`);
  const gate = await db.pool.connect();
  await gate.query('select pg_advisory_lock($1)', [GATE]);
  const request = { method: 'POST', body: '{"n":7}', headers: { ...headers, ...sign('hmac-sha256', '{"n":7}') } };
  const answer = fetch(`${first.url}/functions/v1/webhook/hook`, request).then(
    (response) => response.status,
    () => 'none',
  );
  await until(`select from pg_locks where locktype = 'advisory' and objid = ${GATE} and not granted`);
  first.child.kill('SIGSTOP');
  await gate.query('select pg_advisory_unlock($1)', [GATE]);
  gate.release();
  await until('select from postern.webhook_deliveries');
  await end(first.child, 'SIGKILL');
  expect(await answer).toBe('none');
  const second = await startProcess([]);
  const again = await fetch(`${second.url}/functions/v1/webhook/hook`, request);
  expect(again.status).toBe(202);
  const { id, duplicate } = (await again.json()) as { id: string; duplicate?: boolean };
  expect(duplicate).toBe(true);
  await until('select from postern.function_invocations');
  await end(second.child, 'SIGTERM');
  const { rows } = await db.pool.query('select event_id, status from postern.function_invocations');
  expect(rows).toEqual([{ event_id: id, status: 'ok' }]);
  expect((await db.pool.query('select from postern.events')).rowCount).toBe(0);
});
