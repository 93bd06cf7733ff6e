/**
 * Whether this code knows all that a stored configuration asks for. While nodes are replaced by newer ones, the old ones find
 * versions that those deployed; a limit or a right that they passed over would be no limit.
 */

import {
  type AuthMode,
  EVENT_FORMATS,
  type FunctionConfig,
  type Language,
  MISSED_POLICIES,
  OVERLAP_POLICIES,
  POISON_POLICIES,
  type TriggerConfig,
  WEBHOOK_RESPONSES,
  WEBHOOK_SCHEMES,
} from './config-types.ts';

type Names<T> = Readonly<Record<keyof T & string, true>>;
type TriggerNames = {
  readonly [Type in TriggerConfig['type']]: Names<Required<Extract<TriggerConfig, { type: Type }>>>;
};

// The types make sure that a field which is added there is added here.
const FIELDS: Names<FunctionConfig> = {
  name: true,
  language: true,
  handler: true,
  triggers: true,
  timeoutMs: true,
  memoryBytes: true,
  cpu: true,
  env: true,
  http: true,
  db: true,
  auth: true,
  retry: true,
  concurrency: true,
  record: true,
};
const HTTP: Names<FunctionConfig['http']> = { allow: true, secrets: true, rateLimit: true };
const DB: Names<FunctionConfig['db']> = { role: true };
const LANGUAGES: Readonly<Record<Language, true>> = {
  javascript: true,
  typescript: true,
  wasm: true,
  assemblyscript: true,
  python: true,
};
const AUTH: Readonly<Record<AuthMode, true>> = { required: true, optional: true, none: true };
const TRIGGERS: TriggerNames = {
  http: { type: true },
  database: {
    type: true,
    schema: true,
    table: true,
    operations: true,
    columns: true,
    when: true,
    format: true,
    orderingKey: true,
    poisoned: true,
    batch: true,
    transaction: true,
    delivery: true,
    retry: true,
    deadLetter: true,
  },
  schedule: {
    type: true,
    cron: true,
    timezone: true,
    missed: true,
    overlap: true,
    jitterMs: true,
    retry: true,
    deadLetter: true,
  },
  webhook: { type: true, scheme: true, secrets: true, respond: true, retry: true, deadLetter: true },
};
/** What a trigger's field may say, where that is one of a few words. */
const WORDS: Readonly<Record<string, readonly unknown[]>> = {
  format: EVENT_FORMATS,
  poisoned: POISON_POLICIES,
  delivery: ['atomic'],
  missed: MISSED_POLICIES,
  overlap: OVERLAP_POLICIES,
  scheme: WEBHOOK_SCHEMES,
  respond: WEBHOOK_RESPONSES,
};

/** The first field that is not known, or says what is not known; null where all are. */
export function unknownInConfig({ language, auth, http, db, triggers, ...config }: FunctionConfig): string | null {
  if (!Object.hasOwn(LANGUAGES, language)) return `language '${language}'`;
  if (!Object.hasOwn(AUTH, auth)) return `auth '${auth}'`;
  if (![undefined, true, 'failures'].includes(config.record)) return `record '${config.record}'`;
  return (
    strange(config, FIELDS) ??
    strange(http, HTTP, 'http.') ??
    strange(db, DB, 'db.') ??
    triggers.map(strangeInTrigger).find((found) => found !== null) ??
    null
  );
}

function strangeInTrigger(trigger: TriggerConfig, index: number): string | null {
  const path = `triggers[${index}].`;
  if (!Object.hasOwn(TRIGGERS, trigger.type)) return `${path}type '${trigger.type}'`;
  const word = Object.entries(trigger).find(
    ([field, value]) => Object.hasOwn(WORDS, field) && value !== undefined && !WORDS[field]!.includes(value),
  );
  return word === undefined ? strange(trigger, TRIGGERS[trigger.type], path) : `${path}${word[0]} '${word[1]}'`;
}

function strange(values: object, known: Readonly<Record<string, true>>, path = ''): string | null {
  const field = Object.keys(values).find((name) => !Object.hasOwn(known, name));
  return field === undefined ? null : `${path}${field}`;
}
