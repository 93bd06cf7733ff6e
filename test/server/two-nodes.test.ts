/** Two whole nodes on one database: what one deploys the other serves when the deploy has returned. */

import { afterAll, beforeAll, expect, test } from 'vitest';
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts';
import { ADMIN_KEY, startTestPostern, type TestPostern } from './support.ts';

let db: TestDatabase;
let nodes: TestPostern[];

beforeAll(async () => {
  db = await createTestDatabase();
  nodes = await Promise.all([startTestPostern(db), startTestPostern(db)]);
});
afterAll(async () => {
  await Promise.all(nodes.map((node) => node.stop()));
  await db.drop();
});

const read = async (node: TestPostern, name: string) => {
  const response = await node.call(`/functions/v1/${name}`);
  // With its body, so that a failure of the machine (503, an executor starved) is told from an old version.
  return response.status === 200
    ? response.json()
    : `${response.status} ${((await response.json()) as { code: string }).code}`;
};

/** The first test: no other function has left sandboxes. */
test('MEM-08 the sandboxes of a version that was replaced are given up on both nodes', async () => {
  const whenSandboxes = async (node: TestPostern, count: number): Promise<void> => {
    for (;;) {
      const response = await node.call('/metrics', { headers: { authorization: `Bearer ${ADMIN_KEY}` } });
      if ((await response.text()).includes(`\npostern_sandboxes ${count}\n`)) return;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  };
  const deploy = (value: number) =>
    nodes[0]!.deploy('retiring', `export const handler = () => ${value};`, { auth: 'none' });
  await deploy(1);
  for (const node of nodes) expect(await read(node, 'retiring')).toBe(1);
  for (const node of nodes) await whenSandboxes(node, 1);
  await deploy(2);
  for (const node of nodes) await whenSandboxes(node, 0);
  for (const node of nodes) expect(await read(node, 'retiring')).toBe(2);
});

test('after a deploy, a rollback or a delete through one node, the other never answers as before', async () => {
  for (let version = 1; version <= 6; version++) {
    const [here, there] = version % 2 === 0 ? [nodes[0]!, nodes[1]!] : [nodes[1]!, nodes[0]!];
    await here.deploy('shared', `export const handler = () => ${version};`, { auth: 'none' });
    expect(await read(there, 'shared')).toBe(version);
    expect(await read(here, 'shared')).toBe(version);
  }
  await nodes[0]!.admin('POST', '/functions/shared/rollback', { version: 2 });
  expect(await read(nodes[1]!, 'shared')).toBe(2);
  await nodes[1]!.admin('DELETE', '/functions/shared');
  expect(await read(nodes[0]!, 'shared')).toBe('404 FUNCTION_NOT_FOUND');
});

test('a secret that changed through one node is read by functions of the other', async () => {
  await nodes[0]!.deploy(
    'reader',
    'import { env } from "postern"; export const handler = () => env("TOKEN") ?? null;',
    { auth: 'none', env: ['TOKEN'] },
  );
  expect(await read(nodes[1]!, 'reader')).toBeNull();
  for (const value of ['value-one', 'value-two']) {
    await nodes[0]!.admin('PUT', '/secrets/TOKEN', { value });
    expect(await read(nodes[1]!, 'reader')).toBe(value);
  }
});

test('concurrent deploys through two nodes take turns, and both nodes end with the same version', async () => {
  const deployed = await Promise.all(
    Array.from({ length: 6 }, (_, index) =>
      nodes[index % 2]!.deploy('raced', `export const handler = () => "r${index}";`, { auth: 'none' }),
    ),
  );
  expect(deployed.map(({ body }) => body.version).sort()).toEqual([1, 2, 3, 4, 5, 6]);
  expect(await read(nodes[0]!, 'raced')).toBe(await read(nodes[1]!, 'raced'));
});

/** The last test: it ends the first node. */
test('a session goes on through either node, one run at a time, and after the node that began it has ended', async () => {
  await nodes[0]!.admin('PUT', '/policies/sessions', { sessions: 1 });
  const { body } = await nodes[0]!.admin('POST', '/api-keys', { name: 'sessions', policy: 'sessions' });
  const headers = { 'content-type': 'application/json', authorization: `Bearer ${body.key}` };
  const run = async (node: TestPostern, code: string, session: unknown) => {
    const response = await node.call('/execute', {
      method: 'POST',
      headers,
      body: JSON.stringify({ language: 'javascript', code, session, timeout: '10s' }),
    });
    return (await response.json()) as { result: unknown; session: { token: string; run: number } };
  };
  const { token } = (await run(nodes[0]!, 'let n = 0; const add = () => ++n', 'new')).session;
  const [one, two] = await Promise.all([run(nodes[0]!, 'add()', token), run(nodes[1]!, 'add()', token)]);
  expect([one.result, two.result].toSorted()).toEqual([1, 2]);
  expect([one.session.run, two.session.run].toSorted()).toEqual([2, 3]);
  await nodes.shift()!.stop();
  expect((await run(nodes[0]!, 'add()', token)).result).toBe(3);
});
