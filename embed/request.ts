/** What `createRuntime` and `invoke` are given, checked: a field that nobody reads would be a limit that does not hold. */

import { z } from 'zod';
import { parseAllowEntry } from '../host-functions/index.ts';
import type { Language } from '../invoker/index.ts';
import type { InvokeRequest, RuntimeOptions } from '../types/runtime.d.ts';
import { InvalidRequestError } from './errors.ts';

const MB = 2 ** 20;
const MAX_EXECUTORS = 256;
/** Those whose functions are source. */
const LANGUAGES: Readonly<Record<string, Language>> = {
  javascript: 'javascript',
  js: 'javascript',
  typescript: 'typescript',
  ts: 'typescript',
  python: 'python',
  py: 'python',
  assemblyscript: 'assemblyscript',
  as: 'assemblyscript',
};

/** As a configuration's (`invoker/function-config.ts`), but that a timeout may be as short as its caller's patience. */
const wholeNumber = (min: number, max: number, unit: string) => {
  const error = `has to be a whole number of ${unit} from ${min} to ${max}`;
  return z.int({ error }).min(min, { error }).max(max, { error });
};
const CPU_TEXT = "has to be a positive whole number of metered instructions, or 'unlimited'";
const SOURCE_TEXT = 'has to be text that is not empty';
const DEPENDENCIES_TEXT = "has to be an object, { greeter: { source: '…' } }";
const VARIABLE_TEXT = 'has to be an object of texts, with names of letters, digits and underscores';

const requestSchema = z.strictObject({
  language: z
    .string()
    .refine((name) => Object.hasOwn(LANGUAGES, name))
    .transform((name) => LANGUAGES[name] as Language)
    .default('javascript'),
  source: z.string({ error: SOURCE_TEXT }).min(1, { error: SOURCE_TEXT }),
  handler: z.string({ error: 'has to be the name of an export' }).default('handler'),
  event: z.unknown().optional(),
  timeoutMs: wholeNumber(1, 300_000, 'milliseconds').default(10_000),
  memoryBytes: wholeNumber(16 * MB, 512 * MB, 'bytes').default(128 * MB),
  cpu: z
    .union(
      [
        z.literal('unlimited').transform(() => Number.POSITIVE_INFINITY),
        z.int({ error: CPU_TEXT }).min(1, { error: CPU_TEXT }),
      ],
      {
        error: CPU_TEXT,
      },
    )
    .default(10_000_000_000),
  dependencies: z
    .record(z.string(), z.strictObject({ source: z.string() }, { error: DEPENDENCIES_TEXT }), {
      error: DEPENDENCIES_TEXT,
    })
    .default({}),
  env: z
    .record(z.string().regex(/^[A-Za-z_][A-Za-z0-9_]{0,127}$/), z.string({ error: VARIABLE_TEXT }), {
      error: VARIABLE_TEXT,
    })
    .default({}),
});

const optionsSchema = z.strictObject({
  executors: wholeNumber(1, MAX_EXECUTORS, 'processes').optional(),
  http: z
    .strictObject({ allow: z.array(z.string(), { error: 'has to be a list of hosts' }).default([]) })
    .default({ allow: [] }),
});

export type CheckedOptions = z.output<typeof optionsSchema>;
export type CheckedRequest = Omit<z.output<typeof requestSchema>, 'event'> & { readonly eventJson: string };

/** Throws InvalidRequestError. */
export function checkRequest(given: InvokeRequest): CheckedRequest {
  const { event, ...request } = check(requestSchema, given, 'the request');
  return { ...request, eventJson: toJson(event) };
}

/** Throws InvalidRequestError. */
export function checkOptions(given: RuntimeOptions): CheckedOptions {
  const options = check(optionsSchema, given, 'the options');
  try {
    for (const entry of options.http.allow) parseAllowEntry(entry);
  } catch (error) {
    throw new InvalidRequestError((error as Error).message, error);
  }
  return options;
}

function check<T extends z.ZodObject>(schema: T, given: unknown, what: string): z.output<T> {
  const parsed = schema.safeParse(given);
  if (parsed.success) return parsed.data;
  const problems = parsed.error.issues.map((issue) => {
    const field = issue.path.join('.');
    if (issue.code === 'unrecognized_keys') {
      const names = issue.keys.map((key) => [...issue.path, key].join('.'));
      return `${names.join(', ')}: unknown; ${what} may have ${Object.keys(schema.shape).join(', ')}`;
    }
    if (field === '') return `${what} has to be an object`;
    if (field === 'language') return `language has to be one of ${Object.keys(LANGUAGES).join(', ')}`;
    return `${field} ${issue.code === 'invalid_key' ? VARIABLE_TEXT : issue.message}`;
  });
  throw new InvalidRequestError(problems.join('; '));
}

function toJson(event: unknown): string {
  try {
    return JSON.stringify(event ?? null) ?? 'null';
  } catch (error) {
    throw new InvalidRequestError(`event has to be what JSON can say: ${(error as Error).message}`, error);
  }
}
