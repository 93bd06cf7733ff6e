import type { PoolClient } from 'pg';
import { closest, enumerate } from './closest.ts';

export interface WatchedTable {
  readonly schema: string;
  readonly name: string;
  readonly columns: readonly string[];
  /**
   * Whether a statement trigger with transition tables sees every change. Not where rows come and go through a parent or a
   * child or from a publisher (its changes fire row triggers only), nor on a foreign table, where Postgres has none.
   */
  readonly statementTriggers: boolean;
  /** ENABLE ALWAYS takes the owner. */
  readonly owned: boolean;
}

/** The reason why no trigger can be put on what was named; for the author. */
export class TableError extends Error {
  override readonly name = 'TableError';
}

interface TableRow {
  readonly relkind: string;
  readonly persistence: string;
  readonly plain: boolean;
  readonly owned: boolean;
  readonly columns: string[];
}

/** Of `pg_class c`: see `statementTriggers`. */
export const SEES_ALL = `c.relkind = 'r' and not exists (select from pg_inherits i where c.oid in (i.inhrelid, i.inhparent))
  and not exists (select from pg_subscription_rel s where s.srrelid = c.oid)`;

const FIND_TABLE = `
  select c.relkind, c.relpersistence as persistence,
         ${SEES_ALL} as plain,
         pg_has_role(current_user, c.relowner, 'usage') as owned,
         array(select a.attname::text from pg_attribute a
               where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped order by a.attnum) as columns
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
  where n.nspname = $1 and c.relname = $2 and c.relkind in ('r', 'p', 'f', 'v', 'm')`;

const LIST_TABLES = `
  select n.nspname::text as schema, c.relname::text as name
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
  where c.relkind in ('r', 'p', 'f') and c.relpersistence <> 't' and not c.relispartition
    and n.nspname not in ('information_schema', 'postern') and n.nspname not like 'pg\\_%'
  order by n.nspname = $1 desc, 1, 2 limit 1000`;

/** Rejects with TableError. */
export async function findTable(client: PoolClient, schema: string, name: string): Promise<WatchedTable> {
  const label = `${schema}.${name}`;
  if (schema === 'postern' || schema === 'information_schema' || schema.startsWith('pg_')) {
    throw new TableError(`${label} belongs to the system; triggers go on your own tables`);
  }
  const { rows } = await client.query<TableRow>(FIND_TABLE, [schema, name]);
  const [found] = rows;
  if (found === undefined) throw new TableError(`there is no table ${label}${await suggestion(client, schema, name)}`);
  if (found.relkind === 'v' || found.relkind === 'm') {
    throw new TableError(`${label} is a view; put the trigger on the tables below it`);
  }
  if (found.persistence === 't') throw new TableError(`${label} is a temporary table`);
  return { schema, name, columns: found.columns, statementTriggers: found.plain, owned: found.owned };
}

async function suggestion(client: PoolClient, schema: string, name: string): Promise<string> {
  const { rows } = await client.query<{ schema: string; name: string }>(LIST_TABLES, [schema]);
  const elsewhere = rows.find((row) => row.name === name);
  if (elsewhere !== undefined) return `; did you mean ${elsewhere.schema}.${elsewhere.name}?`;
  const same = rows.filter((row) => row.schema === schema).map((row) => row.name);
  const near = closest(name, same);
  if (near !== undefined) return `; did you mean ${schema}.${near}?`;
  if (same.length > 0) return `; schema ${schema} has ${enumerate(same)}`;
  const all = rows.map((row) => `${row.schema}.${row.name}`);
  return all.length > 0 ? `; there are ${enumerate(all)}` : '; this database has no tables yet';
}
