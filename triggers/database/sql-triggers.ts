/** From a trigger's configuration to the SQL triggers on the user's table: at most one an operation. */

import { quoteIdentifier, quoteQualified } from '../../database/index.ts';
import type { DatabaseTriggerConfig } from '../../invoker/index.ts';
import { captureSignature, captureSource, createCaptureFunction, type Ordering } from './capture-function.ts';
import type { WatchedTable } from './watched-table.ts';

export interface SqlTrigger {
  readonly name: string;
  readonly operation: DatabaseTriggerConfig['operations'][number];
  /** Its trigger function, which has its name: made, or made anew where the trigger stays. */
  readonly createFunction: string;
  readonly functionSource: string;
  readonly perStatement: boolean;
  readonly create: string;
  /** Fires in sessions with session_replication_role = replica too. Null where we are not the table's owner. */
  readonly enableAlways: string | null;
}

/** Prefix of the names of all SQL triggers of one of our triggers; 45 bytes, so nothing is cut. */
export function sqlTriggerPrefix(triggerId: string): string {
  return `postern_${triggerId}_`;
}

/**
 * INSERT and DELETE fire once a statement where the table allows it, which costs a fifth for many rows and no more for
 * one. UPDATE fires for each row: old and new rows of a statement could only be paired by their order, and nothing
 * promises that. So do triggers with `columns` or `when`, which Postgres has for row triggers only; what does not match
 * costs next to nothing then.
 */
export function sqlTriggers(
  config: DatabaseTriggerConfig,
  table: WatchedTable,
  functionId: number,
  triggerId: string,
): readonly SqlTrigger[] {
  const target = quoteQualified(table.schema, table.name);
  // The line breaks keep a comment at the end of the condition from swallowing our parenthesis.
  const when = config.when === null ? '' : `when (\n${config.when}\n)`;
  const perStatement = table.statementTriggers && config.when === null;
  const ordering = orderingOf(config);
  return config.operations.map((operation) => {
    const name = `${sqlTriggerPrefix(triggerId)}${operation.toLowerCase()}`;
    const create = `create trigger ${quoteIdentifier(name)} after`;
    const call = `execute function ${captureSignature(name)}`;
    const forEachRow = `on ${target} for each row ${when} ${call}`;
    const forStatement = perStatement && operation !== 'UPDATE';
    const capture = {
      name,
      operation,
      perStatement: forStatement,
      functionId,
      triggerId,
      ...(ordering === undefined ? {} : { ordering }),
    };
    return {
      name,
      operation,
      createFunction: createCaptureFunction(capture),
      functionSource: captureSource(capture),
      perStatement: forStatement,
      create: {
        INSERT: forStatement
          ? `${create} insert on ${target} referencing new table as new_rows for each statement ${call}`
          : `${create} insert ${forEachRow}`,
        UPDATE: `${create} update ${columnList(config)} ${forEachRow}`,
        DELETE: forStatement
          ? `${create} delete on ${target} referencing old table as old_rows for each statement ${call}`
          : `${create} delete ${forEachRow}`,
      }[operation],
      enableAlways: table.owned ? `alter table ${target} enable always trigger ${quoteIdentifier(name)}` : null,
    };
  });
}

function orderingOf({
  schema,
  table,
  orderingKey,
  poisoned = 'block',
  transaction,
}: DatabaseTriggerConfig): Ordering | undefined {
  if (transaction === true) return { by: 'transaction' };
  if (orderingKey === undefined) return undefined;
  return { by: 'columns', table: `${schema}.${table}`, columns: orderingKey, poisoned };
}

function columnList({ columns }: DatabaseTriggerConfig): string {
  return columns.length === 0 ? '' : `of ${columns.map(quoteIdentifier).join(', ')}`;
}
