/** The body of `POST /execute`, checked: a field that nobody reads would be a limit that does not hold. */

import { z } from 'zod';
import {
  duration,
  EVALUATED_LANGUAGES,
  type EvaluatedLanguage,
  languageNamed,
  type RecordMode,
  size,
} from '../../invoker/index.ts';
import { PosternError } from '../../runtime/index.ts';
import { type SessionRequest, sessionSchema } from './sessions/index.ts';

const MB = 2 ** 20;
const LANGUAGE_TEXT = `one of ${EVALUATED_LANGUAGES.join(', ')}`;
/** Each is made ready on its own. */
const MAX_MODULES = 100;
const MODULE_NAME_TEXT =
  "no name of a module: letters, digits, '.', '_' and '-', with a scope or without (greeter, @shop/prices)";
const MODULE_NAME = /^(?:@[a-z0-9._-]+\/)?[A-Za-z0-9._-]{1,100}$/;

const schema = z.strictObject({
  language: z
    .string({ error: LANGUAGE_TEXT })
    .transform((name) => languageNamed(name))
    .refine((language): language is EvaluatedLanguage => EVALUATED_LANGUAGES.some((one) => one === language), {
      error: LANGUAGE_TEXT,
    })
    .default('javascript'),
  code: z.string({ error: 'text' }).min(1, { error: 'text that is not empty' }),
  input: z.unknown().optional(),
  timeout: duration(1, 300_000).optional(),
  memory: size(16 * MB, 512 * MB).optional(),
  cpu: z.int().min(1).optional(),
  http: z.strictObject({ allow: z.array(z.string().max(300)).max(100).default([]) }).default({ allow: [] }),
  env: z.array(z.string().max(128)).max(100).default([]),
  cache: z.boolean({ error: 'true or false' }).default(false),
  session: sessionSchema.optional(),
  record: z.union([z.boolean(), z.literal('failures')], { error: "true, false or 'failures'" }).default(false),
  dependencies: z
    .record(
      z.string().regex(MODULE_NAME),
      z.union([z.string(), z.strictObject({ source: z.string() }).transform(({ source }) => source)]),
    )
    .refine((modules) => Object.keys(modules).length <= MAX_MODULES, { error: `at most ${MAX_MODULES} modules` })
    .default({}),
});

export interface ExecuteRequest {
  readonly language: EvaluatedLanguage;
  readonly code: string;
  readonly timeoutMs: number | undefined;
  readonly memoryBytes: number | undefined;
  readonly cpu: number | undefined;
  readonly http: { readonly allow: readonly string[] };
  readonly env: readonly string[];
  readonly cache: boolean;
  readonly session: SessionRequest | undefined;
  readonly record: RecordMode | undefined;
  readonly dependencies: Readonly<Record<string, string>>;
  readonly inputJson: string;
}

/** A body that is JSON. */
export interface ExecuteBody {
  /** Without the input, of which the node makes no values: it is the guest's to parse. */
  readonly value: unknown;
  readonly inputJson: string;
}

/** Throws INVALID_REQUEST that names the field and what it may be. The input is handed on as it came. */
export function readExecuteRequest({ value: body, inputJson }: ExecuteBody): ExecuteRequest {
  // zod passes over it.
  const { dependencies } = (body ?? {}) as { dependencies?: unknown };
  if (typeof dependencies === 'object' && dependencies !== null && Object.hasOwn(dependencies, '__proto__'))
    throw new PosternError('INVALID_REQUEST', 'dependencies: no module can be called __proto__');
  const parsed = schema.safeParse(body);
  if (!parsed.success) {
    const problems = parsed.error.issues.map((issue) => {
      const field = issue.path.join('.');
      if (issue.code === 'unrecognized_keys') {
        if (field !== '') return `${issue.keys.map((key) => `${field}.${key}`).join(', ')}: unknown`;
        return `${issue.keys.join(', ')}: unknown; there are ${Object.keys(schema.shape).join(', ')}`;
      }
      if (issue.code === 'invalid_key')
        return `${String(issue.path[0])}: ${JSON.stringify(issue.path[1])} is ${MODULE_NAME_TEXT}`;
      return field === '' ? 'the body has to be a JSON object' : `${field}: ${issue.message}`;
    });
    throw new PosternError('INVALID_REQUEST', problems.join('; ').slice(0, 1_000));
  }
  const { input: _, timeout, memory, cpu, session, record, ...rest } = parsed.data;
  if (session !== undefined && rest.cache)
    throw new PosternError('INVALID_REQUEST', 'cache: a run in a session depends on what the session holds');
  if (session !== undefined && rest.language === 'assemblyscript')
    throw new PosternError(
      'INVALID_REQUEST',
      'session: assemblyscript has none; javascript, typescript and python have',
    );
  if (record !== false && rest.cache)
    throw new PosternError(
      'INVALID_REQUEST',
      'record: a result that was kept comes from no run that could be recorded',
    );
  return {
    ...rest,
    timeoutMs: timeout,
    memoryBytes: memory,
    cpu,
    session,
    record: record === false ? undefined : record,
    inputJson,
  };
}
