/**
 * What does capture cost the writers of a table? Inserts of one row by eight clients, each its own transaction, and of
 * 1,000 rows by two, with a database trigger and without, in turns, on a fresh Postgres that syncs as it should. And beside them
 * the least that a trigger with an outbox can be: one that inserts a constant into a table of one column, no index, no row.
 * No dispatcher runs, so nobody rings the doorbell: as it is for a writer while one is awake. The load comes from this
 * process, over `pg`, so its own time is in all. Run: `npm run bench -- capture`.
 *
 * Where the server's microseconds of a single-row transaction go, taken away one by one (one session, async commit, tmpfs; 21
 * without a trigger, 47 more with capture): the call of a plpgsql trigger 6, the transition table 2, row_to_json 4, the least
 * insert 8, definer and its two SETs 4, settings and doorbell 8, claims or none 2, the primary key and seq 5, the index by
 * ordering key 3, and 5 for columns that a capture leaves null, 0.4 each. 0.7 × takes about 30.
 */

import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg, { type Pool } from 'pg';
import { createSystemPool, migrate, startEmbeddedPostgres, withTransaction } from '../database/index.ts';
import type { DatabaseTriggerConfig } from '../invoker/index.ts';
import { DatabaseTriggerInstaller } from '../triggers/database/index.ts';
import { publish, summarize } from './support/report.ts';

/** Short turns, many of them: what else the machine does hits both sides alike. */
const ROUNDS = 12;
const TURN_MS = 1_000;
const SINGLE = { clients: 8, sql: `insert into users (email) values ('someone@example.com')` };
const BULK = {
  clients: 2,
  sql: `insert into users (email) select 'user' || i || '@example.com' from generate_series(1, 1000) i`,
};
const TRIGGER: DatabaseTriggerConfig = {
  type: 'database',
  schema: 'public',
  table: 'users',
  operations: ['INSERT'],
  columns: [],
  when: null,
};

const LEAST = `create table least (x int);
  create function insert_least() returns trigger language plpgsql as $$ begin insert into least values (1); return null; end $$;
  create trigger least after insert on users for each statement execute function insert_least()`;
const NO_LEAST = 'drop function if exists insert_least cascade; drop table if exists least';

const SIDES = ['without', 'least', 'with'] as const;
type Side = (typeof SIDES)[number];

interface Load {
  readonly clients: number;
  readonly sql: string;
}

const dataDir = await mkdtemp(join(tmpdir(), 'postern-bench-'));
await chmod(dataDir, 0o755);
const server = await startEmbeddedPostgres({ dataDir });
const pool = createSystemPool(server.url);
try {
  await migrate(pool);
  // The table of SPEC 3.
  await pool.query(`create table users (id uuid primary key default gen_random_uuid(), email text,
    created_at timestamptz not null default now())`);
  const functionId = await makeFunction(pool);
  const single = await compare(functionId, SINGLE);
  const bulk = await compare(functionId, BULK);
  publish({
    bench: 'capture',
    question: 'inserts with a database trigger, relative to inserts without',
    figures: [
      { name: 'single-row, with / without', value: single.ratio, unit: '×', target: { op: '>=', value: 0.7 } },
      { name: 'single-row, the least trigger / without', value: single.least, unit: '×' },
      { name: '1,000 rows, with / without', value: bulk.ratio, unit: '×', target: { op: '>=', value: 0.4 } },
      { name: 'single-row without', value: single.without, unit: '/s' },
      { name: 'single-row with', value: single.with, unit: '/s' },
      { name: '1,000 rows without', value: bulk.without, unit: '/s' },
      { name: '1,000 rows with', value: bulk.with, unit: '/s' },
    ],
    notes: [
      `${SINGLE.clients} and ${BULK.clients} clients, fsync on, medians of ${ROUNDS} turns of ${TURN_MS / 1000} s each; users (id uuid, email, created_at)`,
    ],
  });
} finally {
  await pool.end();
  await server.stop();
  await rm(dataDir, { recursive: true, force: true });
}

async function makeFunction(system: Pool): Promise<number> {
  const { rows } = await system.query<{ id: string }>(
    `insert into postern.functions (name, active_version) values ('bench', 1) returning id`,
  );
  return Number(rows[0]?.id);
}

interface Compared {
  readonly ratio: number;
  readonly least: number;
  readonly with: number;
  readonly without: number;
}

async function compare(functionId: number, load: Load): Promise<Compared> {
  const rates: Record<Side, number[]> = { without: [], least: [], with: [] };
  const clients = await Promise.all(Array.from({ length: load.clients }, connect));
  for (let round = 0; round < ROUNDS; round++) {
    // The order changes from round to round, so that none always comes after another's checkpoint.
    for (const side of round % 2 === 0 ? SIDES : SIDES.toReversed()) {
      await setTrigger(functionId, side === 'with');
      if (side === 'least') await pool.query(LEAST);
      await pool.query('truncate users, postern.events');
      await pool.query('checkpoint');
      rates[side].push(await turn(clients, load.sql));
      await pool.query(NO_LEAST);
    }
  }
  await Promise.all(clients.map((client) => client.end()));
  const ratio = (side: Side): number =>
    summarize(rates[side].map((rate, round) => rate / (rates.without[round] as number))).p50;
  return {
    ratio: ratio('with'),
    least: ratio('least'),
    with: summarize(rates.with).p50,
    without: summarize(rates.without).p50,
  };
}

async function connect(): Promise<pg.Client> {
  const client = new pg.Client(server.url);
  await client.connect();
  return client;
}

async function setTrigger(functionId: number, present: boolean): Promise<void> {
  const triggers = present ? [TRIGGER] : [];
  await withTransaction(pool, (client) =>
    new DatabaseTriggerInstaller().install(client, functionId, 'bench', triggers),
  );
}

/** Statements a second, all clients together. */
async function turn(clients: readonly pg.Client[], sql: string): Promise<number> {
  const startedAt = performance.now();
  let done = 0;
  await Promise.all(
    clients.map(async (client) => {
      while (performance.now() - startedAt < TURN_MS) {
        await client.query({ name: 'insert', text: sql });
        done++;
      }
    }),
  );
  return done / ((performance.now() - startedAt) / 1000);
}
