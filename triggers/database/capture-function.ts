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
export const CAPTURE_VERSION = 2;

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
 * Whether the session writes all values as that. Only looked at, since each SET of a function costs a transaction some 3
 * microseconds (of 106 with capture, async commit, eight clients on two cores). And not read setting by setting, since what
 * an expression costs is how many functions it calls: each is looked up, and the right to call it, anew in each transaction.
 * So four values are written, each as one of the settings says: 7 microseconds in place of 10 (of 58 with capture, one session,
 * async commit). The zone is read by its name, for others may agree with UTC on any one instant.
 */
const SAMPLES: readonly (readonly [constant: string, written: string])[] = [
  [`date '2000-02-13'`, '2000-02-13'],
  [`interval '1 day 02:00'`, '1 day 02:00:00'],
  [`${quoteLiteral('\\x01')}::bytea`, '\\x01'],
  // As '0.3' where digits are left out.
  ['0.30000000000000004::float8', '0.30000000000000004'],
];
const ZONES = ['UTC', 'Etc/UTC', 'GMT'];
const WRITTEN = ZONES.map((zone) => quoteLiteral(SAMPLES.map(([, written]) => written).join('') + zone)).join(', ');
const USUAL = `concat(${SAMPLES.map(([constant]) => constant).join(', ')}, current_setting('timezone')) = any (array[${WRITTEN}])`;
/** In one expression with the other question: each one of a function costs 1 to 3 microseconds a transaction. */
const NOBODY_SLEEPS = `pg_try_advisory_xact_lock_shared(${DOORBELL_LOCK.join(', ')})`;

/** No claims, and no invocation that led here. Asked first: the columns that say so cost 4 microseconds, whatever is in them. */
const NOTHING_TO_SAY = `concat(current_setting('request.jwt.claims', true), current_setting('postern.depth', true)) = ''`;

/**
 * A guest's are those that its node has proven, since an event's invocation gets proven ones in its turn: whatever let a guest
 * set the setting would make it somebody else there.
 */
const CLAIMS = `case when current_setting('request.jwt.claims', true) <> '' then
        case when session_user ~ ${quoteLiteral(GUEST_LOGIN_PATTERN)} then postern.claims()::text
        else current_setting('request.jwt.claims', true) end end`;
const WRITER = `case when current_setting('request.jwt.claims', true) <> '' then session_user end`;

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
  const insert = (more: Readonly<Record<string, string>>): string => {
    const values = {
      function_id: `${quoteLiteral(String(functionId))}::bigint`,
      trigger_id: `${quoteLiteral(triggerId)}::uuid`,
      [columns]: rows,
      ...more,
      ...(key === undefined ? {} : { ordering_key: key }),
    };
    return `
    insert into postern.events (${Object.keys(values).join(', ')})
    select ${Object.values(values).join(',\n      ')}
    ${from};`;
  };
  const inFull = insert({ claims: CLAIMS, writer: WRITER, depth: `current_setting('postern.depth', true)` });
  // Assignments, since `perform` would set `found`. Where the insert fails, the settings are rolled back with it.
  return `
-- capture ${CAPTURE_VERSION}
begin
  if ${USUAL} and ${NOBODY_SLEEPS} then
    if ${NOTHING_TO_SAY} then${insert({})}
    else${inFull}
    end if;
    return null;
  end if;
  declare
    given constant text[] := array[${READ_SETTINGS.join(', ')}];
    changed_to text[] := array[${CHANGE_SETTINGS}];
  begin${inFull}
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
