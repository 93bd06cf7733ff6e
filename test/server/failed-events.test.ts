/** What becomes of events that functions fail, through a whole node: the same for every trigger whose events wait in the outbox. */

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createDatabaseTriggers } from '../../server/database-triggers.ts';
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts';
import { SECRET, sign } from '../triggers/webhook/support.ts';
import { startTestPostern, type TestPostern } from './support.ts';

let db: TestDatabase;
let postern: TestPostern;

beforeAll(async () => {
  db = await createTestDatabase();
  postern = await startTestPostern(db, {}, { databaseTriggers: createDatabaseTriggers });
  await postern.admin('PUT', '/secrets/HOOK', { value: SECRET });
  await db.pool.query('create table orders (id int)');
});
afterAll(async () => {
  await postern?.stop();
  await db.drop();
});

interface Kind {
  readonly type: 'database' | 'schedule' | 'webhook';
  readonly config: Record<string, unknown>;
  /** Makes one event for the function. */
  fire(name: string): Promise<void>;
}

const KINDS: readonly Kind[] = [
  {
    type: 'database',
    config: { table: 'orders', operations: 'INSERT' },
    fire: async () => void (await db.pool.query('insert into orders values (1)')),
  },
  {
    type: 'schedule',
    // Once a year, and the last time was missed.
    config: { cron: '@yearly' },
    async fire(name) {
      await db.pool.query(
        `update postern.triggers set created_at = created_at - interval '1 year'
         where function_id = (select id from postern.functions where name = $1)`,
        [name],
      );
      // A run that is asked for lets the node look.
      await postern.deploy('waker', 'export const handler = () => null;');
      await postern.admin('POST', '/functions/waker/schedule', { at: '2026-01-01T00:00:00Z' });
    },
  },
  {
    type: 'webhook',
    config: { secret: 'HOOK' },
    async fire(name) {
      const headers = { 'content-type': 'application/json', ...sign('hmac-sha256', '{"n":1}') };
      const answer = await postern.call(`/functions/v1/webhook/${name}`, { method: 'POST', body: '{"n":1}', headers });
      expect(answer.status).toBe(202);
    },
  },
];

type Row = Record<string, unknown>;

async function invocationsOf(name: string): Promise<Row[]> {
  const { body } = await postern.admin('GET', `/functions/${name}/invocations`);
  return (body.invocations as Row[]).toReversed();
}
async function eventsOf(name: string, status = 'dead'): Promise<Row[]> {
  return (await postern.admin('GET', `/events?status=${status}&function=${name}`)).body.events as Row[];
}
const PATIENCE = { timeout: 15_000, interval: 20 };
const QUICK = { initial: 1, factor: 1, max: 1 };

test('a delivery that waits while a secret is rotated keeps its retry, and the function for dead letters', async () => {
  await postern.deploy('rotated-undertaker', 'export const handler = () => null;');
  await postern.admin('PUT', '/secrets/NEXT', { value: `${SECRET}, the next one` });
  const source = `export const handler = () => { throw new Error('no luck'); };`;
  const options = { retry: { maxAttempts: 2, backoff: QUICK }, deadLetter: 'rotated-undertaker' };
  const deploy = (secrets: readonly string[]) =>
    postern.deploy('rotated', source, { trigger: { type: 'webhook', secrets, ...options } });
  await deploy(['HOOK']);
  await postern.admin('POST', '/functions/rotated/pause', {});
  await KINDS.find(({ type }) => type === 'webhook')!.fire('rotated');
  expect(await eventsOf('rotated', 'pending')).toHaveLength(1);
  expect((await deploy(['NEXT', 'HOOK'])).status).toBe(201);
  await postern.admin('POST', '/functions/rotated/resume', {});
  await expect.poll(() => eventsOf('rotated'), PATIENCE).toMatchObject([{ trigger: 'webhook', attempt: 2 }]);
  await expect.poll(() => invocationsOf('rotated-undertaker'), PATIENCE).toHaveLength(1);
});

describe.each(KINDS)('an event of a $type trigger', ({ type, config, fire }) => {
  const deploy = async (name: string, source: string, options: Row) => {
    const trigger = { type, ...config, ...options };
    expect(await postern.deploy(name, source, { trigger })).toMatchObject({ status: 201 });
  };

  test('is tried as its retry says, then dead and told; listed, redriven under its id, and discarded', async () => {
    const [name, undertaker] = [`fails-${type}`, `undertaker-${type}`];
    await postern.deploy(
      undertaker,
      `export function handler(event) {
        const told = [event.trigger, event.function, event.error.message, event.event.trigger, event.event.attempt];
        if (told.join() !== 'dead_letter,${name},no luck,${type},2') throw new Error(told.join());
      }`,
    );
    const on = { TypeError: { maxAttempts: 2 } };
    await deploy(name, `export const handler = () => { throw new TypeError('no luck'); };`, {
      retry: { maxAttempts: 9, backoff: QUICK, on },
      deadLetter: undertaker,
    });
    await fire(name);
    await expect.poll(() => eventsOf(name), PATIENCE).toHaveLength(1);
    const [dead] = await eventsOf(name);
    expect(dead).toMatchObject({
      trigger: type,
      attempt: 2,
      error: { message: 'no luck' },
    });
    await expect
      .poll(() => invocationsOf(undertaker), PATIENCE)
      .toMatchObject([{ trigger: 'dead_letter', status: 'ok' }]);
    expect((await postern.admin('POST', `/events/${dead?.id}/redrive`)).status).toBe(202);
    await expect.poll(() => invocationsOf(name), PATIENCE).toHaveLength(4);
    expect((await invocationsOf(name)).map(({ event_id, attempt }) => [event_id, attempt])).toEqual(
      [1, 2, 1, 2].map((attempt) => [dead?.id, attempt]),
    );
    await expect.poll(() => eventsOf(name), PATIENCE).toMatchObject([{ id: dead?.id, attempt: 2 }]);
    expect((await postern.admin('POST', '/events/redrive', { function: name })).body).toEqual({ redriven: 1 });
    await expect.poll(() => invocationsOf(name), PATIENCE).toHaveLength(6);
    await expect.poll(() => eventsOf(name), PATIENCE).toHaveLength(1);
    expect((await postern.admin('DELETE', `/events/${dead?.id}`)).status).toBe(204);
    expect(await eventsOf(name)).toEqual([]);
    await postern.admin('DELETE', `/functions/${name}`);
  });

  test('is dead at once where the function says never again, and waits as long as it asks', async () => {
    const throwing = (error: string) =>
      `import { NonRetryableError, RetryAfterError } from 'postern';
       export const handler = () => { throw new ${error}; };`;
    const retry = { maxAttempts: 9, backoff: QUICK };
    const [never, later] = [`never-${type}`, `later-${type}`];
    await deploy(never, throwing(`NonRetryableError('hopeless')`), { retry });
    await fire(never);
    await expect.poll(() => eventsOf(never), PATIENCE).toMatchObject([{ attempt: 1 }]);
    await postern.admin('DELETE', `/functions/${never}`);
    await deploy(later, throwing(`RetryAfterError('closed', 3_600_000)`), { retry });
    await fire(later);
    await expect
      .poll(() => eventsOf(later, 'pending'), PATIENCE)
      .toMatchObject([{ attempt: 1, error: { message: 'closed' } }]);
    const [waiting] = await eventsOf(later, 'pending');
    const waitsMs = Date.parse(String(waiting?.run_at)) - Date.parse(String(waiting?.occurred_at));
    expect(waitsMs).toBeGreaterThan(3_599_000);
    await postern.admin('DELETE', `/functions/${later}`);
  });
});
