/** Recordings from the executor to the database and back: kept as asked for, sealed, bounded, replayed. */

import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type InvocationRequest, type Recording, RecordingStore, Replayer } from '../../invoker/index.ts';
import { PosternError } from '../../runtime/index.ts';
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts';
import { TestNode } from './support/node.ts';

const MASTER_KEY = Buffer.from('a-master-key-for-tests-of-32-bytes-or-more');
const SECRET = 'sk-live-0123456789abcdef';
const ORDER = `export const handler = async (event, context) => {
  const [row] = await db.query('select price', [event.order, context.env.KEY ?? '']);
  console.log('price', row.price, Date.now(), Math.random());
  if (row.price > event.limit) throw new Error('too dear');
  return { paid: row.price };
};`;

let db: TestDatabase;
let store: RecordingStore;
let node: TestNode;
let replayer: Replayer;
const errors: Error[] = [];
const queries: string[] = [];
beforeAll(async () => {
  db = await createTestDatabase();
  store = new RecordingStore({ pool: db.pool, masterKey: MASTER_KEY, onError: (error) => errors.push(error) });
  node = await TestNode.start({
    functions: {
      order: { source: ORDER, config: { record: true }, envJson: JSON.stringify({ KEY: SECRET }) },
      'order@2': {
        source: ORDER.replace('row.price > event.limit', 'row.price > 2 * event.limit'),
        envJson: JSON.stringify({ KEY: SECRET }),
      },
      'order@3': ORDER.replace("'select price'", "'select cost'"),
      failing: { source: ORDER, config: { record: 'failures' } },
      quiet: ORDER,
      noisy: {
        source: `export const handler = () => {
          for (let n = 0; n < 70; n++) crypto.getRandomValues(new Uint8Array(65_536));
        };`,
        config: { record: true },
      },
    },
    onQuery(payload) {
      queries.push(payload);
      return '{"fields":[["price","int4"]],"rows":[[30]],"rowCount":1}';
    },
    recordings: store,
  });
  replayer = new Replayer({ catalog: node.catalog, pool: node.pool, recordings: store });
});
afterAll(async () => {
  await node.stop();
  await store.stop();
  expect(errors).toEqual([]);
  await db.drop();
});
beforeEach(() => {
  queries.length = 0;
});

async function run(name: string, event: unknown, more: Partial<InvocationRequest> = {}): Promise<string> {
  const { invocationId } = await node.invoke(name, event, more);
  await store.flush();
  return invocationId;
}

async function isKept(id: string): Promise<boolean> {
  const found = await store.get(id).catch((error: PosternError) => error.code);
  if (typeof found === 'string') expect(found).toBe('NOT_FOUND');
  return typeof found !== 'string';
}

describe('what is recorded', () => {
  test('is every invocation where the function says so, those that fail, or the one that asks for it', async () => {
    const cheap = { order: 1, limit: 100 };
    const dear = { order: 1, limit: 1 };
    expect(await isKept(await run('order', cheap))).toBe(true);
    expect(await isKept(await run('failing', cheap))).toBe(false);
    expect(await isKept(await run('failing', dear))).toBe(true);
    expect(await isKept(await run('quiet', dear))).toBe(false);
    expect(await isKept(await run('quiet', cheap, { record: true }))).toBe(true);
  });

  test('is sealed: neither the event nor a secret is to be read in the table', async () => {
    const id = await run('order', { order: 'somebody else must not know', limit: 100 });
    const { rows } = await db.pool.query<{ text: string; ciphertext: Buffer }>(
      `select r::text as text, ciphertext from postern.recordings r where invocation_id = $1`,
      [id],
    );
    const [row] = rows;
    expect(row?.text).not.toContain('somebody');
    expect(row?.ciphertext.toString('latin1')).not.toContain(SECRET);
    // Nor does it open in the place of another.
    const other = randomUUID();
    await db.pool.query(
      `insert into postern.recordings select $2, function_name, version, version_id, engine_id, status, outcome, started_at, lost,
         ciphertext, nonce, key_id from postern.recordings where invocation_id = $1`,
      [id, other],
    );
    await expect(store.get(other)).rejects.toThrow('can not be decrypted');
  });

  test('and is too large is kept as that', async () => {
    const id = await run('noisy', {});
    expect((await store.get(id)).input).toEqual({ lost: 'it would be larger than a recording may be' });
    await expect(replayer.replay({ id })).rejects.toMatchObject({
      code: 'INVALID_REQUEST',
      message: `invocation ${id} was not recorded: it would be larger than a recording may be`,
    });
  });

  test('and goes on with a session is none, since a replay begins with the version', async () => {
    const cheap = { order: 1, limit: 100 };
    const first = await node.invoke('order', cheap, { session: { maxImageBytes: 8_000_000 } });
    if (first.session === undefined || 'tooLargeBytes' in first.session) throw new Error('it left no image');
    const session = { image: first.session.image, maxImageBytes: 8_000_000 };
    const second = await node.invoke('order', cheap, { session });
    expect(second.outcome).toBe('ok');
    expect((await replayer.replay({ id: first.invocationId })).summary.same).toBe(true);
    expect((await store.get(second.invocationId)).input).toEqual({
      lost: "it went on with a session, and that can't be recorded yet",
    });
  });

  test('is shown without the secrets that the function had', async () => {
    const id = await run('order', { order: 1, limit: 100 });
    const { event, steps } = await replayer.show(id);
    expect(event).toBe('{"order":1,"limit":100}');
    expect(steps.map(({ kind }) => kind)).toEqual(['random', 'call', 'settle', 'realtime', 'cast', 'finish']);
    expect(steps[1]).toEqual({
      kind: 'call',
      operation: 'db.query',
      text: expect.stringContaining('"select price"'),
    });
    const headers = {
      authorization: 'Bearer the.token-of-the-caller',
      cookie: 'lang=en; session=of-the-caller',
      accept: 'all',
    };
    const called = await replayer.show(await run('order', { headers, order: 'the.token-of-the-caller', limit: 100 }));
    expect(JSON.parse(called.event!).headers).toEqual({
      authorization: 'Bearer [redacted]',
      cookie: 'lang=en; session=[redacted]',
      accept: 'all',
    });
    expect(called.steps[1]?.text).toContain('"params":["[redacted]"');
    const changed = new Replayer({
      catalog: {
        ...node.catalog,
        version: async (name) => ({ ...(await node.catalog.active(name)), envJson: '{"KEY":"new"}' }),
      },
      pool: node.pool,
      recordings: store,
    });
    expect(JSON.stringify((await changed.show(id)).steps)).toContain('[redacted]');
    expect(JSON.stringify((await changed.show(id)).steps)).not.toContain(SECRET);
  });
});

describe('a replay', () => {
  test('is the same, and asks no host function and leaves no record', async () => {
    for (const limit of [100, 1]) {
      const id = await run('order', { order: 1, limit });
      const records = node.records.length;
      queries.length = 0;
      const { summary, changed, engineChanged } = await replayer.replay({ id });
      expect(summary).toEqual({ same: true, steps: 7, hostCalls: 1, end: 'finished' });
      expect([changed, engineChanged, queries, node.records.length]).toEqual([false, false, [], records]);
    }
  });

  test('of another event says what it does differently, and what it comes to', async () => {
    const id = await run('order', { order: 1, limit: 1 });
    const { summary } = await replayer.replay({ id, eventJson: '{"order":1,"limit":100}' });
    expect(summary).toMatchObject({
      same: false,
      hostCalls: 1,
      end: 'finished',
      finish: { text: 'value {"paid":30}' },
    });
    expect(summary.difference?.recorded.text).toContain('exception {"name":"Error","message":"too dear"');
    expect(summary.difference?.now.text).toBe('value {"paid":30}');
  });

  test('of another version uses its own variables, and ends at a call that has no recorded answer', async () => {
    const id = await run('order', { order: 1, limit: 20 });
    const better = await replayer.replay({ id, version: 2 });
    expect(better).toMatchObject({ version: 2, changed: true, summary: { finish: { text: 'value {"paid":30}' } } });
    const { summary } = await replayer.replay({ id, version: 3 });
    expect(summary.unanswered).toMatchObject({ kind: 'call', operation: 'db.query' });
    expect(summary.unanswered?.text).toBe('{"sql":"select cost","params":[1,""]}');
    expect(queries).toHaveLength(1);
  });

  test('of what is no tape any more is refused, and the executor lives', async () => {
    const { pid } = node;
    const good = await store.get(await run('order', { order: 1, limit: 100 }));
    const { input } = good as Recording & { input: { tape: Buffer } };
    for (const tape of [input.tape.subarray(0, -1), Buffer.from('garbage'), Buffer.alloc(0)]) {
      const bad = new Replayer({
        catalog: node.catalog,
        pool: node.pool,
        recordings: { get: async () => ({ ...good, input: { ...input, tape } }) as Recording },
      });
      await expect(bad.replay({ id: good.invocationId })).rejects.toMatchObject({ code: 'INVALID_REQUEST' });
    }
    expect(node.pid).toBe(pid);
  });

  test('of an event is that of its last recorded attempt', async () => {
    const eventId = randomUUID();
    const id = await run('order', { order: 1, limit: 1 }, { eventId });
    await db.pool.query(
      `insert into postern.function_invocations (id, function_name, version, trigger, event_id, status, outcome, started_at, duration_ms)
       values ($1, 'order', 1, 'database', $2, 'error', 'exception', now(), 1)`,
      [id, eventId],
    );
    expect((await replayer.replay({ id: eventId })).recording.invocationId).toBe(id);
    await expect(replayer.replay({ id: randomUUID() })).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await expect(replayer.replay({ id: 'no id' })).rejects.toBeInstanceOf(PosternError);
  });
});
