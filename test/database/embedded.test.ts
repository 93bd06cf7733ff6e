import { type ChildProcess, spawn } from 'node:child_process';
import { chmod, chown, mkdtemp, readFile, readlink, rm, stat, writeFile } from 'node:fs/promises';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import pg from 'pg';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { startEmbeddedPostgres } from '../../database/index.ts';

const IS_ROOT = process.getuid?.() === 0;
const SETTINGS = { fsync: 'off' };
let dataDir: string;
const children: ChildProcess[] = [];

async function newDataDir(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'postern-embedded-'));
  await chmod(path, 0o755);
  return path;
}

// One cluster for all but the last two: making one takes a second.
beforeAll(async () => {
  dataDir = await newDataDir();
});
afterEach(() => Promise.all(children.splice(0).map(kill)));
afterAll(() => remove(dataDir));

/** A server that has just closed its connections may still write its last files. */
function remove(path: string): Promise<void> {
  return rm(path, { recursive: true, force: true, maxRetries: 50, retryDelay: 20 });
}

async function kill(child: ChildProcess): Promise<void> {
  child.kill('SIGKILL');
  await exited(child);
}

async function exited(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  await new Promise((resolve) => child.once('exit', resolve));
}

/** A process of its own that starts the server, prints its URL, and waits. */
async function startInChild(
  account: { uid?: number; gid?: number } = {},
  folder = dataDir,
): Promise<{ child: ChildProcess; url: string }> {
  const module = join(import.meta.dirname, '../../database/embedded.ts');
  const script = `const { startEmbeddedPostgres } = await import(${JSON.stringify(module)});
    const server = await startEmbeddedPostgres(${JSON.stringify({ dataDir: folder, settings: SETTINGS })});
    console.log(server.url); process.stdin.resume(); process.stdin.once('end', () => process.exit(0));`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    ...account,
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  children.push(child);
  for await (const url of createInterface({ input: child.stdout })) return { child, url };
  throw new Error('the child ended before it had a server');
}

async function query(url: string, sql: string): Promise<unknown[]> {
  const client = new pg.Client(url);
  client.on('error', () => undefined);
  await client.connect();
  try {
    return (await client.query(sql)).rows;
  } finally {
    await client.end();
  }
}

/** Resolves when nobody answers at the URL any more. */
async function gone(url: string): Promise<void> {
  const client = new pg.Client(url);
  const lost = new Promise<void>((resolve) => {
    client.on('error', () => resolve());
    client.on('end', () => resolve());
  });
  await client.connect().catch(() => undefined);
  await lost;
}

describe('the embedded Postgres', () => {
  test('keeps its data, its password and its port between runs, and lets nobody else read the password', async () => {
    const first = await startEmbeddedPostgres({ dataDir, settings: SETTINGS });
    await query(first.url, `drop table if exists kept; create table kept as select 'ü' as text`);
    await first.stop();
    await first.stop();
    const second = await startEmbeddedPostgres({ dataDir, settings: SETTINGS });
    expect(second.url).toBe(first.url);
    expect(await query(second.url, 'select lower(upper(text)) as text from kept')).toEqual([{ text: 'ü' }]);
    expect((await stat(join(dataDir, 'postgres/password'))).mode & 0o777).toBe(0o600);
    const wrong = Object.assign(new URL(second.url), { password: 'postgres' }).href;
    await expect(query(wrong, 'select 1')).rejects.toMatchObject({ code: '28P01' });
    expect(await query(second.url, 'show listen_addresses')).toEqual([{ listen_addresses: '127.0.0.1' }]);
    await second.stop();
  });

  test('ends when its process exits without a word, and starts again', async () => {
    const { child, url } = await startInChild();
    await query(url, 'create table kept_on_exit ()');
    const closed = gone(url);
    child.stdin?.end();
    // The one that owned the folder may outlive the server's connections.
    await Promise.all([closed, exited(child)]);
    const again = await startEmbeddedPostgres({ dataDir, settings: SETTINGS });
    expect(await query(again.url, 'select from kept_on_exit')).toEqual([]);
    await again.stop();
  });

  test('starts after kill -9 of the process that had started it', async () => {
    const { child, url } = await startInChild();
    await query(url, 'create table kept_on_kill ()');
    await kill(child);
    const again = await startEmbeddedPostgres({ dataDir, settings: SETTINGS });
    expect(await query(again.url, 'select from kept_on_kill')).toEqual([]);
    await again.stop();
  });

  test('starts after kill -9 of the server, with a pid file that names a stranger', async () => {
    const first = await startEmbeddedPostgres({ dataDir, settings: SETTINGS });
    const pidFile = join(dataDir, 'postgres/data/postmaster.pid');
    const lines = (await readFile(pidFile, 'utf8')).split('\n');
    process.kill(Number(lines[0]), 'SIGKILL');
    await first.exited;
    await first.stop();
    await writeFile(pidFile, [String(process.pid), ...lines.slice(1)].join('\n'));
    const again = await startEmbeddedPostgres({ dataDir, settings: SETTINGS });
    expect(await query(again.url, 'select 1 as x')).toEqual([{ x: 1 }]);
    await again.stop();
  });

  test('is refused to a second process while the first one uses it', async () => {
    const { child } = await startInChild();
    await expect(startEmbeddedPostgres({ dataDir, settings: SETTINGS })).rejects.toThrow(
      `is in use by process ${child.pid}`,
    );
  });

  test('says that the port is taken', async () => {
    const holder = createServer();
    const port = await new Promise<number>((resolve) => {
      holder.listen(0, '127.0.0.1', () => resolve((holder.address() as AddressInfo).port));
    });
    await expect(startEmbeddedPostgres({ dataDir, port, settings: SETTINGS })).rejects.toThrow(
      /did not start[\s\S]*Address already in use/,
    );
    holder.close();
  });

  test.runIf(IS_ROOT)('runs as an ordinary user', async () => {
    const uid = 65534;
    const folder = await newDataDir();
    await chown(folder, uid, uid);
    const { child, url } = await startInChild({ uid, gid: uid }, folder);
    expect(await query(url, 'select 1 as x')).toEqual([{ x: 1 }]);
    expect((await stat(join(folder, 'postgres/data'))).uid).toBe(uid);
    const closed = gone(url);
    child.stdin?.end();
    // The one that owned the folder may outlive the server's connections.
    await Promise.all([closed, exited(child)]);
    await remove(folder);
  });

  test.runIf(IS_ROOT)('runs for root below a directory that the server can not enter', async () => {
    const folder = await newDataDir();
    await chmod(folder, 0o700);
    const said: string[] = [];
    const server = await startEmbeddedPostgres({ dataDir: folder, settings: SETTINGS, log: (line) => said.push(line) });
    expect(await query(server.url, 'select 1 as x')).toEqual([{ x: 1 }]);
    expect(said.join()).toContain('the data goes to /var/lib/postern/data-');
    await server.stop();
    const again = await startEmbeddedPostgres({ dataDir: folder, settings: SETTINGS });
    await again.stop();
    const home = await readlink(join(folder, 'postgres/data'));
    await Promise.all([remove(folder), remove(home), remove(`${home}.origin`)]);
  });
});
