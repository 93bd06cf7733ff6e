/**
 * JSON numbers that a JavaScript number can't hold become strings: a bigint over 2^53, a numeric with many digits. As
 * `db.query` gives them. Works on the text, so that everything else stays as Postgres wrote it, key order and all.
 *
 * Character by character, and strings by indexOf: about 5 ms a megabyte. A regular expression took 100, and its stack
 * overflows in strings of some megabytes.
 */
export function exactNumbers(json: string): string {
  let out = '';
  let copied = 0;
  let at = 0;
  while (at < json.length) {
    const code = json.charCodeAt(at);
    if (code === QUOTE) {
      at = endOfString(json, at);
    } else if (code === MINUS || isDigit(code)) {
      const end = endOfNumber(json, at + 1);
      if (end - at >= SHORTEST_INEXACT) {
        const token = json.slice(at, end);
        if (!isExact(token)) {
          out += `${json.slice(copied, at)}"${token}"`;
          copied = end;
        }
      }
      at = end;
    } else {
      at++;
    }
  }
  return copied === 0 ? json : out + json.slice(copied);
}

/** `1e400`. Shorter ones, and plain ones of up to 15 digits, are always exact. */
const SHORTEST_INEXACT = 5;
const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const PLUS = 0x2b;
const MINUS = 0x2d;
const DOT = 0x2e;
const ZERO = 0x30;
const NINE = 0x39;
const UPPER_E = 0x45;
const LOWER_E = 0x65;

function isDigit(code: number): boolean {
  return code >= ZERO && code <= NINE;
}

function endOfNumber(json: string, start: number): number {
  let at = start;
  for (; at < json.length; at++) {
    const code = json.charCodeAt(at);
    if (isDigit(code) || code === DOT || code === LOWER_E || code === UPPER_E) continue;
    if (code !== PLUS && code !== MINUS) break;
  }
  return at;
}

/** Behind the closing quote. */
function endOfString(json: string, start: number): number {
  let quote = start;
  for (;;) {
    quote = json.indexOf('"', quote + 1);
    if (quote === -1) return json.length;
    let backslashes = 0;
    while (json.charCodeAt(quote - 1 - backslashes) === BACKSLASH) backslashes++;
    if (backslashes % 2 === 0) return quote + 1;
  }
}

/** A double keeps 15 significant digits of any number whose exponent it can hold. */
const PLAIN = /^-?[\d.]{1,15}$/;

/** Whether reading the token and writing it again gives the same number. 1.50 and 1.5 are the same. */
function isExact(token: string): boolean {
  return PLAIN.test(token) || canonical(token) === canonical(String(Number(token)));
}

/** Sign, significant digits and the power of ten of the last one: equal for equal numbers. */
function canonical(token: string): string {
  const [mantissa = '', exponent = '0'] = token.toLowerCase().split('e');
  const negative = mantissa.startsWith('-');
  const [whole = '', fraction = ''] = mantissa.replace('-', '').split('.');
  const digits = `${whole}${fraction}`.replace(/^0+/, '');
  const significant = digits.replace(/0+$/, '');
  if (significant === '') return '0';
  const power = Number(exponent) - fraction.length + (digits.length - significant.length);
  return `${negative ? '-' : ''}${significant}e${power}`;
}
