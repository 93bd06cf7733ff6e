import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { MUCH_LATER_MS, TIMED } from '../support/timed.ts';
import { createGuestDatabase, type GuestDatabase, type ScopeOptions } from './support.ts';

/** One connection per role, so that the next borrower always gets the one that was just used. */
let database: GuestDatabase;
beforeAll(async () => {
  database = await createGuestDatabase({ maxConnections: 1, limits: { maxConnections: 1, maxTransactions: 1 } });
  await database.pool.query(LEAKY_FUNCTIONS);
});
afterAll(() => database.stop());

/** What an author of the database (not a guest) may have written, and what the gate does not look into. */
const LEAKY_FUNCTIONS = `
  do $$ begin execute format('grant temporary on database %I to anon', current_database()); end $$;
  create function leak_everything() returns void language plpgsql as $$ begin
    perform set_config('request.jwt.claims', '{"sub":"bob"}', false);
    perform set_config('search_path', 'pg_temp', false);
    perform set_config('statement_timeout', '0', false);
    create temp table notes (id int, owner text, body text);
    perform pg_advisory_lock(42);
    execute 'prepare ps as select 1';
    execute 'listen gossip';
    execute 'declare held cursor with hold for select 1';
    perform nextval('public.seen');
  end $$;
  create sequence seen; grant usage on sequence seen to anon;
  create procedure end_it() language plpgsql as $$ begin commit; end $$;
  create function may_read() returns boolean language plpgsql as $$ begin call end_it(); return true; end $$;
  create table guarded (id int); insert into guarded values (1); grant select on guarded to anon;
  alter table guarded enable row level security; create policy ends on guarded using (may_read());`;

const guestOf = (role: string): ScopeOptions => ({ role, claims: { sub: 'alice' } });

async function activity(pattern: string): Promise<number> {
  const { rows } = await database.pool.query<{ count: number }>(
    `select count(*)::int from pg_stat_activity where state <> 'idle' and query like $1 and pid <> pg_backend_pid()`,
    [pattern],
  );
  return rows[0]?.count ?? -1;
}

async function until(condition: () => Promise<boolean>): Promise<void> {
  const giveUpAt = performance.now() + 5_000;
  while (!(await condition())) {
    if (performance.now() > giveUpAt) throw new Error('the condition was not met within 5 s');
    await delay(10);
  }
}

test('DB-08 what a plain read calls, a policy or a view, can not end its transaction and go on with other rights', async () => {
  await database.as(guestOf('anon'), async (guest) => {
    expect(await guest.refusal('select id from guarded')).toMatchObject({ code: '2D000' });
    expect(await guest.refusal('call end_it()')).toMatchObject({ name: 'SqlNotAllowedError' });
    expect(await guest.value('select current_user')).toBe('anon');
  });
});

test('DB-08 nothing of a session reaches the next borrower of its connection', async () => {
  const path = await database.as(guestOf('anon'), async (guest) => {
    await guest.query('select leak_everything()');
    return guest.value("select current_setting('search_path')");
  });
  expect(path).toBe('"$user", public');
  await database.as({ role: 'anon' }, async (guest) => {
    expect((await guest.query('select owner from notes')).rows).toEqual([]);
    expect(
      (await guest.query("select current_setting('request.jwt.claims'), current_setting('statement_timeout') <> '0'"))
        .rows,
    ).toEqual([['{"role":"anon"}', true]]);
    expect(await guest.refusal('select lastval()')).toMatchObject({ code: '55000' });
  });
  const { rows } = await database.pool.query(`select
    (select count(*)::int from pg_locks where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())) as locks,
    (select count(*)::int from pg_class where relnamespace::regnamespace::text like 'pg_temp%' and relname = 'notes') as temporary`);
  expect(rows).toEqual([{ locks: 0, temporary: 0 }]);
});

test('DB-07 a transaction left open is rolled back, its connection closed, and the next borrower gets a fresh one', async () => {
  const first = database.invoke({ dbRole: 'service_role' });
  const tx = await first.begin();
  await first.query('insert into counters values (1, 1)', [], tx);
  const before = await pids('postern guest service_role');
  await first.end();
  await database.as({ dbRole: 'service_role' }, async (guest) => {
    expect((await guest.query('select * from counters')).rows).toEqual([]);
  });
  const after = await pids('postern guest service_role');
  expect(after).toHaveLength(1);
  expect(after).not.toEqual(before);
});

async function pids(applicationName: string): Promise<number[]> {
  const { rows } = await database.pool.query<{ pid: number }>(
    'select pid from pg_stat_activity where application_name = $1 and datname = current_database()',
    [applicationName],
  );
  return rows.map((row) => row.pid);
}

test("DB-06 a query is cancelled in the server within a second of its invocation's end", TIMED, async () => {
  const guest = database.invoke({ role: 'anon' });
  const query = guest.refusal('select pg_sleep(30), 6');
  await until(async () => (await activity('%pg_sleep(30), 6%')) === 1);
  const startMs = performance.now();
  guest.scope.end();
  expect(await query).toMatchObject({ code: '57014' });
  await guest.session.close();
  // Its backend is on its way out.
  await until(async () => (await activity('%pg_sleep(30), 6%')) === 0);
  expect(performance.now() - startMs).toBeLessThan(1_000);
});

test("DB-05 a statement ends soon after the invocation's time by the server's own clock, even if nobody cancels it", async () => {
  await database.as({ role: 'anon', remainingMs: 300 }, async (guest) => {
    const startMs = performance.now();
    expect(await guest.refusal('select pg_sleep(30), 5')).toMatchObject({ name: 'DatabaseError', code: '57014' });
    const tookMs = performance.now() - startMs;
    expect(tookMs).toBeLessThan(MUCH_LATER_MS);
    // Never before the host has ended the guest, which would hear of it as its own error.
    expect(tookMs).toBeGreaterThan(600);
  });
});

test('DB-19 a transaction that nobody comes back to is ended by the server', async () => {
  const guest = database.invoke({ role: 'anon', remainingMs: 300 });
  const tx = await guest.begin();
  await until(async () => (await pids('postern guest anon')).length === 0);
  expect(await guest.refusal('select 1', [], tx)).toMatchObject({ code: 'DB_UNAVAILABLE' });
  await guest.end();
});

test('a call that waits for a connection gives up with its invocation', async () => {
  const holder = database.invoke({ role: 'anon' });
  await holder.begin();
  const waiting = database.invoke({ role: 'anon' });
  const call = waiting.refusal('select 1');
  await delay(20);
  await waiting.end();
  expect(await call).toMatchObject({ name: 'DatabaseError' });
  await holder.end();
  await database.as({ role: 'anon' }, async (guest) => expect(await guest.value('select 1')).toBe(1));
});

test('no call is answered after the invocation has ended', async () => {
  const guest = database.invoke();
  await guest.end();
  expect(await guest.refusal('select 1')).toMatchObject({ name: 'AbortError', code: 'INVOCATION_ENDED' });
});

test('a connection that the server closes is an outage to the guest, a line in the log, and no more', async () => {
  const guest = database.invoke({ role: 'anon' });
  const query = guest.refusal('select pg_sleep(30), 7');
  await until(async () => (await activity('%pg_sleep(30), 7%')) === 1);
  await database.pool.query(
    `select pg_terminate_backend(pid) from pg_stat_activity where query like '%pg_sleep(30), 7%' and pid <> pg_backend_pid()`,
  );
  expect((await query).toPayload()).toBe(
    '{"name":"DatabaseError","message":"the database can not be reached now","code":"DB_UNAVAILABLE"}',
  );
  expect(database.log.lines.some((line) => line.message === 'a guest database call failed')).toBe(true);
  await guest.end();
  await database.as({ role: 'anon' }, async (next) => expect(await next.value('select 1')).toBe(1));
});
