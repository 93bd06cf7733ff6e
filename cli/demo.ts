/**
 * `npm run demo`: the whole path without a hand. Starts everything in a folder of its own, inserts a row into `users`, shows
 * the function that it fired and the row of `profiles` that the function wrote; then removes what it made.
 */

import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { stopBundler } from '../runtime/javascript/bundle/index.ts';
import { readStartOptions, startPostern } from '../server/index.ts';
import { ControlClient, type Invocation } from './control-client.ts';
import { deployRequest } from './deploy-request.ts';
import { applySchema } from './dev-session.ts';
import { functionsAt } from './function-files.ts';
import { duration, invocationLines } from './invocation-text.ts';
import { Output } from './output.ts';
import { pause, stopOnSignals } from './signals.ts';

const EXAMPLES = new URL('../examples/', import.meta.url);
const PATIENCE_MS = 20_000;
const POLL_MS = 2;

const output = new Output({ stdout: process.stdout, stderr: process.stderr, env: process.env, json: false });
const signal = stopOnSignals();

interface Waited {
  readonly profile: Readonly<Record<string, unknown>>;
  readonly afterCommitMs: number;
}

async function step<T>(what: string, work: () => Promise<T>): Promise<T> {
  const startedMs = performance.now();
  output.progress(what);
  const result = await work();
  output.lines([
    `${output.style('green', '✓')} ${what} ${output.style('dim', duration(performance.now() - startedMs))}`,
  ]);
  return result;
}

async function demo(dataDir: string): Promise<void> {
  const options = readStartOptions({}, { mode: 'dev', port: 0, dataDir });
  const running = await step('Postgres, migrations, executors, HTTP', () =>
    startPostern(options, { logOutput: { write: () => undefined } }),
  );
  const database = new pg.Client({ connectionString: running.databaseUrl });
  try {
    const client = new ControlClient({ url: running.url });
    await step('tables users and profiles', async () =>
      applySchema(running.databaseUrl, await readFile(new URL('schema.sql', EXAMPLES), 'utf8')),
    );
    await step('deploy create-profile: fired by INSERT on users', () => deployExample(client));
    await database.connect();
    // The first event of a function loads its image; the second shows what every other costs.
    const shown = new Set<string>();
    for (const email of ['ada@example.com', 'grace@example.com']) await signUp(database, client, email, shown);
  } finally {
    await database.end();
    await step('stop', () => running.stop());
  }
}

async function deployExample(client: ControlClient): Promise<void> {
  const [file] = await functionsAt(new URL('create-profile.ts', EXAMPLES).pathname);
  const { body } = await deployRequest(file!);
  await client.deploy(body);
}

async function signUp(database: pg.Client, client: ControlClient, email: string, shown: Set<string>): Promise<void> {
  output.lines(['', output.style('bold', `insert into users (email) values ('${email}')`)]);
  const { rows } = await database.query<{ id: string }>('insert into users (email) values ($1) returning id', [email]);
  const committedMs = performance.now();
  const userId = rows[0]!.id;
  const { profile, afterCommitMs } = await waitForProfile(database, userId, committedMs);
  const invocation = await waitForRecord(client, shown);
  output.lines([
    ...invocationLines(invocation, output, false).map((line) => `  ${line}`),
    `  profiles: ${JSON.stringify(profile)}`,
    `  ${output.style('dim', `commit to profile, as another connection saw it: ${duration(afterCommitMs)}`)}`,
  ]);
}

async function waitForProfile(database: pg.Client, userId: string, committedMs: number): Promise<Waited> {
  while (!signal.aborted && performance.now() - committedMs < PATIENCE_MS) {
    const { rows } = await database.query<Record<string, unknown>>(
      'select user_id, display_name from profiles where user_id = $1',
      [userId],
    );
    if (rows[0] !== undefined) return { profile: rows[0], afterCommitMs: performance.now() - committedMs };
    await pause(POLL_MS, signal);
  }
  throw new Error(signal.aborted ? 'interrupted' : `no profile was written within ${PATIENCE_MS / 1000} s`);
}

/** Records are written in batches, a moment later than what they tell of. */
async function waitForRecord(client: ControlClient, shown: Set<string>): Promise<Invocation> {
  const startedMs = performance.now();
  while (!signal.aborted && performance.now() - startedMs < PATIENCE_MS) {
    const found = await client.invocations('create-profile', { limit: '10' });
    const fresh = found.find(({ id }) => !shown.has(id));
    if (fresh !== undefined) {
      shown.add(fresh.id);
      return fresh;
    }
    await pause(20, signal);
  }
  throw new Error(signal.aborted ? 'interrupted' : 'no record of the invocation was written');
}

const dataDir = await mkdtemp(join(tmpdir(), 'postern-demo-'));
try {
  await demo(dataDir);
  output.lines(['', 'That was a committed row, a function in a fresh WebAssembly sandbox, and the row that it wrote.']);
} catch (error) {
  output.progressDone();
  output.error(error instanceof Error ? error.message : String(error));
  process.exitCode = 1;
} finally {
  await stopBundler();
  await rm(dataDir, { recursive: true, force: true });
}
