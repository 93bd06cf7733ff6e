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

export function rowsFrom(answer: string): Rows {
  const { fields, rows, rowCount } = parse(answer) as Answer;
  const bytes: number[] = [];
  const described: Field[] = [];
  for (let index = 0; index < fields.length; index++) {
    const [name, type] = fields[index] as readonly [string, string];
    described[index] = { name, type };
    if (type === 'bytea' || type === 'bytea[]') bytes[bytes.length] = index;
  }
  const result: Row[] = [];
  for (let index = 0; index < rows.length; index++) result[index] = rowFrom(rows[index] as unknown[], described, bytes);
  defineProperty(result, 'rowCount', { value: rowCount, configurable: true, writable: true });
  defineProperty(result, 'fields', { value: described, configurable: true, writable: true });
  return result as Rows;
}

function rowFrom(values: unknown[], fields: readonly Field[], bytes: readonly number[]): Row {
  for (let index = 0; index < bytes.length; index++) {
    const column = bytes[index] as number;
    values[column] = decodeBytes(values[column]);
  }
  const row: Row = {};
  for (let index = 0; index < fields.length; index++) {
    const { name } = fields[index] as Field;
    if (name === '__proto__') defineOwn(row, name, values[index]);
    else row[name] = values[index];
  }
  return row;
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
