/** `serve --processes`: several nodes behind one port, as processes that are killed, stopped and asked. */

import { readFile } from 'node:fs/promises';
import { type AddressInfo, connect, createServer } from 'node:net';
import { availableParallelism } from 'node:os';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts';
import { run, SERVE_SECRETS, spawnCli } from './support.ts';

const ADMIN = { authorization: `Bearer ${SERVE_SECRETS.POSTERN_ADMIN_KEY}` };

/** A start takes seconds on a busy machine, and there are two in turn. */
const TIMEOUT_MS = 120_000;

let db: TestDatabase;
const groups: Group[] = [];

beforeAll(async () => {
  db = await createTestDatabase();
  await db.pool.query('create role service_role nologin bypassrls').catch(() => {});
  await db.pool.query('create table orders (id int primary key); create table handled (id int)');
  await db.pool.query('grant insert on handled to service_role');
});
afterAll(async () => {
  for (const { cli } of groups) cli.child.kill('SIGTERM');
  await Promise.all(groups.map(({ cli }) => cli.ended));
  await db.drop();
}, TIMEOUT_MS);

interface Group {
  readonly cli: ReturnType<typeof spawnCli>;
  url: string;
}

function spawnServe(): Group['cli'] {
  return spawnCli(['serve', '--processes', '2', '--port', '0', '--executors', '2'], {
    env: { ...SERVE_SECRETS, DATABASE_URL: db.url, POSTERN_EVENT_LEASE_MS: '2000' },
  });
}

async function serve(): Promise<Group> {
  const cli = spawnServe();
  const group: Group = { cli, url: '' };
  groups.push(group);
  await cli.prints(/Postern serves on http:\/\/127\.0\.0\.1:\d+/);
  group.url = /http:\/\/127\.0\.0\.1:\d+/.exec(cli.text.stdout)![0];
  return group;
}

async function deploy({ url }: Group, name: string, source: string, config: Record<string, unknown>): Promise<void> {
  const response = await fetch(`${url}/functions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...ADMIN },
    body: JSON.stringify({ name, source, ...config }),
  });
  expect(response.status, await response.clone().text()).toBe(201);
}

/** On a connection of its own: those are what the processes take turns with. */
function call({ url }: Group, path: string, headers: Record<string, string> = {}): Promise<Response> {
  return fetch(url + path, { headers: { ...headers, connection: 'close' } });
}

/** Of each process, by its label: the value of a metric. */
async function metric(of: Group, name: string): Promise<Record<string, number>> {
  const page = await (await call(of, '/metrics', ADMIN)).text();
  const samples = [...page.matchAll(new RegExp(`^${name}\\{(.*)\\} (\\d+)$`, 'gm'))];
  return Object.fromEntries(samples.map(([, labels, value]) => [/process="(\d+)"/.exec(labels!)![1]!, Number(value)]));
}

async function childrenOf(pid: number): Promise<number[]> {
  const text = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8').catch(() => '');
  return text.split(' ').flatMap((child) => (child === '' ? [] : [Number(child)]));
}

/** With those that it started itself. */
async function descendantsOf(pid: number): Promise<number[]> {
  const children = await childrenOf(pid);
  return [...children, ...(await Promise.all(children.map(descendantsOf))).flat()];
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

const HELLO = 'export const handler = () => "hello";';
const NAP = 'export const handler = () => new Promise((done) => setTimeout(() => done("rested"), 1500));';

/** Requests that wait in each process. */
async function napInBoth(group: Group): Promise<Promise<Response>[]> {
  await deploy(group, 'nap', NAP, { auth: 'none' });
  const naps = Array.from({ length: 6 }, () => call(group, '/functions/v1/nap'));
  const running = async () => Object.values(await metric(group, 'postern_invocations_running')).map((n) => n > 0);
  await expect.poll(running, { timeout: 10_000 }).toEqual([true, true]);
  return naps;
}

async function whenReplaced(group: Group): Promise<void> {
  await expect.poll(() => metric(group, 'postern_executors'), { timeout: 60_000 }).toEqual({ 1: 1, 2: 1 });
}

describe('two processes behind one port', { timeout: TIMEOUT_MS }, () => {
  let both: Group;
  beforeAll(async () => {
    both = await serve();
  }, TIMEOUT_MS);

  test('both answer, and metrics are those of both, whichever is asked', async () => {
    await deploy(both, 'hello', HELLO, { auth: 'none' });
    for (let index = 0; index < 20; index++) expect((await call(both, '/functions/v1/hello')).status).toBe(200);
    for (let index = 0; index < 2; index++) {
      expect(await metric(both, 'postern_executors')).toEqual({ 1: 1, 2: 1 });
      const { 1: first, 2: second } = await metric(both, 'postern_invocations_total');
      expect(first).toBeGreaterThan(0);
      expect(first! + second!).toBe(20);
    }
    const page = await (await call(both, '/metrics', ADMIN)).text();
    const heads = page.match(/^# TYPE \S+/gm)!;
    expect(heads).toEqual([...new Set(heads)]);
    expect(page).toContain('\npostern_executors{process="1"} 1\npostern_executors{process="2"} 1\n');
  });

  test('what one has answered of a deploy, the other knows', async () => {
    for (let version = 1; version <= 3; version++) {
      await deploy(both, 'turns', `export const handler = () => ${version};`, { auth: 'none' });
      for (let index = 0; index < 4; index++)
        expect(await (await call(both, '/functions/v1/turns')).json()).toBe(version);
    }
  });

  test('one that is killed under load takes its own requests with it and no others; it is replaced, and no event is lost', async () => {
    await deploy(
      both,
      'keep',
      'export const handler = (e) => db.query("insert into handled values ($1)", [e.new.id]);',
      {
        trigger: { type: 'database', table: 'orders', operations: ['INSERT'] },
        db: { role: 'service_role' },
        retry: { maxAttempts: 20 },
      },
    );
    const [victim] = await childrenOf(both.cli.child.pid!);
    let lost = 0;
    let answered = 0;
    let stopped = false;
    const caller = async (): Promise<void> => {
      while (!stopped) {
        const response = await call(both, '/functions/v1/hello').catch(() => null);
        if (response === null) lost++;
        else expect([response.status, await response.text()]).toEqual([200, '"hello"']);
        answered++;
      }
    };
    const callers = Array.from({ length: 8 }, caller);
    for (let id = 0; id < 100; id++) {
      await db.pool.query('insert into orders values ($1)', [id]);
      if (id === 50) process.kill(victim!, 'SIGKILL');
    }
    await both.cli.prints(/"signal":"SIGKILL","msg":"a process ended; another takes its place"/);
    const before = answered;
    await whenReplaced(both);
    stopped = true;
    await Promise.all(callers);
    expect(answered).toBeGreaterThan(before);
    // Each caller has one request at a time.
    expect(lost).toBeLessThanOrEqual(8);
    const handled = async () => (await db.pool.query('select count(distinct id)::int as n from handled')).rows[0].n;
    await expect.poll(handled, { timeout: 30_000 }).toBe(100);
    const left = async () => (await db.pool.query('select from postern.events')).rowCount;
    await expect.poll(left, { timeout: 10_000 }).toBe(0);
  });

  test('a connection that was given to one that dies before it takes it ends, and does not hang', async () => {
    const [victim] = await childrenOf(both.cli.child.pid!);
    process.kill(victim!, 'SIGSTOP');
    const { hostname, port } = new URL(both.url);
    const ends = Array.from({ length: 6 }, async () => {
      const socket = connect(Number(port), hostname);
      socket.on('error', () => {});
      socket.write('GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n');
      let answer = '';
      socket.on('data', (chunk: Buffer) => {
        answer += chunk.toString();
      });
      await new Promise((closed) => socket.once('close', closed));
      return answer.startsWith('HTTP/1.1 200');
    });
    // The other one goes on while this one stands still.
    await Promise.race(ends);
    process.kill(victim!, 'SIGKILL');
    const answered = await Promise.all(ends);
    expect(answered.filter((ok) => !ok)).toHaveLength(1);
    await whenReplaced(both);
  });

  test('SIGTERM answers what is under way in each, ends with code 0 and leaves no process', async () => {
    const naps = await napInBoth(both);
    const processes = await descendantsOf(both.cli.child.pid!);
    expect(processes.length).toBeGreaterThanOrEqual(4);
    both.cli.child.kill('SIGTERM');
    for (const nap of naps) expect(await (await nap).json()).toBe('rested');
    expect(await both.cli.ended).toEqual({ code: 0, signal: null });
    expect(processes.filter(isAlive)).toEqual([]);
  });
});

test('when the first process is killed the others finish what is under way, and no process is left', {
  timeout: TIMEOUT_MS,
}, async () => {
  const both = await serve();
  const naps = await napInBoth(both);
  const processes = await descendantsOf(both.cli.child.pid!);
  both.cli.child.kill('SIGKILL');
  for (const nap of naps) expect(await (await nap).json()).toBe('rested');
  await expect.poll(() => processes.filter(isAlive), { timeout: 30_000 }).toEqual([]);
  // They have given back what they held, as in any other stop.
  expect((await db.pool.query('select from postern.nodes where pid = any($1)', [processes])).rowCount).toBe(0);
});

test('a process that is still starting when the first one is killed ends too', { timeout: TIMEOUT_MS }, async () => {
  const { child } = spawnServe();
  const registered = async () => {
    const pids = await childrenOf(child.pid!);
    return (await db.pool.query('select from postern.nodes where pid = $1', [pids[1]])).rowCount;
  };
  // It has a while to go then to the port.
  await expect.poll(registered, { timeout: 60_000, interval: 5 }).toBe(1);
  const processes = await descendantsOf(child.pid!);
  child.kill('SIGKILL');
  await expect.poll(() => processes.filter(isAlive), { timeout: 30_000 }).toEqual([]);
});

test('a signal to all processes at once, as a service manager sends it, is one stop', {
  timeout: TIMEOUT_MS,
}, async () => {
  const both = await serve();
  const naps = await napInBoth(both);
  const { pid } = both.cli.child;
  for (const one of [...(await descendantsOf(pid!)), pid!]) process.kill(one, 'SIGTERM');
  for (const nap of naps) expect(await (await nap).json()).toBe('rested');
  expect(await both.cli.ended).toEqual({ code: 0, signal: null });
  expect(both.cli.text.stderr).toBe('');
});

describe('a start that can not be', { timeout: TIMEOUT_MS }, () => {
  const argv = ['serve', '--port', '0'];
  const envWith = (env: Record<string, string>) => ({ ...SERVE_SECRETS, DATABASE_URL: db.url, ...env });
  const serveWith = (flags: readonly string[], env: Record<string, string> = {}) =>
    spawnCli([...argv, ...flags], { env: envWith(env) });
  /** In this process, since no other is started. */
  const refusal = async (flags: readonly string[], env: Record<string, string> = {}) => {
    const { code, stderr } = await run([...argv, ...flags], { env: envWith(env) });
    expect(code).toBe(2);
    return stderr;
  };

  test.each(['0', '1.5', '100000'])('--processes %s is refused with what is allowed', async (count) => {
    const said = await refusal([`--processes=${count}`]);
    expect(said).toContain(`Give a whole number from 1 to ${4 * availableParallelism()}.`);
  });

  test('so is POSTERN_PROCESSES, by name', async () => {
    const said = await refusal([], { POSTERN_PROCESSES: 'many' });
    expect(said).toMatch(/^error: POSTERN_PROCESSES is "many"; it has to be a whole number from 1 to \d+\n$/);
  });

  test('fewer executors than processes are refused', async () => {
    const said = await refusal(['--processes', '2', '--executors', '1']);
    expect(said).toBe('error: 2 processes need 2 executors or more, one each; given are 1\n');
  });

  test('what is wrong with the configuration is said once, by one process, with its exit code', async () => {
    const cli = serveWith(['--processes', '2'], { POSTERN_ADMIN_KEY: 'short' });
    expect(await cli.ended).toEqual({ code: 2, signal: null });
    expect(cli.text.stderr.match(/^error: POSTERN_ADMIN_KEY/gm)).toHaveLength(1);
    expect(cli.text.stdout).toBe('');
  });

  test('a port that is taken is said as by a single node', async () => {
    const taken = createServer();
    await new Promise<void>((listening) => taken.listen(0, '127.0.0.1', listening));
    const { port } = taken.address() as AddressInfo;
    const cli = serveWith(['--processes', '2', '--executors', '2', '--port', String(port)]);
    expect(await cli.ended).toEqual({ code: 1, signal: null });
    expect(cli.text.stderr).toBe(
      `error: port ${port} on 127.0.0.1 is taken\n  choose another with --port or POSTERN_PORT, or 0 for a free one\n`,
    );
    await new Promise((closed) => taken.close(closed));
  });
});
