import { randomUUID } from 'node:crypto';
import fc from 'fast-check';
import type { Pool, PoolClient } from 'pg';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { TcpProxy } from '../../chaos/tcp-proxy.ts';
import { createSystemPool } from '../../database/index.ts';
import { type InvocationRecord, InvocationRecorder } from '../../invoker/index.ts';
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts';

const NODE = randomUUID();
const USAGE = {
  durationMs: 1.5,
  cpuMs: 0.25,
  fuel: 12,
  peakMemoryBytes: 65_536,
  hostCalls: 3,
  clockReads: 0,
  randomBytes: 0,
};

let db: TestDatabase;
beforeAll(async () => {
  db = await createTestDatabase();
});
afterAll(() => db.drop());
beforeEach(() => db.pool.query('truncate postern.function_invocations'));

function record(
  part: Partial<InvocationRecord['result']> = {},
  rest: Partial<InvocationRecord> = {},
): InvocationRecord {
  return {
    result: { invocationId: randomUUID(), functionName: 'f', version: 2, outcome: 'ok', usage: USAGE, ...part },
    functionId: 7,
    trigger: 'http',
    triggerId: null,
    eventId: null,
    attempt: 1,
    requestId: 'r',
    startedAtMs: Date.UTC(2026, 0, 2, 3, 4, 5, 678),
    logs: [],
    ...rest,
  };
}

function recorderOn(pool: Pool, errors: [string, number][] = []): InvocationRecorder {
  return new InvocationRecorder({
    pool,
    nodeId: NODE,
    flushEveryMs: 60_000,
    onError: (error, dropped) => errors.push([error.message, dropped]),
  });
}

/** A pool whose connections break when `breaks` says so: before they write, or after, when only the answer is lost. */
function breaking(pool: Pool, ...breaks: ('before' | 'after' | 'not')[]): Pool {
  const connect = async (): Promise<PoolClient> => {
    const how = breaks.shift() ?? 'not';
    if (how === 'before') throw new Error('no connection');
    const client = await pool.connect();
    const release = client.release.bind(client);
    client.release = (error?: Error | boolean) => {
      client.release = release;
      if (how === 'after' && error === undefined) throw new Error('the answer was lost');
      release(error);
    };
    return client;
  };
  return { connect } as unknown as Pool;
}

describe('a record', () => {
  test('is stored as it was given', async () => {
    const recorder = recorderOn(db.pool);
    const [triggerId, eventId] = [randomUUID(), randomUUID()];
    const error = { code: 'FUNCTION_ERROR' as const, message: 'a\tb\nc\\N', stack: 'at x\r\n\\.' };
    const line = { level: 'info', message: 'm', data: { a: '\\n\t"' } } as unknown as InvocationRecord['logs'][number];
    const given = record({ outcome: 'exception', error }, { triggerId, eventId, functionId: null, logs: [line] });
    recorder.push(given);
    await recorder.stop();
    const { rows } = await db.pool.query('select * from postern.function_invocations');
    expect(rows).toMatchObject([
      {
        id: given.result.invocationId,
        function_id: null,
        function_name: 'f',
        version: 2,
        trigger: 'http',
        trigger_id: triggerId,
        event_id: eventId,
        attempt: 1,
        request_id: 'r',
        status: 'error',
        outcome: 'exception',
        error_code: error.code,
        error_message: error.message,
        error_stack: error.stack,
        started_at: new Date('2026-01-02T03:04:05.678Z'),
        duration_ms: 1.5,
        cpu_ms: 0.25,
        cpu_fuel: '12',
        peak_memory_bytes: '65536',
        host_calls: 3,
        logs: [line],
        node_id: NODE,
      },
    ]);
  });

  test('of any text is stored, with U+FFFD for what Postgres can not hold', async () => {
    await fc.assert(
      fc.asyncProperty(fc.string({ unit: 'binary', maxLength: 40 }), async (text) => {
        const recorder = recorderOn(db.pool);
        const given = record(
          { outcome: 'exception', error: { code: 'FUNCTION_ERROR', message: text } },
          { requestId: text, logs: [{ timeMs: 0, level: 'INFO', message: text } as InvocationRecord['logs'][number]] },
        );
        recorder.push(given);
        await recorder.stop();
        const { rows } = await db.pool.query(
          'select error_message, request_id, logs from postern.function_invocations where id = $1',
          [given.result.invocationId],
        );
        const stored = text.toWellFormed().replaceAll('\0', '\ufffd');
        expect(rows[0]).toMatchObject({ error_message: stored, request_id: stored, logs: [{ message: stored }] });
      }),
      { numRuns: 60 },
    );
  });
});

describe('a batch', () => {
  const count = async (): Promise<number> =>
    Number((await db.pool.query('select count(*) from postern.function_invocations')).rows[0].count);

  test('is what waited when its write began: what comes meanwhile is written the next time, unless it is a thousand', async () => {
    const duringConnect: number[] = [];
    const connect = (): Promise<PoolClient> => {
      for (let more = duringConnect.shift() ?? 0; more > 0; more--) recorder.push(record());
      return db.pool.connect();
    };
    const recorder = recorderOn({ connect } as unknown as Pool);
    const afterFlush = async (...meanwhile: number[]): Promise<number> => {
      duringConnect.push(...meanwhile);
      await recorder.flush();
      return count();
    };
    recorder.push(record());
    expect(await afterFlush(2)).toBe(1);
    expect(await afterFlush(1_000, 3)).toBe(1_003);
    await recorder.stop();
    expect(await count()).toBe(1_006);
  });

  test('is written once although the answer to it was lost, and what came meanwhile too', async () => {
    const errors: [string, number][] = [];
    const recorder = recorderOn(breaking(db.pool, 'after'), errors);
    for (let n = 0; n < 3; n++) recorder.push(record());
    await recorder.flush();
    expect([errors, await count()]).toEqual([[['the answer was lost', 0]], 3]);
    recorder.push(record());
    await recorder.flush();
    expect([errors.length, await count()]).toEqual([1, 4]);
  });

  test('is kept while the database can not be reached', async () => {
    const errors: [string, number][] = [];
    const recorder = recorderOn(breaking(db.pool, 'before', 'before'), errors);
    recorder.push(record());
    await recorder.flush();
    recorder.push(record());
    await recorder.flush();
    expect([errors.length, await count()]).toEqual([2, 0]);
    await recorder.stop();
    expect(await count()).toBe(2);
  });

  test('that Postgres will never take does not hold up the next one', async () => {
    const errors: [string, number][] = [];
    const recorder = recorderOn(db.pool, errors);
    recorder.push(record({ invocationId: 'no uuid' }));
    await recorder.flush();
    recorder.push(record());
    await recorder.flush();
    expect([errors.map(([, dropped]) => dropped), await count()]).toEqual([[1], 1]);
  });
});

test('F11 records that were sent over a half-open connection are written over another one', async () => {
  const { hostname: host, port } = new URL(db.url);
  const proxy = await TcpProxy.start({ host, port: Number(port) });
  const pool = createSystemPool(Object.assign(new URL(db.url), { port: String(proxy.port) }).href);
  const errors: string[] = [];
  const recorder = new InvocationRecorder({
    pool,
    nodeId: NODE,
    writeTimeoutMs: 150,
    onError: (error) => errors.push(error.name),
  });
  try {
    recorder.push(record());
    await recorder.flush();
    proxy.halfOpen();
    recorder.push(record());
    await recorder.flush();
    expect(errors).toEqual(['AbortError']);
    await recorder.flush();
    expect((await db.pool.query('select from postern.function_invocations')).rowCount).toBe(2);
  } finally {
    await pool.end();
    await proxy.stop();
  }
});
