/** What is looked at in a guest's `{statusCode, headers, body}` before it is parsed. */

import { MAX_META_BYTES } from '../runtime/index.ts';

/** Deeper than any answer is meant to be. */
const MAX_DEPTH = 10_000;
/** So little is parsed in no time, however it is nested. */
const SMALL_BYTES = 16 * 1024;
const NEAR_BYTES = 64;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;

/**
 * False where parsing would hold up the node: a million nested arrays take JSON.parse a second, and as many headers a second
 * more. So headers may have what those of a Response have. One pass over the bytes: nothing for a text, half of the parsing's
 * time for a list (20 to 40 ms for 6 MB). What is no JSON passes or not, and is refused later.
 */
export function mayParse(json: Buffer): boolean {
  if (json.length <= SMALL_BYTES) return true;
  let depth = 0;
  let keyIsNext = false;
  let headersAt = -1;
  for (let at = 0; at < json.length; at++) {
    switch (json[at]) {
      case QUOTE: {
        const start = at;
        at = endOfString(json, start);
        if (!keyIsNext) break;
        keyIsNext = false;
        if (mayMeanHeaders(json, start, at)) headersAt = at;
        break;
      }
      case OPEN_BRACE:
      case OPEN_BRACKET:
        if (++depth > MAX_DEPTH) return false;
        keyIsNext = depth === 1;
        break;
      case CLOSE_BRACE:
      case CLOSE_BRACKET:
        depth--;
        break;
      case COMMA:
        if (depth !== 1) break;
        keyIsNext = true;
        headersAt = -1;
        break;
    }
    if (headersAt >= 0 && at - headersAt > MAX_META_BYTES) return false;
  }
  return true;
}

/** Where its closing quote stands, or beyond the end. What is far is searched for natively, which is ten times faster. */
function endOfString(json: Buffer, start: number): number {
  let at = start + 1;
  for (;;) {
    for (const far = at + NEAR_BYTES; at < far; at++) {
      if (json[at] === QUOTE || at >= json.length) return at;
      if (json[at] === BACKSLASH) at++;
    }
    const quote = json.indexOf(QUOTE, at);
    if (quote === -1) return json.length;
    let slashes = 0;
    while (quote - slashes > at && json[quote - slashes - 1] === BACKSLASH) slashes++;
    at = quote + (slashes % 2);
  }
}

/** An honest guest's JSON spells the name plainly; whatever is written with escapes is taken for it. */
function mayMeanHeaders(json: Buffer, start: number, end: number): boolean {
  const name = json.subarray(start + 1, end);
  return name.equals(HEADERS) || name.includes(BACKSLASH);
}
const HEADERS = Buffer.from('headers');
