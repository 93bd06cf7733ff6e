/** One Postgres for the whole test run, with a migrated template database that each test file's database is cloned from. */

import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import type { TestProject } from 'vitest/node';
import { createSystemPool, migrate, startEmbeddedPostgres } from '../../database/index.ts';
import type {} from './postgres.ts';

/** Also in `postgres.ts`, which runs in other processes. */
const TEMPLATE = 'postern_template';

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const dataDir = await mkdtemp(join(tmpdir(), 'postern-test-'));
  // As root the server runs as `postgres`, which has to get in.
  await chmod(dataDir, 0o755);
  const server = await startEmbeddedPostgres({
    dataDir,
    // Nothing here outlives the run.
    settings: { fsync: 'off', synchronous_commit: 'off', full_page_writes: 'off', autovacuum_naptime: '10s' },
  });
  const stop = async (): Promise<void> => {
    await server.stop();
    await rm(dataDir, { recursive: true, force: true });
  };
  try {
    await createTemplate(server.url);
  } catch (error) {
    await stop();
    throw error;
  }
  project.provide('postgresUrl', server.url);
  return stop;
}

async function createTemplate(url: string): Promise<void> {
  const client = new pg.Client(url);
  await client.connect();
  await client.query(`create database ${TEMPLATE}`);
  await client.end();
  const pool = createSystemPool(Object.assign(new URL(url), { pathname: `/${TEMPLATE}` }).href);
  await migrate(pool);
  await pool.end();
}
