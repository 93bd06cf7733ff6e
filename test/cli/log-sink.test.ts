/** A node whose log nobody takes. */

import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { openSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { resolve } from 'node:path';
import type { Readable } from 'node:stream';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts';
import { sharedPartsEnv } from '../support/shared-parts-env.ts';
import { SERVE_SECRETS } from './support.ts';

let db: TestDatabase;
beforeAll(async () => {
  db = await createTestDatabase();
});
afterEach(async () => {
  await Promise.all([...running].map((child) => child.kill('SIGKILL') && ended(child)));
});
afterAll(() => db.drop());

const SOURCE = `export const handler = () => {
  for (let line = 0; line < 30; line++) console.log('x'.repeat(7_000));
  return 'answered';
};`;
const admin = { authorization: `Bearer ${SERVE_SECRETS.POSTERN_ADMIN_KEY}` };

/** A start, forty calls and a stop take 14 s where two other test files run. */
const TIMEOUT_MS = 60_000;

const running = new Set<Serve>();
type Serve = ChildProcessByStdio<null, Readable | null, Readable | null>;

/** stdout: a pipe of which the test reads the first line, or a file. */
function serve(port: number, stdout: 'pipe' | number): Serve {
  const child = spawn(process.execPath, [resolve('cli/main.ts'), 'serve', '--port', String(port), '--executors', '1'], {
    env: { ...SERVE_SECRETS, ...sharedPartsEnv(), DATABASE_URL: db.url, PATH: process.env.PATH ?? '' },
    stdio: ['ignore', stdout, 'ignore'],
  }) as Serve;
  running.add(child);
  child.once('exit', () => running.delete(child));
  return child;
}

const ended = (child: Serve): Promise<number | null> => new Promise((done) => child.once('exit', done));

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
  const { port } = server.address() as AddressInfo;
  await new Promise((closed) => server.close(closed));
  return port;
}

async function callMany(url: string, calls: number): Promise<Set<string>> {
  const answers = new Set<string>();
  for (let call = 0; call < calls; call++) {
    const response = await fetch(`${url}/functions/v1/talker`);
    answers.add(`${response.status} ${await response.json()}`);
  }
  return answers;
}

async function deploy(url: string): Promise<void> {
  const response = await fetch(`${url}/functions`, {
    method: 'POST',
    headers: { ...admin, 'content-type': 'application/json' },
    body: JSON.stringify({ name: 'talker', source: SOURCE, auth: 'none' }),
  });
  expect(response.status).toBe(201);
}

async function metric(url: string, name: string): Promise<number> {
  const text = await (await fetch(`${url}/metrics`, { headers: admin })).text();
  return Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(text)?.[1]);
}

test.each(['stops reading', 'goes away'])(
  'LOG-03 when the reader of its output %s, a node goes on answering, keeps little, counts what it drops, and stops when it is told to',
  async (what) => {
    const child = serve(0, 'pipe');
    const stdout = child.stdout as Readable;
    const [line] = (await new Promise<Buffer>((read) => stdout.once('data', read))).toString().split('\n');
    const url = line!.split(' ').at(-1)!;
    if (what === 'goes away') stdout.destroy();
    else stdout.pause();
    await deploy(url);
    const before = await metric(url, 'process_resident_memory_bytes');
    expect(await callMany(url, 40)).toEqual(new Set(['200 answered']));
    expect(await metric(url, 'postern_log_lines_dropped')).toBeGreaterThan(300);
    expect((await metric(url, 'process_resident_memory_bytes')) - before).toBeLessThan(150 * 2 ** 20);
    child.kill('SIGTERM');
    expect(await ended(child)).toBe(0);
  },
  TIMEOUT_MS,
);

test(
  'LOG-03 a full disk under the log costs log lines and nothing else',
  async () => {
    const port = await freePort();
    const child = serve(port, openSync('/dev/full', 'w'));
    const url = `http://127.0.0.1:${port}`;
    for (;;) {
      const up = await fetch(`${url}/ready`).then(
        ({ ok }) => ok,
        () => false,
      );
      if (up) break;
      expect(child.exitCode).toBeNull();
      await new Promise((wait) => setTimeout(wait, 50));
    }
    await deploy(url);
    expect(await callMany(url, 3)).toEqual(new Set(['200 answered']));
    expect(await metric(url, 'postern_log_lines_dropped')).toBeGreaterThanOrEqual(90);
    child.kill('SIGTERM');
    expect(await ended(child)).toBe(0);
  },
  TIMEOUT_MS,
);
