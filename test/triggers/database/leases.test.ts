import { randomUUID } from 'node:crypto';
import fc from 'fast-check';
import type { Pool } from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { InvocationRequest, InvocationResult } from '../../../invoker/index.ts';
import {
  finishEvents,
  type LeaseRequest,
  leaseEvents,
  renewLeases,
  setEventsBack,
} from '../../../triggers/database/event-store.ts';
import { Dispatcher, type DispatcherOptions } from '../../../triggers/database/index.ts';
import { handBack } from '../../../triggers/database/retry-policy.ts';
import { createTestDatabase, type TestDatabase } from '../../support/postgres.ts';
import { TIMED } from '../../support/timed.ts';
import { databaseTrigger, FakeInvoker, installFunction, SettlementLog } from './support.ts';

const QUICK_RETRY = { maxAttempts: 4, backoff: { initialMs: 1, factor: 1, maxMs: 2 } };
const A = randomUUID();
const B = randomUUID();

let db: TestDatabase;
const dispatchers: Dispatcher[] = [];

beforeAll(async () => {
  db = await createTestDatabase();
});
afterAll(() => db.drop());
beforeEach(() => db.pool.query('create table things (id int)'));
afterEach(async () => {
  await Promise.all(dispatchers.splice(0).map((dispatcher) => dispatcher.stop(0)));
  await db.pool.query('truncate postern.events; delete from postern.functions; drop table things');
});

function requestOf(nodeId: string, leaseMs: number, limit = 100): LeaseRequest {
  return { nodeId, leaseMs, limit, quotas: new Map(), otherwise: 1_000 };
}

async function start(parts: Partial<DispatcherOptions> & Pick<DispatcherOptions, 'invoker'>): Promise<SettlementLog> {
  const settled = new SettlementLog();
  const dispatcher = new Dispatcher({
    pool: db.pool,
    connection: { connectionString: db.url },
    policy: () => ({ retry: QUICK_RETRY, version: 1, concurrency: null }),
    nodeId: randomUUID(),
    pollMs: 20,
    metrics: settled.metrics,
    ...parts,
  });
  dispatchers.push(dispatcher);
  await dispatcher.start();
  return settled;
}

describe('a lease', () => {
  test('is given to one holder only, and to another when it has run out', async () => {
    await installFunction(db.pool, databaseTrigger({ table: 'things' }));
    await db.pool.query('insert into things select generate_series(1, 200)');
    const [ofA, ofB] = await Promise.all([
      leaseEvents(db.pool, requestOf(A, 60_000, 150)),
      leaseEvents(db.pool, requestOf(B, 60_000, 150)),
    ]);
    const ids = [...ofA, ...ofB].map((event) => event.id);
    expect(new Set(ids).size).toBe(ids.length);
    expect(await leaseEvents(db.pool, requestOf(B, 60_000, 150))).toHaveLength(200 - ids.length);
    await db.pool.query(
      `update postern.events set lease_expires_at = clock_timestamp() - interval '1 ms' where leased_by = $1`,
      [A],
    );
    const again = await leaseEvents(db.pool, requestOf(B, 60_000, 1_000));
    expect(again.map((event) => event.id).toSorted()).toEqual(ofA.map((event) => event.id).toSorted());
    expect(new Set(again.map((event) => event.attempt))).toEqual(new Set(['2']));
  });

  // I4
  test('that was lost acknowledges nothing: not success, not failure, not a renewal, not a hand-back', async () => {
    await installFunction(db.pool, databaseTrigger({ table: 'things' }));
    await db.pool.query('insert into things values (1)');
    const zombie = await leaseEvents(db.pool, requestOf(A, 0));
    const [held] = await leaseEvents(db.pool, requestOf(B, 60_000));
    expect(await finishEvents(db.pool, A, zombie)).toBe(0);
    expect(await setEventsBack(db.pool, A, zombie.map(handBack))).toBe(0);
    expect(await renewLeases(db.pool, A, zombie, 1_000)).toEqual(new Set());
    // Nor with the right name and the number of an older lease.
    expect(await finishEvents(db.pool, B, zombie)).toBe(0);
    expect(await renewLeases(db.pool, B, [held!], 1_000)).toEqual(new Set([held!.seq]));
    expect(await finishEvents(db.pool, B, [held!])).toBe(1);
    expect(await finishEvents(db.pool, B, [held!])).toBe(0);
  });

  test('handed back twice, because the first answer was lost, does not take it from the next holder', async () => {
    await installFunction(db.pool, databaseTrigger({ table: 'things' }));
    await db.pool.query('insert into things values (1)');
    const first = await leaseEvents(db.pool, requestOf(A, 60_000));
    expect(await setEventsBack(db.pool, A, first.map(handBack))).toBe(1);
    const second = await leaseEvents(db.pool, requestOf(A, 60_000));
    expect(second[0]?.attempt).toBe('1');
    expect(await setEventsBack(db.pool, A, first.map(handBack))).toBe(0);
    expect(await finishEvents(db.pool, A, second)).toBe(1);
  });

  test('of a node that died is found by any other, and the attempt counted', async () => {
    await installFunction(db.pool, databaseTrigger({ table: 'things' }));
    await db.pool.query('insert into things values (1)');
    await leaseEvents(db.pool, requestOf(A, 30));
    const invoker = new FakeInvoker();
    const settled = await start({ invoker });
    await settled.until({ finished: 1 });
    expect(invoker.calls.map((call) => call.attempt)).toEqual([2]);
  });

  test('ROW-07 that runs out in every attempt ends in a dead letter', async () => {
    await installFunction(db.pool, databaseTrigger({ table: 'things' }));
    await db.pool.query('insert into things values (1)');
    // Two more than it may have: of nodes that were lost before they could say that it is dead.
    for (let lost = 0; lost < QUICK_RETRY.maxAttempts + 2; lost++) await leaseEvents(db.pool, requestOf(A, 0));
    const invoker = new FakeInvoker();
    const settled = await start({ invoker });
    await settled.until({ dead: 1 });
    expect(invoker.calls).toEqual([]);
    const { rows } = await db.pool.query(`select attempt, last_error ->> 'message' as message from postern.events`);
    expect(rows).toEqual([{ attempt: 4, message: 'its node was lost in each of 4 attempts' }]);
  });

  test('ROW-01 of a row that no executor could take ends in a dead letter at once, and the row stays in the database', async () => {
    await db.pool.query('create table wide (n int, data text)');
    await installFunction(db.pool, databaseTrigger({ table: 'wide' }));
    await db.pool.query(`insert into wide values (1, repeat('x', 70000000)), (2, 'small')`);
    const invoker = new FakeInvoker();
    const settled = await start({ invoker });
    await settled.until({ dead: 1, finished: 1 });
    expect(invoker.calls.map((call) => JSON.parse(call.eventJson).new.n)).toEqual([2]);
    const { rows } = await db.pool.query(
      `select attempt, last_error ->> 'code' as code, octet_length(new_row::text) > 70000000 as kept from postern.events`,
    );
    expect(rows).toEqual([{ attempt: 1, code: 'FUNCTION_OUT_OF_MEMORY', kept: true }]);
  });

  // F6
  test('is renewed while the function runs, however long that takes', TIMED, async () => {
    await installFunction(db.pool, databaseTrigger({ table: 'things' }));
    const slow = Promise.withResolvers<Partial<InvocationResult>>();
    const invoker = new FakeInvoker(() => slow.promise);
    const first = await start({ invoker, leaseMs: 900 });
    const other = new FakeInvoker();
    await start({ invoker: other, leaseMs: 900 });
    await db.pool.query('insert into things values (1)');
    await Promise.race([invoker.called(1), other.called(1)]);
    await new Promise((resolve) => setTimeout(resolve, 2_000));
    expect(invoker.calls.length + other.calls.length).toBe(1);
    slow.resolve({});
    if (invoker.calls.length === 1) await first.until({ finished: 1 });
  });

  test('that can not be renewed stops the function before another may run', TIMED, async () => {
    await installFunction(db.pool, databaseTrigger({ table: 'things' }));
    const line = new Line(db.pool);
    const leftMs = Promise.withResolvers<number>();
    const invoker = new FakeInvoker(
      (request) =>
        new Promise((resolve) => {
          request.signal?.addEventListener('abort', async () => {
            const { rows } = await db.pool.query(
              'select extract(epoch from lease_expires_at - clock_timestamp()) * 1000 as ms from postern.events',
            );
            leftMs.resolve(Number(rows[0].ms));
            resolve({ outcome: 'canceled' });
          });
        }),
    );
    const settled = await start({ invoker, leaseMs: 1_500, pool: line.pool });
    await db.pool.query('insert into things values (1)');
    await invoker.called(1);
    line.cut = true;
    expect(await leftMs.promise).toBeGreaterThan(0);
    line.cut = false;
    await settled.until({ lost: 1 });
  });
});

/** A pool whose connection to the database can be cut. */
class Line {
  cut = false;
  readonly pool: Pool;
  /** The last lease of each event that its node has heard of. */
  readonly leases = new Map<string, Lease>();
  readonly #bySeq = new Map<string, Lease>();

  constructor(pool: Pool) {
    this.pool = new Proxy(pool, {
      get: (target, name) => {
        if (name !== 'query') return Reflect.get(target, name, target);
        return async (...args: unknown[]) => {
          if (this.cut) throw new Error('cut');
          const sentAt = performance.now();
          const answer = await Reflect.apply(target.query, target, args);
          // The statement was executed, and nobody hears of it.
          if (this.cut) throw new Error('cut');
          this.#note(args[0] as { readonly text?: string }, answer, sentAt + LEASE_MS);
          return answer;
        };
      },
    });
  }

  #note({ text = '' }: { readonly text?: string }, answer: { readonly rows: never[] }, until: number): void {
    if (text.includes('postern.lease_events(')) {
      for (const [seq, id] of answer.rows as [string, string][]) {
        const lease = { until };
        this.leases.set(id, lease);
        this.#bySeq.set(seq, lease);
      }
    } else if (text.includes('set lease_expires_at')) {
      for (const { seq } of answer.rows as { readonly seq: string }[]) this.#bySeq.get(seq)!.until = until;
    }
  }
}

describe('several dispatchers', () => {
  test('share the events and run each once', async () => {
    await installFunction(db.pool, databaseTrigger({ table: 'things' }));
    await installFunction(db.pool, databaseTrigger({ table: 'things' }));
    const invokers = [new FakeInvoker(), new FakeInvoker(), new FakeInvoker()];
    const all = await Promise.all(invokers.map((invoker) => start({ invoker, concurrency: 16 })));
    await db.pool.query('insert into things select generate_series(1, 1500)');
    await expect
      .poll(() => all.reduce((sum, settled) => sum + settled.counts.finished, 0), { interval: 10, timeout: 20_000 })
      .toBe(3_000);
    const ids = invokers.flatMap((invoker) => invoker.calls.map((call) => call.eventId));
    expect(ids).toHaveLength(3_000);
    expect(new Set(ids).size).toBe(3_000);
    expect((await db.pool.query('select from postern.events')).rowCount).toBe(0);
  });
});

type Behaviour = 'ok' | 'throws' | 'says never' | 'is slow' | 'is refused';

/** As its holder knows it: by this process' clock, from before it was asked for. */
interface Lease {
  until: number;
}

interface Run {
  readonly id: string;
  readonly lease: Lease;
  readonly attempt: number;
  readonly node: number;
  readonly startedAt: number;
  endedAt: number;
}

const BUDGET_MS = 4_000;
const LEASE_MS = 100;
const EVENTS = 12;

describe('whatever functions do and nodes suffer', () => {
  test('no event is lost, none is run by two holders of a valid lease, and each ends in one state', async () => {
    await installFunction(db.pool, databaseTrigger({ table: 'things' }));
    // Not fast-check's own limit, which would leave the last round running behind the test.
    const endAt = performance.now() + BUDGET_MS;
    const behaviour = fc.constantFrom<Behaviour>('ok', 'ok', 'throws', 'says never', 'is slow', 'is refused');
    const cut = fc.record({ node: fc.nat(2), afterMs: fc.nat(120), forMs: fc.integer({ min: 1, max: 250 }) });
    const property = fc.asyncProperty(
      fc.array(behaviour, { minLength: EVENTS, maxLength: 60 }),
      fc.array(cut, { maxLength: 4 }),
      async (behaviours, cuts) => {
        if (performance.now() < endAt) await checkRound(behaviours, cuts);
      },
    );
    await fc.assert(property, { numRuns: 50 });
  }, 90_000);

  async function checkRound(
    behaviours: readonly Behaviour[],
    cuts: readonly { readonly node: number; readonly afterMs: number; readonly forMs: number }[],
  ): Promise<void> {
    await db.pool.query('truncate postern.events');
    const runs: Run[] = [];
    const lines = [0, 1, 2].map(() => new Line(db.pool));
    // When the timers of this process had their turn.
    const turns: number[] = [];
    const watch = setInterval(() => turns.push(performance.now()), 1);
    const nodes = await Promise.all(
      lines.map(async (line, node) => {
        const invoker = new FakeInvoker((request) =>
          act(request, behaviours[runs.length % behaviours.length] ?? 'ok', node),
        );
        const settled = new SettlementLog();
        const dispatcher = new Dispatcher({
          pool: line.pool,
          connection: { connectionString: db.url },
          policy: () => ({ retry: QUICK_RETRY, version: 1, concurrency: null }),
          nodeId: randomUUID(),
          invoker,
          leaseMs: LEASE_MS,
          pollMs: 15,
          metrics: settled.metrics,
        });
        await dispatcher.start();
        return dispatcher;
      }),
    );
    async function act(request: InvocationRequest, what: Behaviour, node: number): Promise<Partial<InvocationResult>> {
      const run: Run = {
        id: request.eventId ?? '',
        lease: lines[node]!.leases.get(request.eventId ?? '')!,
        attempt: request.attempt ?? 0,
        node,
        startedAt: performance.now(),
        endedAt: Number.POSITIVE_INFINITY,
      };
      runs.push(run);
      try {
        if (what === 'is slow') {
          const canceled = new Promise((resolve) =>
            request.signal?.addEventListener('abort', () => resolve('canceled')),
          );
          const ended = await Promise.race([canceled, new Promise((resolve) => setTimeout(resolve, 1.5 * LEASE_MS))]);
          return ended === 'canceled' ? { outcome: 'canceled' } : {};
        }
        await new Promise((resolve) => setImmediate(resolve));
        if (what === 'ok') return {};
        if (what === 'is refused')
          return {
            outcome: 'overloaded',
            error: { code: 'OVERLOADED', message: 'full', details: { retryAfterMs: 3 } },
          };
        return {
          outcome: 'exception',
          error: { code: 'FUNCTION_ERROR', message: what, details: { noRetry: what === 'says never' } },
        };
      } finally {
        run.endedAt = performance.now();
      }
    }
    const cutting = cuts.map(async ({ node, afterMs, forMs }) => {
      await new Promise((resolve) => setTimeout(resolve, afterMs));
      if (lines[node]!.cut) return;
      lines[node]!.cut = true;
      await new Promise((resolve) => setTimeout(resolve, forMs));
      lines[node]!.cut = false;
    });
    await db.pool.query(`insert into things select generate_series(1, ${EVENTS})`);
    await Promise.all(cutting);
    const open = async (): Promise<number> =>
      (await db.pool.query('select from postern.events where dead_at is null')).rowCount ?? 0;
    await expect.poll(open, { interval: 10, timeout: 60_000 }).toBe(0);
    await Promise.all(nodes.map((dispatcher) => dispatcher.stop(1_000)));
    clearInterval(watch);

    const { rows: dead } = await db.pool.query<{ id: string; attempt: number }>(
      'select id, attempt from postern.events',
    );
    const seen = new Set([...runs.map((run) => run.id), ...dead.map((row) => row.id)]);
    expect(seen.size, 'every event was run or is dead').toBe(EVENTS);
    for (const { attempt } of [...runs, ...dead]) expect(attempt).toBeLessThanOrEqual(QUICK_RETRY.maxAttempts);
    for (const [first, second] of overlapping(runs)) {
      // Its own clock had told the first one's node that the lease was over; and it has acted on that as soon as a timer could.
      const expired = first.lease.until;
      expect(second.startedAt - expired, `event ${first.id} had two holders of a valid lease`).toBeGreaterThan(0);
      const since = turns.filter((at) => at > expired && at < second.startedAt);
      expect(since.length, `event ${first.id} still ran when its lease had run out`).toBeLessThan(2);
    }
  }
});

/** Pairs of runs of one event of which the second began before the first had ended. */
function overlapping(runs: readonly Run[]): (readonly [Run, Run])[] {
  return runs.flatMap((first) =>
    runs
      .filter((second) => second !== first && second.id === first.id)
      .filter((second) => second.startedAt >= first.startedAt && second.startedAt < first.endedAt)
      .map((second) => [first, second] as const),
  );
}
