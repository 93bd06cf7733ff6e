/** From the compiler's diagnostics to ours. */

import { PosternError } from '../errors.ts';
import { GLUE, type Sources } from './sources.ts';

const ERROR = 3;
const MAX_ERRORS = 10;
const MAX_EXCERPT = 200;

/** The compiler's DiagnosticMessage, as far as it is read here. */
export interface Diagnostic {
  readonly category: number;
  readonly message: string;
  readonly range: {
    readonly start: number;
    readonly source: { readonly normalizedPath: string };
  } | null;
}

interface Place {
  readonly file: string;
  /** 1-based, both. */
  readonly line: number;
  readonly column: number;
  /** The source line. */
  readonly text: string;
}

/** INVALID_FUNCTION with the first error's place; undefined where there is none. `details.errors` has the others. */
export function compileFailed(diagnostics: readonly Diagnostic[], sources: Sources): PosternError | undefined {
  const all = diagnostics.filter(({ category }) => category === ERROR);
  // About a handler that is not there the glue has more to say than one wants to hear.
  const glue = all.find(isGlues);
  const errors = all.filter((error) => error === glue || !isGlues(error)).slice(0, MAX_ERRORS);
  const [first] = errors;
  if (first === undefined) return undefined;
  const messages = errors.map((error) => describe(error, sources));
  const more = messages.length > 1 ? ` (and ${messages.length - 1} more)` : '';
  return new PosternError('INVALID_FUNCTION', `${messages[0]}${more}`, {
    details: { ...placeOf(first, sources), ...(messages.length > 1 ? { errors: messages } : {}) },
  });
}

/** What the glue and the library say is about the handler's name and type. */
function isGlues({ range }: Diagnostic): boolean {
  const file = range?.source.normalizedPath;
  return file === GLUE || file?.startsWith('~lib/postern/run') === true;
}

function describe(error: Diagnostic, sources: Sources): string {
  const { entry, handlerName } = sources;
  if (isGlues(error))
    return `${entry} has no exported function ${handlerName}(event) of types that can be called: ${error.message}`;
  const place = placeOf(error, sources);
  return place === undefined ? error.message : `${place.file}:${place.line}:${place.column}: ${error.message}`;
}

/** In one of the sources. */
function placeOf({ range }: Diagnostic, { files }: Sources): Place | undefined {
  const file = range?.source.normalizedPath;
  if (!range || file === undefined || !Object.hasOwn(files, file)) return undefined;
  const text = files[file] as string;
  const lineStart = range.start === 0 ? 0 : text.lastIndexOf('\n', range.start - 1) + 1;
  const lineEnd = text.indexOf('\n', range.start);
  const column = range.start - lineStart;
  const line = text.slice(lineStart, lineEnd === -1 ? undefined : lineEnd);
  const from = line.length <= MAX_EXCERPT ? 0 : Math.max(0, column - MAX_EXCERPT / 2);
  return {
    file,
    line: text.slice(0, lineStart).split('\n').length,
    column: column + 1,
    text: line.slice(from, from + MAX_EXCERPT),
  };
}
