/**
 * Text from functions, rows and servers on its way to a terminal (LOG-01). Control characters, among them ESC and the
 * 8-bit C1 set, could move the cursor, retitle the window or answer on the user's behalf; bidirectional overrides could
 * show a line as something that it is not. They are shown escaped.
 */

// C0 but for tab and newline, DEL, C1; soft hyphen; line and paragraph separators; bidi controls; zero-width and BOM; lone surrogates; tags.
const UNSAFE =
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb]|\p{Cs}|[\u{e0000}-\u{e007f}]/gu;

/** Keeps line breaks and tabs. */
export function safeText(text: string): string {
  return text.replace(UNSAFE, escaped);
}

/** One line: line breaks and tabs are escaped too, so that a message can't forge the line after it. */
export function safeLine(text: string): string {
  return safeText(text).replace(/[\n\t]/g, escaped);
}

/**
 * JSON text of one value with everything escaped that a terminal would act on: the same value for a program. C0 controls and
 * lone surrogates are escapes in JSON anyway.
 */
export function safeJson(value: unknown): string {
  return JSON.stringify(value).replace(UNSAFE, (character) =>
    Array.from({ length: character.length }, (_, index) => character.charCodeAt(index))
      .map((unit) => `\\u${unit.toString(16).padStart(4, '0')}`)
      .join(''),
  );
}

function escaped(character: string): string {
  const code = character.codePointAt(0) ?? 0;
  if (character === '\n') return '\\n';
  if (character === '\r') return '\\r';
  if (character === '\t') return '\\t';
  return code <= 0xff ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u{${code.toString(16)}}`;
}
