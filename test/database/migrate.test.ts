import type { Pool } from 'pg';
import { afterEach, describe, expect, test } from 'vitest';
import { createSystemPool, type Migration, migrate, pendingMigrations } from '../../database/index.ts';
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts';

const ONE: Migration = { number: 1, name: '0001_one.sql', sql: 'create table postern.one ()', checksum: 'a' };
const TWO: Migration = { number: 2, name: '0002_two.sql', sql: 'create table postern.two ()', checksum: 'b' };

let db: TestDatabase;
afterEach(() => db.drop());

async function tables(pool: Pool): Promise<string[]> {
  const { rows } = await pool.query<{ name: string }>(
    `select relname as name from pg_class where relnamespace = 'postern'::regnamespace and relkind = 'r' order by 1`,
  );
  return rows.map((row) => row.name);
}

describe('migrations', () => {
  test('an empty database gets the whole schema, and a second run changes nothing', async () => {
    db = await createTestDatabase({ empty: true });
    const all = await pendingMigrations(db.pool);
    expect(all[0]).toBe('0001_create_schema.sql');
    expect(await migrate(db.pool)).toEqual(all);
    expect(await migrate(db.pool)).toEqual([]);
    expect(await pendingMigrations(db.pool)).toEqual([]);
    const core = [
      'events',
      'function_invocations',
      'functions',
      'images',
      'secrets',
      'settings',
      'triggers',
      'versions',
    ];
    expect(await tables(db.pool)).toEqual(expect.arrayContaining(core));
  });

  test('nodes that start at once apply each migration once between them', async () => {
    db = await createTestDatabase({ empty: true });
    const nodes = Array.from({ length: 5 }, () => createSystemPool(db.url));
    const applied = (await Promise.all(nodes.map((node) => migrate(node)))).flat();
    await Promise.all(nodes.map((node) => node.end()));
    expect(applied.toSorted()).toEqual([...new Set(applied)].toSorted());
    expect(await pendingMigrations(db.pool)).toEqual([]);
  });

  test('a migration that a running node deadlocks with is tried again', async () => {
    db = await createTestDatabase({ empty: true });
    await migrate(db.pool, { migrations: [ONE, TWO] });
    const crossing: Migration = {
      number: 3,
      name: '0003_crossing.sql',
      sql: 'lock table postern.two; lock table postern.one; create table postern.three ()',
      checksum: 'c',
    };
    const node = await db.pool.connect();
    // So that Postgres ends the migration, and not this one.
    await node.query(`begin; set local deadlock_timeout = '1min'; lock table postern.one`);
    const migrating = migrate(db.pool, { migrations: [ONE, TWO, crossing] });
    await expect
      .poll(
        async () =>
          (await db.pool.query(`select from pg_locks where not granted and relation = 'postern.one'::regclass`))
            .rowCount,
      )
      .toBe(1);
    await node.query('lock table postern.two; commit');
    node.release();
    expect(await migrating).toEqual(['0003_crossing.sql']);
    expect(await tables(db.pool)).toContain('three');
  });

  test('a capture role that lost its way into the schema gets it back, once', async () => {
    db = await createTestDatabase();
    await db.pool.query('revoke all on schema postern from postern_capture');
    const said: string[] = [];
    const log = (message: string) => said.push(message);
    await migrate(db.pool, { log });
    await migrate(db.pool, { log });
    expect(said).toEqual(['gave postern_capture its right to use schema postern back']);
    const { rows } = await db.pool.query(
      `select has_schema_privilege('postern_capture', 'postern', 'usage') as usage,
              has_schema_privilege('postern_capture', 'postern', 'create') as create`,
    );
    expect(rows).toEqual([{ usage: true, create: false }]);
  });

  test('a failing migration leaves nothing of itself and keeps those before it', async () => {
    db = await createTestDatabase({ empty: true });
    const broken = { ...TWO, sql: 'create table postern.half (); select 1/0' };
    await expect(migrate(db.pool, { migrations: [ONE, broken] })).rejects.toThrow(
      'Migration 0002_two.sql failed: division by zero',
    );
    expect(await tables(db.pool)).toEqual(['migrations', 'one']);
    expect(await migrate(db.pool, { migrations: [ONE, TWO] })).toEqual(['0002_two.sql']);
  });

  test('a database newer than the code is refused', async () => {
    db = await createTestDatabase({ empty: true });
    await migrate(db.pool, { migrations: [ONE, TWO] });
    await expect(migrate(db.pool, { migrations: [ONE] })).rejects.toThrow(/newer than this Postern.*0002_two/);
  });

  test('a Postgres that is too old is refused, with the versions that are not', async () => {
    db = await createTestDatabase({ empty: true });
    const old = { query: async () => ({ rows: [{ version: '14.11', number: 140_011 }] }) } as unknown as Pool;
    await expect(migrate(old)).rejects.toThrow('This is Postgres 14.11; Postern runs on Postgres 15 to 18.');
  });

  test('an edited migration is refused', async () => {
    db = await createTestDatabase({ empty: true });
    await migrate(db.pool, { migrations: [ONE] });
    const edited = { ...ONE, checksum: 'other' };
    await expect(migrate(db.pool, { migrations: [edited] })).rejects.toThrow(/0001_one.sql was edited/);
  });
});
