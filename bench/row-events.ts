/**
 * How fast do committed row changes reach a function? Two questions. Idle: from the return of COMMIT to the start of the
 * handler, one change at a time, each finding the dispatcher asleep. Busy: events run and finished per second, from a
 * backlog, and while writers go on. The invoker is a stand-in that answers at once: this is the cost of capture and
 * delivery; `bench/end-to-end.ts`, where it exists, has the sandboxes. Run: `npm run bench -- row-events`.
 */

import { randomUUID } from 'node:crypto';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createSystemPool, migrate, startEmbeddedPostgres, withTransaction } from '../database/index.ts';
import type { InvocationRequest, InvocationResult, Invoker } from '../invoker/index.ts';
import { DatabaseTriggerInstaller, Dispatcher } from '../triggers/database/index.ts';
import { publish, summarize } from './support/report.ts';

const IDLE_SAMPLES = 200;
/** Longer than the dispatcher stays awake after an event. */
const IDLE_GAP_MS = 60;
const BACKLOG = 40_000;
const LIVE_MS = 5_000;
const LIVE_WRITERS = 4;

/** Answers at once, and tells who waits. */
class InstantInvoker implements Invoker {
  count = 0;
  #waiting: (() => void)[] = [];
  #target = Number.POSITIVE_INFINITY;

  invoke(request: InvocationRequest): Promise<InvocationResult> {
    this.count++;
    if (this.count >= this.#target) for (const resolve of this.#waiting.splice(0)) resolve();
    return Promise.resolve({
      invocationId: request.requestId,
      functionName: request.functionName,
      version: 1,
      outcome: 'ok',
      usage: { durationMs: 0, cpuMs: 0, fuel: 0, peakMemoryBytes: 0, hostCalls: 0, clockReads: 0, randomBytes: 0 },
    });
  }

  reached(target: number): Promise<void> {
    this.#target = target;
    return this.count >= target ? Promise.resolve() : new Promise((resolve) => this.#waiting.push(resolve));
  }
}

const dataDir = await mkdtemp(join(tmpdir(), 'postern-bench-'));
await chmod(dataDir, 0o755);
const server = await startEmbeddedPostgres({ dataDir });
const pool = createSystemPool(server.url);
const invoker = new InstantInvoker();
const dispatcher = new Dispatcher({
  pool,
  connection: { connectionString: server.url },
  invoker,
  nodeId: randomUUID(),
  policy: () => ({
    retry: { maxAttempts: 5, backoff: { initialMs: 1_000, factor: 2, maxMs: 60_000 } },
    version: 1,
    concurrency: null,
  }),
});
try {
  await migrate(pool);
  await pool.query(`create table users (id uuid primary key default gen_random_uuid(), email text,
    created_at timestamptz not null default now())`);
  const { rows } = await pool.query<{ id: string }>(
    `insert into postern.functions (name, active_version) values ('bench', 1) returning id`,
  );
  await withTransaction(pool, (client) =>
    new DatabaseTriggerInstaller().install(client, Number(rows[0]?.id), 'bench', [
      { type: 'database', schema: 'public', table: 'users', operations: ['INSERT'], columns: [], when: null },
    ]),
  );
  const backlogRate = await drainBacklog();
  const liveRate = await keepUp();
  const idle = await idleLatency();
  publish({
    bench: 'row-events',
    question: 'from a committed row change to the handler',
    figures: [
      { name: 'commit to handler start, idle, p50', value: idle.p50, unit: 'ms', target: { op: '<=', value: 10 } },
      { name: 'commit to handler start, idle, p99', value: idle.p99, unit: 'ms' },
      {
        name: 'events run and finished, from a backlog',
        value: backlogRate,
        unit: '/s',
        target: { op: '>=', value: 4_000 },
      },
      { name: 'events run and finished, while they are written', value: liveRate, unit: '/s' },
    ],
    notes: [
      `backlog of ${BACKLOG}; ${LIVE_WRITERS} writers of 50 rows a statement; ${IDLE_SAMPLES} samples idle; fsync on`,
    ],
  });
} finally {
  await dispatcher.stop();
  await pool.end();
  await server.stop();
  await rm(dataDir, { recursive: true, force: true });
}

/** Until the last one is not only run but gone from the outbox. */
async function drainBacklog(): Promise<number> {
  await pool.query(`insert into users (email) select 'user' || i from generate_series(1, ${BACKLOG}) i`);
  const startedAt = performance.now();
  await dispatcher.start();
  await invoker.reached(invoker.count + BACKLOG);
  await outboxEmpty();
  return BACKLOG / ((performance.now() - startedAt) / 1000);
}

async function keepUp(): Promise<number> {
  const startedAt = performance.now();
  const before = invoker.count;
  let written = 0;
  await Promise.all(
    Array.from({ length: LIVE_WRITERS }, async () => {
      while (performance.now() - startedAt < LIVE_MS) {
        await pool.query(`insert into users (email) select 'user' || i from generate_series(1, 50) i`);
        written += 50;
      }
    }),
  );
  await invoker.reached(before + written);
  await outboxEmpty();
  return written / ((performance.now() - startedAt) / 1000);
}

async function outboxEmpty(): Promise<void> {
  for (;;) {
    const { rowCount } = await pool.query('select from postern.events limit 1');
    if (rowCount === 0) return;
  }
}

async function idleLatency(): Promise<{ p50: number; p99: number }> {
  const samples: number[] = [];
  for (let index = 0; index < IDLE_SAMPLES; index++) {
    await new Promise((resolve) => setTimeout(resolve, IDLE_GAP_MS));
    const started = invoker.reached(invoker.count + 1).then(() => performance.now());
    await pool.query(`insert into users (email) values ('someone@example.com')`);
    const committedAt = performance.now();
    samples.push(Math.max(0, (await started) - committedAt));
  }
  return summarize(samples);
}
