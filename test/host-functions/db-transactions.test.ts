import { afterAll, beforeAll, expect, test } from 'vitest';
import { createGuestDatabase, type GuestDatabase, type ScopeOptions } from './support.ts';

const service: ScopeOptions = { role: 'anon', dbRole: 'service_role' };

let database: GuestDatabase;
beforeAll(async () => {
  database = await createGuestDatabase();
});
afterAll(() => database.stop());

test('transactions that are opened at once are different ones, and each ends as it is told', async () => {
  for (let round = 0; round < 20; round++) {
    await database.pool.query('truncate counters');
    await database.as(service, async (guest) => {
      // Opened before, so that both begins find a connection at once.
      await Promise.all([guest.query('select 1'), guest.query('select 1')]);
      const [kept, undone] = (await Promise.all([guest.begin(), guest.begin()])) as [number, number];
      expect(kept).not.toBe(undone);
      await Promise.all([
        guest.query('insert into counters values (1, 1)', [], kept),
        guest.query('insert into counters values (2, 1)', [], undone),
      ]);
      await Promise.all([guest.call('db.commit', { tx: kept }), guest.call('db.rollback', { tx: undone })]);
    });
    expect((await database.pool.query('select id from counters')).rows).toEqual([{ id: 1 }]);
  }
});
