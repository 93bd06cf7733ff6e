/** A master key is replaced: nodes of a database, one after the other. */

import { randomBytes, randomUUID } from 'node:crypto';
import pino from 'pino';
import { expect, test } from 'vitest';
import { createTestDatabase } from '../support/postgres.ts';
import { startTestPostern, type TestPostern } from './support.ts';

/** Of this run alone: logins belong to the cluster, and other test files work with theirs. */
const KEYS = ['first', 'second'].map((name) => `the ${name} master key ${randomUUID()}`);

/** Four starts of a node, of which each takes seconds where other test files run. */
const TIMEOUT_MS = 120_000;

const SOURCE = `
  import { db, env } from 'postern';
  export const handler = async () => [env('TOKEN') ?? null, (await db.query('select current_user::text as role'))[0].role];
`;
const read = async (node: TestPostern) => {
  const response = await node.call('/functions/v1/reader');
  return response.status === 200 ? response.json() : ((await response.json()) as { code: string }).code;
};

test(
  'a node with a new key and the previous one serves functions with db and secrets, and after a rotation needs the new one only, for recordings too',
  async () => {
    const [masterKey, newKey] = KEYS as [string, string];
    const db = await createTestDatabase();
    let node = await startTestPostern(db, { masterKey });
    try {
      await node.admin('PUT', '/secrets/TOKEN', { value: 'sealed at first' });
      await node.deploy('reader', SOURCE, { auth: 'none', env: ['TOKEN'], record: true });
      expect(await read(node)).toEqual(['sealed at first', 'anon']);
      await node.stop();
      const { rows } = await db.pool.query('select invocation_id as id from postern.recordings');
      const recording = `/invocations/${rows[0]?.id}/recording`;

      node = await startTestPostern(db, { masterKey: newKey, previousMasterKey: masterKey });
      expect(await read(node)).toEqual(['sealed at first', 'anon']);
      expect(await node.admin('POST', '/secrets/rotate')).toEqual({
        status: 200,
        body: { rotated: 1, remaining: 0, unreadable: [] },
      });
      expect(await read(node)).toEqual(['sealed at first', 'anon']);
      await node.stop();

      node = await startTestPostern(db, { masterKey: newKey });
      expect(await read(node)).toEqual(['sealed at first', 'anon']);
      expect(await node.admin('GET', recording)).toMatchObject({ status: 200, body: { event: expect.any(String) } });
      // All three sign receipts with one key.
      expect(await (await node.call('/keys')).json()).toMatchObject({ keys: [{ kid: expect.any(String) }] });
      await node.stop();

      node = await startTestPostern(db, { masterKey });
      expect(await read(node)).toBe('SECRET_UNREADABLE');
      expect(await node.admin('POST', '/secrets/rotate')).toEqual({
        status: 200,
        body: { rotated: 0, remaining: 1, unreadable: ['TOKEN'] },
      });
    } finally {
      await node.stop();
      await db.drop();
    }
  },
  TIMEOUT_MS,
);

test(
  'nodes with the old key, with both and with the new one alone serve functions with db at the same time, on connections made anew',
  async () => {
    const [masterKey, newKey] = KEYS as [string, string];
    const db = await createTestDatabase();
    // Its login is of this test alone, and has its plain name.
    const role = `rotating_${randomBytes(4).toString('hex')}`;
    await db.pool.query(`create role ${role}`);
    const nodes: TestPostern[] = [];
    const serve = async (keys: { masterKey: string; previousMasterKey?: string }) => {
      nodes.push(await startTestPostern(db, keys));
      return nodes.at(-1)!;
    };
    const allRead = async (...those: TestPostern[]) => {
      await db.pool.query(
        `select pg_terminate_backend(pid, 5000) from pg_stat_activity
         where datname = current_database() and application_name like 'postern guest%'`,
      );
      // What was just cut off may be lent out once more before its node has heard of it.
      for (const node of those) await expect.poll(() => read(node), { timeout: 10_000 }).toEqual([null, role]);
    };
    try {
      const old = await serve({ masterKey });
      await old.deploy('reader', SOURCE, { auth: 'none', db: { role } });
      await allRead(old);
      const both = await serve({ masterKey: newKey, previousMasterKey: masterKey });
      await allRead(old, both);
      const next = await serve({ masterKey: newKey });
      await allRead(old, both, next);
      await old.stop();
      expect(await both.admin('POST', '/secrets/rotate')).toMatchObject({ status: 200 });
      await allRead(both, next);
    } finally {
      await Promise.all(nodes.map((node) => node.stop()));
      const { rows } = await db.pool.query(`select rolname as login from pg_roles where rolname like $1`, [
        `postern_as_${role}%`,
      ]);
      for (const { login } of rows) await db.pool.query(`drop role ${login}`);
      await db.pool.query(`drop role ${role}`);
      await db.drop();
    }
  },
  TIMEOUT_MS,
);

test(
  'a secret that no key of the node opens is a configuration error: the caller is told no name of it, the operator which one and what to do',
  async () => {
    const [masterKey, newKey] = KEYS as [string, string];
    const db = await createTestDatabase();
    const lines: string[] = [];
    const log = pino({ level: 'error' }, { write: (line) => void lines.push(line) });
    try {
      const value = `value ${randomUUID()}`;
      let node = await startTestPostern(db, { masterKey });
      await node.admin('PUT', '/secrets/TOKEN', { value });
      await node.deploy('reader', SOURCE, { auth: 'none', env: ['TOKEN'] });
      await node.stop();

      node = await startTestPostern(db, { masterKey: newKey }, { log });
      const remedy =
        /secret TOKEN is sealed under a key that this node does not have .* POSTERN_MASTER_KEY_PREVIOUS and run `postern secrets rotate`/;
      const response = await node.call('/functions/v1/reader');
      expect(response.status).toBe(500);
      const body = await response.text();
      expect(JSON.parse(body)).toMatchObject({
        code: 'SECRET_UNREADABLE',
        message: 'a secret of the function opens with no master key of this node',
      });
      expect(body).not.toContain('TOKEN');
      expect(lines.splice(0).join('')).toMatch(remedy);

      const { error } = await node.invoker.invoke({
        functionName: 'reader',
        trigger: 'database',
        eventJson: '{}',
        requestId: randomUUID(),
        identity: { userId: null, role: 'anon', claims: {} },
      });
      expect(error).toMatchObject({ code: 'SECRET_UNREADABLE', message: expect.stringMatching(remedy) });
      const logged = lines.join('');
      expect(logged).toMatch(remedy);
      expect(logged).not.toContain(value);
      await node.stop();
    } finally {
      await db.drop();
    }
  },
  TIMEOUT_MS,
);

test('a master key that is too short is told to the operator by the name of its variable', async () => {
  const db = await createTestDatabase();
  try {
    await expect(startTestPostern(db, { previousMasterKey: 'short' })).rejects.toMatchObject({
      name: 'StartError',
      message: expect.stringContaining('POSTERN_MASTER_KEY_PREVIOUS has 5 bytes'),
    });
  } finally {
    await db.drop();
  }
});
