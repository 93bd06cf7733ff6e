/**
 * The trigger function of one SQL trigger: what database/migrations/0003_create_capture.sql says of capture holds here, the
 * doorbell included. One for each SQL trigger, and not one for all with arguments, because most writers insert a row and
 * commit, and each expression of plpgsql is prepared anew in each transaction: reading the arguments and settings into
 * variables took 10 of the 47 microseconds that capture adds to a single-row transaction (Postgres 18, one session,
 * asynchronous commit, tenth percentile). The settings are read once a row for that: 0.4 of 6 microseconds in a large statement.
 */

import { GUEST_LOGIN_PATTERN, quoteLiteral, quoteQualified } from '../../database/index.ts';
import type { DatabaseTriggerConfig, PoisonPolicy } from '../../invoker/index.ts';
import { DOORBELL_CHANNEL, DOORBELL_LOCK } from './doorbell.ts';

/**
 * To be raised with every change of what a capture function does. A node makes functions of a lower number anew and leaves those of
 * a higher one: in the middle of an upgrade, nodes of two versions would take turns else.
 */
export const CAPTURE_VERSION = 1;

type Operation = DatabaseTriggerConfig['operations'][number];

export interface CaptureFunction {
  readonly name: string;
  readonly operation: Operation;
  /** INSERT reads the transition table `new_rows` then, DELETE `old_rows`. UPDATE has one row always. */
  readonly perStatement: boolean;
  readonly functionId: number;
  readonly triggerId: string;
  /** What the events' ordering key is made of; see database/migrations/0013_extend_delivery.sql. */
  readonly ordering?: Ordering;
}

export type Ordering =
  | {
      readonly by: 'columns';
      readonly table: string;
      readonly columns: readonly string[];
      readonly poisoned: PoisonPolicy;
    }
  | { readonly by: 'transaction' };

const HEADER = `returns trigger language plpgsql security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '5s'`;

/** Settings that change how values are written as text, and what they are while rows are captured. */
const TEXT_SETTINGS: readonly (readonly [name: string, value: string])[] = [
  ['timezone', 'UTC'],
  ['datestyle', 'ISO'],
  ['intervalstyle', 'postgres'],
  ['bytea_output', 'hex'],
  ['extra_float_digits', '1'],
];
const READ_SETTINGS = TEXT_SETTINGS.map(([name]) => `current_setting('${name}')`);
const CHANGE_SETTINGS = TEXT_SETTINGS.map(([name, value]) => `set_config('${name}', '${value}', true)`).join(', ');
const RESTORE_SETTINGS = TEXT_SETTINGS.map(([name], n) => `set_config('${name}', given[${n + 1}], true)`).join(', ');

/**
 * What most sessions have, which writes the same text: they are only looked at, since each SET of a function costs a
 * transaction some 3 microseconds (of 106 with capture, async commit, eight clients on two cores). Eight at most: Postgres
 * hashes a longer list, anew in each transaction.
 */
const WRITES_THE_SAME = [
  ...['UTC', 'Etc/UTC', 'GMT'].flatMap((zone) => ['MDY', 'DMY'].map((order) => `${zone}|ISO, ${order}|postgres|hex|1`)),
  'UTC|ISO, MDY|postgres|hex|2',
  'UTC|ISO, MDY|postgres|hex|3',
];
/** One expression with the doorbell's question: each one of a function costs 1 to 3 microseconds a transaction. */
const USUAL = `${READ_SETTINGS.join(" || '|' || ")} = any (${quoteLiteral(`{${WRITES_THE_SAME.map((text) => `"${text}"`).join(',')}}`)}::text[])`;
const NOBODY_SLEEPS = `pg_try_advisory_xact_lock_shared(${DOORBELL_LOCK.join(', ')})`;

/**
 * A guest's are those that its node has proven, since an event's invocation gets proven ones in its turn: whatever let a guest
 * set the setting would make it somebody else there.
 */
const CLAIMS = `case when current_setting('request.jwt.claims', true) <> '' then
        case when session_user ~ ${quoteLiteral(GUEST_LOGIN_PATTERN)} then postern.claims()::text
        else current_setting('request.jwt.claims', true) end end`;

/** Schema-qualified and quoted, as in `drop function`. */
export function captureSignature(name: string): string {
  return `${quoteQualified('postern', name)}()`;
}

/** Replaces one of the same name, which takes no lock on the table and keeps owner and rights. */
export function createCaptureFunction(capture: CaptureFunction): string {
  return `create or replace function ${captureSignature(capture.name)} ${HEADER} as ${quoteLiteral(captureSource(capture))}`;
}

/** Whether a function with the source `found` is to be replaced by one with the source `wanted`. */
export function isOutdated(found: string, wanted: string): boolean {
  return found !== wanted && versionOf(found) <= CAPTURE_VERSION;
}

/** 0 for those that were made before they said it. */
function versionOf(source: string): number {
  return Number(/^\n-- capture (\d+)\n/.exec(source)?.[1] ?? 0);
}

/** What Postgres keeps as `prosrc`. */
export function captureSource({ operation, perStatement, functionId, triggerId, ordering }: CaptureFunction): string {
  const { columns, rows, from, row } = imagesOf(operation, perStatement);
  const key = ordering === undefined ? undefined : keyOf(ordering, row);
  const insert = `
    insert into postern.events (function_id, trigger_id, ${columns}, claims, writer, depth${key === undefined ? '' : ', ordering_key'})
    select ${quoteLiteral(String(functionId))}::bigint, ${quoteLiteral(triggerId)}::uuid, ${rows},
      ${CLAIMS},
      case when current_setting('request.jwt.claims', true) <> '' then session_user end,
      current_setting('postern.depth', true)${
        key === undefined
          ? ''
          : `,
      ${key}`
      }
    ${from};`;
  // Assignments, since `perform` would set `found`. Where the insert fails, the settings are rolled back with it.
  return `
-- capture ${CAPTURE_VERSION}
begin
  if ${USUAL} and ${NOBODY_SLEEPS} then${insert}
    return null;
  end if;
  declare
    given constant text[] := array[${READ_SETTINGS.join(', ')}];
    changed_to text[] := array[${CHANGE_SETTINGS}];
  begin${insert}
    changed_to := array[${RESTORE_SETTINGS}];
  end;
  if found and not ${NOBODY_SLEEPS}
     and current_setting('max_prepared_transactions') = '0' then
    perform pg_notify('${DOORBELL_CHANNEL}', '');
  end if;
  return null;
end`;
}

/**
 * A hash of the columns' JSON, which is the same in all sessions while rows are captured. Taken from the whole row's, where a
 * column that was renamed or dropped is null: its name in the statement would make every write to the table fail (ROW-13).
 */
function keyOf(ordering: Ordering, row: string): string {
  if (ordering.by === 'transaction') return "'t' || pg_current_xact_id()::text";
  const columns = ordering.columns.map((column) => `row_to_json(${row}) -> ${quoteLiteral(column)}`).join(', ');
  const policy = { block: 'b', skip: 's', park: 'p' }[ordering.poisoned];
  return `'${policy}' || md5(${quoteLiteral(`${ordering.table}:`)} || json_build_array(${columns})::text)`;
}

/** `row`: what stands for the row that the key is read from. */
function imagesOf(
  operation: Operation,
  perStatement: boolean,
): { columns: string; rows: string; from: string; row: string } {
  switch (operation) {
    case 'INSERT':
      return perStatement
        ? { columns: 'new_row', rows: 'row_to_json(changed)', from: 'from new_rows changed', row: 'changed' }
        : { columns: 'new_row', rows: 'row_to_json(new)', from: '', row: 'new' };
    case 'UPDATE':
      return { columns: 'old_row, new_row', rows: 'row_to_json(old), row_to_json(new)', from: '', row: 'new' };
    case 'DELETE':
      return perStatement
        ? { columns: 'old_row', rows: 'row_to_json(changed)', from: 'from old_rows changed', row: 'changed' }
        : { columns: 'old_row', rows: 'row_to_json(old)', from: '', row: 'old' };
    default:
      return operation satisfies never;
  }
}
