/**
 * Text from functions, rows and servers on its way to a terminal (LOG-01). Control characters, among them ESC and the
 * 8-bit C1 set, could move the cursor, retitle the window or answer on the user's behalf; bidirectional overrides could
 * show a line as something that it is not. They are shown escaped.
 */

// C0 but for tab and newline, DEL, C1; line and paragraph separators; bidi controls; zero-width and BOM; lone surrogates.
const UNSAFE =
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb]|\p{Cs}|[\u{e0000}-\u{e007f}]/gu;

/** Keeps line breaks and tabs. */
export function safeText(text: string): string {
  return text.replace(UNSAFE, escaped);
}

/** One line: line breaks and tabs are escaped too, so that a message can't forge the line after it. */
export function safeLine(text: string): string {
  return safeText(text).replace(/[\n\t]/g, escaped);
}

function escaped(character: string): string {
  const code = character.codePointAt(0) ?? 0;
  if (character === '\n') return '\\n';
  if (character === '\r') return '\\r';
  if (character === '\t') return '\\t';
  return code <= 0xff ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u{${code.toString(16)}}`;
}
