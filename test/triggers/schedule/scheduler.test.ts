import { randomBytes, randomUUID } from 'node:crypto';
import type { Pool } from 'pg';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { withTransaction } from '../../../database/index.ts';
import type { ScheduleTriggerConfig } from '../../../invoker/index.ts';
import { DatabaseTriggerInstaller, Dispatcher } from '../../../triggers/database/index.ts';
import {
  cancelRun,
  listRuns,
  listSchedules,
  nextFires,
  Scheduler,
  scheduleRun,
} from '../../../triggers/schedule/index.ts';
import { createTestDatabase, type TestDatabase } from '../../support/postgres.ts';
import { FakeInvoker, newFunction, SettlementLog } from '../database/support.ts';

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;
/** When triggers are installed in these tests, and where the shared clock begins. */
const START = Date.parse('2026-03-10T00:00:30Z');

let db: TestDatabase;
beforeAll(async () => {
  db = await createTestDatabase();
});
afterAll(() => db.drop());
afterEach(async () => {
  vi.useRealTimers();
  await db.pool.query('truncate postern.events; delete from postern.functions');
});

/** The clock that all nodes share, in the tests' hands. */
class SharedClock {
  now = START;
  readonly read = async (): Promise<number> => this.now;
}

function newScheduler(clock: SharedClock, pool: Pool = db.pool): Scheduler {
  return new Scheduler({
    pool,
    now: clock.read,
    log: (message, error) => expect.unreachable(`${message}: ${String(error)}`),
  });
}

function schedule(config: Partial<ScheduleTriggerConfig> = {}): ScheduleTriggerConfig {
  return {
    type: 'schedule',
    cron: '0 * * * *',
    timezone: 'UTC',
    missed: 'all',
    overlap: 'allow',
    jitterMs: 0,
    ...config,
  };
}

async function installAt(functionId: number, configs: readonly ScheduleTriggerConfig[], at = START): Promise<string[]> {
  await withTransaction(db.pool, (client) => new DatabaseTriggerInstaller().install(client, functionId, 'f', configs));
  const { rows } = await db.pool.query<{ id: string }>(
    `update postern.triggers set created_at = $2 where function_id = $1 and created_at > now() - interval '1 minute' returning id`,
    [functionId, new Date(at)],
  );
  return rows.map(({ id }) => id);
}

/** A function with this schedule, installed at `START`. */
async function deploy(
  config: Partial<ScheduleTriggerConfig> = {},
): Promise<{ id: number; name: string; triggerId: string }> {
  const name = `f_${randomBytes(6).toString('hex')}`;
  const id = await newFunction(db.pool, name);
  const [triggerId] = await installAt(id, [schedule(config)]);
  return { id, name, triggerId: triggerId! };
}

interface Queued {
  readonly scheduled: string;
  readonly actual: string;
  readonly runAt: Date;
  readonly event: Record<string, unknown>;
}

/** The outbox, in the order in which it was filled. */
async function events(): Promise<Queued[]> {
  const { rows } = await db.pool.query<{ event: Record<string, string>; runAt: Date }>(
    'select new_row as event, run_at as "runAt" from postern.events order by seq',
  );
  return rows.map(({ event, runAt }) => ({
    scheduled: event.scheduled_time!,
    actual: event.actual_time!,
    runAt,
    event,
  }));
}

const scheduledTimes = async (): Promise<string[]> => (await events()).map(({ scheduled }) => scheduled.slice(0, 16));
const handled = (): Promise<unknown> => db.pool.query('truncate postern.events');
const times = (count: number, from = '2026-03-10T01:00Z', stepMs = HOUR_MS): string[] =>
  Array.from({ length: count }, (_, index) => new Date(Date.parse(from) + index * stepMs).toISOString().slice(0, 16));

async function states(triggerId: string): Promise<string[]> {
  const { rows } = await db.pool.query<{ text: string }>(
    `select to_char(fire_at at time zone 'UTC', 'HH24:MI ') || state as text from postern.schedule_fires
     where trigger_id = $1 order by fire_at`,
    [triggerId],
  );
  return rows.map(({ text }) => text);
}

/** Resolves when a transaction in this database waits for another one. */
async function somebodyWaits(): Promise<void> {
  for (;;) {
    const { rowCount } = await db.pool.query(
      `select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`,
    );
    if ((rowCount ?? 0) > 0) return;
    await db.pool.query('select pg_sleep(0.005)');
  }
}

describe('a tick', () => {
  test('fires the event of SPEC 3, and not before its time', async () => {
    await deploy({ cron: '0 3 * * *', timezone: 'Europe/Berlin' });
    const clock = new SharedClock();
    const scheduler = newScheduler(clock);
    clock.now = Date.parse('2026-03-10T01:59:59.990Z');
    expect(await scheduler.look()).toBeLessThanOrEqual(10);
    expect(await events()).toEqual([]);
    clock.now = Date.parse('2026-03-10T02:00:01Z');
    await scheduler.look();
    const { rows } = await db.pool.query<{ text: string }>('select new_row::text as text from postern.events');
    expect(rows.map(({ text }) => text)).toEqual([
      '{"trigger":"schedule","cron":"0 3 * * *","timezone":"Europe/Berlin",' +
        '"scheduled_time":"2026-03-10T02:00:00Z","actual_time":"2026-03-10T02:00:01Z"}',
    ]);
  });

  test('waits no longer than a poll, and exactly until the next one where that is sooner', async () => {
    await deploy({ cron: '*/5 * * * *' });
    const clock = new SharedClock();
    expect(await newScheduler(clock).look()).toBe(10_000);
    clock.now = Date.parse('2026-03-10T00:04:57Z');
    const wait = await newScheduler(clock).look();
    expect(wait).toBeGreaterThan(2_000);
    expect(wait).toBeLessThanOrEqual(3_000);
  });

  test('is run by the dispatcher as an event of kind schedule, with its id and attempt', async () => {
    const { name, triggerId } = await deploy();
    const clock = new SharedClock();
    clock.now = START + HOUR_MS;
    await newScheduler(clock).look();
    const invoker = new FakeInvoker();
    const settled = new SettlementLog();
    const dispatcher = new Dispatcher({
      pool: db.pool,
      connection: { connectionString: db.url },
      invoker,
      policy: () => ({
        retry: { maxAttempts: 1, backoff: { initialMs: 1, factor: 1, maxMs: 1 } },
        version: 1,
        concurrency: null,
      }),
      nodeId: randomUUID(),
      metrics: settled.metrics,
    });
    await dispatcher.start();
    await settled.until({ finished: 1 });
    await dispatcher.stop();
    expect(invoker.calls[0]).toMatchObject({ functionName: name, trigger: 'schedule', triggerId, attempt: 1 });
    expect(JSON.parse(invoker.calls[0]!.eventJson)).toEqual({
      trigger: 'schedule',
      cron: '0 * * * *',
      timezone: 'UTC',
      scheduled_time: '2026-03-10T01:00:00Z',
      actual_time: '2026-03-10T01:00:30Z',
      event_id: invoker.calls[0]!.eventId,
      attempt: 1,
    });
  });

  test('before the installation is never fired, whatever the missed policy', async () => {
    const { id } = await deploy({ cron: '* * * * *' });
    const clock = new SharedClock();
    await newScheduler(clock).look();
    expect(await events()).toEqual([]);
    // A changed schedule is a new one.
    clock.now = START + 3 * HOUR_MS;
    await installAt(id, [schedule({ cron: '*/2 * * * *' })], clock.now);
    await newScheduler(clock).look();
    expect(await events()).toEqual([]);
  });

  test('with jitter runs later by less than it, by the same whoever fires it', async () => {
    const { triggerId } = await deploy({ cron: '* * * * *', jitterMs: 30_000 });
    const clock = new SharedClock();
    clock.now = START + 20 * MINUTE_MS;
    await newScheduler(clock).look();
    const delays = (fired: Queued[]) =>
      fired.map(({ scheduled, actual }) => Date.parse(actual) - Date.parse(scheduled));
    const late = await events();
    clock.now = Date.parse('2026-03-10T00:21:00Z');
    await handled();
    await newScheduler(clock).look();
    const [first] = await events();
    const [delay] = delays([first!]);
    expect(delay).toBeGreaterThanOrEqual(0);
    expect(delay).toBeLessThan(30_000);
    expect(first?.runAt.getTime()).toBe(Date.parse('2026-03-10T00:21:00Z') + delay!);
    await db.pool.query('delete from postern.schedule_fires where trigger_id = $1 and fire_at >= $2', [
      triggerId,
      new Date(clock.now),
    ]);
    await newScheduler(clock).look();
    expect((await events())[1]).toEqual(first);
    // What it waits by design is no part of its age.
    const { rows } = await db.pool.query('select from postern.events where occurred_at is distinct from run_at');
    expect(rows).toEqual([]);
    // Those that are late already do not wait again.
    expect(late.slice(0, -1).every(({ actual }) => actual === '2026-03-10T00:20:30Z')).toBe(true);
  });
});

describe('CRON-03 any number of nodes', () => {
  test('CRON-03 three nodes with clocks hours apart fire each tick exactly once', async () => {
    const { triggerId } = await deploy({ cron: '*/10 * * * *' });
    await deploy({ cron: '*/10 * * * *', overlap: 'skip' });
    const clock = new SharedClock();
    const nodes = [0, 10 * MINUTE_MS, -2 * HOUR_MS].map((skewMs) => ({ skewMs, scheduler: newScheduler(clock) }));
    vi.useFakeTimers({ toFake: ['Date'] });
    for (let minute = 0; minute <= 120; minute += 5) {
      clock.now = START + minute * MINUTE_MS;
      const looks = nodes.map(({ skewMs, scheduler }) => {
        vi.setSystemTime(clock.now + skewMs);
        return scheduler.look();
      });
      await Promise.all(looks);
      // One that found the others at work comes back.
      await nodes[0]!.scheduler.look();
    }
    const { rows } = await db.pool.query<{ scheduled: string }>(
      `select new_row ->> 'scheduled_time' as scheduled from postern.events where trigger_id = $1 order by 1`,
      [triggerId],
    );
    expect(rows.map(({ scheduled }) => scheduled.slice(0, 16))).toEqual(times(12, '2026-03-10T00:10Z', 10 * MINUTE_MS));
    expect(await states(triggerId)).toHaveLength(12);
  });

  test('CRON-03 a shared clock that goes back two hours fires nothing twice and leaves nothing out', async () => {
    await deploy({ cron: '0,30 * * * *' });
    const clock = new SharedClock();
    const scheduler = newScheduler(clock);
    const lookEvery = async (from: string, to: string): Promise<void> => {
      for (clock.now = Date.parse(from); clock.now <= Date.parse(to); clock.now += 10 * MINUTE_MS)
        await scheduler.look();
    };
    await lookEvery('2026-03-10T00:10Z', '2026-03-10T04:00Z');
    expect(await scheduledTimes()).toEqual(times(8, '2026-03-10T00:30Z', HOUR_MS / 2));
    await lookEvery('2026-03-10T02:05Z', '2026-03-10T04:45Z');
    expect(await scheduledTimes()).toEqual(times(9, '2026-03-10T00:30Z', HOUR_MS / 2));
  });

  test('CRON-03 a clock that was a day ahead for a moment keeps no later tick from firing', async () => {
    await deploy({ missed: 'once' });
    const clock = new SharedClock();
    const scheduler = newScheduler(clock);
    clock.now = START + DAY_MS;
    await scheduler.look();
    expect(await scheduledTimes()).toEqual(['2026-03-11T00:00']);
    for (clock.now = START + HOUR_MS; clock.now <= START + 25 * HOUR_MS; clock.now += HOUR_MS) await scheduler.look();
    expect((await scheduledTimes()).sort()).toEqual(times(25));
  });

  test('a node that dies in the middle has fired nothing, and another one fires', async () => {
    await deploy();
    const clock = new SharedClock();
    clock.now = START + HOUR_MS;
    const cut = {
      query: db.pool.query.bind(db.pool),
      connect: async () => {
        const client = await db.pool.connect();
        return new Proxy(client, {
          get: (target, key) => {
            const value: unknown = Reflect.get(target, key);
            if (key !== 'query') return typeof value === 'function' ? value.bind(target) : value;
            // The tick's row and its event are written; the commit never arrives.
            return (text: string, values?: unknown[]) =>
              text === 'commit' ? Promise.reject(new Error('cut off')) : target.query(text, values);
          },
        });
      },
    } as unknown as Pool;
    const said: string[] = [];
    await new Scheduler({
      pool: cut,
      now: clock.read,
      log: (message, error) => said.push(`${message}: ${error}`),
    }).look();
    expect(said).toEqual([expect.stringContaining('cut off')]);
    expect(await events()).toEqual([]);
    await newScheduler(clock).look();
    expect(await scheduledTimes()).toEqual(['2026-03-10T01:00']);
  });

  test('CRON-03 a tick whose row another transaction is writing does not fire a second time', async () => {
    const { triggerId } = await deploy();
    const clock = new SharedClock();
    clock.now = START + HOUR_MS;
    let look: Promise<number> | undefined;
    await withTransaction(db.pool, async (client) => {
      await client.query(`insert into postern.schedule_fires (trigger_id, fire_at, state) values ($1, $2, 'fired')`, [
        triggerId,
        new Date('2026-03-10T01:00:00Z'),
      ]);
      look = newScheduler(clock).look();
      await somebodyWaits();
    });
    await look;
    expect(await events()).toEqual([]);
    expect(await states(triggerId)).toEqual(['01:00 fired']);
  });

  test('a trigger that another node has in hand is left to it, and looked at again soon', async () => {
    const { triggerId } = await deploy();
    const clock = new SharedClock();
    clock.now = START + HOUR_MS;
    const scheduler = newScheduler(clock);
    await withTransaction(db.pool, async (client) => {
      await client.query('select from postern.triggers where id = $1 for no key update', [triggerId]);
      expect(await scheduler.look()).toBeLessThanOrEqual(250);
    });
    expect(await events()).toEqual([]);
    await scheduler.look();
    expect(await scheduledTimes()).toEqual(['2026-03-10T01:00']);
  });

  test('more schedules than one transaction takes all fire', async () => {
    const { id } = await deploy();
    await installAt(
      id,
      Array.from({ length: 120 }, (_, index) => schedule({ cron: `${index % 60} * * * *`, jitterMs: index })),
    );
    const clock = new SharedClock();
    clock.now = START + HOUR_MS;
    await newScheduler(clock).look();
    // Each of the 60 minutes, of two schedules.
    expect((await scheduledTimes()).sort()).toEqual(
      times(60, '2026-03-10T00:01Z', MINUTE_MS).flatMap((time) => [time, time]),
    );
  });

  test('a schedule that can not be read does not hold up the others', async () => {
    const { triggerId, name } = await deploy();
    await deploy();
    await db.pool.query(`update postern.triggers set config = config || '{"timezone":"Mars/Base"}' where id = $1`, [
      triggerId,
    ]);
    const clock = new SharedClock();
    clock.now = START + HOUR_MS;
    const said: string[] = [];
    await new Scheduler({ pool: db.pool, now: clock.read, log: (message) => said.push(message) }).look();
    expect(said).toEqual([expect.stringContaining(name)]);
    expect(await scheduledTimes()).toEqual(['2026-03-10T01:00']);
  });
});

describe('ticks that were missed while no node ran', () => {
  const missedBy = async (missed: ScheduleTriggerConfig['missed'], cron: string, forMs: number): Promise<string[]> => {
    await deploy({ missed, cron });
    const clock = new SharedClock();
    clock.now = START + forMs;
    await newScheduler(clock).look();
    await newScheduler(clock).look();
    return scheduledTimes();
  };

  test.each([
    ['skip', []],
    ['once', ['2026-03-10T05:00']],
    ['all', times(5)],
  ] as const)('are fired as %s says', async (missed, expected) => {
    expect(await missedBy(missed, '0 * * * *', 5.5 * HOUR_MS)).toEqual(expected);
  });

  test('a tick that is noticed within a minute counts as in time, even for skip', async () => {
    // It is 05:00:30.
    expect(await missedBy('skip', '0 * * * *', 5 * HOUR_MS)).toEqual(['2026-03-10T05:00']);
  });

  test('skip goes on with the next tick', async () => {
    await missedBy('skip', '0 * * * *', 5.5 * HOUR_MS);
    const clock = new SharedClock();
    clock.now = Date.parse('2026-03-10T06:00:10Z');
    await newScheduler(clock).look();
    expect(await scheduledTimes()).toEqual(['2026-03-10T06:00']);
  });

  test('all fires the last thousand of them at most, oldest first', async () => {
    const fired = await missedBy('all', '* * * * *', 3 * DAY_MS);
    expect(fired).toEqual(times(1_000, '2026-03-12T07:21Z', MINUTE_MS));
  });
});

describe('overlap', () => {
  const lookAt = async (at: string): Promise<void> => {
    const clock = new SharedClock();
    clock.now = Date.parse(at);
    await newScheduler(clock).look();
  };

  test('allow fires while the event before waits', async () => {
    await deploy();
    await lookAt('2026-03-10T01:00:01Z');
    await lookAt('2026-03-10T02:00:01Z');
    expect(await scheduledTimes()).toEqual(times(2));
  });

  test('skip leaves out ticks while the event before waits or runs, and fires again when it is handled or dead', async () => {
    const { triggerId } = await deploy({ overlap: 'skip' });
    await lookAt('2026-03-10T01:00:01Z');
    await lookAt('2026-03-10T02:00:01Z');
    await db.pool.query(`update postern.events set leased_by = gen_random_uuid(), lease_expires_at = 'infinity'`);
    await lookAt('2026-03-10T03:00:01Z');
    expect(await scheduledTimes()).toEqual(times(1));
    await db.pool.query(`update postern.events set dead_at = now(), run_at = 'infinity', leased_by = null`);
    await lookAt('2026-03-10T04:00:01Z');
    await handled();
    await lookAt('2026-03-10T05:00:01Z');
    expect(await scheduledTimes()).toEqual(['2026-03-10T05:00']);
    expect(await states(triggerId)).toEqual([
      '01:00 fired',
      '02:00 skipped',
      '03:00 skipped',
      '04:00 fired',
      '05:00 fired',
    ]);
  });

  test('skip fires the first of several that were missed', async () => {
    const { triggerId } = await deploy({ overlap: 'skip', missed: 'all' });
    await lookAt('2026-03-10T03:00:01Z');
    expect(await scheduledTimes()).toEqual(times(1));
    expect(await states(triggerId)).toEqual(['01:00 fired', '02:00 skipped', '03:00 skipped']);
  });

  test('queue fires every tick, one at a time and in order', async () => {
    const { triggerId, name } = await deploy({ overlap: 'queue' });
    await lookAt('2026-03-10T01:00:01Z');
    await lookAt('2026-03-10T03:00:01Z');
    expect(await scheduledTimes()).toEqual(times(1));
    expect(await states(triggerId)).toEqual(['01:00 fired', '02:00 queued', '03:00 queued']);
    expect(await listSchedules(db.pool, name)).toMatchObject([{ queued: 2 }]);
    await handled();
    await lookAt('2026-03-10T03:00:02Z');
    await lookAt('2026-03-10T03:00:03Z');
    expect(await scheduledTimes()).toEqual(['2026-03-10T02:00']);
    await handled();
    await lookAt('2026-03-10T03:00:04Z');
    expect(await scheduledTimes()).toEqual(['2026-03-10T03:00']);
    expect(await states(triggerId)).toEqual(['01:00 fired', '02:00 fired', '03:00 fired']);
  });

  test('queue keeps a thousand ticks waiting at most', async () => {
    const { triggerId } = await deploy({ overlap: 'queue', cron: '* * * * *' });
    await lookAt('2026-03-10T00:01:01Z');
    await lookAt('2026-03-10T16:45:01Z');
    const kept = await states(triggerId);
    expect(kept.filter((state) => state.endsWith('queued'))).toHaveLength(1_000);
    await lookAt('2026-03-10T16:46:01Z');
    expect((await states(triggerId)).at(-1)).toBe('16:46 skipped');
  });

  test('another schedule of the same function is not in the way', async () => {
    const { id } = await deploy({ overlap: 'skip' });
    await installAt(id, [schedule({ overlap: 'skip' }), schedule({ overlap: 'skip', cron: '0 2 * * *' })]);
    await lookAt('2026-03-10T01:00:01Z');
    await lookAt('2026-03-10T02:00:01Z');
    expect(await scheduledTimes()).toEqual(['2026-03-10T01:00', '2026-03-10T02:00']);
  });
});

describe('deploys', () => {
  test('an unchanged schedule keeps its history: what has fired does not fire again, what is due does', async () => {
    const { id, triggerId } = await deploy();
    const clock = new SharedClock();
    clock.now = START + HOUR_MS;
    await newScheduler(clock).look();
    await withTransaction(db.pool, (client) => new DatabaseTriggerInstaller().install(client, id, 'f', [schedule()]));
    clock.now = START + 2 * HOUR_MS;
    await newScheduler(clock).look();
    expect(await scheduledTimes()).toEqual(times(2));
    expect(await states(triggerId)).toHaveLength(2);
  });

  test('a removed or paused schedule fires no more', async () => {
    const removed = await deploy();
    const paused = await deploy();
    await installAt(removed.id, []);
    await db.pool.query('update postern.triggers set enabled = false where id = $1', [paused.triggerId]);
    const clock = new SharedClock();
    clock.now = START + HOUR_MS;
    expect(await newScheduler(clock).look()).toBe(10_000);
    expect(await events()).toEqual([]);
    expect(await nextFires(db.pool, 5)).toEqual(new Map());
  });

  test('a function that is deleted while its schedule fires leaves no event and no history', async () => {
    const { id, triggerId } = await deploy();
    const clock = new SharedClock();
    clock.now = START + HOUR_MS;
    const scheduler = newScheduler(clock);
    const [, ended] = await Promise.allSettled([
      scheduler.look(),
      withTransaction(db.pool, async (client) => {
        await client.query('select from postern.functions where id = $1 for update', [id]);
        await new DatabaseTriggerInstaller().uninstall(client, id);
        await client.query('delete from postern.functions where id = $1', [id]);
      }),
    ]);
    expect(ended?.status).toBe('fulfilled');
    expect(await events()).toEqual([]);
    expect(await states(triggerId)).toEqual([]);
  });

  test('of what has fired, a week is kept, and the last tick for ever', async () => {
    const [busy, rare] = [await deploy({ cron: '0 0 * * *' }), await deploy({ cron: '0 0 12 * *' })];
    const clock = new SharedClock();
    clock.now = START + 20 * DAY_MS;
    const scheduler = newScheduler(clock);
    await scheduler.look();
    expect(await states(busy.triggerId)).toHaveLength(7);
    expect(await states(rare.triggerId)).toHaveLength(1);
    // Of a moment when the clock was ahead, and one that still waits.
    await db.pool.query(
      `insert into postern.schedule_fires (trigger_id, fire_at, state)
       values ($1, '2027-01-01Z', 'fired'), ($1, '2026-03-11T00:30Z', 'queued')`,
      [rare.triggerId],
    );
    clock.now = START + 21 * DAY_MS;
    await handled();
    await newScheduler(clock).look();
    expect(await scheduledTimes()).toEqual(['2026-03-31T00:00']);
    expect(await states(rare.triggerId)).toEqual(['00:30 queued', '00:00 fired', '00:00 fired']);
  });
});

describe('a run that was asked for', () => {
  test('fires once at its time, over any number of nodes, with what was given', async () => {
    const { name } = await deploy({ cron: '0 0 1 1 *' });
    const clock = new SharedClock();
    const run = await scheduleRun(db.pool, name, new Date(START + HOUR_MS), '{"big":12345678901234567890}');
    const nodes = [newScheduler(clock), newScheduler(clock), newScheduler(clock)];
    await Promise.all(nodes.map((node) => node.look()));
    expect(await events()).toEqual([]);
    expect(await listRuns(db.pool, name)).toEqual([run]);
    clock.now = START + HOUR_MS + 250;
    await Promise.all(nodes.map((node) => node.look()));
    const { rows } = await db.pool.query<{ text: string }>('select new_row::text as text from postern.events');
    expect(rows.map(({ text }) => text)).toEqual([
      '{"trigger":"schedule","cron":null,"timezone":null,"scheduled_time":"2026-03-10T01:00:30Z",' +
        '"actual_time":"2026-03-10T01:00:30.250Z","event":{"big":12345678901234567890}}',
    ]);
    expect(await listRuns(db.pool, name)).toEqual([]);
  });

  test('is looked for again at its time, and at once where that has passed', async () => {
    const { name } = await deploy({ cron: '0 0 1 1 *' });
    const clock = new SharedClock();
    await scheduleRun(db.pool, name, new Date(START + 3_000), null);
    expect(await newScheduler(clock).look()).toBeLessThanOrEqual(3_000);
    await scheduleRun(db.pool, name, new Date(START - DAY_MS), null);
    await newScheduler(clock).look();
    expect(await events()).toHaveLength(1);
  });

  test('does not fire when it was cancelled, or its function was deleted', async () => {
    const [kept, gone] = [await deploy({ cron: '0 0 1 1 *' }), await deploy({ cron: '0 0 1 1 *' })];
    const run = await scheduleRun(db.pool, kept.name, new Date(START), null);
    await scheduleRun(db.pool, gone.name, new Date(START), null);
    expect(await cancelRun(db.pool, gone.name, run!.id)).toBe(false);
    expect(await cancelRun(db.pool, kept.name, run!.id)).toBe(true);
    expect(await cancelRun(db.pool, kept.name, run!.id)).toBe(false);
    await db.pool.query('delete from postern.functions where id = $1', [gone.id]);
    const clock = new SharedClock();
    clock.now = START + HOUR_MS;
    await newScheduler(clock).look();
    expect(await events()).toEqual([]);
    expect(await scheduleRun(db.pool, gone.name, new Date(START), null)).toBeNull();
  });

  test('waits while its function is being deployed or deleted, and no longer', async () => {
    const { id, name } = await deploy({ cron: '0 0 1 1 *' });
    await scheduleRun(db.pool, name, new Date(START), null);
    const scheduler = newScheduler(new SharedClock());
    await withTransaction(db.pool, async (client) => {
      await client.query('select from postern.functions where id = $1 for update', [id]);
      expect(await scheduler.look()).toBeLessThanOrEqual(250);
    });
    expect(await events()).toEqual([]);
    await scheduler.look();
    expect(await events()).toHaveLength(1);
  });

  test('more of them than one batch all fire', async () => {
    const { name } = await deploy({ cron: '0 0 1 1 *' });
    await db.pool.query(
      `insert into postern.scheduled_runs (function_id, run_at)
       select id, $2 from postern.functions, generate_series(1, 250) where name = $1`,
      [name, new Date(START)],
    );
    await newScheduler(new SharedClock()).look();
    expect(await events()).toHaveLength(250);
  });
});

test('a started scheduler fires by the database’s clock, as soon as it is woken, and stops', async () => {
  const { name } = await deploy({ cron: '0 0 1 1 *', missed: 'skip' });
  const invoker = new FakeInvoker();
  const scheduler = new Scheduler({ pool: db.pool });
  const dispatcher = new Dispatcher({
    pool: db.pool,
    connection: { connectionString: db.url },
    invoker,
    policy: () => ({
      retry: { maxAttempts: 1, backoff: { initialMs: 1, factor: 1, maxMs: 1 } },
      version: 1,
      concurrency: null,
    }),
    nodeId: randomUUID(),
  });
  await dispatcher.start();
  scheduler.start();
  await scheduleRun(db.pool, name, new Date(Date.now() + 100), '"soon"');
  scheduler.wake();
  await invoker.called(1);
  await scheduler.stop();
  await dispatcher.stop();
  const { event, scheduled_time, actual_time } = JSON.parse(invoker.calls[0]!.eventJson);
  expect(event).toBe('soon');
  expect(Date.parse(actual_time)).toBeGreaterThanOrEqual(Date.parse(scheduled_time));
});
