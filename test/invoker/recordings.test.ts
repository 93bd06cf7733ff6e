/** Recordings from the executor to the database and back: kept as asked for, sealed, bounded, replayed. */

import { randomUUID } from 'node:crypto';
import { zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import {
  Evaluators,
  type InvocationRequest,
  type InvocationResult,
  ModuleBuilder,
  type Recording,
  RecordingStore,
  Replayer,
  readRecordingFile,
} from '../../invoker/index.ts';
import { PosternError } from '../../runtime/index.ts';
import { bundle } from '../../runtime/javascript/bundle/index.ts';
import { readExecuteRequest } from '../../triggers/execute/execute-request.ts';
import { CodeRunner, rulesSchema } from '../../triggers/index.ts';
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts';
import { NO_EVALUATORS, TestNode } from './support/node.ts';

const MASTER_KEY = Buffer.from('a-master-key-for-tests-of-32-bytes-or-more');
const SECRET = 'sk-live-0123456789abcdef';
const ORDER = `export const handler = async (event, context) => {
  const [row] = await db.query('select price', [event.order, context.env.KEY ?? '']);
  console.log('price', row.price, Date.now(), Math.random());
  if (row.price > event.limit) throw new Error('too dear');
  return { paid: row.price };
};`;

interface Header {
  event: number;
  meta: number;
  code: Record<string, unknown>;
}

let db: TestDatabase;
let store: RecordingStore;
let node: TestNode;
let replayer: Replayer;
let evaluators: Evaluators;
/** Those of this node, and of others. */
const made: Evaluators[] = [];
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
      hurried: {
        source: 'export const handler = (event, context) => context.getRemainingTimeMs();',
        config: { record: true, cpu: Number.POSITIVE_INFINITY },
      },
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
    otherImage: (versionId) => made.map((one) => one.image(versionId)).find((image) => image !== undefined),
  });
  evaluators = evaluatorsOf('an engine');
  replayer = new Replayer({
    catalog: node.catalog,
    pool: node.pool,
    recordings: store,
    evaluators,
    engineId: 'an engine',
  });
});
afterAll(async () => {
  await Promise.all(made.map((one) => one.stop()));
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

/** As a node with this engine has them. */
function evaluatorsOf(engineId: string): Evaluators {
  const modules = new ModuleBuilder();
  const build = node.pool.build.bind(node.pool);
  const one = new Evaluators({
    builder: { engineId, build, buildModule: (request) => modules.build(request) },
    bundler: { bundle },
  });
  made.push(one);
  return one;
}

/** A copy under the name of another invocation, which can't be opened. */
async function moved(id: string): Promise<string> {
  const other = randomUUID();
  await db.pool.query(
    `insert into postern.recordings select $2, function_name, version, version_id, engine_id, status, outcome, started_at, lost,
       ciphertext, nonce, key_id from postern.recordings where invocation_id = $1`,
    [id, other],
  );
  return other;
}

async function forget(id: string): Promise<void> {
  await db.pool.query('delete from postern.recordings where invocation_id = $1', [id]);
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
    const other = await moved(id);
    await expect(store.get(other)).rejects.toThrow('can not be decrypted');
    await forget(other);
  });

  test('opens with a new master key when it was rotated, once, and not with the one before', async () => {
    const NEW_KEY = Buffer.from('the-master-key-that-comes-after-the-first');
    const id = await run('order', { order: 'mine', limit: 100 });
    const before = await store.get(id);
    const damaged = await moved(id);
    const [next, both] = [undefined, MASTER_KEY].map(
      (previousMasterKey) =>
        new RecordingStore({
          pool: db.pool,
          masterKey: NEW_KEY,
          previousMasterKey,
          onError: (error) => errors.push(error),
        }),
    ) as [RecordingStore, RecordingStore];
    expect(await next.rotate()).toBe(0);
    const done = await Promise.all([both.rotate(), both.rotate()]);
    const { rows } = await db.pool.query('select from postern.recordings where lost is null');
    expect(done[0]! + done[1]!).toBe(rows.length - 1);
    expect(await next.get(id)).toEqual(before);
    await expect(store.get(id)).rejects.toMatchObject({ code: 'SECRET_UNREADABLE' });
    expect(await both.rotate()).toBe(0);

    const back = new RecordingStore({
      pool: db.pool,
      masterKey: MASTER_KEY,
      previousMasterKey: NEW_KEY,
      onError: () => {},
    });
    expect(await back.rotate()).toBe(rows.length - 1);
    expect(await store.get(id)).toEqual(before);
    await forget(damaged);
  });

  test('and is too large is kept as that', async () => {
    const id = await run('noisy', {});
    expect((await store.get(id)).input).toEqual({ lost: 'it would be larger than a recording may be' });
    await expect(replayer.replay({ id })).rejects.toMatchObject({
      code: 'INVALID_REQUEST',
      message: `invocation ${id} was not recorded: it would be larger than a recording may be`,
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
      evaluators: NO_EVALUATORS,
      engineId: 'an engine',
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

  test('has the deadline of then, also where an executor has to load the version for it', async () => {
    const id = await run('hurried', {});
    node.pool.forget('version-of-hurried');
    expect((await replayer.replay({ id })).summary).toMatchObject({ same: true, end: 'finished' });
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
        evaluators: NO_EVALUATORS,
        engineId: 'an engine',
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

describe('a run of code that was never deployed', () => {
  let image: Uint8Array | undefined;
  /** One session, which goes on as long as its image is not taken away. */
  const sessions = {
    begin: async () => ({
      token: 'a token',
      start: { ...(image === undefined ? {} : { image }), maxImageBytes: 8_000_000 },
      keep: async (left: Uint8Array) => {
        image = left;
        return 1;
      },
      release: async () => {},
    }),
  };
  let elsewhere: Replayer;
  let newer: Replayer;
  beforeAll(() => {
    elsewhere = replayerOf(store, evaluatorsOf('an engine'));
    newer = replayerOf(store, evaluatorsOf('a newer engine'));
  });
  beforeEach(() => {
    image = undefined;
  });

  const replayerOf = (recordings: Pick<RecordingStore, 'get'>, one = evaluators): Replayer =>
    new Replayer({
      catalog: node.catalog,
      pool: node.pool,
      recordings,
      evaluators: one,
      engineId: 'an engine',
    });

  /** Its invocation's id. */
  async function execute(request: Record<string, unknown>, rules: Record<string, unknown> = {}): Promise<string> {
    const results: InvocationResult[] = [];
    const runner = new CodeRunner({
      invoker: {
        invoke: async (asked) => {
          const result = await node.invoker.invoke(asked);
          results.push(result);
          return result;
        },
      },
      evaluators,
      environment: {
        resolve: async (names) => ({
          values: Object.fromEntries(names.map((name) => [name, SECRET])),
          redact: (t) => t,
        }),
      },
      cache: undefined as never,
      sessions,
      outputs: { keep: async () => undefined },
    });
    const policy = {
      name: 'recorded',
      rules: rulesSchema.parse({ record: true, sessions: 1, env: ['KEY'], roles: ['anon'], ...rules }),
    };
    const owner = { keyId: 'key', identity: { role: 'anon' as const, claims: null, userId: null }, policy };
    const asked = readExecuteRequest({
      value: { record: true, ...request },
      inputJson: JSON.stringify(request.input ?? null),
    });
    await runner.run(asked, owner, { requestId: 'request', depth: 0 }).catch((error: PosternError) => {
      if (results.length === 0) throw error;
    });
    await store.flush();
    return results[0]!.invocationId;
  }

  const PRICE = `const [row] = await db.query('select price', [env('KEY'), crypto.randomUUID()]);
    console.log(row.price, Date.now(), Math.random());
    if (row.price > input.limit) throw new RangeError('too dear');
    row.price`;

  test.each([
    ['javascript', { code: PRICE, env: ['KEY'] }],
    ['javascript that fails', { code: PRICE, env: ['KEY'], input: { limit: 1 } }],
    ['typescript', { code: `const at: number = Date.now(); [at, input.limit as number]`, language: 'typescript' }],
    [
      'javascript with modules',
      {
        code: `import { twice } from 'twice'; twice(input.limit)`,
        dependencies: { twice: 'export const twice = (n) => [2 * n, Math.random()]' },
      },
    ],
  ])('is replayed the same on a node that never saw it: %s', async (_what, request) => {
    const id = await execute({ input: { limit: 100 }, ...request });
    queries.length = 0;
    const { summary, changed, engineChanged, recording } = await elsewhere.replay({ id });
    expect(summary).toMatchObject({ same: true, end: 'finished' });
    expect([changed, engineChanged, recording.functionName, queries]).toEqual([false, false, 'execute:key', []]);
  });

  test('is recorded where it asks for it and the policy allows it, and where it fails if that is what it asks', async () => {
    const [good, bad] = ['1 + input', 'throw new Error(input)'];
    expect(await isKept(await execute({ code: good, record: false }))).toBe(false);
    expect(await isKept(await execute({ code: good, record: 'failures' }))).toBe(false);
    expect(await isKept(await execute({ code: bad, record: 'failures' }))).toBe(true);
    await expect(execute({ code: good }, { record: false })).rejects.toMatchObject({
      code: 'POLICY_REFUSED',
      details: { rule: 'record', given: true, allowed: false },
    });
    await expect(execute({ code: good, cache: true })).rejects.toMatchObject({ code: 'INVALID_REQUEST' });
  });

  test('is shown as it came, without the variables that it had', async () => {
    const input = { limit: 1.5, headers: { authorization: 'Bearer the.token-of-somebody' }, text: SECRET };
    const { event, code, steps } = await replayer.show(
      await execute({ code: `${PRICE} // ${SECRET}`, env: ['KEY'], input }),
    );
    expect(event).toBe('{"limit":1.5,"headers":{"authorization":"Bearer [redacted]"},"text":"[redacted]"}');
    expect(code).toEqual({ language: 'javascript', code: `${PRICE} // [redacted]`, dependencies: {} });
    expect(steps.find(({ kind }) => kind === 'call')?.text).toContain('"[redacted]"');
    expect(JSON.stringify(steps)).not.toContain(SECRET);
  });

  test('with another input goes on where it departs, and there is no other version of it', async () => {
    const id = await execute({ code: PRICE, env: ['KEY'], input: { limit: 1 } });
    const { summary, changed } = await replayer.replay({ id, eventJson: '{"limit":100}' });
    expect([changed, summary.same, summary.finish?.text]).toEqual([true, false, 'value 30']);
    await expect(replayer.replay({ id, version: 2 })).rejects.toThrow('never deployed: there is no version of it');
  });

  test('in a session is replayed from the memory that it went on from', async () => {
    const ids: string[] = [];
    for (const code of ['var seen = [Math.random()]; 1', 'seen.push(Date.now()); seen', 'seen.length = 0; throw seen'])
      ids.push(await execute({ code, session: 'new' }));
    for (const id of ids) expect((await elsewhere.replay({ id })).summary).toMatchObject({ same: true });
    expect((await store.get(ids[0]!)).input).toMatchObject({ session: {} });
    const { summary } = await elsewhere.replay({ id: ids[1]!, eventJson: '1' });
    expect(summary.same).toBe(true);
    expect(node.lost).toEqual([]);
  });

  test('is the same after it was a file', async () => {
    await execute({ code: 'var seen = 1', session: 'new' });
    const id = await execute({ code: '++seen', session: 'new' });
    const { recording } = await readRecordingFile(await replayer.save(id));
    expect(recording).toEqual(await store.get(id));
    await expect(readRecordingFile('{"postern_recording":2}')).rejects.toMatchObject({ code: 'INVALID_REQUEST' });
  });

  test('is a file as well where the function has no limit of CPU', async () => {
    const { version } = await readRecordingFile(await replayer.save(await run('hurried', {})));
    expect(version).toMatchObject({ cpu: Number.POSITIVE_INFINITY });
  });

  test.each<[string, (header: Header) => void]>([
    ['a length below zero', (header) => (header.event = -5)],
    ['a length beyond its end', (header) => (header.meta = 1e15)],
    ['a length that is text', (header) => Object.assign(header, { event: '7' })],
    ['a language that there is not', (header) => (header.code.language = '__proto__')],
    ['no modules', (header) => Object.assign(header.code, { dependencies: undefined })],
    ['a module that is no text', (header) => (header.code.dependencies = { a: 5 })],
    ['a timeout beyond any', (header) => (header.code.timeoutMs = 1e12)],
    ['memory beyond any', (header) => (header.code.memoryBytes = 1e18)],
    ['an input longer than the event', (header) => (header.code.inputBytes = 1e9)],
    ['nothing to run', (header) => Object.assign(header, { code: undefined })],
  ])('is refused as a file with %s', async (_what, change) => {
    const file = await replayer.save(await execute({ code: '1' }));
    await expect(readRecordingFile(withHeader(file, change))).rejects.toMatchObject({ code: 'INVALID_REQUEST' });
  });

  test('says so where another engine has the session, or its memory is damaged', async () => {
    await execute({ code: 'var seen = 1', session: 'new' });
    const id = await execute({ code: '++seen', session: 'new' });
    await expect(newer.replay({ id })).rejects.toMatchObject({
      code: 'SESSION_OUTDATED',
    });
    const recording = (await store.get(id)) as Recording & { input: { session: { image: Buffer } } };
    const { input } = recording;
    const damaged = Buffer.from(input.session.image);
    damaged.fill(0, damaged.length - 20);
    const get = async () => ({ ...recording, input: { ...input, session: { image: damaged } } });
    await expect(replayerOf({ get }).replay({ id })).rejects.toMatchObject({ code: 'SESSION_UNREADABLE' });
    expect((await replayer.replay({ id })).summary.same).toBe(true);
  });

  test('without a session is replayed by another evaluator too, which says so', async () => {
    const id = await execute({ code: 'Math.random() + input', input: 1 });
    const { summary, engineChanged } = await newer.replay({ id });
    expect([summary.same, engineChanged]).toEqual([true, true]);
  });

  test('whose session is too large to be kept says why there is none', async () => {
    const code =
      'var noise = []; for (let n = 0; n < 80; n++) noise.push(crypto.getRandomValues(new Uint8Array(65_536)))';
    await execute({ code, session: 'new' });
    const id = await execute({ code: 'noise.length', session: 'new' });
    expect(image!.length).toBeGreaterThan(4 * 2 ** 20);
    expect((await store.get(id)).input).toEqual({
      lost: 'the session that it went on from is larger than a recording may be',
    });
  });
});

/** The file as somebody else may have written it. */
function withHeader(file: string, change: (header: Header) => void): string {
  const json = JSON.parse(file) as { recording: { input: string } };
  const packed = zstdDecompressSync(Buffer.from(json.recording.input, 'base64'));
  const end = 4 + packed.readUInt32LE(0);
  const header = JSON.parse(packed.toString('utf8', 4, end)) as Header;
  change(header);
  const changed = Buffer.from(JSON.stringify(header));
  const prefix = Buffer.alloc(4);
  prefix.writeUInt32LE(changed.length);
  json.recording.input = zstdCompressSync(Buffer.concat([prefix, changed, packed.subarray(end)])).toString('base64');
  return JSON.stringify(json);
}
