import { afterAll, beforeAll, expect, test } from 'vitest';
import { createGuestDatabase, type GuestDatabase } from './support.ts';

/** A database whose owner has set everything to what a guest's statement must not depend on, before any guest connects. */
let database: GuestDatabase;
beforeAll(async () => {
  database = await createGuestDatabase();
  for (const setting of [
    'standard_conforming_strings = off',
    'row_security = off',
    'DateStyle = "SQL, DMY"',
    'IntervalStyle = iso_8601',
    'bytea_output = escape',
    'extra_float_digits = -10',
    'statement_timeout = 1',
  ]) {
    await database.pool.query(
      `do $$ begin execute format('alter database %I set ${setting}', current_database()); end $$`,
    );
  }
});
afterAll(() => database.stop());

test('DB-23 strings are read as the gate reads them, whatever the database is set to', async () => {
  await database.as({}, async (guest) => {
    expect(await guest.value("select 'a\\'' ; commit --'")).toBe("a\\' ; commit --");
    expect((await guest.query("select 'a\\'' ; commit --'")).rowCount).toBe(1);
  });
});

test('row-level security filters, and does not fail', async () => {
  await database.as({ role: 'authenticated', claims: { sub: 'alice' } }, async (guest) => {
    expect((await guest.query('select owner from notes')).rows).toEqual([['alice']]);
  });
});

test('results have one text form, on a new connection and on a cleaned one', async () => {
  for (let round = 0; round < 2; round++) {
    await database.as({}, async (guest) => {
      const { rows } = await guest.query(
        "select '2026-02-06'::date, '1 day'::interval, '\\x00'::bytea, 0.1::float8 + 0.2",
      );
      expect(rows).toEqual([['2026-02-06', '1 day', 'AA==', 0.30000000000000004]]);
    });
  }
});

test("a statement has the invocation's time, not the database's default", async () => {
  await database.as({}, async (guest) => {
    expect((await guest.query('select pg_sleep(0.05)')).rowCount).toBe(1);
  });
});
