/**
 * Types of result columns by OID, and how a value's Postgres text becomes JSON text. Only what a Postgres type can hold
 * without loss becomes a JSON number; everything without a natural JSON form stays Postgres' text.
 *
 * | type | JSON |
 * |---|---|
 * | bool | true, false |
 * | int2, int4, oid | number |
 * | int8 | number from -(2^53-1) to 2^53-1, else string |
 * | float4, float8 | number; "NaN", "Infinity", "-Infinity" as strings |
 * | numeric, money | string |
 * | timestamptz | ISO 8601 with offset, `Z` for UTC, up to microseconds |
 * | timestamp, date | ISO 8601 without offset; "infinity", "-infinity" |
 * | json, jsonb | the value; numbers that float64 would change become strings |
 * | bytea | base64 text, which the guest's face turns into a Uint8Array (the column's type says so) |
 * | arrays | nested JSON arrays of the element's form |
 * | anything else | Postgres' text |
 */

/** JSON text of one non-null value. */
export type ValueEncoder = (text: string) => string;

export interface ColumnType {
  /** Postgres' name; `int4[]` for an array. */
  readonly name: string;
  readonly encode: ValueEncoder;
}

export const encodeText: ValueEncoder = (text) => JSON.stringify(text);
const encodeBoolean: ValueEncoder = (text) => (text === 't' ? 'true' : 'false');
const encodeInteger: ValueEncoder = (text) => text;
const encodeInt8: ValueEncoder = (text) => (Number.isSafeInteger(Number(text)) ? text : `"${text}"`);
const encodeBytea: ValueEncoder = (text) => `"${Buffer.from(text.slice(2), 'hex').toString('base64')}"`;

/** Text such as `1e+30` or `-0` is JSON as it stands. */
const encodeFloat: ValueEncoder = (text) => (/[NI]/.test(text) ? `"${text}"` : text);

/** `2026-02-06 09:00:00.5+00` -> `2026-02-06T09:00:00.5Z`; other years in ISO's expanded form; infinity as it is. */
const encodeTimestamp: ValueEncoder = (text) => {
  const parts = /^(\d{4,})(-\d\d-\d\d)(?: (\d\d:\d\d:\d\d(?:\.\d+)?)([+-][\d:]+)?)?( BC)?$/.exec(text);
  if (parts === null) return JSON.stringify(text);
  const [, year, day, time, offset, before] = parts;
  const date = `${isoYear(Number(year), before !== undefined)}${day}`;
  if (time === undefined) return `"${date}"`;
  return `"${date}T${time}${isoOffset(offset)}"`;
};

function isoYear(year: number, beforeChrist: boolean): string {
  // ISO 8601 has a year 0, which is 1 BC.
  if (beforeChrist) return year === 1 ? '0000' : `-${String(year - 1).padStart(6, '0')}`;
  return year > 9999 ? `+${String(year).padStart(6, '0')}` : String(year).padStart(4, '0');
}

function isoOffset(offset: string | undefined): string {
  if (offset === undefined) return '';
  if (offset === '+00') return 'Z';
  return offset.length === 3 ? `${offset}:00` : offset;
}

/** A number that could lose something: 16 digits or more, or an exponent. Inside a string it only costs the slow path. */
const SUSPECT_NUMBER = /[\d.]{16,}|\d[eE]/;

/** json text is spliced in as it is, unless a number in it would be changed by JSON.parse on the other side. */
export const encodeJson: ValueEncoder = (text) => {
  if (!SUSPECT_NUMBER.test(text)) return text;
  try {
    return JSON.stringify(JSON.parse(text, keepNumber as (key: string, value: unknown) => unknown));
  } catch {
    return text; // deeper than the stack allows; the guest's own parser says so
  }
};

function keepNumber(_key: string, value: unknown, context: { source?: string }): unknown {
  if (typeof value !== 'number' || context.source === undefined) return value;
  return isExact(value, context.source) ? value : context.source;
}

/** Whether a float64 says all that the number's text said. */
function isExact(value: number, source: string): boolean {
  if (!Number.isFinite(value)) return false;
  if (Number.isInteger(value) && !Number.isSafeInteger(value)) return false;
  const digits = significantDigits(source);
  if (digits === '') return true;
  return value !== 0 && (digits.length <= 15 || digits === significantDigits(String(value)));
}

function significantDigits(number: string): string {
  return number
    .replace(/[eE].*$/, '')
    .replace(/[-.]/g, '')
    .replace(/^0+/, '')
    .replace(/0+$/, '');
}

type Row = readonly [oid: number, arrayOid: number, name: string, encode: ValueEncoder];

/** Built-in types; their OIDs are fixed (`src/include/catalog/pg_type.dat`). */
const BUILT_IN: readonly Row[] = [
  [16, 1000, 'bool', encodeBoolean],
  [17, 1001, 'bytea', encodeBytea],
  [18, 1002, 'char', encodeText],
  [19, 1003, 'name', encodeText],
  [20, 1016, 'int8', encodeInt8],
  [21, 1005, 'int2', encodeInteger],
  [23, 1007, 'int4', encodeInteger],
  [25, 1009, 'text', encodeText],
  [26, 1028, 'oid', encodeInteger],
  [114, 199, 'json', encodeJson],
  [142, 143, 'xml', encodeText],
  [600, 1017, 'point', encodeText],
  [650, 651, 'cidr', encodeText],
  [700, 1021, 'float4', encodeFloat],
  [701, 1022, 'float8', encodeFloat],
  [790, 791, 'money', encodeText],
  [829, 1040, 'macaddr', encodeText],
  [869, 1041, 'inet', encodeText],
  [1042, 1014, 'bpchar', encodeText],
  [1043, 1015, 'varchar', encodeText],
  [1082, 1182, 'date', encodeTimestamp],
  [1083, 1183, 'time', encodeText],
  [1114, 1115, 'timestamp', encodeTimestamp],
  [1184, 1185, 'timestamptz', encodeTimestamp],
  [1186, 1187, 'interval', encodeText],
  [1266, 1270, 'timetz', encodeText],
  [1560, 1561, 'bit', encodeText],
  [1562, 1563, 'varbit', encodeText],
  [1700, 1231, 'numeric', encodeText],
  [2205, 2210, 'regclass', encodeText],
  [2206, 2211, 'regtype', encodeText],
  [2249, 2287, 'record', encodeText],
  [2278, 0, 'void', encodeText],
  [2950, 2951, 'uuid', encodeText],
  [3614, 3643, 'tsvector', encodeText],
  [3615, 3645, 'tsquery', encodeText],
  [3802, 3807, 'jsonb', encodeJson],
  [3904, 3905, 'int4range', encodeText],
  [3906, 3907, 'numrange', encodeText],
  [3908, 3909, 'tsrange', encodeText],
  [3910, 3911, 'tstzrange', encodeText],
  [3912, 3913, 'daterange', encodeText],
  [3926, 3927, 'int8range', encodeText],
  [4072, 4073, 'jsonpath', encodeText],
];

export function arrayOf(element: ColumnType, encodeArray: (element: ValueEncoder) => ValueEncoder): ColumnType {
  return { name: `${element.name}[]`, encode: encodeArray(element.encode) };
}

export function builtInTypes(encodeArray: (element: ValueEncoder) => ValueEncoder): Map<number, ColumnType> {
  const types = new Map<number, ColumnType>();
  for (const [oid, arrayOid, name, encode] of BUILT_IN) {
    const type = { name, encode };
    types.set(oid, type);
    if (arrayOid !== 0) types.set(arrayOid, arrayOf(type, encodeArray));
  }
  return types;
}
