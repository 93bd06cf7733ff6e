/** What every kind of guest keeps to, over HTTP on a real node: the same promises, whatever the language. */

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startTestPostern, type TestPostern } from '../server/support.ts';
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts';
import { KINDS, type Task } from './programs.ts';

const TIMEOUT_MS = 1_000;
const CALLS = 500;
const AT_ONCE = 50;
/** Of all that is deployed: for the same code and memory a compiler runs once. */
const LIMITS = { memory: '64MB', timeout: '20s' };

interface Answer {
  readonly status: number;
  readonly body: unknown;
}

let db: TestDatabase;
let node: TestPostern;
let authorization: string;

beforeAll(async () => {
  db = await createTestDatabase();
  node = await startTestPostern(db);
  authorization = `Bearer ${await node.token()}`;
  const neighbour = await node.deploy('neighbour', 'export const handler = (event) => event.n + 1;');
  expect(neighbour).toMatchObject({ status: 201 });
});
afterAll(async () => {
  await node?.stop();
  await db?.drop();
});

async function invoke(name: string, event: unknown, more: Record<string, string> = {}): Promise<Answer> {
  const response = await node.call(`/invoke/${name}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', authorization, ...more },
    body: JSON.stringify(event),
  });
  return { status: response.status, body: await response.json() };
}

describe.each(KINDS)('a function in $name', ({ name, lacks, deploy }) => {
  const does = (task: Task, more: Record<string, unknown> = {}) => invoke(name, { do: task, ...more });
  /** With a short timeout: a slow machine may not be in time for what is not about it. */
  const inHaste = (task: Task) => invoke(`${name}-hasty`, { do: task });
  /** What it leaves out is shown as skipped. */
  const promise = (task: Task, what: string, check: () => Promise<void>) =>
    test.skipIf(lacks.includes(task))(what, check);
  /** Those that take a timeout's time take it together. */
  const promiseOfTimeout = (task: Task, what: string, check: () => Promise<void>) =>
    test(what, { concurrent: true, skip: lacks.includes(task) }, check);

  beforeAll(async () => {
    const limits = { ...LIMITS, cpu: 'unlimited', ...(await deploy()) };
    for (const named of [{ name }, { name: `${name}-hasty`, timeout: TIMEOUT_MS }]) {
      const { status, body } = await node.admin('POST', '/functions', { ...limits, ...named });
      expect(status, JSON.stringify(body)).toBe(201);
    }
  });

  promise('echo', 'gives back what it was given, in any script and size', async () => {
    for (const event of [
      { text: 'ünïcødé 🦉 "quotes" \\ \n' },
      { list: [1, null, true, 2.5] },
      { big: 'y'.repeat(1_000_000) },
    ]) {
      expect(await does('echo', event)).toEqual({ status: 200, body: { do: 'echo', ...event } });
    }
  });

  promise('remember', `ISO-01 finds nothing of ${CALLS} calls before it, ${AT_ONCE} at once`, async () => {
    let left = CALLS;
    const answers: unknown[] = [];
    const caller = async (): Promise<void> => {
      while (left-- > 0) answers.push((await does('remember')).body);
    };
    await Promise.all(Array.from({ length: AT_ONCE }, caller));
    expect(answers).toHaveLength(CALLS);
    expect(answers.filter((each) => each !== 1)).toEqual([]);
  });

  test('CPU-01 that uses up its instructions ends as that, long before its timeout', async () => {
    const fields = { ...LIMITS, ...(await deploy()), name: `${name}-cpu`, cpu: 1_000_000 };
    expect(await node.admin('POST', '/functions', fields)).toMatchObject({ status: 201 });
    expect(await invoke(`${name}-cpu`, { do: 'loop' })).toMatchObject({
      status: 504,
      body: { code: 'FUNCTION_CPU_LIMIT' },
    });
  });

  promiseOfTimeout('loop', 'CPU-01 that never ends is ended at its timeout, while a neighbour is served', async () => {
    const startedAt = performance.now();
    const spinning = inHaste('loop');
    expect(await invoke('neighbour', { n: 1 })).toEqual({ status: 200, body: 2 });
    expect(await spinning).toMatchObject({ status: 504, body: { code: 'FUNCTION_TIMEOUT' } });
    expect(performance.now() - startedAt).toBeGreaterThanOrEqual(TIMEOUT_MS);
  });

  promiseOfTimeout(
    'fill',
    'CPU-02 that fills memory without end, in instructions that take milliseconds, is ended at its timeout',
    async () => {
      const spinning = inHaste('fill');
      expect(await invoke('neighbour', { n: 4 })).toEqual({ status: 200, body: 5 });
      expect(await spinning).toMatchObject({ status: 504, body: { code: 'FUNCTION_TIMEOUT' } });
    },
  );

  promiseOfTimeout('wait', 'CPU-01 that waits for a host call is ended at its timeout', async () => {
    expect(await inHaste('wait')).toMatchObject({ status: 504, body: { code: 'FUNCTION_TIMEOUT' } });
  });

  promise('query', 'calls host functions', async () => {
    expect(await does('query')).toEqual({ status: 200, body: 42 });
  });

  promise('query', 'that is recorded is replayed the same', async () => {
    const recorded = {
      'x-postern-record': 'true',
      authorization: `Bearer ${await node.token({ role: 'service_role' })}`,
    };
    for (const task of ['query', 'log', 'throw']) await invoke(name, { do: task }, recorded);
    const ids = async (): Promise<{ readonly id: string }[]> =>
      (await db.pool.query('select invocation_id as id from postern.recordings where function_name = $1', [name])).rows;
    await expect.poll(async () => (await ids()).length, { timeout: 10_000 }).toBe(3);
    const replays = (await ids()).map(({ id }) => node.admin('POST', `/invocations/${id}/replay`));
    const said = (await Promise.all(replays)).map(({ body }) => [
      body.same,
      body.lost,
      body.difference,
      body.host_calls,
    ]);
    expect(said.sort()).toEqual([0, 0, 1].map((calls) => [true, null, null, calls]));
  });

  promise('grow', 'MEM-01 that takes more than its memory ends as that, and no neighbour with it', async () => {
    const [ended, beside] = await Promise.all([does('grow'), invoke('neighbour', { n: 2 })]);
    expect(ended).toMatchObject({ status: 507, body: { code: 'FUNCTION_OUT_OF_MEMORY' } });
    expect(beside).toEqual({ status: 200, body: 3 });
  });

  promise('recurse', 'MEM-05 that recurses without end ends as an error of its own', async () => {
    const { status, body } = await does('recurse');
    expect(status).toBe(500);
    expect((body as { code: string }).code).toMatch(/^FUNCTION_(ERROR|PANIC)$/);
  });

  promise('throw', 'that fails ends as FUNCTION_ERROR', async () => {
    expect(await does('throw')).toMatchObject({ status: 500, body: { code: 'FUNCTION_ERROR' } });
  });

  promise('exit', 'that exits with a code that is not 0 ends as FUNCTION_ERROR', async () => {
    expect(await does('exit')).toMatchObject({ status: 500, body: { code: 'FUNCTION_ERROR' } });
  });

  promise('abort', 'that aborts ends as FUNCTION_PANIC', async () => {
    expect(await does('abort')).toMatchObject({ status: 500, body: { code: 'FUNCTION_PANIC' } });
  });

  promise('log', 'logs lines', async () => {
    const before = node.logged.length;
    expect(await does('log')).toEqual({ status: 200, body: null });
    expect(node.logged.slice(before).join('')).toContain(`"source":"function:${name}","message":"a line"`);
  });

  promise('flood', 'LOG-02 that logs without measure is cut at the cap, and answers', async () => {
    const before = node.logged.length;
    expect(await does('flood')).toEqual({ status: 200, body: null });
    const lines = node.logged.slice(before).filter((line) => line.includes(`function:${name}"`));
    expect(lines.length).toBeGreaterThan(500);
    expect(lines.length).toBeLessThanOrEqual(1_001);
  });

  promise('large', 'that answers with more than may be sent ends as INVALID_RESULT', async () => {
    expect(await does('large')).toMatchObject({ status: 500, body: { code: 'INVALID_RESULT' } });
  });

  promise('echo', 'is as it was after all of that', async () => {
    expect(await does('remember')).toEqual({ status: 200, body: 1 });
    expect(await invoke('neighbour', { n: 3 })).toEqual({ status: 200, body: 4 });
  });
});
