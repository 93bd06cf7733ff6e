/** `postern.sessions`: whose a session is, which run has it, which images it keeps, and for how long. */

import { randomBytes, randomUUID } from 'node:crypto';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { Janitor } from '../../../database/index.ts';
import type { InvocationResult } from '../../../invoker/index.ts';
import {
  type HeldSession,
  SESSION_RETENTION,
  type SessionLimits,
  type SessionRequest,
  Sessions,
  sessionSchema,
} from '../../../triggers/index.ts';
import { TestNode } from '../../invoker/support/node.ts';
import { createTestDatabase, type TestDatabase } from '../../support/postgres.ts';

const KEY = randomBytes(32);
const failures: string[] = [];
let db: TestDatabase;
/** Two nodes. */
let here: Sessions;
let there: Sessions;
let mine: string;
let theirs: string;

const store = (limits: Partial<SessionLimits> = {}, masterKey = KEY, previousKey?: Buffer): Sessions =>
  new Sessions({
    pool: db.pool,
    masterKey,
    ...(previousKey === undefined ? {} : { previousKey }),
    onError: (message) => failures.push(message),
    limits,
  });

beforeAll(async () => {
  db = await createTestDatabase();
  [here, there] = [store(), store()];
  const key = async (name: string): Promise<string> => {
    const { rows } = await db.pool.query<{ id: string }>(
      `insert into postern.api_keys (name, key_hash, display, role, rate_limit, rate_window_seconds)
       values ($1, $2, 'pstn_', 'anon', 1, 1) returning id`,
      [name, randomBytes(32)],
    );
    return rows[0]?.id as string;
  };
  [mine, theirs] = await Promise.all([key('mine'), key('theirs')]);
});
afterAll(() => db.drop());
beforeEach(() => db.pool.query('truncate postern.sessions cascade'));
afterEach(() => expect(failures.splice(0)).toEqual([]));

const OPTIONS = { language: 'javascript', engineId: 'engine-1', timeoutMs: 5_000, maxSessions: 5, maxWaiting: 5 };
const begin = (
  request: unknown,
  sessions = here,
  options: Partial<typeof OPTIONS> = {},
  owner = { apiKeyId: mine, policy: 'default' },
): Promise<HeldSession> =>
  sessions.begin(sessionSchema.parse(request) as SessionRequest, owner, { ...OPTIONS, ...options });
const image = (text: string): Buffer => Buffer.from(text);
const textOf = ({ start }: HeldSession): string | undefined =>
  start.image === undefined ? undefined : Buffer.from(start.image).toString();

/** One whose runs have left these images. */
async function sessionWith(...texts: string[]): Promise<string> {
  const first = await begin('new');
  await first.keep(image(texts[0] ?? 'first'), randomUUID());
  for (const text of texts.slice(1)) await (await begin(first.token)).keep(image(text), randomUUID());
  return first.token;
}

/** What a token's session holds; it is let go again. */
async function held(token: unknown, sessions = here): Promise<string | undefined> {
  const session = await begin(token, sessions);
  await session.release();
  return textOf(session);
}

const count = async (table: string): Promise<number> =>
  (await db.pool.query(`select count(*)::integer as n from postern.${table}`)).rows[0].n;

describe('a session', () => {
  test('is there once its first run has ended well, and each run goes on from what the last one left', async () => {
    const first = await begin('new');
    expect(textOf(first)).toBeUndefined();
    expect(first.token).toMatch(/^[A-Za-z0-9_-]{43}$/);
    await first.release();
    expect(await count('sessions')).toBe(0);
    await expect(begin(first.token)).rejects.toMatchObject({ code: 'SESSION_NOT_FOUND' });

    const second = await begin('new');
    expect(await second.keep(image('one'), randomUUID())).toBe(1);
    const third = await begin(second.token, there);
    expect([third.token, textOf(third)]).toEqual([second.token, 'one']);
    expect(await third.keep(image('two'), randomUUID())).toBe(2);
    expect(await held(second.token)).toBe('two');
  });

  test('is as it was after a run that failed', async () => {
    const token = await sessionWith('one', 'two');
    const failed = await begin({ rewind: token, run: 1 });
    expect(textOf(failed)).toBe('one');
    await failed.release();
    expect(await held(token)).toBe('two');
  });

  test('is forked into one of its own, from any run that it has', async () => {
    const token = await sessionWith('one', 'two');
    const fork = await begin({ fork: token });
    expect([textOf(fork), fork.token === token]).toEqual(['two', false]);
    // Nobody waits for a fork.
    const busy = await begin(token);
    const early = await begin({ fork: token, run: 1 });
    expect(textOf(early)).toBe('one');
    await fork.keep(image('fork'), randomUUID());
    await busy.keep(image('three'), randomUUID());
    expect([await held(fork.token), await held(token)]).toEqual(['fork', 'three']);
    await expect(begin({ rewind: fork.token, run: 2 })).rejects.toMatchObject({ code: 'SESSION_NOT_FOUND' });
  });

  test('is rewound to an earlier run, and the later ones stay where they are', async () => {
    const token = await sessionWith('one', 'two', 'three');
    const back = await begin({ rewind: token, run: 1 });
    expect(textOf(back)).toBe('one');
    expect(await back.keep(image('one and more'), randomUUID())).toBe(4);
    expect(await held(token)).toBe('one and more');
    expect(await held({ rewind: token, run: 3 })).toBe('three');
    const none = begin({ rewind: token, run: 9 });
    await expect(none).rejects.toMatchObject({
      code: 'SESSION_NOT_FOUND',
      message: expect.stringContaining('1, 2, 3, 4'),
    });
  });

  test('keeps as many images as it may, by number and by size, and the newest always', async () => {
    const few = store({ runsKept: 3, maxBytes: 1_000 });
    const token = await sessionWith('1', '2', '3');
    for (const text of ['4', '5']) await (await begin(token, few)).keep(image(text), randomUUID());
    expect((await here.list())[0]).toMatchObject({ firstRun: 3, lastRun: 5 });
    await (await begin(token, few)).keep(randomBytes(990), randomUUID());
    expect((await here.list())[0]).toMatchObject({ firstRun: 6, lastRun: 6 });
    await (await begin(token, few)).keep(randomBytes(5_000), randomUUID());
    expect((await here.list())[0]).toMatchObject({ firstRun: 7, lastRun: 7, bytes: 5_016 });
  });

  test('is none of another language, and none of another engine', async () => {
    const token = await sessionWith('one');
    const python = begin(token, here, { language: 'python' });
    await expect(python).rejects.toMatchObject({
      code: 'INVALID_REQUEST',
      message: expect.stringContaining('javascript'),
    });
    for (const request of [token, { fork: token }, { rewind: token, run: 1 }]) {
      const newer = begin(request, here, { engineId: 'engine-2' });
      await expect(newer).rejects.toMatchObject({ code: 'SESSION_OUTDATED' });
    }
    expect(await held(token)).toBe('one');
  });

  test('is one of so many as the owner may have', async () => {
    const tokens = [await sessionWith('one'), await sessionWith('two')];
    for (const request of ['new', { fork: tokens[0] }])
      await expect(begin(request, here, { maxSessions: 2 })).rejects.toMatchObject({
        details: { rule: 'sessions', allowed: 2 },
      });
    expect(await held(tokens[1])).toBe('two');
    const [info] = await here.list(mine);
    expect(await here.delete(info?.id as string)).toBe(true);
    expect(textOf(await begin('new', here, { maxSessions: 2 }))).toBeUndefined();
  });

  test('is one of so many as the owner may have, however many begin at once', async () => {
    const begun = await Promise.all([here, there, here, there].map((node) => begin('new', node, { maxSessions: 2 })));
    const ends = await Promise.allSettled(begun.map((session) => session.keep(image('one'), randomUUID())));
    expect(ends.filter(({ status }) => status === 'fulfilled')).toHaveLength(2);
    expect(ends).toContainEqual({
      status: 'rejected',
      reason: expect.objectContaining({
        code: 'POLICY_REFUSED',
        details: expect.objectContaining({ rule: 'sessions' }),
      }),
    });
    expect(await count('sessions')).toBe(2);
  });
});

describe('SES-03 a session is there for its owner alone', () => {
  test('another key, another policy, a token of nobody and what is no token are told the same', async () => {
    const token = await sessionWith('one');
    const told = async (request: unknown, owner?: { apiKeyId: string; policy: string }): Promise<unknown> =>
      begin(request, here, {}, owner).then(
        () => 'let in',
        ({ code, message }: { code: string; message: string }) => [code, message],
      );
    const nobody = await told(randomBytes(32).toString('base64url'));
    expect(nobody).toEqual(['SESSION_NOT_FOUND', expect.any(String)]);
    for (const request of [token, { fork: token }, { rewind: token, run: 1 }, { rewind: token, run: 7 }]) {
      expect(await told(request, { apiKeyId: theirs, policy: 'default' })).toEqual(nobody);
      expect(await told(request, { apiKeyId: mine, policy: 'other' })).toEqual(nobody);
    }
    for (const request of ['x', `${token}=`, "' or true --", '\0']) expect(await told(request)).toEqual(nobody);
  });

  test('lists and deletes what is the owner’s, and the operator all of them', async () => {
    await sessionWith('one');
    const other = await begin('new', here, {}, { apiKeyId: theirs, policy: 'default' });
    await other.keep(image('two'), randomUUID());
    const [own] = await here.list(mine);
    expect(await here.list(mine)).toHaveLength(1);
    expect(await here.list()).toHaveLength(2);
    expect(own).toMatchObject({ apiKeyId: mine, policy: 'default', language: 'javascript', lastRun: 1, firstRun: 1 });
    expect(await here.delete(own?.id as string, theirs)).toBe(false);
    expect(await here.delete(own?.id as string, mine)).toBe(true);
    expect(await here.delete(own?.id as string, mine)).toBe(false);
    expect([await count('sessions'), await count('session_images')]).toEqual([1, 1]);
  });

  test('its token stands nowhere in the database', async () => {
    const token = await sessionWith('one');
    const { rows } = await db.pool.query(
      'select s::text || i::text as row from postern.sessions s, postern.session_images i',
    );
    const binary = Buffer.from(token, 'base64url').toString('hex');
    for (const { row } of rows) expect([row.includes(token), row.includes(binary)]).toEqual([false, false]);
  });
});

describe('SES-04 one run at a time', () => {
  test('the second waits for the first, on another node too, and goes on from what that left', async () => {
    const token = await sessionWith('one');
    const first = await begin(token);
    const second = begin(token, there);
    await expect(begin(token, there, { timeoutMs: 30 })).rejects.toMatchObject({ code: 'SESSION_BUSY' });
    await first.keep(image('first'), randomUUID());
    expect(textOf(await second)).toBe('first');
  });

  test('many at once end one after the other, and none of them is lost', async () => {
    const token = await sessionWith('');
    const append = async (letter: string, sessions: Sessions): Promise<void> => {
      const session = await begin(token, sessions, { timeoutMs: 20_000 });
      await session.keep(image(textOf(session) + letter), randomUUID());
    };
    await Promise.all([...'abcdefgh'].map((letter, index) => append(letter, index % 2 === 0 ? here : there)));
    expect([...((await held(token)) ?? '')].sort().join('')).toBe('abcdefgh');
  });

  test('so many runs of a key wait for its sessions on a node, and the next one is refused by the rule', async () => {
    const token = await sessionWith('one');
    const first = await begin(token);
    const narrow = { maxWaiting: 2, timeoutMs: 200 };
    const three = await Promise.allSettled(Array.from({ length: 3 }, () => begin(token, here, narrow)));
    const refusals = three.map((one) => (one.status === 'rejected' ? one.reason : one));
    expect(refusals.map(({ code }) => code).sort()).toEqual(['POLICY_REFUSED', 'SESSION_BUSY', 'SESSION_BUSY']);
    const refused = refusals.find(({ code }) => code === 'POLICY_REFUSED');
    expect(refused.details).toEqual({ policy: 'default', rule: 'concurrency', given: 3, allowed: 2 });
    const next = begin(token, here, { maxWaiting: 1 });
    await first.release();
    await (await next).release();
  });

  test('a node that died has it until its lease is over, and what it writes then is refused', async () => {
    const brief = store({ leaseGraceMs: 0 });
    const token = await sessionWith('one');
    const dead = await begin(token, brief, { timeoutMs: 100 });
    await expect(begin(token, there, { timeoutMs: 1 })).rejects.toMatchObject({ code: 'SESSION_BUSY' });
    const next = await begin(token, there, { timeoutMs: 10_000 });
    expect(textOf(next)).toBe('one');
    await expect(dead.keep(image('too late'), randomUUID())).rejects.toMatchObject({ code: 'CONFLICT' });
    await dead.release();
    expect(await next.keep(image('in time'), randomUUID())).toBe(2);
    expect(await held(token)).toBe('in time');
  });

  test('who goes away waits no longer; who deletes it ends its run’s right to write', async () => {
    const token = await sessionWith('one');
    const first = await begin(token);
    const gone = AbortSignal.timeout(20);
    await expect(begin(token, there, { signal: gone } as object)).rejects.toMatchObject({ code: 'CANCELED' });
    await here.delete((await here.list())[0]?.id as string);
    await expect(first.keep(image('two'), randomUUID())).rejects.toMatchObject({ code: 'CONFLICT' });
    expect(await count('session_images')).toBe(0);
  });
});

describe('what is over', () => {
  const expire = (what: string) => db.pool.query(`update postern.sessions set ${what}`);
  const sweep = (): Promise<number> =>
    new Janitor({
      pool: db.pool,
      rules: [SESSION_RETENTION],
      onError: (_rule, error) => failures.push(String(error)),
    }).sweep();

  test('is not there any more, and goes with its images', async () => {
    const [old, used] = [await sessionWith('old'), await sessionWith('used')];
    await expire(
      `expires_at = now() - interval '1 second' where token_hash = (select token_hash from postern.sessions order by created_at limit 1)`,
    );
    await expect(begin(old)).rejects.toMatchObject({ code: 'SESSION_NOT_FOUND' });
    expect(await here.list()).toHaveLength(1);
    expect(await sweep()).toBe(1);
    expect([await count('sessions'), await count('session_images')]).toEqual([1, 1]);
    expect(await held(used)).toBe('used');
  });

  test('each use puts it off, but not beyond the end', async () => {
    const token = await sessionWith('one');
    const until = async (): Promise<number> => (await here.list())[0]?.expiresAt.getTime() as number;
    await expire(`expires_at = clock_timestamp() + interval '1 minute'`);
    const before = await until();
    await held(token);
    expect(await until()).toBeGreaterThan(before + 20 * 60_000);
    await expire(`ends_at = clock_timestamp() + interval '2 minutes'`);
    await held(token);
    expect(await until()).toBeLessThan(before + 2 * 60_000);
  });
});

describe('SES-02 an image is refused', () => {
  const unreadable = { code: 'SESSION_UNREADABLE' };
  const change = (set: string) => db.pool.query(`update postern.session_images set ${set}`);

  test.each([
    ['changed', 'image = set_byte(image, 0, get_byte(image, 0) # 1)'],
    ['cut off', 'image = substr(image, 1, 5)'],
    ['empty', `image = ''`],
    ['with another nonce', `nonce = set_byte(nonce, 3, get_byte(nonce, 3) # 1)`],
    ['with a nonce of another length', `nonce = substr(nonce, 1, 7)`],
  ])('that was %s, and the session can be used from another run', async (_what, set) => {
    const token = await sessionWith('one', 'two');
    await change(`${set} where run = 2`);
    for (const request of [token, { fork: token }]) await expect(begin(request)).rejects.toMatchObject(unreadable);
    expect(await held({ rewind: token, run: 1 })).toBe('one');
  });

  test('swapped between runs or sessions', async () => {
    const token = await sessionWith('one', 'two');
    await db.pool.query(`update postern.session_images i set image = o.image, nonce = o.nonce
      from postern.session_images o where o.session_id = i.session_id and o.run = 1 and i.run = 2`);
    await expect(begin(token)).rejects.toMatchObject(unreadable);
    expect(await held({ rewind: token, run: 1 })).toBe('one');
    const other = await sessionWith('other');
    await db.pool.query(`update postern.session_images i set image = o.image, nonce = o.nonce
      from postern.session_images o where o.session_id <> i.session_id and o.run = 1 and i.run = 1`);
    await expect(begin(other)).rejects.toMatchObject(unreadable);
  });

  test('of a session that was given to another key in the table', async () => {
    const token = await sessionWith('one');
    await db.pool.query('update postern.sessions set api_key_id = $1', [theirs]);
    await expect(begin(token, here, {}, { apiKeyId: theirs, policy: 'default' })).rejects.toMatchObject(unreadable);
  });

  test('whose master key is not there; with the previous one it is read, and a rotation writes no image', async () => {
    const token = await sessionWith('one');
    const next = randomBytes(32);
    await expect(begin(token, store({}, next))).rejects.toMatchObject(unreadable);
    const both = store({}, next, KEY);
    expect(await held(token, both)).toBe('one');
    const before = (await db.pool.query('select ctid, nonce from postern.session_images')).rows;
    expect([await both.rotate(), await both.rotate()]).toEqual([1, 0]);
    expect((await db.pool.query('select ctid, nonce from postern.session_images')).rows).toEqual(before);
    expect(await held(token, store({}, next))).toBe('one');
    await expect(begin(token)).rejects.toMatchObject(unreadable);
  });
});

test.each([
  [7],
  [''],
  [{ fork: 'x', rewind: 'y' }],
  [{ rewind: 'x' }],
  [{ rewind: 'x', run: 0 }],
  [{ rewind: 'x', run: 1.5 }],
  [{ fork: 'x'.repeat(101) }],
  [null],
])('a request that is none says what may stand there: %j', (request) => {
  const { error } = sessionSchema.safeParse(request);
  expect(error?.issues[0]?.message).toContain('"new", a token');
});

test('two nodes serve one session in turn: each finds what the other one left', async () => {
  const functions = { evaluate: 'export const handler = async (event) => await (0, eval)(event.code);' };
  const nodes = await Promise.all([TestNode.start({ functions }), TestNode.start({ functions })]);
  try {
    const run = async (
      node: TestNode,
      sessions: Sessions,
      request: unknown,
      code: string,
    ): Promise<[string, unknown]> => {
      const session = await begin(request, sessions);
      const result: InvocationResult = await node.invoke('evaluate', { code }, { session: session.start });
      if (result.session === undefined || !('image' in result.session)) await session.release();
      else await session.keep(result.session.image, result.invocationId);
      return [session.token, result.response?.kind === 'value' ? JSON.parse(result.response.json) : result.error?.code];
    };
    const [first, second] = nodes as [TestNode, TestNode];
    const [token] = await run(
      first,
      here,
      'new',
      'var list = []; const add = (x) => list.push(x); globalThis.add = add; 0',
    );
    expect((await run(second, there, token, 'add(1)'))[1]).toBe(1);
    expect((await run(first, here, token, 'add(2); throw new Error()'))[1]).toBe('FUNCTION_ERROR');
    expect((await run(first, here, token, 'add(3); list'))[1]).toEqual([1, 3]);
    expect((await run(second, there, { rewind: token, run: 2 }, 'list'))[1]).toEqual([1]);
  } finally {
    await Promise.all(nodes.map((node) => node.stop()));
  }
});
