/** Schedules through a whole node: deployed, shown, fired, removed. */

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createDatabaseTriggers } from '../../server/database-triggers.ts';
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts';
import { startTestPostern, type TestPostern } from './support.ts';

let db: TestDatabase;
let postern: TestPostern;

beforeAll(async () => {
  db = await createTestDatabase();
  postern = await startTestPostern(db, {}, { databaseTriggers: createDatabaseTriggers });
});
afterAll(async () => {
  await postern?.stop();
  await db.drop();
});

const NIGHTLY = {
  triggers: [{ type: 'schedule', cron: '0 3 * * *', timezone: 'Europe/Berlin', overlap: 'skip', jitter: '30s' }],
};
const HANDLER = 'export const handler = (event) => console.log(event);';
const FAR = '2999-01-01T00:00:00.000Z';

/** Looks until the function was invoked; returns its invocations, with logs. */
async function invocationsOf(name: string): Promise<Record<string, unknown>[]> {
  for (;;) {
    const { body } = await postern.admin('GET', `/functions/${name}/invocations?logs=true`);
    const invocations = body.invocations as Record<string, unknown>[];
    if (invocations.length > 0) return invocations;
    await db.pool.query('select pg_sleep(0.02)');
  }
}

describe('a deployed schedule', () => {
  test('shows its next fires: one in the list, five of the function, with its settings under /schedule', async () => {
    await postern.deploy('nightly', HANDLER, NIGHTLY);
    const shown = await postern.admin('GET', '/functions/nightly');
    const next = shown.body.next_fires as string[];
    expect(next).toHaveLength(5);
    const inBerlin = new Intl.DateTimeFormat('en-GB', { timeZone: 'Europe/Berlin', timeStyle: 'short' });
    expect(next.map((time) => inBerlin.format(new Date(time)))).toEqual(Array(5).fill('03:00'));
    expect(Date.parse(next[0]!)).toBeGreaterThan(Date.now());
    const listed = (await postern.admin('GET', '/functions')).body.functions as Record<string, unknown>[];
    expect(listed.find(({ name }) => name === 'nightly')?.next_fires).toEqual([next[0]]);
    expect((await postern.admin('GET', '/functions/nightly/schedule')).body).toEqual({
      schedules: [
        {
          trigger_id: expect.any(String),
          cron: '0 3 * * *',
          timezone: 'Europe/Berlin',
          missed: 'once',
          overlap: 'skip',
          jitter_ms: 30_000,
          next,
          last: null,
          queued: 0,
        },
      ],
      runs: [],
    });
  });

  test('that never fires is deployed with a warning, and has no next fires', async () => {
    const { status, body } = await postern.deploy('never', HANDLER, {
      trigger: { type: 'schedule', cron: '0 0 31 2 *' },
    });
    expect([status, body.warnings]).toEqual([201, [expect.stringContaining("'0 0 31 2 *' never fires")]]);
    expect((await postern.admin('GET', '/functions/never')).body.next_fires).toEqual([]);
  });

  test('is gone with its function', async () => {
    await postern.deploy('gone', HANDLER, NIGHTLY);
    await postern.admin('POST', '/functions/gone/schedule', { at: FAR });
    await postern.admin('DELETE', '/functions/gone');
    const { rows } = await db.pool.query(
      'select from postern.scheduled_runs union all select from postern.triggers t where not exists (select from postern.functions f where f.id = t.function_id)',
    );
    expect(rows).toEqual([]);
    expect((await postern.admin('GET', '/functions/gone/schedule')).status).toBe(404);
  });
});

describe('a run that was asked for', () => {
  test('invokes the function at its time, once, with the event that was given', async () => {
    await postern.deploy('once', HANDLER);
    const at = new Date(Date.now() + 50).toISOString();
    const asked = await postern.admin('POST', '/functions/once/schedule', { at, event: { report: 7 } });
    expect(asked).toMatchObject({ status: 201, body: { id: expect.any(String), at, event: { report: 7 } } });
    const [invocation, ...others] = await invocationsOf('once');
    expect(others).toEqual([]);
    expect(invocation).toMatchObject({ trigger: 'schedule', status: 'ok', attempt: 1 });
    expect(JSON.stringify(invocation?.logs)).toContain('report');
    expect((await postern.admin('GET', '/functions/once/schedule')).body).toEqual({ schedules: [], runs: [] });
  });

  test('is listed until its time, and cancelled once', async () => {
    await postern.deploy('later', HANDLER);
    const { body } = await postern.admin('POST', '/functions/later/schedule', {
      at: '2999-01-01T02:00:00+02:00',
      event: null,
    });
    const run = { id: body.id, at: FAR, event: null, created_at: expect.any(String) };
    expect((await postern.admin('GET', '/functions/later/schedule')).body.runs).toEqual([run]);
    expect((await postern.admin('GET', '/functions/later')).body.next_fires).toEqual([FAR]);
    const path = `/functions/later/schedule/${body.id}`;
    expect((await postern.admin('DELETE', path)).status).toBe(204);
    expect(await postern.admin('DELETE', path)).toMatchObject({ status: 404, body: { code: 'NOT_FOUND' } });
    expect((await postern.admin('GET', '/functions/later/schedule')).body.runs).toEqual([]);
  });

  test.each([
    ['nobody', { at: FAR }, 404, 'FUNCTION_NOT_FOUND'],
    ['later', { at: 'tomorrow' }, 400, 'INVALID_REQUEST'],
    ['later', { at: '2999-01-01T00:00:00' }, 400, 'INVALID_REQUEST'],
    ['later', {}, 400, 'INVALID_REQUEST'],
    ['later', { at: FAR, evnt: 1 }, 400, 'INVALID_REQUEST'],
  ])('of %s with %j is refused with %i', async (name, body, status, code) => {
    expect(await postern.admin('POST', `/functions/${name}/schedule`, body)).toMatchObject({ status, body: { code } });
  });

  test('needs the admin key, and its cancellation an id', async () => {
    expect((await postern.call('/functions/later/schedule', { method: 'POST' })).status).toBe(401);
    expect((await postern.admin('DELETE', '/functions/later/schedule/1')).status).toBe(404);
  });
});
