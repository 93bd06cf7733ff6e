import { HostCallError } from '../runtime/index.ts';
import { limitError } from './limit-error.ts';

/** So little is parsed in no time, whatever it is. */
const SMALL_CHARACTERS = 2_000;
/** Deeper than any argument is meant to be, and than what writes it again could go. */
const MAX_DEPTH = 1_000;
/** What JSON.parse may have to make, in numbers of a list: a tenth of a second of the node's thread, two at worst. */
const MAX_WORK = 2_000_000;
/** An object or array takes as long as so many numbers, and a name that no object had before too. */
const OPEN_WORK = 8;
const NAME_WORK = 6;

/** The payload of a host call as an object. The guest wrote the text, so everything about it is checked. */
export function parsePayload(operation: string, payload: string): Record<string, unknown> {
  if (payload.length > SMALL_CHARACTERS) checkWork(operation, payload);
  let value: unknown;
  try {
    value = JSON.parse(payload);
  } catch {
    throw invalidPayload(operation, 'is not JSON');
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw invalidPayload(operation, 'is not an object');
  }
  return value as Record<string, unknown>;
}

export function invalidPayload(operation: string, what: string): HostCallError {
  return new HostCallError('TypeError', 'INVALID_ARGUMENT', `${operation}: the argument ${what}`);
}

/** Fifteen megabytes of small objects kept the node a second. What is no JSON passes or not, and is refused by the parser. */
function checkWork(operation: string, json: string): void {
  let depth = 0;
  let work = 0;
  for (let at = 0; at < json.length; at++) {
    switch (json.charCodeAt(at)) {
      case QUOTE:
        at = endOfString(json, at + 1);
        break;
      case COMMA:
        work++;
        break;
      case COLON:
        work += NAME_WORK;
        break;
      case OPEN_BRACE:
      case OPEN_BRACKET:
        work += OPEN_WORK;
        if (++depth > MAX_DEPTH) throw invalidPayload(operation, `is nested more than ${MAX_DEPTH} levels deep`);
        break;
      case CLOSE_BRACE:
      case CLOSE_BRACKET:
        depth--;
        break;
    }
    if (work > MAX_WORK) {
      const message = `${operation}: the argument makes too many values; a long list may be sent as one text of JSON`;
      throw limitError('ARGUMENT_LIMIT', message, { allowed: MAX_WORK });
    }
  }
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const COLON = 0x3a;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;
const NEAR_CHARACTERS = 64;

/** Where its closing quote stands, or beyond the end. What is far is searched for natively, which is ten times faster. */
function endOfString(json: string, start: number): number {
  let at = start;
  for (;;) {
    for (const far = at + NEAR_CHARACTERS; at < far; at++) {
      const code = json.charCodeAt(at);
      if (code === QUOTE || at >= json.length) return at;
      if (code === BACKSLASH) at++;
    }
    const quote = json.indexOf('"', at);
    if (quote === -1) return json.length;
    let slashes = 0;
    while (quote - slashes > at && json.charCodeAt(quote - slashes - 1) === BACKSLASH) slashes++;
    at = quote + (slashes % 2);
  }
}
