/**
 * Whether bytes are JSON, without making values of them: 6 MB of brackets keep `JSON.parse` busy for seconds (measured),
 * and here for 20 to 50. Strings are looked through for their end and for control characters; that they are UTF-8 is known.
 */

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const COLON = 0x3a;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;
const UNICODE_ESCAPE = 0x75;
const ZERO = 0x30;
const NINE = 0x39;
const SMALL_E = 0x65;
const LARGE_E = 0x45;
const MINUS = 0x2d;
const PLUS = 0x2b;
const DOT = 0x2e;
const SPACE = 0x20;
const LINE_FEED = 0x0a;
const CARRIAGE_RETURN = 0x0d;
const TAB = 0x09;
/** 1 for what may follow a backslash. */
const ESCAPED = new Uint8Array(256);
for (const byte of Buffer.from('"\\/bfnrtu')) ESCAPED[byte] = 1;
const [TRUE, FALSE, NULL] = ['true', 'false', 'null'].map((word) => Buffer.from(word)) as [Buffer, Buffer, Buffer];
/** Spelled with an escape it is an ordinary key. */
const STATUS_CODE = Buffer.from('"statusCode"');
/** What the helpers say where there is none of what they look for. */
const NONE = -1;

export type JsonShape = 'object with statusCode' | 'other';

/** null where it is no JSON text; `too deep` where arrays and objects stand in more than `maxDepth` others. */
export function jsonShapeOf(bytes: Uint8Array): JsonShape | null;
export function jsonShapeOf(bytes: Uint8Array, maxDepth: number): JsonShape | 'too deep' | null;
export function jsonShapeOf(bytes: Uint8Array, maxDepth = Number.POSITIVE_INFINITY): JsonShape | 'too deep' | null {
  /** The closing byte of each open array and object. */
  let open = new Uint8Array(64);
  let depth = 0;
  let close = 0;
  let at = 0;
  let hasStatusCode = false;
  for (;;) {
    if (close === CLOSE_BRACE) {
      const start = skipSpace(bytes, at);
      const end = endOfString(bytes, start);
      if (end === NONE) return null;
      hasStatusCode ||= depth === 1 && end - start === STATUS_CODE.length && standsAt(bytes, start, STATUS_CODE);
      at = skipSpace(bytes, end);
      if (byteAt(bytes, at++) !== COLON) return null;
    }
    at = skipSpace(bytes, at);
    const byte = byteAt(bytes, at);
    if (byte === OPEN_BRACKET || byte === OPEN_BRACE) {
      if (depth >= maxDepth) return 'too deep';
      const ownClose = byte === OPEN_BRACE ? CLOSE_BRACE : CLOSE_BRACKET;
      at = skipSpace(bytes, at + 1);
      if (byteAt(bytes, at) !== ownClose) {
        if (depth === open.length) open = twiceAsLong(open);
        open[depth++] = close;
        close = ownClose;
        continue;
      }
      at++;
    } else {
      at = endOfScalar(bytes, at, byte);
      if (at === NONE) return null;
    }
    // A value is over: so may be what it stands in.
    for (;;) {
      at = skipSpace(bytes, at);
      if (depth === 0) return at < bytes.length ? null : hasStatusCode ? 'object with statusCode' : 'other';
      const next = byteAt(bytes, at++);
      if (next === COMMA) break;
      if (next !== close) return null;
      close = open[--depth] as number;
    }
  }
}

/** 0, which JSON has nowhere, behind the end: so that V8 knows it for a small number. */
function byteAt(bytes: Uint8Array, at: number): number {
  return at < bytes.length ? (bytes[at] as number) : 0;
}

/** Where the next byte is that is no white space. */
function skipSpace(bytes: Uint8Array, start: number): number {
  return byteAt(bytes, start) > SPACE ? start : skipSpaces(bytes, start);
}

function skipSpaces(bytes: Uint8Array, start: number): number {
  let at = start;
  for (;;) {
    const byte = byteAt(bytes, at);
    if (byte !== SPACE && byte !== LINE_FEED && byte !== CARRIAGE_RETURN && byte !== TAB) return at;
    at++;
  }
}

// Each says what stands behind the thing that begins at `start`.

function endOfScalar(bytes: Uint8Array, start: number, byte: number): number {
  if (byte === QUOTE) return endOfString(bytes, start);
  if (byte === MINUS || isDigit(byte)) return endOfNumber(bytes, start);
  const word = byte === TRUE[0] ? TRUE : byte === FALSE[0] ? FALSE : NULL;
  return standsAt(bytes, start, word) ? start + word.length : NONE;
}

function endOfString(bytes: Uint8Array, start: number): number {
  if (byteAt(bytes, start) !== QUOTE) return NONE;
  for (let at = start + 1; ; at++) {
    const byte = byteAt(bytes, at);
    if (byte === QUOTE) return at + 1;
    if (byte < SPACE) return NONE;
    if (byte !== BACKSLASH) continue;
    const escaped = byteAt(bytes, ++at);
    if (ESCAPED[escaped] !== 1) return NONE;
    if (escaped !== UNICODE_ESCAPE) continue;
    for (const end = at + 4; at < end; at++) if (!isHexDigit(byteAt(bytes, at + 1))) return NONE;
  }
}

function endOfNumber(bytes: Uint8Array, start: number): number {
  let at = byteAt(bytes, start) === MINUS ? start + 1 : start;
  at = byteAt(bytes, at) === ZERO ? at + 1 : endOfDigits(bytes, at);
  if (at !== NONE && byteAt(bytes, at) === DOT) at = endOfDigits(bytes, at + 1);
  if (at === NONE) return NONE;
  const byte = byteAt(bytes, at);
  if (byte !== SMALL_E && byte !== LARGE_E) return at;
  const sign = byteAt(bytes, at + 1);
  return endOfDigits(bytes, sign === PLUS || sign === MINUS ? at + 2 : at + 1);
}

/** One at least. */
function endOfDigits(bytes: Uint8Array, start: number): number {
  let at = start;
  while (isDigit(byteAt(bytes, at))) at++;
  return at > start ? at : NONE;
}

function standsAt(bytes: Uint8Array, at: number, text: Buffer): boolean {
  for (let i = 0; i < text.length; i++) if (byteAt(bytes, at + i) !== text[i]) return false;
  return true;
}

function twiceAsLong(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  const longer = new Uint8Array(2 * bytes.length);
  longer.set(bytes);
  return longer;
}

function isDigit(byte: number): boolean {
  return byte >= ZERO && byte <= NINE;
}

function isHexDigit(byte: number): boolean {
  return isDigit(byte) || ((byte | 0x20) >= 0x61 && (byte | 0x20) <= 0x66);
}
