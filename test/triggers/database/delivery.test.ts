import { randomUUID } from 'node:crypto';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { armFailpoints, ensureGuestRoles } from '../../../database/index.ts';
import type { DatabaseTriggerConfig, InvocationRequest, InvocationResult } from '../../../invoker/index.ts';
import {
  type DeliveryPolicy,
  Dispatcher,
  type DispatcherOptions,
  listEvents,
  redriveEvent,
} from '../../../triggers/database/index.ts';
import { createTestDatabase, type TestDatabase } from '../../support/postgres.ts';
import { databaseTrigger, FakeInvoker, installFunction, newFunction, SettlementLog } from './support.ts';

const NEVER_MS = 600_000;
const QUICK_RETRY = { maxAttempts: 3, backoff: { initialMs: 1, factor: 1, maxMs: 5 } };

let db: TestDatabase;
const dispatchers: Dispatcher[] = [];

beforeAll(async () => {
  db = await createTestDatabase();
});
afterAll(() => db.drop());
beforeEach(() => db.pool.query('create table orders (id int, customer text, n numeric)'));
afterEach(async () => {
  vi.restoreAllMocks();
  await Promise.all(dispatchers.splice(0).map((dispatcher) => dispatcher.stop(0)));
  await db.pool.query('truncate postern.events; delete from postern.functions; drop table orders');
});

interface Started {
  readonly dispatcher: Dispatcher;
  readonly settled: SettlementLog;
}

async function dispatch(
  invoker: FakeInvoker,
  policy: Partial<DeliveryPolicy> = {},
  options: Partial<DispatcherOptions> = {},
): Promise<Started> {
  const settled = new SettlementLog();
  const dispatcher = new Dispatcher({
    pool: db.pool,
    connection: { connectionString: db.url },
    policy: () => ({ retry: QUICK_RETRY, version: 1, concurrency: null, ...policy }),
    nodeId: randomUUID(),
    pollMs: NEVER_MS,
    metrics: settled.metrics,
    invoker,
    ...options,
  });
  dispatchers.push(dispatcher);
  await dispatcher.start();
  return { dispatcher, settled };
}

/** This process' monotonic clock, with so much more on it. Until the end of the test. */
function newClock(): { ms: number } {
  const passed = { ms: 0 };
  const now = performance.now.bind(performance);
  vi.spyOn(performance, 'now').mockImplementation(() => now() + passed.ms);
  return passed;
}

function trigger(config: Partial<DatabaseTriggerConfig> = {}): DatabaseTriggerConfig {
  return databaseTrigger({ table: 'orders', ...config });
}

function eventOf(request: InvocationRequest): { new: { id: number; customer: string }; event_id: string } {
  return JSON.parse(request.eventJson);
}

function eventsOf(
  request: InvocationRequest,
): { new: { id: number; customer: string }; event_id: string; attempt: number }[] {
  return JSON.parse(request.eventJson).events;
}

function idsOf({ calls }: FakeInvoker): number[][] {
  return calls.map((call) => eventsOf(call).map((event) => event.new.id));
}

const failure = (name = 'Error'): Partial<InvocationResult> => ({
  outcome: 'exception',
  error: { code: 'FUNCTION_ERROR', message: 'no luck', name },
});

async function insert(...rows: readonly (readonly [id: number, customer: string])[]): Promise<void> {
  await db.pool.query('insert into orders (id, customer) select * from unnest($1::int[], $2::text[])', [
    rows.map(([id]) => id),
    rows.map(([, customer]) => customer),
  ]);
}

describe('a retry policy', () => {
  test('of the trigger counts in place of the function’s', async () => {
    await installFunction(db.pool, trigger({ retry: { ...QUICK_RETRY, maxAttempts: 2 } }));
    const invoker = new FakeInvoker(() => failure());
    const { settled } = await dispatch(invoker);
    await insert([1, 'a']);
    await settled.until({ dead: 1 });
    expect(invoker.calls.map((call) => call.attempt)).toEqual([1, 2]);
  });

  test.each<[string, Partial<InvocationResult>]>([
    ['timeout', { outcome: 'exceeded_time', error: { code: 'FUNCTION_TIMEOUT', message: 'late' } }],
    ['memory', { outcome: 'exceeded_memory', error: { code: 'FUNCTION_OUT_OF_MEMORY', message: 'much' } }],
    ['ValidationError', failure('ValidationError')],
  ])('has a rule for %s', async (name, result) => {
    await installFunction(db.pool, trigger({ retry: { ...QUICK_RETRY, on: { [name]: { maxAttempts: 1 } } } }));
    const invoker = new FakeInvoker(() => result);
    const { settled } = await dispatch(invoker);
    await insert([1, 'a']);
    await settled.until({ dead: 1 });
    expect(invoker.calls).toHaveLength(1);
  });

  test('does not take a rule from the prototype of objects', async () => {
    await installFunction(db.pool, trigger({ retry: { ...QUICK_RETRY, maxAttempts: 2, on: {} } }));
    const invoker = new FakeInvoker(() => failure('constructor'));
    const { settled } = await dispatch(invoker);
    await insert([1, 'a']);
    await settled.until({ dead: 1 });
    expect(invoker.calls).toHaveLength(2);
  });

  test('tries no event again that is older than it says, and keeps the last error', async () => {
    await installFunction(db.pool, trigger({ retry: { ...QUICK_RETRY, maxAttempts: 100, maxAgeMs: 1 } }));
    const invoker = new FakeInvoker(async () => {
      await db.pool.query('select pg_sleep(0.01)');
      return failure();
    });
    const { settled } = await dispatch(invoker);
    await insert([1, 'a']);
    await settled.until({ dead: 1 });
    expect(invoker.calls.length).toBeLessThan(3);
    const { events } = await listEvents(db.pool);
    expect(events[0]?.lastError).toMatchObject({ message: 'no luck' });
  });
});

describe('a dead letter', () => {
  test('is handed to the function that its trigger names, whose own failure is told to nobody', async () => {
    const undertaker = `u_${randomUUID().slice(0, 8)}`;
    await newFunction(db.pool, undertaker);
    const { name } = await installFunction(
      db.pool,
      trigger({ deadLetter: undertaker, batch: { maxSize: 2, maxWaitMs: 0 } }),
    );
    const invoker = new FakeInvoker(() => failure());
    const { settled } = await dispatch(invoker, { retry: { ...QUICK_RETRY, maxAttempts: 1 } });
    await insert([1, 'a']);
    await settled.until({ dead: 2 });
    const told = invoker.calls.find((call) => call.functionName === undertaker);
    expect(told?.trigger).toBe('dead_letter');
    expect(JSON.parse(told?.eventJson ?? '')).toMatchObject({
      trigger: 'dead_letter',
      function: name,
      error: { code: 'FUNCTION_ERROR', message: 'no luck', outcome: 'exception' },
      event: { trigger: 'database', table: 'orders', new: { id: 1 } },
      event_id: told?.eventId,
      attempt: 1,
    });
    expect(invoker.calls).toHaveLength(2);
  });

  test('is kept where that function is not there', async () => {
    await installFunction(db.pool, trigger({ deadLetter: 'nobody' }));
    const { settled } = await dispatch(new FakeInvoker(() => failure()), { retry: { ...QUICK_RETRY, maxAttempts: 1 } });
    await insert([1, 'a']);
    await settled.until({ dead: 1 });
    expect((await listEvents(db.pool)).events).toHaveLength(1);
  });
});

describe('the payload', () => {
  const payloadOf = async (format: DatabaseTriggerConfig['format'], sql: string): Promise<unknown> => {
    await installFunction(db.pool, trigger({ operations: ['INSERT', 'UPDATE', 'DELETE'], format: format! }));
    const invoker = new FakeInvoker();
    const { settled } = await dispatch(invoker);
    await db.pool.query(sql);
    await settled.until({ finished: 1 });
    return JSON.parse(invoker.calls[0]?.eventJson ?? '');
  };

  test('as Supabase sends it has its five members', async () => {
    expect(await payloadOf('supabase', `insert into orders values (1, 'a', 2)`)).toEqual({
      type: 'INSERT',
      table: 'orders',
      schema: 'public',
      record: { id: 1, customer: 'a', n: 2 },
      old_record: null,
    });
  });

  test('as Hasura sends it tells the claims as session variables', async () => {
    // Claims count where they name a role that is there.
    await ensureGuestRoles(db.pool, Buffer.alloc(32, 7));
    const payload = await payloadOf(
      'hasura',
      `begin; set local request.jwt.claims = '{"role":"authenticated","sub":"u1"}'; insert into orders values (1, 'a', 2); commit`,
    );
    expect(payload).toMatchObject({
      id: expect.stringMatching(/^[0-9a-f-]{36}$/),
      created_at: expect.any(String),
      delivery_info: { max_retries: 2, current_retry: 0 },
      table: { schema: 'public', name: 'orders' },
      event: {
        session_variables: { 'x-hasura-role': 'authenticated', 'x-hasura-user-id': 'u1' },
        op: 'INSERT',
        data: { old: null, new: { id: 1, customer: 'a', n: 2 } },
      },
    });
  });

  test('as Hasura sends it tells no claims that the session could not have had', async () => {
    const payload = await payloadOf(
      'hasura',
      `begin; set local request.jwt.claims = '{"role":"nobody has this role","sub":"victim"}'; insert into orders values (1, 'a', 2); commit`,
    );
    expect(payload).toMatchObject({ event: { session_variables: null, op: 'INSERT' } });
  });

  test('as a CloudEvent has the attributes of version 1.0', async () => {
    expect(await payloadOf('cloudevents', `insert into orders values (1, 'a', 2)`)).toEqual({
      specversion: '1.0',
      id: expect.stringMatching(/^[0-9a-f-]{36}$/),
      source: '/postern/public/orders',
      type: 'dev.postern.row.insert',
      time: expect.any(String),
      datacontenttype: 'application/json',
      data: {
        schema: 'public',
        table: 'orders',
        operation: 'INSERT',
        old: null,
        new: { id: 1, customer: 'a', n: 2 },
        attempt: 1,
      },
    });
  });
});

describe('an ordering key', () => {
  test('lets its events run one at a time, in their order, on any number of nodes, while other keys go on', async () => {
    await installFunction(db.pool, trigger({ orderingKey: ['customer'] }));
    const seen = new Map<string, number[]>();
    const running = new Set<string>();
    const overlaps: string[] = [];
    const invoker = new FakeInvoker(async (request) => {
      const { id, customer } = eventOf(request).new;
      if (running.has(customer)) overlaps.push(customer);
      running.add(customer);
      seen.set(customer, [...(seen.get(customer) ?? []), id]);
      await new Promise((resolve) => setImmediate(resolve));
      running.delete(customer);
      return {};
    });
    await Promise.all([1, 2, 3].map(() => dispatch(invoker, {}, { pollMs: 20 })));
    for (let id = 1; id <= 60; id++) await insert([id, `c${id % 3}`]);
    await invoker.called(60);
    expect(overlaps).toEqual([]);
    for (const [customer, ids] of seen) {
      expect(ids, customer).toEqual(ids.toSorted((a, b) => a - b));
      expect(ids, customer).toHaveLength(20);
    }
  });

  test('holds back what is behind an event that is tried again', async () => {
    await installFunction(db.pool, trigger({ orderingKey: ['customer'] }));
    const invoker = new FakeInvoker((request) =>
      eventOf(request).new.id === 1 && (request.attempt ?? 1) < 3 ? failure() : {},
    );
    const { settled } = await dispatch(invoker);
    await insert([1, 'a'], [2, 'a'], [3, 'b']);
    await settled.until({ finished: 3 });
    const order = invoker.calls.map((call) => `${eventOf(call).new.id}.${call.attempt}`);
    expect(order.filter((one) => !one.startsWith('3'))).toEqual(['1.1', '1.2', '1.3', '2.1']);
  });

  test.each<[DatabaseTriggerConfig['poisoned'], number[], number[]]>([
    ['block', [1], [3]],
    ['skip', [1], [2, 3, 4]],
    ['park', [1, 2, 4], [3]],
  ])('whose policy is to %s has %j dead and %j done after a poisoned event', async (poisoned, dead, done) => {
    await installFunction(db.pool, trigger({ orderingKey: ['customer'], poisoned: poisoned! }));
    const finished: number[] = [];
    const invoker = new FakeInvoker((request) => {
      const { id } = eventOf(request).new;
      if (id === 1) return failure();
      finished.push(id);
      return {};
    });
    const { settled } = await dispatch(invoker, {}, { pollMs: 10 });
    await insert([1, 'a'], [2, 'a'], [3, 'b'], [4, 'a']);
    await settled.until({ dead: dead.length, finished: done.length });
    const { rows } = await db.pool.query<{ id: number }>(
      `select (new_row ->> 'id')::int as id from postern.events where dead_at is not null order by seq`,
    );
    expect(rows.map(({ id }) => id)).toEqual(dead);
    expect(finished.toSorted()).toEqual(done);
  });

  test('that blocks goes on when the dead event was redriven', async () => {
    await installFunction(db.pool, trigger({ orderingKey: ['customer'] }));
    let broken = true;
    const invoker = new FakeInvoker(() => (broken ? failure() : {}));
    const { settled } = await dispatch(invoker);
    await insert([1, 'a'], [2, 'a']);
    await settled.until({ dead: 1 });
    broken = false;
    const { events } = await listEvents(db.pool, { status: 'dead' });
    await redriveEvent(db.pool, events[0]?.id ?? '');
    await settled.until({ finished: 2 });
    expect(invoker.calls.slice(-2).map((call) => eventOf(call).new.id)).toEqual([1, 2]);
  });

  test('that is longer than an index takes is no matter to the writer', async () => {
    await installFunction(db.pool, trigger({ orderingKey: ['customer', 'id'] }));
    const { settled } = await dispatch(new FakeInvoker());
    await insert([1, 'x'.repeat(100_000)], [2, 'y']);
    await settled.until({ finished: 2 });
  });
});

describe('a batch', () => {
  test('is full, or as much as came in its time', async () => {
    await installFunction(db.pool, trigger({ batch: { maxSize: 3, maxWaitMs: 30 } }));
    const invoker = new FakeInvoker();
    const { settled } = await dispatch(invoker);
    await insert([1, 'a'], [2, 'a'], [3, 'a'], [4, 'a'], [5, 'b']);
    await settled.until({ finished: 5 });
    expect(invoker.calls.map((call) => eventsOf(call).map((event) => event.new.id))).toEqual([
      [1, 2, 3],
      [4, 5],
    ]);
  });

  test('may fail in part: what the function names is tried again, the rest is done', async () => {
    await installFunction(db.pool, trigger({ batch: { maxSize: 3, maxWaitMs: 5 } }));
    const attempts: number[][] = [];
    const invoker = new FakeInvoker((request) => {
      const events = eventsOf(request);
      attempts.push(events.map((event) => event.new.id));
      const failed = events.filter((event) => event.new.id === 2).map((event) => event.event_id);
      return attempts.length === 1 ? { response: { kind: 'value', json: JSON.stringify({ failed }) } } : {};
    });
    const { settled } = await dispatch(invoker);
    await insert([1, 'a'], [2, 'a'], [3, 'a']);
    await settled.until({ finished: 3, retried: 1 });
    expect(attempts).toEqual([[1, 2, 3], [2]]);
  });

  test('is tried again as a whole where the report names an event that it did not have', async () => {
    await installFunction(db.pool, trigger({ batch: { maxSize: 2, maxWaitMs: 5 } }));
    const report = { batchItemFailures: [{ itemIdentifier: randomUUID() }] };
    const invoker = new FakeInvoker((_request, call) =>
      call === 1 ? { response: { kind: 'value', json: JSON.stringify(report) } } : {},
    );
    const { settled } = await dispatch(invoker);
    await insert([1, 'a'], [2, 'a']);
    await settled.until({ finished: 2, retried: 2 });
  });

  test('has the events of one caller only', async () => {
    await installFunction(db.pool, trigger({ batch: { maxSize: 10, maxWaitMs: 20 } }));
    const invoker = new FakeInvoker();
    const { settled } = await dispatch(invoker);
    for (const user of ['u1', 'u2', 'u1']) {
      await db.pool.query(
        `begin; set local request.jwt.claims = '{"role":"authenticated","sub":"${user}"}'; insert into orders values (1, '${user}', 1); commit`,
      );
    }
    await settled.until({ finished: 3 });
    for (const call of invoker.calls) {
      expect(new Set(eventsOf(call).map((event) => event.new.customer)).size).toBe(1);
    }
  });

  test('under an ordering key has events of one key, in their order, and is tried again from the first that failed', async () => {
    await installFunction(db.pool, trigger({ orderingKey: ['customer'], batch: { maxSize: 10, maxWaitMs: 0 } }));
    const seen: number[][] = [];
    const invoker = new FakeInvoker((request) => {
      const events = eventsOf(request);
      seen.push(events.map((event) => event.new.id));
      const second = events.find((event) => event.new.id === 2 && seen.length <= 2);
      return second === undefined
        ? {}
        : { response: { kind: 'value', json: JSON.stringify({ failed: [second.event_id] }) } };
    });
    await insert([1, 'a'], [2, 'a'], [3, 'a'], [9, 'b']);
    const { settled } = await dispatch(invoker);
    await settled.until({ finished: 4 });
    const ofA = seen.filter((ids) => !ids.includes(9));
    expect(ofA[0]).toEqual([1, 2, 3]);
    expect(ofA.slice(1).flat()).toEqual([2, 3]);
  });

  test('under an ordering key loses one that always fails and none of those behind it', async () => {
    await installFunction(
      db.pool,
      trigger({ orderingKey: ['customer'], poisoned: 'skip', batch: { maxSize: 10, maxWaitMs: 0 } }),
    );
    const attempts: string[] = [];
    const invoker = new FakeInvoker((request) => {
      const events = eventsOf(request);
      attempts.push(events.map(({ new: { id }, attempt }) => `${id}.${attempt}`).join(' '));
      const bad = events.findIndex((event) => event.new.id === 2);
      const failed = bad === -1 ? [] : events.slice(bad).map((event) => event.event_id);
      return { response: { kind: 'value', json: JSON.stringify({ failed }) } };
    });
    const twice = { maxAttempts: 2, backoff: { initialMs: 1, factor: 1, maxMs: 1 } };
    await insert([1, 'a'], [2, 'a'], [3, 'a'], [4, 'a']);
    const { settled } = await dispatch(invoker, { retry: twice }, { pollMs: 10 });
    await settled.until({ dead: 1, finished: 3 });
    expect(attempts).toEqual(['1.1 2.1 3.1 4.1', '2.2 3.1 4.1', '3.1 4.1']);
  });
});

describe('a transaction', () => {
  test('comes as one invocation, with all that it changed and nothing of another', async () => {
    await installFunction(db.pool, trigger({ transaction: true, operations: ['INSERT', 'UPDATE'] }));
    const invoker = new FakeInvoker();
    await db.pool.query(
      `begin; insert into orders values (1, 'a', 1), (2, 'a', 1); update orders set n = 2 where id = 1; commit`,
    );
    await db.pool.query(`insert into orders values (3, 'b', 1)`);
    const { settled } = await dispatch(invoker);
    await settled.until({ finished: 4 });
    const groups = invoker.calls.map((call) => JSON.parse(call.eventJson));
    expect(groups.map((group) => group.events.length).toSorted()).toEqual([1, 3]);
    expect(new Set(groups.map((group) => group.transaction_id)).size).toBe(2);
    const large = groups.find((group) => group.events.length === 3);
    expect(large.events.map((event: { operation: string }) => event.operation)).toEqual(['INSERT', 'INSERT', 'UPDATE']);
  });

  test('is tried again as one', async () => {
    await installFunction(db.pool, trigger({ transaction: true }));
    const invoker = new FakeInvoker((_request, call) => (call === 1 ? failure() : {}));
    await insert([1, 'a'], [2, 'a'], [3, 'a']);
    const slow = { maxAttempts: 3, backoff: { initialMs: 200, factor: 1, maxMs: 200 } };
    const { settled } = await dispatch(invoker, { retry: slow }, { pollMs: 10 });
    await settled.until({ finished: 3, retried: 3 });
    expect(idsOf(invoker)).toEqual([
      [1, 2, 3],
      [1, 2, 3],
    ]);
  });

  test('of which another node has taken an event meanwhile, is not half done', async () => {
    await installFunction(db.pool, trigger({ transaction: true }));
    const invoker = new FakeInvoker(async () => {
      await db.pool.query(
        `update postern.events set lease_number = lease_number + 1, leased_by = gen_random_uuid()
         where seq = (select min(seq) from postern.events)`,
      );
      return {};
    });
    const { settled } = await dispatch(invoker);
    await insert([1, 'a'], [2, 'a']);
    await settled.until({ lost: 2 });
    const { rows } = await db.pool.query('select count(*)::int as n from postern.events');
    expect(rows).toEqual([{ n: 2 }]);
  });

  test('is waited for while the leases of a node that died run out one after the other', async () => {
    await installFunction(db.pool, trigger({ transaction: true }));
    await insert([1, 'a'], [2, 'a'], [3, 'a']);
    await db.pool.query(
      `update postern.events set id = gen_random_uuid(), attempt = 1, lease_number = 1, leased_by = gen_random_uuid(),
         lease_expires_at = clock_timestamp() + case when new_row ->> 'id' = '3' then interval '300 ms' else '-1 s' end`,
    );
    const invoker = new FakeInvoker();
    const { settled } = await dispatch(invoker, {}, { pollMs: 10 });
    await settled.until({ finished: 3 });
    expect(idsOf(invoker)).toEqual([[1, 2, 3]]);
  });

  test('is waited for where it can not be heard what was leased of it', async () => {
    await installFunction(db.pool, trigger({ transaction: true }));
    await insert([1, 'a'], [2, 'a']);
    const invoker = new FakeInvoker();
    armFailpoints('after_group_lease_commit:throw:p=0.5:seed=28');
    try {
      const { settled } = await dispatch(invoker, {}, { pollMs: 10, leaseMs: 300 });
      await settled.until({ finished: 2, handed_back: 1 });
    } finally {
      armFailpoints(null);
    }
    expect(idsOf(invoker)).toEqual([[1, 2]]);
  });
});

describe('what is behind an event whose lease was lost', () => {
  test.for([
    ['in its transaction', { transaction: true }],
    ['under its ordering key', { orderingKey: ['customer'], batch: { maxSize: 10, maxWaitMs: 10 } }],
  ] as const)('%s waits for it', async ([, config]) => {
    await installFunction(db.pool, trigger(config));
    await insert([1, 'a'], [2, 'a']);
    const passed = newClock();
    const settled = new SettlementLog();
    const invoker = new FakeInvoker();
    let leased = false;
    let asked = false;
    await dispatch(
      invoker,
      {},
      {
        pollMs: 10,
        leaseMs: 30_000,
        metrics: {
          ...settled.metrics,
          // The first is leased ten seconds before the second ...
          inFlight: () => {
            if (!leased) passed.ms += 10_000;
            leased = true;
          },
        },
        // ... and when the function is about to be started, the lease of the first alone has run out.
        policy: () => {
          if (!asked) passed.ms += 25_000;
          asked = true;
          return { retry: QUICK_RETRY, version: 1, concurrency: null };
        },
      },
    );
    await settled.until({ lost: 1, handed_back: 1 });
    await db.pool.query(`update postern.events set lease_expires_at = '-infinity' where leased_by is not null`);
    await settled.until({ finished: 2 });
    expect(idsOf(invoker)).toEqual([[1, 2]]);
  });
});

test('an event that ran beside one whose lease was lost runs again as another attempt', async () => {
  await installFunction(db.pool, trigger({ batch: { maxSize: 2, maxWaitMs: 500 } }));
  await insert([1, 'a'], [2, 'a']);
  const invoker = new FakeInvoker(({ signal }, call) => {
    if (call > 1) return {};
    return new Promise((resolve) => signal?.addEventListener('abort', () => resolve({ outcome: 'canceled' })));
  });
  const { settled } = await dispatch(invoker, {}, { pollMs: 10, leaseMs: 3_000 });
  await invoker.called(1);
  await db.pool.query(
    `update postern.events set leased_by = gen_random_uuid(), lease_expires_at = '-infinity'
     where new_row ->> 'id' = '1'`,
  );
  await settled.until({ finished: 2, lost: 1 });
  const attempts = invoker.calls.flatMap((call) =>
    (JSON.parse(call.eventJson).events as { new: { id: number }; attempt: number }[]).map(
      (event) => `${event.new.id}: ${event.attempt}`,
    ),
  );
  expect(attempts.toSorted()).toEqual(['1: 1', '1: 2', '2: 1', '2: 2']);
});

describe('a paused trigger', () => {
  test('runs nothing and loses nothing; the other triggers of its function go on', async () => {
    await db.pool.query('create table others (id int)');
    const { id } = await installFunction(db.pool, trigger(), databaseTrigger({ table: 'others' }));
    const pause = (enabled: boolean): Promise<unknown> =>
      db.pool.query(
        `update postern.triggers set enabled = $2 where function_id = $1 and config ->> 'table' = 'orders'`,
        [id, enabled],
      );
    await pause(false);
    const invoker = new FakeInvoker();
    const { settled } = await dispatch(invoker, {}, { pollMs: 10 });
    await insert([1, 'a']);
    await db.pool.query('insert into others values (2)');
    await settled.until({ finished: 1 });
    expect(eventOf(invoker.calls[0]!).new.id).toBe(2);
    await pause(true);
    await settled.until({ finished: 2 });
    expect(eventOf(invoker.calls[1]!).new.id).toBe(1);
    await db.pool.query('drop table others');
  });
});
