/** Whether the database still is as the installer left it. For `doctor` and a check at start: drift loses events silently. */

import type { Pool, PoolClient } from 'pg';
import type { DatabaseTriggerConfig } from '../../invoker/index.ts';
import { sqlTriggerPrefix } from './sql-triggers.ts';

export interface Drift {
  readonly functionName: string;
  readonly schema: string;
  readonly table: string;
  /** A sentence for the operator. */
  readonly problem: string;
}

const READ_TRIGGERS = `
  select f.name as "functionName", t.id, t.config,
    to_regclass(quote_ident(t.config ->> 'schema') || '.' || quote_ident(t.config ->> 'table')) is not null as "hasTable",
    coalesce((
      select jsonb_object_agg(g.tgname, g.tgenabled) from pg_trigger g
      where starts_with(g.tgname::text, 'postern_' || t.id || '_')
        and g.tgrelid = to_regclass(quote_ident(t.config ->> 'schema') || '.' || quote_ident(t.config ->> 'table'))
    ), '{}') as present
  from postern.triggers t join postern.functions f on f.id = t.function_id
  where t.kind = 'database'
  order by f.name, t.created_at`;

interface TriggerRow {
  readonly functionName: string;
  readonly id: string;
  readonly config: DatabaseTriggerConfig;
  readonly hasTable: boolean;
  readonly present: Readonly<Record<string, string>>;
}

/** Empty where all is well. A deploy of the function repairs what can be repaired. */
export async function findDrift(pool: Pool): Promise<readonly Drift[]> {
  const { rows } = await pool.query<TriggerRow>(READ_TRIGGERS);
  return rows.flatMap((row) => {
    const { schema, table } = row.config;
    return problemsOf(row).map((problem) => ({ functionName: row.functionName, schema, table, problem }));
  });
}

function problemsOf({ id, config, hasTable, present }: TriggerRow): readonly string[] {
  const label = `${config.schema}.${config.table}`;
  if (!hasTable) return [`table ${label} is gone or was renamed; the function is not fired by it any more`];
  return config.operations.flatMap((operation) => {
    const enabled = present[`${sqlTriggerPrefix(id)}${operation.toLowerCase()}`];
    if (enabled === undefined) return [`${label} has lost its ${operation} trigger; deploy the function again`];
    if (enabled === 'D') return [`the ${operation} trigger of ${label} is disabled; deploy the function again`];
    return [];
  });
}

/** The role that capture runs as: `postern_capture`, or our own user where that may not make roles (less of a wall). */
export async function captureOwner(database: Pool | PoolClient): Promise<string> {
  const { rows } = await database.query<{ owner: string }>(
    `select pg_get_userbyid(proowner)::text as owner from pg_proc where oid = 'postern.capture_row()'::regprocedure`,
  );
  return rows[0]?.owner ?? '';
}
