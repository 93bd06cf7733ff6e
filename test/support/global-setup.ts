/** One Postgres for the whole test run; `POSTERN_TEST_POSTGRES=15` runs everything on that version. */

import type { TestProject } from 'vitest/node';
import { startTestServer } from './test-server.ts';

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const version = process.env.POSTERN_TEST_POSTGRES === '15' ? 15 : 18;
  const server = await startTestServer(version, { autovacuum_naptime: '10s' });
  project.provide('postgresUrl', server.url);
  return server.stop;
}
