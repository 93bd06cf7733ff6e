/**
 * A request's body as JSON text for the event. What JSON is said to be is checked and then handed on as the bytes that
 * came: nothing is parsed and written again, so numbers, key order and duplicate keys reach the function as they were.
 */

import { isUtf8 } from 'node:buffer';
import { jsonShapeOf, PosternError } from '../../runtime/index.ts';

/** Deeper nesting than any data has; a parser that recurses could run out of stack. */
const MAX_JSON_DEPTH = 1_000;
/**
 * Up to here the parser itself says what is wrong. It takes 0.6 s for a megabyte of brackets or of objects that all have other
 * keys (measured, on two shared cores), which nobody else gets anything of; whether that is JSON is found out in 30 ms.
 */
const MAX_PARSED_BYTES = 16_384;

export interface EventBody {
  /** JSON text: the JSON that came, a string, or `null`. */
  readonly json: string;
  /** `json` is a string of base64. */
  readonly isBase64Encoded: boolean;
  /** JSON came, and `json` is its text as it came. */
  readonly isJson: boolean;
}

const EMPTY: EventBody = { json: 'null', isBase64Encoded: false, isJson: false };

/** Throws INVALID_BODY for a body that is said to be JSON and is not. */
export function eventBody(
  bytes: Buffer,
  contentType: string | undefined,
  contentEncoding: string | undefined,
): EventBody {
  if (bytes.length === 0) return EMPTY;
  const kind = contentEncoding === undefined || contentEncoding === 'identity' ? kindOf(contentType) : 'bytes';
  if (kind === 'json') {
    return { json: checkedJson(bytes), isBase64Encoded: false, isJson: true };
  }
  if (kind === 'text' && isUtf8(bytes)) {
    return { json: JSON.stringify(bytes.toString('utf8')), isBase64Encoded: false, isJson: false };
  }
  return { json: `"${bytes.toString('base64')}"`, isBase64Encoded: true, isJson: false };
}

/** The bytes as text that is valid JSON; of long ones no values are made. Throws INVALID_BODY. */
export function checkedJson(bytes: Buffer): string {
  if (bytes.length <= MAX_PARSED_BYTES) return readJson(bytes).text;
  checkEncoding(bytes);
  const shape = jsonShapeOf(bytes, MAX_JSON_DEPTH);
  if (shape === 'too deep') throw tooDeep();
  if (shape === null) throw new PosternError('INVALID_BODY', 'the body is not JSON');
  return bytes.toString('utf8');
}

/** What the bytes say. Throws INVALID_BODY. */
export function parsedJson(bytes: Buffer): unknown {
  return readJson(bytes).value;
}

export interface TakenMember {
  /** As it came: numbers beyond a double's, the order of keys. Of several of this name the last, as `JSON.parse` has it. */
  readonly text: string | undefined;
  /** The object with `null` in its place. */
  readonly rest: Buffer;
}

/**
 * Takes a member out of an object that nobody has parsed. `bytes` are a JSON object, by `checkedJson`. Throws INVALID_REQUEST
 * for one of a thousand members: to look for one among a million takes seconds.
 */
export function takeMember(bytes: Buffer, name: string): TakenMember {
  let text: string | undefined;
  const rest: Buffer[] = [];
  let copied = 0;
  let at = bytes.indexOf(0x7b) + 1;
  for (let members = 1; ; members++) {
    if (members > MAX_MEMBERS)
      throw new PosternError('INVALID_REQUEST', `the body has more than ${MAX_MEMBERS} members`);
    const keyStart = bytes.indexOf(QUOTE, at);
    if (keyStart < 0) break;
    const keyEnd = endOfString(bytes, keyStart + 1) + 1;
    const start = bytes.indexOf(0x3a, keyEnd) + 1;
    const end = endOfValue(bytes, start);
    if (JSON.parse(bytes.toString('utf8', keyStart, keyEnd)) === name) {
      text = bytes.toString('utf8', start, end).trim();
      rest.push(bytes.subarray(copied, start), NULL);
      copied = end;
    }
    if (bytes[end] !== 0x2c) break;
    at = end + 1;
  }
  return { text, rest: text === undefined ? bytes : Buffer.concat([...rest, bytes.subarray(copied)]) };
}

const NULL = Buffer.from('null');
const MAX_MEMBERS = 1_000;

/** Where the comma or the bracket behind a value is. */
function endOfValue(bytes: Buffer, start: number): number {
  let depth = 0;
  for (let i = start; i < bytes.length; i++) {
    const byte = bytes[i];
    if (byte === QUOTE) i = endOfString(bytes, i + 1);
    else if (byte === 0x7b || byte === 0x5b) depth++;
    else if (byte === 0x7d || byte === 0x5d) {
      if (depth-- === 0) return i;
    } else if (byte === 0x2c && depth === 0) return i;
  }
  return bytes.length;
}

function checkEncoding(bytes: Buffer): void {
  if (!isUtf8(bytes)) throw new PosternError('INVALID_BODY', 'the body is not JSON: it is not valid UTF-8');
}

function tooDeep(): PosternError {
  return new PosternError('INVALID_BODY', `the body is nested more than ${MAX_JSON_DEPTH} levels deep`);
}

function readJson(bytes: Buffer): { readonly text: string; readonly value: unknown } {
  checkEncoding(bytes);
  if (bytes.length > 2 * MAX_JSON_DEPTH && isDeeperThan(bytes, MAX_JSON_DEPTH)) throw tooDeep();
  const text = bytes.toString('utf8');
  try {
    return { text, value: JSON.parse(text) };
  } catch (cause) {
    throw new PosternError('INVALID_BODY', `the body is not JSON: ${(cause as Error).message.slice(0, 200)}`, {
      cause,
    });
  }
}

type BodyKind = 'json' | 'text' | 'bytes';

/**
 * By the essence of the media type. A text in another charset than UTF-8 is handed on as bytes: to decode by a charset that
 * the sender names (utf-7) is to let him choose what others read. JSON is UTF-8 whatever the header says.
 */
function kindOf(contentType: string | undefined): BodyKind {
  if (contentType === undefined) return 'text';
  if (contentType === 'application/json') return 'json';
  const [first = '', ...parameters] = contentType.split(';');
  const type = first.trim().toLowerCase();
  if (type === 'application/json' || type.endsWith('+json')) return 'json';
  const text =
    type === '' ||
    type.startsWith('text/') ||
    type === 'application/x-www-form-urlencoded' ||
    type === 'application/xml' ||
    type.endsWith('+xml');
  return text && parameters.every(isUtf8Parameter) ? 'text' : 'bytes';
}

function isUtf8Parameter(parameter: string): boolean {
  const [name = '', value = ''] = parameter.split('=');
  return name.trim().toLowerCase() !== 'charset' || /^"?(?:utf-?8|us-ascii)"?$/i.test(value.trim());
}

/** Counts brackets outside strings. In a valid document that is its depth; in another one the parser says no. */
function isDeeperThan(bytes: Buffer, max: number): boolean {
  let depth = 0;
  for (let i = 0; i < bytes.length; i++) {
    const byte = bytes[i];
    if (byte === QUOTE) i = endOfString(bytes, i + 1);
    else if (byte === 0x7b || byte === 0x5b) {
      if (++depth > max) return true;
    } else if (byte === 0x7d || byte === 0x5d) depth--;
  }
  return false;
}

/** Counts commas and brackets outside of strings: what a parser has to make values of. */
export function hasMoreValuesThan(bytes: Buffer, max: number): boolean {
  let values = 0;
  for (let i = 0; i < bytes.length; i++) {
    const byte = bytes[i];
    if (byte === QUOTE) i = endOfString(bytes, i + 1);
    else if ((byte === 0x2c || byte === 0x7b || byte === 0x5b) && ++values > max) return true;
  }
  return false;
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
/** From here on a native search is faster than looking: for 30 MB of base64 1 ms in place of 200. */
const LONG_STRING_BYTES = 64;

/** Where the string's closing quote is, or the end. `at` is no escaped character. */
function endOfString(bytes: Buffer, at: number): number {
  let i = at;
  let searchAt = at + LONG_STRING_BYTES;
  while (i < bytes.length) {
    const byte = bytes[i];
    if (byte === QUOTE) return i;
    if (byte === BACKSLASH) i += 2;
    else if (i++ >= searchAt) {
      const quote = bytes.indexOf(QUOTE, i);
      if (quote < 0) return bytes.length;
      if (!isEscaped(bytes, quote, i)) return quote;
      // Where there is one escape there are more: a search for each would be slower than looking.
      i = quote + 1;
      searchAt = i + LONG_STRING_BYTES;
    }
  }
  return bytes.length;
}

/** Whether an odd number of backslashes stands before it, from `start` on. */
function isEscaped(bytes: Buffer, at: number, start: number): boolean {
  let first = at;
  while (first > start && bytes[first - 1] === BACKSLASH) first--;
  return (at - first) % 2 === 1;
}
