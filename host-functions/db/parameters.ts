import { limitError } from '../limit-error.ts';
import { invalidPayload } from '../payload.ts';
import { arrayText } from './array-text.ts';

/**
 * Parameters as the guest's face sends them, and as Postgres takes them. In JSON: null, true, 1, "text" stand for
 * themselves, an array for a Postgres array (nested ones for more dimensions), and everything else is tagged:
 *
 *     {"$":"date","v":"2026-02-06T09:00:00.000Z"}   {"$":"bigint","v":"9007199254740993"}   {"$":"bytes","v":"<base64>"}
 *     {"$":"number","v":"NaN"}   {"$":"json","v":{…}}
 *
 * Postgres infers each parameter's type from the statement; values go as text (bytes in binary), never into the SQL.
 */

/** The protocol counts them in 16 bits; node-postgres would wrap around silently. */
export const MAX_PARAMETERS = 65_535;
/** Postgres allows 6 dimensions. */
const MAX_ARRAY_DEPTH = 6;

export type PostgresParameter = string | Buffer | null;

export function toPostgresParameters(params: unknown): PostgresParameter[] {
  if (params === undefined || params === null) return [];
  if (!Array.isArray(params)) throw invalidPayload('db.query', 'has params that are not an array');
  if (params.length > MAX_PARAMETERS) {
    throw limitError('DB_PARAMETERS_LIMIT', `a statement takes ${MAX_PARAMETERS} parameters`, {
      allowed: MAX_PARAMETERS,
      used: params.length,
    });
  }
  return params.map((value: unknown, index) => {
    if (isTagged(value) && value.$ === 'bytes') return bytesOf(value.v, index);
    return Array.isArray(value) ? arrayText(arrayItems(value, index, 1)) : scalarText(value, index);
  });
}

interface Tagged {
  readonly $: unknown;
  readonly v: unknown;
}

function isTagged(value: unknown): value is Tagged {
  return typeof value === 'object' && value !== null && Object.hasOwn(value, '$') && Object.hasOwn(value, 'v');
}

function arrayItems(items: readonly unknown[], index: number, depth: number): (string | null | readonly unknown[])[] {
  if (depth > MAX_ARRAY_DEPTH) throw badParameter(index, `has more than ${MAX_ARRAY_DEPTH} dimensions`);
  return items.map((item) => (Array.isArray(item) ? arrayItems(item, index, depth + 1) : scalarText(item, index)));
}

function scalarText(value: unknown, index: number): string | null {
  switch (typeof value) {
    case 'string':
      return checkedText(value, index);
    case 'number':
    case 'boolean':
      return String(value);
    case 'object':
      if (value === null) return null;
      if (isTagged(value)) return taggedText(value, index);
      throw badParameter(index, 'is an object without a tag');
    default:
      throw badParameter(index, `is of type ${typeof value}`);
  }
}

function taggedText(tagged: Tagged, index: number): string {
  const { $: tag, v: value } = tagged;
  if (tag === 'json') {
    const text = JSON.stringify(value);
    // An escaped lone surrogate or NUL inside json text is Postgres' to refuse (22P05).
    return text;
  }
  if (typeof value !== 'string') throw badParameter(index, 'has a tag without text');
  if (tag === 'date' && /^[+-]?\d{4,6}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/.test(value)) return postgresDate(value);
  if (tag === 'bigint' && /^-?\d{1,131072}$/.test(value)) return value;
  if (tag === 'number' && /^(NaN|-?Infinity|-0)$/.test(value)) return value;
  if (tag === 'bytes') return `\\x${bytesOf(value, index).toString('hex')}`;
  throw badParameter(index, 'has an unknown tag or a malformed value');
}

/** Postgres reads no signed years: `-000044-03-15T…` is 45 BC. */
function postgresDate(iso: string): string {
  const signed = /^([+-])(\d{6})(.*)$/.exec(iso);
  if (signed === null) return iso;
  const year = Number(signed[2]);
  if (signed[1] === '+') return `${year}${signed[3]}`;
  return `${String(year + 1).padStart(4, '0')}${signed[3]} BC`;
}

function bytesOf(value: unknown, index: number): Buffer {
  if (typeof value !== 'string' || value.length % 4 !== 0 || !/^[A-Za-z0-9+/]*={0,2}$/.test(value)) {
    throw badParameter(index, 'is not base64');
  }
  return Buffer.from(value, 'base64');
}

function checkedText(text: string, index: number): string {
  if (text.includes('\0')) throw badParameter(index, 'contains a NUL character, which Postgres text can not hold');
  if (!text.isWellFormed()) throw badParameter(index, 'contains a lone surrogate, which has no UTF-8 form');
  return text;
}

function badParameter(index: number, what: string): Error {
  return invalidPayload('db.query', `is invalid: parameter $${index + 1} ${what}`);
}
