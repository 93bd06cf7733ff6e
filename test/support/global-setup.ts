/** One Postgres and one engine for the whole test run; `POSTERN_TEST_POSTGRES=15` runs everything on that version. */

import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rename, rm, stat, utimes } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import type { TestProject } from 'vitest/node';
import { startTestServer } from './test-server.ts';

/** The engine takes a process six seconds, in which no test runs yet; it is kept for the runs after this one. */
const KEPT = resolve('node_modules/.cache/postern-test-engine');
/** 23 MB for each state of the code that was tested. */
const FORGET_AFTER_MS = 24 * 3_600_000;

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const version = process.env.POSTERN_TEST_POSTGRES === '15' ? 15 : 18;
  const [server, folder] = await Promise.all([startTestServer(version, { autovacuum_naptime: '10s' }), makeEngine()]);
  project.provide('postgresUrl', server.url);
  project.provide('engineFile', join(folder, 'engine'));
  project.provide('pythonFile', join(folder, 'python'));
  return () => server.stop();
}

/** A folder with both, made where no run before had the same code. */
async function makeEngine(): Promise<string> {
  const folder = join(KEPT, await codeId());
  if (!existsSync(folder)) {
    await mkdir(KEPT, { recursive: true });
    const made = await mkdtemp(join(KEPT, 'made-'));
    const files = [join(made, 'engine'), join(made, 'python')];
    await promisify(execFile)(process.execPath, [resolve('test/support/make-engine.ts'), ...files]);
    // Another run may have been faster.
    await rename(made, folder).catch(() => rm(made, { recursive: true }));
  }
  await utimes(folder, new Date(), new Date());
  await forgetUnused();
  return folder;
}

/** Of all that may be in them: the code below `runtime/` and `invoker/`, and the packages. */
async function codeId(): Promise<string> {
  const hash = createHash('sha256').update(process.version);
  const below = await Promise.all(['runtime', 'host-functions', 'invoker'].map((name) => filesBelow(name)));
  for (const path of ['package-lock.json', ...below.flat()]) hash.update(path).update(await readFile(path));
  return hash.digest('hex').slice(0, 32);
}

async function filesBelow(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return entries.flatMap((entry) => (entry.isFile() ? [join(entry.parentPath, entry.name)] : [])).sort();
}

async function forgetUnused(): Promise<void> {
  for (const name of await readdir(KEPT)) {
    const { mtimeMs } = await stat(join(KEPT, name));
    if (Date.now() - mtimeMs > FORGET_AFTER_MS) await rm(join(KEPT, name), { recursive: true });
  }
}
