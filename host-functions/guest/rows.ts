import { base64ToBytes } from '../../runtime/javascript/guest/web/base64.ts';
import { defineProperty, isArray, parse } from './primordials.ts';

/** Turns the host's compact answer (`host-functions/db/query-result.ts`) into row objects. */

export interface Field {
  readonly name: string;
  /** Postgres' name of the type, e.g. `int4`, `text[]`. */
  readonly type: string;
}

export type Row = Record<string, unknown>;
/** The rows; `rowCount` and `fields` are not enumerable, so that `return db.query(…)` answers with the rows alone. */
export type Rows = Row[] & { readonly rowCount: number | null; readonly fields: readonly Field[] };

interface Answer {
  readonly fields: readonly (readonly [name: string, type: string])[];
  readonly rows: readonly (readonly unknown[])[];
  readonly rowCount: number | null;
}

const NONE: number[] = [];

/** Arrays of the answer become those of the result: each new object costs a guest more than what is done with it. */
export function rowsFrom(answer: string): Rows {
  const { fields, rows, rowCount } = parse(answer) as Answer;
  let bytes: number[] = NONE;
  for (let index = 0; index < fields.length; index++) {
    const field = fields[index] as readonly [string, string];
    const type = field[1];
    if (type === 'bytea' || type === 'bytea[]') {
      if (bytes === NONE) bytes = [];
      bytes[bytes.length] = index;
    }
    (fields as unknown[])[index] = { name: field[0], type };
  }
  const described = fields as unknown as readonly Field[];
  for (let index = 0; index < rows.length; index++) {
    const values = rows[index] as unknown[];
    if (bytes !== NONE) decodeColumns(values, bytes);
    (rows as unknown[])[index] = rowFrom(values, described);
  }
  defineHidden(rows, 'rowCount', rowCount);
  defineHidden(rows, 'fields', described);
  return rows as unknown as Rows;
}

/** One for all: a new one for each property costs as much again. */
const HIDDEN = { __proto__: null, value: undefined as unknown, enumerable: false, configurable: true, writable: true };

function defineHidden(rows: object, name: string, value: unknown): void {
  HIDDEN.value = value;
  defineProperty(rows, name, HIDDEN as PropertyDescriptor);
  HIDDEN.value = undefined;
}

function rowFrom(values: readonly unknown[], fields: readonly Field[]): Row {
  const row: Row = {};
  for (let index = 0; index < fields.length; index++) {
    const { name } = fields[index] as Field;
    if (name === '__proto__') defineOwn(row, name, values[index]);
    else row[name] = values[index];
  }
  return row;
}

function decodeColumns(values: unknown[], columns: readonly number[]): void {
  for (let index = 0; index < columns.length; index++) {
    const column = columns[index] as number;
    values[column] = decodeBytes(values[column]);
  }
}

/** An assignment to `__proto__` would set the prototype. */
function defineOwn(row: Row, name: string, value: unknown): void {
  defineProperty(row, name, { value, enumerable: true, configurable: true, writable: true });
}

function decodeBytes(value: unknown): unknown {
  if (value === null) return null;
  if (!isArray(value)) return base64ToBytes(value as string);
  for (let index = 0; index < value.length; index++) value[index] = decodeBytes(value[index]);
  return value;
}
