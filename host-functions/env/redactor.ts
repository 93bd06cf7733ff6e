/**
 * Takes secrets out of text: as they are, JSON-escaped (by whichever writer, and again within JSON text), base64 and base64url (at any of the three alignments, so that
 * `Authorization: Basic …` is caught too), hex and URL-encoded. Best effort: a function that wants to print a secret
 * reversed or letter by letter can, since it has to be able to read it.
 */

export type Redactor = (text: string) => string;

export const REDACTED = '[redacted]';
/** Shorter values would tear holes into ordinary text ("true", "1"), and are no secret that redaction could keep. */
export const MIN_REDACTED_LENGTH = 6;

const keepAll: Redactor = (text) => text;

export function createRedactor(values: Iterable<string>): Redactor {
  /** Pattern of each form, by its text. */
  const forms = new Map<string, string>();
  for (const value of values) {
    if (value.length < MIN_REDACTED_LENGTH) continue;
    for (const form of encodedFormsOf(value)) forms.set(form, RegExp.escape(form));
    forms.set(value, escapedPatternOf(value));
    for (const { core, pattern } of base64FormsOf(value)) forms.set(core, pattern);
  }
  if (forms.size === 0) return keepAll;
  // Longest first: of two secrets where one begins with the other, the whole is taken.
  const sorted = [...forms].sort(([a], [b]) => b.length - a.length);
  const pattern = new RegExp(sorted.map(([, form]) => form).join('|'), 'g');
  return (text) => (text.length < MIN_REDACTED_LENGTH ? text : text.replace(pattern, REDACTED));
}

/** What writers of JSON escape: the quote, the backslash and controls all of them, PHP the slash, it and Python all but ASCII. */
const ESCAPABLE = /\\+|["/\x00-\x1f\x7f-\uffff]/g;
const SHORT_ESCAPES: Readonly<Record<string, string>> = { '\b': 'b', '\t': 't', '\n': 'n', '\f': 'f', '\r': 'r' };

/**
 * The value as it is, in JSON text, in JSON text in JSON text, and once more: a backslash before a character that stands for
 * itself becomes three and then seven, any other is doubled. Bounded, and a run of backslashes is one piece, so that nothing
 * is tried over and over. A value without such characters is its own pattern.
 */
function escapedPatternOf(value: string): string {
  let pattern = '';
  let done = 0;
  for (const { 0: escapable, index } of value.matchAll(ESCAPABLE)) {
    pattern += RegExp.escape(value.slice(done, index)) + escapedPattern(escapable);
    done = index + escapable.length;
  }
  return pattern + RegExp.escape(value.slice(done));
}

/** Of one character, or of a run of backslashes. */
function escapedPattern(character: string): string {
  if (character.startsWith('\\')) return `\\\\{${character.length},${8 * character.length}}`;
  if (character === '"' || character === '/') return `\\\\{0,7}${character}`;
  const code = character.charCodeAt(0).toString(16).padStart(4, '0');
  const inAnyCase = code.replaceAll(/[a-f]/g, (digit) => `[${digit}${digit.toUpperCase()}]`);
  const short = SHORT_ESCAPES[character];
  return `(?:\\u${code}|\\\\{1,4}(?:u${inAnyCase}${short === undefined ? '' : `|${short}`}))`;
}

function* encodedFormsOf(value: string): Generator<string> {
  const bytes = Buffer.from(value);
  const hex = bytes.toString('hex');
  yield hex;
  yield hex.toUpperCase();
  if (!value.isWellFormed()) return;
  const encoded = encodeURIComponent(value);
  // As RFC 3986 has it, and as a form has it (URLSearchParams): each leaves other characters as they are.
  const strict = encoded.replaceAll(
    /[!'()*]/g,
    (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`,
  );
  const form = new URLSearchParams([['', value]]).toString().slice(1);
  for (const text of [encoded, encoded.replaceAll('%20', '+'), strict, form]) {
    yield text;
    yield text.replaceAll(/%[0-9A-F]{2}/g, (triplet) => triplet.toLowerCase());
  }
}

/**
 * For `shift` bytes of something else before the value: `core` are the characters that depend on it alone. The groups of
 * four at both ends hold a few bits of it as well, so the pattern takes them whole, with their padding.
 */
function* base64FormsOf(value: string): Generator<{ readonly core: string; readonly pattern: string }> {
  const bytes = Buffer.from(value);
  for (let shift = 0; shift < 3; shift++) {
    const start = Math.ceil((shift * 8) / 6);
    const end = Math.floor(((shift + bytes.length) * 8) / 6);
    const standard = Buffer.concat([Buffer.alloc(shift), bytes])
      .toString('base64')
      .slice(start, end);
    if (standard.length < MIN_REDACTED_LENGTH) continue;
    const before = start === 0 ? '' : `[\\w+/-]{0,${start}}`;
    const after = end % 4 === 0 ? '' : `[\\w+/=-]{0,${4 - (end % 4)}}`;
    for (const core of [standard, standard.replaceAll('+', '-').replaceAll('/', '_')])
      yield { core, pattern: before + RegExp.escape(core) + after };
  }
}
