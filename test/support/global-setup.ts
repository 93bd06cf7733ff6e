/** One Postgres and one engine for the whole test run; `POSTERN_TEST_POSTGRES=15` runs everything on that version. */

import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import type { TestProject } from 'vitest/node';
import { startTestServer } from './test-server.ts';

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const version = process.env.POSTERN_TEST_POSTGRES === '15' ? 15 : 18;
  const folder = await mkdtemp(join(tmpdir(), 'postern-test-engine-'));
  const engineFile = join(folder, 'engine');
  const pythonFile = join(folder, 'python');
  const [server] = await Promise.all([
    startTestServer(version, { autovacuum_naptime: '10s' }),
    promisify(execFile)(process.execPath, [resolve('test/support/make-engine.ts'), engineFile, pythonFile]),
  ]);
  project.provide('postgresUrl', server.url);
  project.provide('engineFile', engineFile);
  project.provide('pythonFile', pythonFile);
  return async () => {
    await server.stop();
    await rm(folder, { recursive: true });
  };
}
