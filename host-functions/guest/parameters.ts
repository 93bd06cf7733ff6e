import { bytesToBase64 } from '../../runtime/javascript/guest/web/base64.ts';
import { bigintText, dateText, dateTime, isArray, isDate, isFiniteNumber, isView, stringify } from './primordials.ts';

/** SQL parameters as JSON text; the other side is `host-functions/db/parameters.ts`. */

/** A value to be sent as json whatever it is: `db.json([1, 2])` for a json column, where an array would be a Postgres array. */
export class JsonParameter {
  readonly value: unknown;
  constructor(value: unknown) {
    this.value = value;
  }
}

export function parametersToJson(params: unknown): string {
  if (params === undefined || params === null) return '[]';
  if (!isArray(params)) throw new TypeError('db.query: params has to be an array');
  return listToJson(params, 'parameter $', 0);
}

/** Deeper than Postgres' 6 dimensions is refused by the host; this bound only keeps a cycle from running for ever. */
const MAX_DEPTH = 16;

function listToJson(list: readonly unknown[], what: string, depth: number): string {
  if (depth > MAX_DEPTH) throw new TypeError(`db.query: ${what} is nested too deeply`);
  let json = '[';
  for (let index = 0; index < list.length; index++) {
    const where = depth === 0 ? `${what}${index + 1}` : what;
    json += (index === 0 ? '' : ',') + valueToJson(list[index], where, depth);
  }
  return `${json}]`;
}

function valueToJson(value: unknown, what: string, depth: number): string {
  switch (typeof value) {
    case 'undefined':
      return 'null';
    case 'string':
      return stringify(value);
    case 'boolean':
      return value ? 'true' : 'false';
    case 'number':
      return numberToJson(value);
    case 'bigint':
      return `{"$":"bigint","v":"${bigintText(value)}"}`;
    case 'object':
      return value === null ? 'null' : objectToJson(value, what, depth);
    default:
      throw new TypeError(`db.query: ${what} is a ${typeof value}, which has no SQL form`);
  }
}

function numberToJson(value: number): string {
  if (!isFiniteNumber(value)) return `{"$":"number","v":"${value}"}`;
  if (value === 0 && 1 / value < 0) return '{"$":"number","v":"-0"}';
  return `${value}`;
}

function objectToJson(value: object, what: string, depth: number): string {
  if (isArray(value)) return listToJson(value, what, depth + 1);
  if (value instanceof JsonParameter) return taggedJson(value.value, what);
  if (isDate(value)) {
    if (!isFiniteNumber(dateTime(value))) throw new TypeError(`db.query: ${what} is an invalid Date`);
    return `{"$":"date","v":"${dateText(value)}"}`;
  }
  const bytes = asBytes(value);
  if (bytes !== undefined) return `{"$":"bytes","v":"${bytesToBase64(bytes)}"}`;
  return taggedJson(value, what);
}

function taggedJson(value: unknown, what: string): string {
  const json = stringify(value);
  if (json === undefined) throw new TypeError(`db.query: ${what} has no JSON form`);
  return `{"$":"json","v":${json}}`;
}

function asBytes(value: object): Uint8Array | undefined {
  if (value instanceof Uint8Array) return value;
  if (isView(value)) return new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
  if (value instanceof ArrayBuffer) return new Uint8Array(value);
  return undefined;
}
