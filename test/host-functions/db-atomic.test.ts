import { randomUUID } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import type { AtomicDelivery } from '../../runtime/index.ts';
import { createGuestDatabase, type GuestDatabase, type Invocation, type ScopeOptions } from './support.ts';

const NODE = randomUUID();

let database: GuestDatabase;
beforeAll(async () => {
  database = await createGuestDatabase();
});
afterAll(() => database.stop());
beforeEach(() => database.pool.query('truncate postern.events; truncate counters'));

/** An event that a node has leased. */
async function leased(node = NODE): Promise<AtomicDelivery> {
  const { rows } = await database.pool.query<AtomicDelivery['events'][number]>(
    `insert into postern.events (function_id, trigger_id, new_row, leased_by, lease_expires_at, lease_number)
     values (1, gen_random_uuid(), '{}', $1, now() + interval '1 minute', 7)
     returning function_id::text as "functionId", run_at::text as "runAt", seq::text, lease_number::text as "leaseNumber"`,
    [node],
  );
  return { nodeId: NODE, events: rows };
}

const service = (atomic: AtomicDelivery): ScopeOptions => ({ role: 'anon', dbRole: 'service_role', atomic });
const events = async (): Promise<number> => (await database.pool.query('select from postern.events')).rowCount ?? -1;
const counters = async (): Promise<number[]> =>
  (await database.pool.query<{ id: number }>('select id from counters order by id')).rows.map(({ id }) => id);
const finish = (guest: Invocation): Promise<boolean> => guest.session.finish!();

test('what a function changes is committed with the acknowledgement of its events, and not before', async () => {
  const [first, second] = [await leased(), await leased()];
  const atomic = { nodeId: NODE, events: [...first.events, ...second.events] };
  await database.as(service(atomic), async (guest) => {
    await guest.query('insert into counters values (1, 1)');
    await guest.query('insert into counters values (2, 1)');
    expect([await counters(), await events()]).toEqual([[], 2]);
    expect(await finish(guest)).toBe(true);
  });
  expect([await counters(), await events()]).toEqual([[1, 2], 0]);
});

test('nothing is left of an invocation that ends without it', async () => {
  await database.as(service(await leased()), (guest) => guest.query('insert into counters values (1, 1)'));
  expect([await counters(), await events()]).toEqual([[], 1]);
});

test('without a statement there is nothing to commit, and nothing is acknowledged', async () => {
  await database.as(service(await leased()), async (guest) => expect(await finish(guest)).toBe(false));
  expect(await events()).toBe(1);
});

test('an event that another node has leased meanwhile undoes everything', async () => {
  const mine = await leased();
  const lost = await leased(randomUUID());
  await database.as(service({ nodeId: NODE, events: [...mine.events, ...lost.events] }), async (guest) => {
    await guest.query('insert into counters values (1, 1)');
    await expect(finish(guest)).rejects.toMatchObject({ code: '40001' });
  });
  expect([await counters(), await events()]).toEqual([[], 2]);
});

test('a lease that was given anew, also to this node, undoes everything', async () => {
  const atomic = await leased();
  await database.as(service(atomic), async (guest) => {
    await guest.query('insert into counters values (1, 1)');
    await database.pool.query('update postern.events set lease_number = lease_number + 1');
    await expect(finish(guest)).rejects.toMatchObject({ code: '40001' });
  });
  expect([await counters(), await events()]).toEqual([[], 1]);
});

test('a constraint that is checked at the commit undoes everything', async () => {
  await database.pool.query(
    'create table deferred (id int, constraint once unique (id) deferrable initially deferred); grant insert on deferred to service_role',
  );
  await database.as(service(await leased()), async (guest) => {
    await guest.query('insert into deferred values (1), (1)');
    await expect(finish(guest)).rejects.toMatchObject({ code: '23505' });
  });
  expect(await events()).toBe(1);
});

test('a statement that fails undoes itself alone, and the function may go on', async () => {
  await database.as(service(await leased()), async (guest) => {
    await guest.query('insert into counters values (1, 1)');
    expect(await guest.refusal('insert into counters values (2, 1), (1, 1)')).toMatchObject({ code: '23505' });
    await guest.query('insert into counters values (3, 1)');
    expect(await finish(guest)).toBe(true);
  });
  expect(await counters()).toEqual([1, 3]);
});

test('a transaction of the function is undone by itself, where it fails or is left open', async () => {
  await database.as(service(await leased()), async (guest) => {
    const kept = await guest.begin();
    await guest.query('insert into counters values (1, 1)', [], kept);
    await guest.call('db.commit', { tx: kept });
    const failed = await guest.begin();
    await guest.query('insert into counters values (2, 1)', [], failed);
    expect(await guest.refusal('insert into counters values (1, 1)', [], failed)).toMatchObject({ code: '23505' });
    await expect(guest.call('db.commit', { tx: failed })).rejects.toMatchObject({ code: '25P02' });
    const rolledBack = await guest.begin();
    await guest.query('insert into counters values (3, 1)', [], rolledBack);
    await guest.call('db.rollback', { tx: rolledBack });
    const open = await guest.begin();
    await guest.query('insert into counters values (4, 1)', [], open);
    expect(await finish(guest)).toBe(true);
  });
  expect(await counters()).toEqual([1]);
});

test('a statement that fails while a transaction begins behind it undoes itself alone', async () => {
  await database.as(service(await leased()), async (guest) => {
    const failing = 'insert into counters values (1, -1)';
    // The gate knows it from here on, so that it waits for nothing but the connection when the transaction begins.
    await database.as({ dbRole: 'service_role' }, (other) => other.refusal(failing));
    const statement = guest.refusal(failing);
    await new Promise((resolve) => setImmediate(resolve));
    const [refused, tx] = await Promise.all([statement, guest.begin()]);
    expect(refused).toMatchObject({ code: '23514' });
    await guest.query('insert into counters values (2, 1)', [], tx);
    await guest.call('db.commit', { tx });
    expect(await finish(guest)).toBe(true);
  });
  expect(await counters()).toEqual([2]);
});

test('there is one transaction at a time, and no statement beside it', async () => {
  await database.as(service(await leased()), async (guest) => {
    const tx = await guest.begin();
    await expect(guest.begin()).rejects.toMatchObject({ code: 'DB_TRANSACTION_OPEN' });
    expect(await guest.refusal('select 1')).toMatchObject({ code: 'DB_TRANSACTION_OPEN' });
    await guest.call('db.rollback', { tx });
    expect(await guest.refusal('select 1', [], tx)).toMatchObject({ code: 'DB_NO_TRANSACTION' });
    expect(await guest.value('select 1')).toBe(1);
  });
});

test('DB-01 a guest that can call the function acknowledges nothing without a proof', async () => {
  await leased();
  const { rows } = await database.pool.query<{ key: string }>(
    `select json_agg(json_build_object('function_id', function_id, 'run_at', run_at, 'seq', seq, 'lease_number', lease_number))::text as key
     from postern.events`,
  );
  const client = await database.pool.connect();
  try {
    await client.query('begin; set local role anon');
    const forged = client.query('select postern_guest.acknowledge($1, $2, $3)', [NODE, rows[0]?.key, Buffer.alloc(32)]);
    await expect(forged).rejects.toMatchObject({ code: '42501' });
    await client.query('rollback; begin; set local role anon');
    const absent = client.query('select postern_guest.acknowledge($1, $2, null)', [NODE, rows[0]?.key]);
    await expect(absent).rejects.toMatchObject({ code: '42501' });
  } finally {
    await client.query('rollback');
    client.release();
  }
  expect(await events()).toBe(1);
});

test('a guest’s statement can not name the schema of that function', async () => {
  await database.as(service(await leased()), async (guest) => {
    expect(await guest.refusal("select postern_guest.acknowledge(gen_random_uuid(), '[]', '')")).toMatchObject({
      code: 'SQL_NOT_ALLOWED',
    });
  });
});
