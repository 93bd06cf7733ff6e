import type { Redactor } from '../env/redactor.ts';

/**
 * What a guest logs, made safe to keep and to print. A terminal obeys more than C0: DEL and C1 controls, and bidi marks
 * that show text in another order. Postgres' jsonb takes neither NUL nor lone surrogates, and one such line would fail
 * the insert of a whole batch of records.
 */

/** DEL and C1, Arabic letter mark, zero width and bidi marks, line and paragraph separator, BOM, tag characters' plane. */
const UNSAFE_IN_JSON = /[\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g;

/** For text that is to be a JSON string: well-formed, without NUL, without secrets. */
export function cleanText(text: string, redact: Redactor): string {
  return redact(text).toWellFormed().replaceAll('\0', '\u2400');
}

/** JSON text with everything escaped that could act on a terminal; C0 controls already are. */
export function printableJson(value: unknown): string {
  return JSON.stringify(value).replace(UNSAFE_IN_JSON, escapeUnit);
}

function escapeUnit(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
}

/** The same for every string and key of a JSON value. A number that spells a secret becomes text. */
export function cleanValue(value: unknown, redact: Redactor): unknown {
  if (typeof value === 'string') return cleanText(value, redact);
  if (typeof value === 'number') {
    const text = String(value);
    const shown = redact(text);
    return shown === text ? value : shown;
  }
  if (Array.isArray(value)) return value.map((item) => cleanValue(item, redact));
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).map(([key, item]) => [cleanText(key, redact), cleanValue(item, redact)]);
  return Object.fromEntries(entries);
}
