/** Brings schema `postern` to what this code expects. Forward only; a migration is never edited once released. */

import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Pool, PoolClient } from 'pg';
import { MigrationError } from './errors.ts';
import { restoreSchemaRights } from './schema-rights.ts';
import { isTransient, withTransaction } from './transaction.ts';

const FOLDER = join(import.meta.dirname, 'migrations');
/** Nodes that start at once take turns. The number only has to be ours: 'pstn' in ASCII. */
const MIGRATION_LOCK = 0x7073746e;

/** Running nodes take locks on the same tables in an order of their own, and a deadlock ends one of the two. */
const ATTEMPTS = 10;

export interface Migration {
  readonly number: number;
  /** `0001_create_schema.sql` */
  readonly name: string;
  readonly sql: string;
  readonly checksum: string;
}

export interface MigrateOptions {
  readonly log?: (message: string) => void;
  /** Those of this version of Postern where absent. */
  readonly migrations?: readonly Migration[];
}

/**
 * Applies what is missing, each in a transaction of its own, mends the rights that migrations gave, and returns the names.
 * Safe to run in several nodes at once.
 * Rejects with MigrationError where Postgres is too old, where the database is newer than this code, where an applied migration differs from the
 * file, or where a statement fails (that migration is rolled back then).
 */
export async function migrate(pool: Pool, options: MigrateOptions = {}): Promise<readonly string[]> {
  await requireServerVersion(pool);
  const migrations = options.migrations ?? (await readMigrations());
  const applied: string[] = [];
  for (;;) {
    // The lock ends with each transaction, so it works through a pooler too; hence the look at what is applied each time.
    const name = await withTransaction(pool, (client) => applyNext(client, migrations, options.log), {
      attempts: ATTEMPTS,
    });
    if (name === null) return applied;
    options.log?.(`applied migration ${name}`);
    applied.push(name);
  }
}

/** As `server_version_num` has it. Tested are this one and the one that the embedded server has. */
const OLDEST_SERVER = 150_000;

async function requireServerVersion(pool: Pick<Pool, 'query'>): Promise<void> {
  const { rows } = await pool.query<{ version: string; number: number }>(
    `select current_setting('server_version') as version, current_setting('server_version_num')::integer as number`,
  );
  if (rows[0] === undefined || rows[0].number >= OLDEST_SERVER) return;
  throw new MigrationError(`This is Postgres ${rows[0].version}; Postern runs on Postgres 15 to 18. Upgrade Postgres.`);
}

/** The names of migrations that `migrate` would apply. */
export async function pendingMigrations(pool: Pool): Promise<readonly string[]> {
  const migrations = await readMigrations();
  const { rows } = await pool.query<{ exists: boolean }>(
    `select to_regclass('postern.migrations') is not null as exists`,
  );
  const applied = rows[0]?.exists === true ? await readApplied(pool) : [];
  return missing(migrations, applied).map((migration) => migration.name);
}

export async function readMigrations(folder = FOLDER): Promise<readonly Migration[]> {
  const names = (await readdir(folder)).filter((name) => /^\d{4}_[a-z0-9_]+\.sql$/.test(name)).sort();
  return Promise.all(
    names.map(async (name) => {
      const sql = await readFile(join(folder, name), 'utf8');
      // Line ends differ between checkouts on Windows and elsewhere, and mean nothing.
      const checksum = createHash('sha256').update(sql.replaceAll('\r\n', '\n')).digest('hex');
      return { number: Number(name.slice(0, 4)), name, sql, checksum };
    }),
  );
}

async function applyNext(
  client: PoolClient,
  migrations: readonly Migration[],
  log?: (message: string) => void,
): Promise<string | null> {
  await client.query('select pg_advisory_xact_lock($1)', [MIGRATION_LOCK]);
  await client.query(CREATE_MIGRATIONS_TABLE);
  const [next] = missing(migrations, await readApplied(client));
  if (next === undefined) {
    for (const role of await restoreSchemaRights(client)) log?.(`gave ${role} its right to use schema postern back`);
    return null;
  }
  try {
    await client.query(next.sql);
  } catch (cause) {
    if (isTransient(cause)) throw cause;
    throw new MigrationError(`Migration ${next.name} failed: ${(cause as Error).message}`, { cause });
  }
  await client.query('insert into postern.migrations (number, name, checksum) values ($1, $2, $3)', [
    next.number,
    next.name,
    next.checksum,
  ]);
  return next.name;
}

const CREATE_MIGRATIONS_TABLE = `
  create schema if not exists postern;
  create table if not exists postern.migrations (
    number integer primary key,
    name text not null,
    checksum text not null,
    applied_at timestamptz not null default now()
  )`;

interface AppliedMigration {
  readonly number: number;
  readonly name: string;
  readonly checksum: string;
}

async function readApplied(client: Pool | PoolClient): Promise<readonly AppliedMigration[]> {
  const { rows } = await client.query<AppliedMigration>(
    'select number, name, checksum from postern.migrations order by number',
  );
  return rows;
}

function missing(migrations: readonly Migration[], applied: readonly AppliedMigration[]): readonly Migration[] {
  const known = new Map(migrations.map((migration) => [migration.number, migration]));
  for (const { number, name, checksum } of applied) {
    const migration = known.get(number);
    if (migration === undefined) {
      throw new MigrationError(`The database is newer than this Postern: it has migration ${name}. Upgrade Postern.`);
    }
    if (migration.checksum !== checksum) {
      throw new MigrationError(
        `Migration ${migration.name} was edited after it was applied to this database. Restore the file, and put the change into a new migration.`,
      );
    }
    known.delete(number);
  }
  return [...known.values()];
}
