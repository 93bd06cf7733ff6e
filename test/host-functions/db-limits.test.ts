import { afterAll, beforeAll, expect, test } from 'vitest';
import { parsePayload } from '../../host-functions/payload.ts';
import { Stopwatch } from '../support/timed.ts';
import { createGuestDatabase, type GuestDatabase } from './support.ts';

let database: GuestDatabase;
beforeAll(async () => {
  database = await createGuestDatabase({
    limits: { maxRows: 1_000, maxBytes: 1024 * 1024, maxCalls: 200, maxOutstanding: 8 },
  });
});
afterAll(() => database.stop());

test('DB-16 a result over the row limit is refused, and one at the limit is not', async () => {
  await database.as({}, async (guest) => {
    expect((await guest.query('select generate_series(1, 1000)')).rows).toHaveLength(1_000);
    expect(await guest.refusal('select generate_series(1, 1001)')).toMatchObject({
      name: 'LimitError',
      code: 'DB_ROWS_LIMIT',
      details: { allowed: 1_000 },
    });
    expect(
      await guest.refusal(
        'select 1 from generate_series(1, 10000) a, generate_series(1, 10000) b, generate_series(1, 10000) c',
      ),
    ).toMatchObject({ code: 'DB_ROWS_LIMIT' });
    expect(await guest.value('select 1')).toBe(1);
  });
});

test('DB-16 a result over the byte limit stops early, with memory bounded', async () => {
  await database.as({}, async (guest) => {
    const before = process.memoryUsage().rss;
    expect(await guest.refusal("select repeat('x', 1000000) from generate_series(1, 900)")).toMatchObject({
      name: 'LimitError',
      code: 'DB_BYTES_LIMIT',
      details: { allowed: 1024 * 1024 },
    });
    expect(process.memoryUsage().rss - before).toBeLessThan(64 * 1024 * 1024);
    expect(await guest.value('select 1')).toBe(1);
  });
});

test('DB-17 one huge value is stopped on the wire, before it is whole', async () => {
  await database.as({}, async (guest) => {
    const before = process.memoryUsage().rss;
    expect(await guest.refusal("select repeat(repeat('x', 1000), 200000)")).toMatchObject({ code: 'DB_BYTES_LIMIT' });
    expect(process.memoryUsage().rss - before).toBeLessThan(64 * 1024 * 1024);
    expect(await guest.value('select 1')).toBe(1);
  });
});

test('an argument that would hold up the node is refused before it is parsed; a long list and a long text are not', async () => {
  const opened = '{"sql":"select 1","params":[0';
  const hostile = [',"a":{}', ',[]', ',1', ',{"k":1}'].map((part) => `${opened}${part.repeat(2_100_000)}]}`);
  const watch = new Stopwatch();
  for (const payload of hostile) {
    expect(() => parsePayload('db.query', payload)).toThrow(
      expect.objectContaining({ name: 'LimitError', code: 'ARGUMENT_LIMIT' }),
    );
  }
  watch.expectBelow(1_000);
  expect(() => parsePayload('db.query', `${opened}${'['.repeat(2_001)}`)).toThrow(
    'is nested more than 1000 levels deep',
  );
  for (const text of ['x', '"', '\\', '[{', 'x\\"'])
    expect(parsePayload('db.query', JSON.stringify({ a: text.repeat(3_000) }))).toEqual({ a: text.repeat(3_000) });
  await database.as({}, async (guest) => {
    const list = Array.from({ length: 500_000 }, (_, n) => n);
    expect(await guest.value('select count(*)::int from unnest($1::int[])', [list])).toBe(500_000);
  });
});

test('a change whose answer is too large is undone', async () => {
  await database.as({ dbRole: 'service_role' }, async (guest) => {
    const insert = 'insert into counters select g, 0 from generate_series(1, 1001) g returning id';
    expect(await guest.refusal(insert)).toMatchObject({ code: 'DB_ROWS_LIMIT' });
    expect(await guest.value('select count(*) from counters')).toBe(0);
    expect((await guest.query('insert into counters select g, 0 from generate_series(1, 1001) g')).rowCount).toBe(
      1_001,
    );
  });
});

test('DB-18 calls beyond the concurrency cap are refused, the others are answered', async () => {
  await database.as({}, async (guest) => {
    const calls = Array.from({ length: 50 }, () =>
      guest.query('select pg_sleep(0.01)').then(
        () => 'ok',
        (error) => error.code,
      ),
    );
    const answers = await Promise.all(calls);
    expect(answers.filter((answer) => answer === 'ok')).toHaveLength(8);
    expect(answers.filter((answer) => answer === 'DB_CONCURRENCY_LIMIT')).toHaveLength(42);
  });
});

test('DB-18 an invocation makes so many calls and no more', async () => {
  await database.as({}, async (guest) => {
    for (let call = 0; call < 200; call++) await guest.query('select 1');
    expect(await guest.refusal('select 1')).toMatchObject({
      name: 'LimitError',
      code: 'DB_CALLS_LIMIT',
      details: { allowed: 200 },
    });
  });
});

test('DB-18 one invocation with all its calls open does not keep another one waiting', async () => {
  const greedy = database.invoke();
  let ended = 0;
  const calls = Array.from({ length: 8 }, () => greedy.refusal('select pg_sleep(20)').then(() => ended++));
  await database.as({}, async (guest) => {
    expect(await guest.value('select 1')).toBe(1);
    expect(ended).toBe(0);
  });
  await greedy.end();
  await Promise.all(calls);
});

test('an invocation may have two transactions open, and a query beside them', async () => {
  await database.as({}, async (guest) => {
    const [first, second] = [await guest.begin(), await guest.begin()];
    await expect(guest.begin()).rejects.toMatchObject({ code: 'DB_TRANSACTIONS_LIMIT' });
    expect(await guest.value('select 1')).toBe(1);
    await guest.call('db.rollback', { tx: first });
    await guest.call('db.commit', { tx: second });
    await guest.call('db.rollback', { tx: await guest.begin() });
  });
});

test('statements that are different every time run out of parsing time, bound ones do not', async () => {
  const tight = await createGuestDatabase({ limits: { maxParseMs: 0 } });
  try {
    await tight.as({}, async (guest) => {
      await guest.query('select 1 as first');
      expect(await guest.refusal('select 2 as second')).toMatchObject({ code: 'DB_PARSE_LIMIT' });
      expect((await guest.query('select 1 as first')).rowCount).toBe(1);
    });
  } finally {
    await tight.stop();
  }
});
