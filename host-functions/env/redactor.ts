/**
 * Takes secrets out of text: as they are, JSON-escaped, base64 and base64url (at any of the three alignments, so that
 * `Authorization: Basic …` is caught too), hex and URL-encoded. Best effort: a function that wants to print a secret
 * reversed or letter by letter can, since it has to be able to read it.
 */

export type Redactor = (text: string) => string;

export const REDACTED = '[redacted]';
/** Shorter values would tear holes into ordinary text ("true", "1"), and are no secret that redaction could keep. */
export const MIN_REDACTED_LENGTH = 6;

const keepAll: Redactor = (text) => text;

export function createRedactor(values: Iterable<string>): Redactor {
  const forms = new Set<string>();
  for (const value of values) {
    if (value.length >= MIN_REDACTED_LENGTH) for (const form of formsOf(value)) forms.add(form);
  }
  if (forms.size === 0) return keepAll;
  // Longest first: of two secrets where one begins with the other, the whole is taken.
  const sorted = [...forms].sort((a, b) => b.length - a.length);
  const pattern = new RegExp(sorted.map((form) => RegExp.escape(form)).join('|'), 'g');
  return (text) => (text.length < MIN_REDACTED_LENGTH ? text : text.replace(pattern, REDACTED));
}

function* formsOf(value: string): Generator<string> {
  yield value;
  yield JSON.stringify(value).slice(1, -1);
  const bytes = Buffer.from(value);
  const hex = bytes.toString('hex');
  yield hex;
  yield hex.toUpperCase();
  for (let shift = 0; shift < 3; shift++) {
    const core = base64Core(bytes, shift);
    if (core.length < MIN_REDACTED_LENGTH) continue;
    yield core;
    yield core.replaceAll('+', '-').replaceAll('/', '_');
  }
  if (!value.isWellFormed()) return;
  const encoded = encodeURIComponent(value);
  yield encoded;
  yield encoded.replaceAll('%20', '+');
  yield encoded.replaceAll(/%[0-9A-F]{2}/g, (triplet) => triplet.toLowerCase());
}

/** The characters of base64 that depend on `bytes` alone when `shift` other bytes stand before them. */
function base64Core(bytes: Buffer, shift: number): string {
  const text = Buffer.concat([Buffer.alloc(shift), bytes]).toString('base64');
  return text.slice(Math.ceil((shift * 8) / 6), Math.floor(((shift + bytes.length) * 8) / 6));
}
