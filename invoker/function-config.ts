/**
 * A function's configuration: the one schema behind manifests, `export const config` and deploy requests (SPEC 2).
 *
 * Where several of them speak, the outer one wins, field by field: deploy request over manifest over code. A field of
 * the table (`timeout`, `http.allow`, …) is taken whole, lists are never joined: what a function may reach is written in one
 * place. Inside one document a field given twice under two names with different values is refused.
 */

import { basename, dirname } from 'node:path';
import { z } from 'zod';
import { parseAllowEntry } from '../host-functions/index.ts';
import { PosternError } from '../runtime/index.ts';
import {
  closestName,
  type FieldProblem,
  invalidConfig,
  problemsOf,
  spell,
  unknownField,
} from './functions/config-errors.ts';
import type { FunctionConfig, Language } from './functions/config-types.ts';
import { LANGUAGE_NAMES, languageNamed, languageOfFile, withoutEnding } from './functions/languages.ts';
import { DEFAULT_RETRY, retrySchema } from './functions/retry-config.ts';
import { parseTriggers } from './functions/trigger-config.ts';
import { duration, readRate, size } from './functions/units.ts';

export type {
  AuthMode,
  BackoffConfig,
  BatchConfig,
  DatabaseOperation,
  DatabaseTriggerConfig,
  EventFormat,
  FunctionConfig,
  HttpTriggerConfig,
  Language,
  ModuleLanguage,
  PoisonPolicy,
  RetryConfig,
  RetryRule,
  ScheduleTriggerConfig,
  ScriptLanguage,
  TriggerConfig,
  WebhookSchemeName,
  WebhookTriggerConfig,
} from './functions/config-types.ts';
export { DATABASE_OPERATIONS, WEBHOOK_SCHEMES } from './functions/config-types.ts';
export { type CronExpression, neverFires, parseCron } from './functions/cron-expression.ts';

/** Configuration as an author writes it: any of the table's fields under any of its names, not yet checked. */
export type RawConfig = Readonly<Record<string, unknown>>;

export const FUNCTION_NAME = /^[a-z][a-z0-9_-]{0,62}$/;
/** Path segments of our own: `/functions/v1/invoke`, and `/functions/v1/…` beside the control API's `/functions/{name}/…`. */
const RESERVED_NAMES: readonly string[] = ['invoke', 'webhook', 'v1'];

const MANIFEST_ENDING = /\.function\.jsonc?$/;
const MB = 2 ** 20;
const NAME_TEXT = `a name of 1 to 63 characters: a lower-case letter, then a-z, 0-9, '_' or '-' (not 'invoke', 'webhook' or 'v1')`;
const HANDLER_TEXT = 'the name of an export';
const HOST_TEXT = "hosts such as 'api.stripe.com', '*.example.com', 'localhost:9000' or 'http://localhost:9000'";
const RATE_TEXT = "{ requests: 1 to 10000, window: '10s' } or '100/10s'";
/** Which roles of the database these are is checked against it, when the version is stored. */
export const ROLE_TEXT = "'invoker', 'service_role' or a role of the database";
const ENV_TEXT = 'a list of at most 100 names of letters, digits and underscores';
const SECRETS_TEXT = 'a list of at most 32 names of secrets: letters, digits and underscores';

/** As at run time, or an entry would be refused there that a deploy has accepted. */
const allowEntry = z
  .string({ error: HOST_TEXT })
  .max(300, { error: HOST_TEXT })
  .check(({ value, issues }) => {
    try {
      parseAllowEntry(value);
    } catch (error) {
      if (!(error instanceof PosternError)) throw error;
      issues.push({ code: 'custom', input: value, message: `${HOST_TEXT} (${error.message})` });
    }
  });

/** Names without repeats; none of them has to exist at the deploy. */
const variableNames = (max: number, error: string) =>
  z
    .array(z.string({ error }).regex(/^[A-Za-z_][A-Za-z0-9_]{0,127}$/, { error }), { error })
    .max(max, { error })
    .default([])
    .transform((names) => [...new Set(names)]);

const rateLimit = z
  .preprocess(
    (given) => (typeof given === 'string' ? (readRate(given) ?? given) : given),
    z.strictObject(
      {
        requests: z.int({ error: RATE_TEXT }).min(1, { error: RATE_TEXT }).max(10_000, { error: RATE_TEXT }),
        window: duration(1_000, 3_600_000).optional(),
        windowMs: duration(1_000, 3_600_000).optional(),
      },
      { error: (issue) => (issue.code === 'unrecognized_keys' ? undefined : RATE_TEXT) },
    ),
  )
  .transform(({ requests, window, windowMs }) => ({ requests, windowMs: windowMs ?? window ?? 10_000 }));

const object = (shape: string) => ({
  error: (issue: { code?: string }) => (issue.code === 'unrecognized_keys' ? undefined : shape),
});

const CONCURRENCY_TEXT = 'a whole number from 1 to 10000';
const CPU_TEXT = "a positive whole number of metered instructions, or 'unlimited'";

/** The table of SPEC 2 after aliases; `triggers`, `name` and `language` are read apart. */
const settings = z.strictObject({
  handler: z
    .string({ error: HANDLER_TEXT })
    .regex(/^[\p{ID_Start}$_][\p{ID_Continue}$]{0,126}$/u, { error: HANDLER_TEXT })
    .default('handler'),
  timeout: duration(1_000, 300_000).default(10_000),
  memory: size(16 * MB, 512 * MB).default(128 * MB),
  cpu: z
    .union(
      [
        z.literal('unlimited').transform(() => Number.POSITIVE_INFINITY),
        z.null().transform(() => Number.POSITIVE_INFINITY),
        z.int({ error: CPU_TEXT }).min(1, { error: CPU_TEXT }),
      ],
      { error: CPU_TEXT },
    )
    .default(10_000_000_000),
  env: variableNames(100, ENV_TEXT),
  http: z
    .strictObject(
      {
        allow: z
          .array(allowEntry, {
            error: `a list of ${HOST_TEXT}`,
          })
          .max(100, { error: 'at most 100 hosts' })
          .default([]),
        secrets: variableNames(32, SECRETS_TEXT),
        rateLimit: rateLimit.default({ requests: 100, windowMs: 10_000 }),
      },
      object('{ allow, secrets, rateLimit }'),
    )
    .default({ allow: [], secrets: [], rateLimit: { requests: 100, windowMs: 10_000 } }),
  db: z
    .strictObject(
      {
        role: z
          .string({ error: ROLE_TEXT })
          .regex(/^[^\0]{1,63}$/, { error: ROLE_TEXT })
          .default('invoker'),
      },
      object('{ role }'),
    )
    .default({ role: 'invoker' }),
  auth: z.enum(['required', 'optional', 'none'], { error: "'required', 'optional' or 'none'" }).default('required'),
  retry: retrySchema.default(DEFAULT_RETRY),
  concurrency: z
    .int({ error: CONCURRENCY_TEXT })
    .min(1, { error: CONCURRENCY_TEXT })
    .max(10_000, { error: CONCURRENCY_TEXT })
    .nullable()
    .default(null),
  record: z.union([z.boolean(), z.literal('failures')], { error: "true, false or 'failures'" }).default(false),
});

const ALIASES: Readonly<Record<string, string>> = {
  id: 'name',
  languageId: 'language',
  functionName: 'handler',
  trigger: 'triggers',
  timeoutMillis: 'timeout',
  timeoutMs: 'timeout',
  memoryBytes: 'memory',
};
export const CONFIG_FIELDS: readonly string[] = ['name', 'language', 'triggers', ...Object.keys(settings.shape)];

/** For documents that describe the configuration, e.g. `/openapi.json`. */
export const settingsJsonSchema = (): Record<string, unknown> =>
  z.toJSONSchema(settings, { io: 'input', unrepresentable: 'any' });

export interface ParseOptions {
  /** Where the code stands, e.g. `functions/hello.ts`: gives the name and the language where the configuration doesn't. */
  readonly fileName?: string;
  /** The document's name for error messages. */
  readonly where?: string;
}

/**
 * Checks a whole configuration and fills in the defaults. Deeply frozen. Throws INVALID_FUNCTION that names every bad
 * field, what was given and what is allowed.
 */
export function parseFunctionConfig(raw: unknown, options: ParseOptions = {}): FunctionConfig {
  const { name, language, triggers, ...rest } = canonicalConfig(raw, options.where);
  const problems: FieldProblem[] = [];
  const checked = {
    name: parseName(name, options.fileName, problems),
    language: parseLanguage(language, options.fileName, problems),
    triggers: parseTriggers(triggers, problems),
  };
  const parsed = settings.safeParse(rest);
  if (!parsed.success) problems.push(...problemsOf(parsed.error, rest, '', CONFIG_FIELDS));
  if (problems.length > 0 || !parsed.success) throw invalidConfig(problems, options.where);
  const { timeout, memory, record, ...others } = parsed.data;
  return deepFreeze({
    ...checked,
    ...others,
    timeoutMs: timeout,
    memoryBytes: memory,
    ...(record === false ? {} : { record }),
  });
}

/** Aliases to their field; `undefined` and a null at the top level mean "not said", but for `cpu` and `concurrency`. */
export function canonicalConfig(raw: unknown, where?: string): Record<string, unknown> {
  if (typeof raw !== 'object' || raw === null || Array.isArray(raw)) {
    throw invalidConfig([{ field: 'configuration', given: spell(raw), allowed: 'an object' }], where);
  }
  const canonical: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(raw)) {
    if (value === undefined) continue;
    const field = Object.hasOwn(ALIASES, key) ? ALIASES[key]! : key;
    if (!CONFIG_FIELDS.includes(field)) throw invalidConfig([unknownTopField(key)], where);
    if (Object.hasOwn(canonical, field) && JSON.stringify(canonical[field]) !== JSON.stringify(value)) {
      throw invalidConfig(
        [
          {
            field: key,
            given: `${spell(value)} beside ${spell(canonical[field])}`,
            allowed: `one value for '${field}'`,
          },
        ],
        where,
      );
    }
    canonical[field] = value;
  }
  return canonical;
}

function unknownTopField(key: string): FieldProblem {
  const alias = closestName(key, [...CONFIG_FIELDS, ...Object.keys(ALIASES)]);
  return {
    ...unknownField(key, key, CONFIG_FIELDS),
    ...(alias === undefined ? {} : { allowed: `${CONFIG_FIELDS.join(', ')} (did you mean '${alias}'?)` }),
  };
}

/** Documents from the innermost (code) to the outermost (deploy request) -> one. `http` is two fields of the table. */
export function mergeConfigs(...documents: readonly (RawConfig | undefined)[]): RawConfig {
  const merged: Record<string, unknown> = {};
  for (const document of documents) {
    if (document === undefined) continue;
    const { http, ...fields } = canonicalConfig(document);
    Object.assign(merged, fields);
    if (http !== undefined)
      merged.http = isPlainObject(http) && isPlainObject(merged.http) ? { ...merged.http, ...http } : http;
  }
  return merged;
}

/** JSON-safe form for `postern.versions.config`; `cpu` is null where unlimited. */
export function configToJson(config: FunctionConfig): string {
  return JSON.stringify({ ...config, cpu: Number.isFinite(config.cpu) ? config.cpu : null });
}

/** Reads what `configToJson` wrote, without checking anew: a stored version stays valid when the rules change. */
export function configFromJson(stored: unknown): FunctionConfig {
  const config = stored as FunctionConfig;
  return deepFreeze({
    ...config,
    // Versions from before this field have none.
    http: { ...config.http, secrets: config.http.secrets ?? [] },
    cpu: (config.cpu as number | null) ?? Number.POSITIVE_INFINITY,
  });
}

/** `functions/send-mail.ts`, `send-mail.function.jsonc` and `send-mail/index.ts` are all `send-mail`. */
export function nameFromFile(fileName: string): string {
  const name = withoutEnding(basename(fileName).replace(MANIFEST_ENDING, ''));
  const folder = basename(dirname(fileName));
  return name === 'index' && folder !== '' && folder !== '.' ? folder : name;
}

function parseName(given: unknown, fileName: string | undefined, problems: FieldProblem[]): string {
  const name = given ?? (fileName === undefined ? undefined : nameFromFile(fileName));
  if (typeof name === 'string' && FUNCTION_NAME.test(name) && !RESERVED_NAMES.includes(name)) return name;
  const source = given === undefined && fileName !== undefined ? ` (from the file name '${fileName}')` : '';
  problems.push({ field: 'name', given: spell(name) + source, allowed: NAME_TEXT });
  return '';
}

function parseLanguage(given: unknown, fileName: string | undefined, problems: FieldProblem[]): Language {
  const language = given === undefined ? (languageOfFile(fileName) ?? 'javascript') : languageNamed(given);
  if (language !== undefined) return language;
  problems.push({ field: 'language', given: spell(given), allowed: `one of ${LANGUAGE_NAMES.map(spell).join(', ')}` });
  return 'javascript';
}

function isPlainObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value);
    for (const inner of Object.values(value)) deepFreeze(inner);
  }
  return value;
}
