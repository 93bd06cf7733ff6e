/** Turns what a schema found wrong into one sentence: which field, what was given, what is allowed. */

import type { z } from 'zod';
import { editDistance, PosternError } from '../../runtime/index.ts';

const MAX_GIVEN_CHARS = 80;

export interface FieldProblem {
  /** Dotted path as the author wrote it, e.g. `triggers[0].table`. */
  readonly field: string;
  readonly given: string;
  readonly allowed: string;
}

/** INVALID_FUNCTION with `details.problems`. `where` says which document, e.g. `hello.function.jsonc`. */
export function invalidConfig(problems: readonly FieldProblem[], where?: string): PosternError {
  const text = problems
    .map(({ field, given, allowed }) => `${field}: ${given} was given; allowed: ${allowed}`)
    .join('\n');
  return new PosternError('INVALID_FUNCTION', where === undefined ? text : `${where}: ${text}`, {
    details: { field: problems[0]!.field, problems },
  });
}

export function problemsOf(error: z.ZodError, raw: unknown, prefix: string, known: readonly string[]): FieldProblem[] {
  return error.issues.flatMap((issue) => {
    const field = joinPath(prefix, issue.path);
    if (issue.code !== 'unrecognized_keys') {
      return [
        {
          field: field === '' ? 'configuration' : field,
          given: spell(valueAt(raw, issue.path)),
          allowed: issue.message,
        },
      ];
    }
    // Below the top level zod's own message already lists nothing useful; the schema's `known` only fits the top level.
    const names = issue.path.length === 0 ? known : [];
    return issue.keys.map((key) => unknownField(joinPath(field, [key]), key, names));
  });
}

export function unknownField(field: string, key: string, known: readonly string[]): FieldProblem {
  const closest = closestName(key, known);
  const hint = closest === undefined ? '' : ` (did you mean '${closest}'?)`;
  return {
    field,
    given: 'an unknown field',
    allowed: known.length === 0 ? 'only documented fields' : `${known.join(', ')}${hint}`,
  };
}

function joinPath(prefix: string, path: readonly PropertyKey[]): string {
  return path.reduce<string>((text, part) => {
    if (typeof part === 'number') return `${text}[${part}]`;
    return text === '' ? String(part) : `${text}.${String(part)}`;
  }, prefix);
}

function valueAt(raw: unknown, path: readonly PropertyKey[]): unknown {
  let value = raw;
  for (const part of path) {
    if (typeof value !== 'object' || value === null || !Object.hasOwn(value, part)) return undefined;
    value = (value as Record<PropertyKey, unknown>)[part];
  }
  return value;
}

/** A value as an error shows it: JSON, shortened; never throws, whatever the value is. */
export function spell(value: unknown): string {
  if (value === undefined) return 'nothing';
  let text: string;
  try {
    text = JSON.stringify(value) ?? String(value);
  } catch {
    text = typeof value;
  }
  return text.length > MAX_GIVEN_CHARS ? `${text.slice(0, MAX_GIVEN_CHARS)}…` : text;
}

/** The known name within two edits (or a third of the length) of what was written. */
export function closestName(written: string, known: readonly string[]): string | undefined {
  let best: string | undefined;
  let bestDistance = Math.max(2, Math.floor(Math.min(written.length, 30) / 3)) + 1;
  for (const name of known) {
    const distance = editDistance(written.slice(0, 64).toLowerCase(), name.toLowerCase());
    if (distance < bestDistance) [best, bestDistance] = [name, distance];
  }
  return best;
}
