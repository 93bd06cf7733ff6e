/** Whether the database still is as the installer left it: drift loses events silently. */

import type { Pool, PoolClient } from 'pg';
import { timedQuery } from '../../database/index.ts';
import type { DatabaseTriggerConfig } from '../../invoker/index.ts';
import { isOutdated } from './capture-function.ts';
import { type SqlTrigger, sqlTriggers } from './sql-triggers.ts';
import { SEES_ALL } from './watched-table.ts';

/** In the order of how bad they are. `installer.repair` puts back what has lost its trigger, and what an earlier version made. */
export type DriftState = 'table_missing' | 'column_missing' | 'trigger_disabled' | 'trigger_missing' | 'outdated';

export interface Drift {
  readonly functionName: string;
  readonly triggerId: string;
  readonly schema: string;
  readonly table: string;
  readonly state: DriftState;
  /** A sentence for the operator. */
  readonly problem: string;
}

const QUERY_TIMEOUT_MS = 10_000;

/** One statement over the catalogs, a row for each trigger. */
const READ_TRIGGERS = `
  select f.name as "functionName", f.id as "functionId", t.id, t.config, c.oid is not null as "hasTable",
    coalesce(${SEES_ALL}, false) as plain,
    array(select a.attname::text from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped) as columns,
    coalesce((
      select jsonb_agg(jsonb_build_object(
        'name', g.tgname, 'enabled', g.tgenabled <> 'D', 'perStatement', g.tgtype & 1 = 0,
        'source', case when p.proname = g.tgname then p.prosrc else '' end))
      from pg_trigger g join pg_proc p on p.oid = g.tgfoid
      where g.tgrelid = c.oid and starts_with(g.tgname::text, 'postern_' || t.id || '_')
    ), '[]') as present,
    (select min(g.tgrelid::regclass::text) from pg_trigger g
     where starts_with(g.tgname::text, 'postern_' || t.id || '_') and g.tgparentid = 0 and g.tgrelid is distinct from c.oid) as elsewhere
  from postern.triggers t join postern.functions f on f.id = t.function_id
    left join pg_class c on c.oid = to_regclass(quote_ident(t.config ->> 'schema') || '.' || quote_ident(t.config ->> 'table'))
  where t.kind = 'database' and ($1::text is null or f.name = $1)
  order by f.name, t.created_at`;

interface TriggerRow {
  readonly functionName: string;
  readonly functionId: string;
  readonly id: string;
  readonly config: DatabaseTriggerConfig;
  readonly hasTable: boolean;
  readonly plain: boolean;
  readonly columns: readonly string[];
  readonly present: readonly {
    readonly name: string;
    readonly enabled: boolean;
    readonly perStatement: boolean;
    readonly source: string;
  }[];
  /** Another table, which has our SQL triggers. */
  readonly elsewhere: string | null;
}

/** Empty where all is well. Of one function, or of all. */
export async function findDrift(pool: Pool, functionName?: string): Promise<readonly Drift[]> {
  const { rows } = await timedQuery<TriggerRow>(pool, QUERY_TIMEOUT_MS, {
    text: READ_TRIGGERS,
    values: [functionName ?? null],
  });
  return rows.flatMap((row) => {
    const { schema, table } = row.config;
    const found = { functionName: row.functionName, triggerId: row.id, schema, table };
    return problemsOf(row).map(([state, problem]) => ({ ...found, state, problem }));
  });
}

function problemsOf(row: TriggerRow): readonly (readonly [state: DriftState, problem: string])[] {
  const { config, elsewhere } = row;
  const label = `${config.schema}.${config.table}`;
  if (!row.hasTable) {
    if (elsewhere === null) return [['table_missing', `table ${label} is gone; no change of it fires the function`]];
    return [
      [
        'table_missing',
        `table ${label} was renamed: the function is fired by changes of ${elsewhere}; name that one and deploy the function again`,
      ],
    ];
  }
  const table = {
    schema: config.schema,
    name: config.table,
    columns: row.columns,
    statementTriggers: row.plain,
    owned: true,
  };
  return [
    ...columnProblems(row, label),
    ...sqlTriggers(config, table, Number(row.functionId), row.id).flatMap((wanted) =>
      triggerProblems(row, label, wanted),
    ),
  ];
}

function columnProblems({ config, columns }: TriggerRow, label: string): (readonly [DriftState, string])[] {
  const lost = (names: readonly string[]): readonly string[] => names.filter((name) => !columns.includes(name));
  return [
    ...lost(config.orderingKey ?? []).map(
      (name) =>
        `${label} has no column ${name} any more, which is part of the ordering key: its events are ordered as if it were null until the function is deployed with another one`,
    ),
    ...lost(config.columns).map(
      (name) => `${label} has no column ${name} any more; deploy the function with the columns that there are`,
    ),
  ].map((problem) => ['column_missing', problem]);
}

function triggerProblems(row: TriggerRow, label: string, wanted: SqlTrigger): (readonly [DriftState, string])[] {
  const found = row.present.find(({ name }) => name === wanted.name);
  if (found === undefined) {
    return [['trigger_missing', `${label} has lost its ${wanted.operation} trigger; deploy the function again`]];
  }
  if (!found.enabled) {
    return [['trigger_disabled', `the ${wanted.operation} trigger of ${label} is disabled; deploy the function again`]];
  }
  if (found.perStatement === wanted.perStatement && !isOutdated(found.source, wanted.functionSource)) return [];
  return [
    [
      'outdated',
      `the ${wanted.operation} trigger of ${label} was made for another version of Postern, or of the table`,
    ],
  ];
}

/** The role that capture runs as: `postern_capture`, or our own user where that may not make roles (less of a wall). */
export async function captureOwner(database: Pool | PoolClient): Promise<string> {
  const { rows } = await database.query<{ owner: string }>(
    `select pg_get_userbyid(proowner)::text as owner from pg_proc where oid = 'postern.capture_row()'::regprocedure`,
  );
  return rows[0]?.owner ?? '';
}
