/**
 * Whether bytes are JSON, without making values of them: 6 MB of brackets keep `JSON.parse` busy for seconds (measured),
 * and here for 30 ms. Strings are looked through for their end and for control characters; that they are UTF-8 is known.
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
const ESCAPED = new Set(Buffer.from('"\\/bfnrtu'));
const WORDS = ['true', 'false', 'null'].map((word) => Buffer.from(word));
/** Spelled with an escape it is an ordinary key. */
const STATUS_CODE = Buffer.from('"statusCode"');
const ZERO = 0x30;
const NINE = 0x39;
const [MINUS, PLUS, DOT, SMALL_E, LARGE_E] = Buffer.from('-+.eE') as unknown as [
  number,
  number,
  number,
  number,
  number,
];

export type JsonShape = 'object with statusCode' | 'other';

/** null where it is no JSON text. */
export function jsonShapeOf(bytes: Buffer): JsonShape | null {
  return new JsonScanner(bytes).shape();
}

class JsonScanner {
  readonly #bytes: Buffer;
  #at = 0;
  /** The closing byte of each open array and object. */
  #open = Buffer.alloc(64);
  #depth = 0;
  #hasStatusCode = false;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  shape(): JsonShape | null {
    for (;;) {
      const opened = this.#value();
      if (opened === null) return null;
      if (opened) continue;
      // A value is over: so may be what it stands in.
      for (;;) {
        const byte = this.#next();
        if (this.#depth === 0) {
          if (byte !== undefined) return null;
          return this.#hasStatusCode ? 'object with statusCode' : 'other';
        }
        const close = this.#open[this.#depth - 1];
        this.#at++;
        if (byte === close) {
          this.#depth--;
          continue;
        }
        if (byte !== COMMA) return null;
        if (close === CLOSE_BRACE && !this.#key()) return null;
        break;
      }
    }
  }

  /** Steps over a value, or into one that is not empty: true then. */
  #value(): boolean | null {
    const byte = this.#next();
    if (byte === OPEN_BRACKET || byte === OPEN_BRACE) {
      this.#at++;
      const close = byte === OPEN_BRACE ? CLOSE_BRACE : CLOSE_BRACKET;
      if (this.#next() === close) {
        this.#at++;
        return false;
      }
      this.#push(close);
      return byte === OPEN_BRACKET || this.#key() ? true : null;
    }
    if (byte === QUOTE) return this.#string() ? false : null;
    return this.#scalar() ? false : null;
  }

  /** A key and its colon. */
  #key(): boolean {
    if (this.#next() !== QUOTE) return false;
    const start = this.#at;
    if (!this.#string()) return false;
    if (this.#depth === 1 && this.#at - start === STATUS_CODE.length) {
      this.#hasStatusCode ||= STATUS_CODE.equals(this.#bytes.subarray(start, this.#at));
    }
    if (this.#next() !== COLON) return false;
    this.#at++;
    return true;
  }

  #string(): boolean {
    const bytes = this.#bytes;
    for (let at = this.#at + 1; at < bytes.length; at++) {
      const byte = bytes[at]!;
      if (byte === QUOTE) {
        this.#at = at + 1;
        return true;
      }
      if (byte < 0x20) return false;
      if (byte !== BACKSLASH) continue;
      const escaped = bytes[++at];
      if (escaped === undefined || !ESCAPED.has(escaped)) return false;
      if (escaped !== UNICODE_ESCAPE) continue;
      for (const end = at + 4; at < end; at++) if (!isHexDigit(bytes[at + 1])) return false;
    }
    return false;
  }

  #scalar(): boolean {
    const bytes = this.#bytes;
    const byte = bytes[this.#at];
    const word = WORDS.find((one) => one[0] === byte);
    if (word !== undefined) {
      const end = this.#at + word.length;
      const isWord = word.equals(bytes.subarray(this.#at, end));
      this.#at = end;
      return isWord;
    }
    if (byte === MINUS) this.#at++;
    if (bytes[this.#at] === ZERO) this.#at++;
    else if (!this.#digits()) return false;
    if (bytes[this.#at] === DOT) {
      this.#at++;
      if (!this.#digits()) return false;
    }
    if (bytes[this.#at] === SMALL_E || bytes[this.#at] === LARGE_E) {
      this.#at++;
      if (bytes[this.#at] === PLUS || bytes[this.#at] === MINUS) this.#at++;
      return this.#digits();
    }
    return true;
  }

  /** At least one. */
  #digits(): boolean {
    const start = this.#at;
    while (isDigit(this.#bytes[this.#at])) this.#at++;
    return this.#at > start;
  }

  /** The next byte that is no white space; it is not stepped over. */
  #next(): number | undefined {
    for (;;) {
      const byte = this.#bytes[this.#at];
      if (byte !== 0x20 && byte !== 0x0a && byte !== 0x0d && byte !== 0x09) return byte;
      this.#at++;
    }
  }

  #push(close: number): void {
    if (this.#depth === this.#open.length) this.#open = Buffer.concat([this.#open], 2 * this.#depth);
    this.#open[this.#depth++] = close;
  }
}

function isDigit(byte: number | undefined): boolean {
  return byte !== undefined && byte >= ZERO && byte <= NINE;
}

function isHexDigit(byte: number | undefined): boolean {
  return isDigit(byte) || (byte !== undefined && (byte | 0x20) >= 0x61 && (byte | 0x20) <= 0x66);
}
