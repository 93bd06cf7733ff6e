import { randomBytes } from 'node:crypto';
import pg, { type Pool } from 'pg';
import { inject } from 'vitest';
import { createSystemPool } from '../../database/index.ts';
import { TEMPLATE, type TestServer } from './test-server.ts';

declare module 'vitest' {
  export interface ProvidedContext {
    /** Superuser's URL of the test run's Postgres. */
    postgresUrl: string;
  }
}

export interface TestDatabase {
  readonly url: string;
  readonly name: string;
  /** A system pool on it, ended by `drop`. */
  readonly pool: Pool;
  /** Ends the pool and drops the database. Rejects where somebody still holds a connection to it: a leak. */
  drop(): Promise<void>;
}

/** How long connections that were just ended may take to disappear from the server. */
const SETTLE_MS = 2_000;

/**
 * A database of its own, migrated, for a test file: `beforeAll(async () => { db = await createTestDatabase(); })`,
 * `afterAll(() => db.drop())`. Cloned from a template in about 20 ms. `empty: true` gives one that nothing was done to.
 */
export async function createTestDatabase(
  options: { readonly empty?: boolean; readonly on?: TestServer } = {},
): Promise<TestDatabase> {
  const adminUrl = options.on?.url ?? inject('postgresUrl');
  const name = `test_${randomBytes(6).toString('hex')}`;
  const template = options.empty === true ? 'template1' : TEMPLATE;
  // Copying files takes a third of the CPU of writing each block to the log as well, and nobody recovers this server.
  await asAdmin(adminUrl, (admin) => admin.query(`create database ${name} template ${template} strategy file_copy`));
  const url = Object.assign(new URL(adminUrl), { pathname: `/${name}` }).href;
  const pool = createSystemPool(url);
  let dropped: Promise<void> | undefined;
  const drop = async (): Promise<void> => {
    await pool.end();
    const leaks = await asAdmin(adminUrl, (admin) => leakedConnections(admin, name));
    await asAdmin(adminUrl, (admin) => admin.query(`drop database if exists ${name} with (force)`));
    if (leaks.length > 0) throw new Error(`connections to the test database were left open: ${leaks.join('; ')}`);
  };
  return {
    url,
    name,
    pool,
    drop: () => {
      dropped ??= drop();
      return dropped;
    },
  };
}

async function asAdmin<T>(url: string, work: (admin: pg.Client) => Promise<T>): Promise<T> {
  const admin = new pg.Client(url);
  await admin.connect();
  try {
    return await work(admin);
  } finally {
    await admin.end();
  }
}

async function leakedConnections(admin: pg.Client, name: string): Promise<readonly string[]> {
  const giveUpAt = performance.now() + SETTLE_MS;
  for (;;) {
    const { rows } = await admin.query<{ leak: string }>(
      `select format('%s as %s, %s: %s', application_name, usename, state, left(query, 80)) as leak
       from pg_stat_activity where datname = $1 and backend_type = 'client backend'`,
      [name],
    );
    if (rows.length === 0 || performance.now() > giveUpAt) return rows.map((row) => row.leak);
    await admin.query('select pg_sleep(0.02)');
  }
}
