import { randomUUID } from 'node:crypto';
import pg from 'pg';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { createSystemPool } from '../../../database/index.ts';
import { CatalogSync } from '../../../invoker/functions/index.ts';
import { createTestDatabase, type TestDatabase } from '../../support/postgres.ts';
import { MUCH_LATER_MS } from '../../support/timed.ts';
import { FlakyProxy } from './flaky-proxy.ts';
import { startTestNode, type TestNode, type TestNodeOptions } from './support.ts';

let db: TestDatabase;
const cleanups: (() => Promise<unknown>)[] = [];

beforeAll(async () => {
  db = await createTestDatabase();
});
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});
afterAll(() => db.drop());

async function startNode(options?: TestNodeOptions): Promise<TestNode> {
  const node = await startTestNode(db, options);
  cleanups.push(() => node.stop());
  return node;
}

/** A node that reaches Postgres only through a proxy, so that a test can cut or freeze the way. */
async function startProxiedNode(options: TestNodeOptions = {}): Promise<{ node: TestNode; proxy: FlakyProxy }> {
  const proxy = await FlakyProxy.start(db.url);
  const pool = createSystemPool(proxy.url);
  const node = await startTestNode(db, { ...options, pool, databaseUrl: proxy.url });
  cleanups.push(async () => {
    proxy.heal();
    await node.stop();
    await pool.end();
    await proxy.stop();
  });
  return { node, proxy };
}

const deploy = (node: TestNode, name: string, source: string) => node.deployer.deploy({ config: { name }, source });

test('a cached lookup answers without a promise', async () => {
  const node = await startNode();
  await deploy(node, 'cached', 'one');
  await node.catalog.active('cached');
  expect(node.catalog.active('cached')).toMatchObject({ name: 'cached', version: 1 });
});

test('once a deploy has returned, no other node serves the version before, and not one request is late', async () => {
  const [a, b, c] = await Promise.all([startNode(), startNode(), startNode()]);
  for (let version = 1; version <= 20; version++) {
    await deploy(version % 2 === 0 ? a : b, 'everywhere', `source ${version}`);
    // Synchronously after the return, so that the answer comes from a cache or is asked for now.
    const seen = await Promise.all([a, b, c].map((node) => node.catalog.active('everywhere')));
    expect(seen.map((one) => one.version)).toEqual([version, version, version]);
    await Promise.all([a, b, c].map((node) => node.catalog.active('everywhere')));
  }
});

test('a deploy under a storm of lookups on all nodes is never followed by an older version', async () => {
  const nodes = await Promise.all([startNode(), startNode()]);
  await deploy(nodes[0]!, 'storm', 'source 0');
  let latest = 1;
  let running = true;
  const violations: string[] = [];
  const look = async (node: TestNode) => {
    while (running) {
      const floor = latest;
      const { version } = await node.catalog.active('storm');
      if (version < floor) violations.push(`${version} after ${floor}`);
      await new Promise(setImmediate);
    }
  };
  const lookers = nodes.flatMap((node) => [look(node), look(node), look(node)]);
  for (let index = 1; index <= 30; index++) {
    const { version } = await deploy(nodes[index % 2]!, 'storm', `source ${index}`);
    latest = version;
  }
  running = false;
  await Promise.all(lookers);
  expect(violations).toEqual([]);
});

test('a deleted function is gone on every node when the delete returns, a new one is there when its deploy returns', async () => {
  const [a, b] = await Promise.all([startNode(), startNode()]);
  for (let round = 0; round < 5; round++) {
    await deploy(a, 'blinking', `source ${round}`);
    await expect(Promise.resolve(b.catalog.active('blinking'))).resolves.toMatchObject({ version: 1 });
    await a.deployer.delete('blinking');
    await expect(Promise.resolve(b.catalog.active('blinking'))).rejects.toMatchObject({ code: 'FUNCTION_NOT_FOUND' });
  }
});

test('a deploy waits for nodes that heard nothing, until they renewed their lease', async () => {
  const { node: deaf, proxy } = await startProxiedNode({ leaseMs: 2_000, renewMs: 200 });
  const speaking = await startNode({ leaseMs: 2_000, renewMs: 200 });
  await deploy(speaking, 'deaf', 'one');
  await deaf.catalog.active('deaf');
  await db.pool.query(
    `select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'postern catalog' and datname = $1`,
    [db.name],
  );
  expect(proxy.connections).toBeGreaterThan(0);
  await deploy(speaking, 'deaf', 'two');
  expect((await deaf.catalog.active('deaf')).version).toBe(2);
});

test('a node cut off from Postgres answers nothing once its lease is over, and a deploy elsewhere waits no longer', async () => {
  const { node: lost, proxy } = await startProxiedNode({ leaseMs: 1_200, renewMs: 100 });
  const other = await startNode({ leaseMs: 1_200, renewMs: 100 });
  await deploy(other, 'cut', 'one');
  await lost.catalog.active('cut');
  proxy.freeze();
  const begin = performance.now();
  await deploy(other, 'cut', 'two');
  expect(performance.now() - begin).toBeLessThan(1_200 + MUCH_LATER_MS);
  expect(lost.sync.trusted).toBe(false);
  const asking = Promise.resolve(lost.catalog.active('cut'));
  proxy.cut();
  await expect(asking).rejects.toMatchObject({ code: 'DATABASE_UNAVAILABLE' });
  proxy.heal();
  await expect.poll(async () => (await Promise.resolve(lost.catalog.active('cut')).catch(() => null))?.version).toBe(2);
});

test('a node that lapsed but reaches Postgres asks at each lookup and sees every deploy', async () => {
  // Renews so seldom that it is lapsed for most of the time.
  const lapsed = await startNode({ leaseMs: 600, renewMs: 60_000 });
  const other = await startNode();
  await deploy(other, 'lapsed', 'one');
  await expect.poll(() => lapsed.sync.trusted).toBe(false);
  for (let version = 2; version <= 6; version++) {
    await deploy(other, 'lapsed', `source ${version}`);
    expect((await lapsed.catalog.active('lapsed')).version).toBe(version);
    expect((await lapsed.catalog.active('lapsed')).version).toBe(version);
  }
});

test('a forged notification changes nothing but costs a look', async () => {
  const [a, b] = await Promise.all([startNode(), startNode()]);
  await deploy(a, 'forged', 'one');
  await b.catalog.active('forged');
  for (const payload of ['{"generation": 999999, "names": []}', 'x', '', '{"generation":"1"}']) {
    await db.pool.query('select pg_notify($1, $2)', ['postern_catalog', payload]);
  }
  await deploy(a, 'forged', 'two');
  expect((await b.catalog.active('forged')).version).toBe(2);
});

test('a changed secret reaches functions on every node before the change is settled', async () => {
  const [a, b] = await Promise.all([startNode(), startNode()]);
  for (const node of [a, b]) node.env.set('KEY', 'old');
  await a.deployer.deploy({ config: { name: 'secretive', env: ['KEY', 'OTHER'] }, source: 'x' });
  expect((await b.catalog.active('secretive')).envJson).toBe('{"KEY":"old"}');
  for (const node of [a, b]) node.env.set('KEY', 'new');
  await db.pool.query(`insert into postern.secrets (name, ciphertext, nonce, key_id) values ('KEY', '', '', 'k')`);
  await a.sync.settleCurrent();
  expect((await b.catalog.active('secretive')).envJson).toBe('{"KEY":"new"}');
  expect((await a.catalog.active('secretive')).envJson).toBe('{"KEY":"new"}');
});

test('a numbered version can be looked up after another one is active', async () => {
  const node = await startNode();
  await deploy(node, 'numbered', 'one');
  await deploy(node, 'numbered', 'two');
  expect(await node.catalog.version('numbered', 1)).toMatchObject({ version: 1 });
  expect(await node.catalog.version('numbered', 2)).toMatchObject({ version: 2 });
  await expect(node.catalog.version('numbered', 3)).rejects.toMatchObject({
    code: 'FUNCTION_NOT_FOUND',
    message: "there is no version 3 of a function 'numbered'",
  });
});

test('a version that is replaced or deleted is retired on each node that used it, and no other is', async () => {
  const [a, b, c] = await Promise.all([startNode(), startNode(), startNode()]);
  const first = await deploy(a, 'retiring', 'one');
  const beside = await deploy(a, 'beside', 'one');
  for (const node of [a, b]) {
    await node.catalog.active('retiring');
    await node.catalog.active('beside');
  }
  const second = await deploy(a, 'retiring', 'two');
  expect([a.retired, b.retired, c.retired]).toEqual([[first.versionId], [first.versionId], []]);
  await b.catalog.active('retiring');
  await a.deployer.delete('retiring');
  expect(b.retired).toEqual([first.versionId, second.versionId]);
  await a.sync.settleCurrent();
  expect([...a.retired, ...b.retired, ...c.retired]).not.toContain(beside.versionId);
});

test('a stopped node is not waited for', async () => {
  const stopped = await startNode({ leaseMs: 20_000 });
  const node = await startNode({ leaseMs: 20_000 });
  await stopped.stop();
  const begin = performance.now();
  await deploy(node, 'quick', 'one');
  expect(performance.now() - begin).toBeLessThan(MUCH_LATER_MS);
});

describe('a node that starts', () => {
  /** The test's pool, after these failures. */
  function poolThatFails(...failures: readonly Error[]) {
    const waiting = [...failures];
    const query = (...given: Parameters<typeof db.pool.query>) => {
      const failure = waiting.shift();
      return failure === undefined ? db.pool.query(...given) : Promise.reject(failure);
    };
    return { waiting, pool: { query } as unknown as typeof db.pool };
  }
  const syncOver = (pool: typeof db.pool, registerWithinMs?: number) => {
    const sync = new CatalogSync({
      pool,
      databaseUrl: db.url,
      nodeId: randomUUID(),
      ...(registerWithinMs === undefined ? {} : { registerWithinMs }),
    });
    cleanups.push(() => sync.stop());
    return sync;
  };
  const timeout = () => new Error('Query read timeout');

  test('tries again when Postgres is too slow to register it', async () => {
    const { pool, waiting } = poolThatFails(timeout(), Object.assign(new Error('write EPIPE'), { code: 'EPIPE' }));
    const sync = syncOver(pool);
    await sync.start();
    expect(waiting).toEqual([]);
    expect(sync.trusted).toBe(true);
  });

  test('gives up with the reason when its time is over', async () => {
    const { pool } = poolThatFails(...Array.from({ length: 100 }, timeout));
    await expect(syncOver(pool, 250).start()).rejects.toThrow('Query read timeout');
  });

  test('does not ask twice where Postgres refuses it', async () => {
    const refusal = new pg.DatabaseError('permission denied for table nodes', 0, 'error');
    refusal.code = '42501';
    const { pool, waiting } = poolThatFails(refusal, timeout());
    await expect(syncOver(pool).start()).rejects.toBe(refusal);
    expect(waiting).toHaveLength(1);
  });
});
