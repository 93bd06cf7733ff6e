/** From esbuild's messages to ours. */

import type { Message } from 'esbuild';
import { PosternError } from '../../errors.ts';

/** Text of a source line that goes into an error's details. */
const MAX_LINE_TEXT = 200;
const MAX_MESSAGES = 10;

export interface SourcePlace {
  readonly file: string;
  /** 1-based, both. */
  readonly line: number;
  readonly column: number;
  /** The source line. */
  readonly text: string;
}

/** esbuild could not build: INVALID_FUNCTION that names the first error's place; `details.errors` has the others. */
export function buildFailed(errors: readonly Message[], displayName: (file: string) => string): PosternError {
  const described = placedFirst(errors)
    .slice(0, MAX_MESSAGES)
    .map((message) => describe(message, displayName));
  const first = described[0];
  if (first === undefined) return new PosternError('INVALID_FUNCTION', 'the source can not be bundled');
  const more = described.length > 1 ? ` (and ${described.length - 1} more)` : '';
  return new PosternError('INVALID_FUNCTION', `${formatMessage(first)}${more}`, {
    details: { ...first.place, ...(described.length > 1 ? { errors: described.map(formatMessage) } : {}) },
  });
}

/** esbuild says apart, without a place, that a directory can't be read; the error with the place says it all. */
function placedFirst(errors: readonly Message[]): Message[] {
  const placed = errors.filter(({ location }) => location !== null);
  return placed.length > 0 ? placed : [...errors];
}

export function formatWarnings(warnings: readonly Message[], displayName: (file: string) => string): string[] {
  return warnings.slice(0, MAX_MESSAGES).map((message) => formatMessage(describe(message, displayName)));
}

interface Described {
  readonly message: string;
  readonly place: SourcePlace | undefined;
}

function describe(message: Message, displayName: (file: string) => string): Described {
  const { location } = message;
  const text = explain(message.text);
  if (location === null) return { message: text, place: undefined };
  // esbuild counts bytes of UTF-8 from 0; people and editors count characters from 1.
  const before = Buffer.from(location.lineText, 'utf8').subarray(0, location.column).toString('utf8');
  return {
    message: text,
    place: {
      file: displayName(location.file),
      line: location.line,
      column: before.length + 1,
      text: excerpt(location.lineText, before.length),
    },
  };
}

/** All of an ordinary line; of a minified one what stands around the place. */
function excerpt(line: string, column: number): string {
  const start = line.length <= MAX_LINE_TEXT ? 0 : Math.max(0, column - MAX_LINE_TEXT / 2);
  return line.slice(start, start + MAX_LINE_TEXT);
}

const PATTERN_IMPORT =
  'an import whose path is put together at run time can not be bundled: import each file by its own name';

/** The host's file system must not show, not even in what could not be read of it. */
function explain(text: string): string {
  if (/^Could not resolve (?:import|require)\(/.test(text) || text.startsWith('Cannot read directory'))
    return PATTERN_IMPORT;
  const [, name] = UNRESOLVED_PACKAGE.exec(text) ?? [];
  return name === undefined ? text : `${text}: run "npm install ${name}", or begin the path of a file with "./"`;
}

/** The name without a path inside of the package. */
const UNRESOLVED_PACKAGE = /^Could not resolve "((?:@[\w.-]+\/)?[a-z0-9_][\w.-]*)(?:\/[^"]*)?"$/i;

function formatMessage({ message, place }: Described): string {
  return place === undefined ? message : `${place.file}:${place.line}:${place.column}: ${message}`;
}
