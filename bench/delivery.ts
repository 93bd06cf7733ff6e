/**
 * Row events through a whole node: capture, outbox, executor, sandbox, record. How many a second, next to graphile-worker with
 * its own defaults, which runs as little in Node without a sandbox; whether a backlog of 500,000 slows it down; how late a change
 * is under 1,000 writes a second, and how many NOTIFYs those cost. Run: `npm run bench -- delivery`.
 */

import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { runMigrations } from 'graphile-worker';
import pg from 'pg';
import { publish, summarize } from './support/report.ts';
import { startServer } from './support/server.ts';

const BACKLOG = Number(process.env.BENCH_BACKLOG ?? 500_000);
const COMPARED = 40_000;
/** Fewer, for it takes one at a time. */
const COMPARED_JOBS = 5_000;
const WRITES_PER_SECOND = 1_000;
const LIVE_SECONDS = 10;

const postern = await startServer();
const pool = new pg.Pool({ connectionString: postern.databaseUrl, max: 12 });
try {
  await pool.query(
    'create table users (id bigint generated always as identity primary key, email text); create table calls (id int)',
  );
  await control('POST', '/functions', {
    name: 'noop',
    trigger: { type: 'database', table: 'users', operations: ['INSERT'] },
    source: 'export const handler = () => null;',
  });
  await control('POST', '/functions', {
    name: 'late',
    trigger: { type: 'database', table: 'calls', operations: ['INSERT'] },
    source: `import { log } from 'postern'; export const handler = ({ new: { id } }) => log.info(String(id));`,
  });
  const rate = await drain(COMPARED);
  const graphile = await drainGraphile(COMPARED_JOBS);
  const live = await keepUp();
  const backlog = await drain(BACKLOG);
  const outboxMb = await outboxSizeMb();
  publish({
    bench: 'delivery',
    question: 'row events run and finished by one node, in sandboxes, with records',
    figures: [
      { name: 'events', value: rate.perSecond, unit: '/s', target: { op: '>=', value: 8_000 } },
      { name: 'graphile-worker, its defaults, no sandbox', value: graphile, unit: 'jobs/s' },
      { name: 'events / graphile-worker', value: rate.perSecond / graphile, unit: '×', target: { op: '>=', value: 2 } },
      { name: 'commit to first line of the handler, p50', value: live.p50, unit: 'ms' },
      {
        name: 'commit to first line of the handler, p99',
        value: live.p99,
        unit: 'ms',
        target: { op: '<=', value: 60 },
      },
      { name: 'NOTIFYs', value: live.notifies, unit: '/s', target: { op: '<=', value: 50 } },
      { name: `backlog of ${BACKLOG}`, value: backlog.perSecond, unit: '/s' },
      {
        name: 'drain rate, last fifth / first fifth',
        value: backlog.lastToFirst,
        unit: '×',
        target: { op: '>=', value: 0.9 },
      },
      { name: 'memory of the node, most', value: backlog.mostMb, unit: 'MB' },
      { name: 'outbox after all of it, with indexes', value: outboxMb, unit: 'MB' },
    ],
    notes: [
      `${COMPARED} events and ${COMPARED_JOBS} jobs; ${WRITES_PER_SECOND} single-row transactions a second for ${LIVE_SECONDS} s; Postgres, node and writers on the same cores; fsync on`,
    ],
  });
} finally {
  await pool.end();
  await postern.stop();
}

async function control(method: string, path: string, body: unknown = {}): Promise<void> {
  const response = await fetch(postern.url + path, {
    method,
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${await response.text()}`);
}

async function waiting(): Promise<number> {
  const { rows } = await pool.query<{ n: number }>('select count(*)::int as n from postern.events');
  return rows[0]?.n ?? 0;
}

/** From the moment that a paused function goes on until its outbox is empty. */
async function drain(count: number): Promise<{ perSecond: number; lastToFirst: number; mostMb: number }> {
  await control('POST', '/functions/noop/pause');
  await pool.query('insert into users (email) select $1 from generate_series(1, $2)', ['someone@example.com', count]);
  const startedAt = performance.now();
  await control('POST', '/functions/noop/resume');
  const fifth = count / 5;
  const reached: number[] = [];
  let mostMb = 0;
  for (let left = count; left > 0; ) {
    await new Promise((resolve) => setTimeout(resolve, 100));
    left = await waiting();
    const now = performance.now() - startedAt;
    while (count - left >= fifth * (reached.length + 1)) reached.push(now);
    mostMb = Math.max(mostMb, residentMb(postern.pid));
  }
  const [first = 0, , , fourth = 0, last = 0] = reached;
  return { perSecond: count / (last / 1000), lastToFirst: first / (last - fourth), mostMb };
}

/** What the events that are gone have left; the next ones use it again. */
async function outboxSizeMb(): Promise<number> {
  const { rows } = await pool.query<{ bytes: string }>(`select pg_total_relation_size('postern.events') as bytes`);
  return Number(rows[0]?.bytes) / 2 ** 20;
}

function residentMb(pid: number): number {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) / 1024;
}

async function drainGraphile(count: number): Promise<number> {
  await runMigrations({ connectionString: postern.databaseUrl });
  await pool.query(`select graphile_worker.add_job('noop', json_build_object('id', i)) from generate_series(1, $1) i`, [
    count,
  ]);
  const worker = fileURLToPath(new URL('./support/graphile-process.ts', import.meta.url));
  const { stdout } = await promisify(execFile)(process.execPath, [worker, postern.databaseUrl, String(count)], {
    maxBuffer: 2 ** 30,
  });
  const { ms } = JSON.parse(stdout.trim().split('\n').at(-1) as string) as { ms: number };
  return count / (ms / 1000);
}

/** Single-row transactions at an even pace: from the return of COMMIT to what the function logs, by the clock that both share. */
async function keepUp(): Promise<{ p50: number; p99: number; notifies: number }> {
  const listener = new pg.Client(postern.databaseUrl);
  await listener.connect();
  let notifies = 0;
  listener.on('notification', () => {
    notifies++;
  });
  await listener.query('listen postern_events');
  const committed = new Map<number, number>();
  const startedAt = performance.now();
  const writes: Promise<unknown>[] = [];
  for (let id = 0; id < WRITES_PER_SECOND * LIVE_SECONDS; id++) {
    const aheadMs = (id * 1000) / WRITES_PER_SECOND - (performance.now() - startedAt);
    if (aheadMs > 1) await new Promise((resolve) => setTimeout(resolve, aheadMs));
    const write = pool.query({ name: 'write', text: 'insert into calls values ($1)', values: [id] });
    writes.push(write.then(() => committed.set(id, Date.now())));
  }
  await Promise.all(writes);
  const seconds = (performance.now() - startedAt) / 1000;
  while ((await recorded()) < committed.size) await new Promise((resolve) => setTimeout(resolve, 100));
  await listener.end();
  const { rows } = await pool.query<{ id: number; at: string }>(
    `select (logs -> 0 ->> 'message')::int as id, logs -> 0 ->> 'timeMs' as at
     from postern.function_invocations where function_name = 'late'`,
  );
  const lateMs = rows.map(({ id, at }) => Math.max(0, Number(at) - (committed.get(id) as number)));
  return { ...summarize(lateMs), notifies: notifies / seconds };
}

async function recorded(): Promise<number> {
  const { rows } = await pool.query<{ n: number }>(
    `select count(*)::int as n from postern.function_invocations where function_name = 'late'`,
  );
  return rows[0]?.n ?? 0;
}
