/** A trigger as the author writes it -> a checked `TriggerConfig`. */

import { z } from 'zod';
import { type FieldProblem, problemsOf, spell, unknownField } from './config-errors.ts';
import {
  DATABASE_OPERATIONS,
  type DatabaseOperation,
  type DatabaseTriggerConfig,
  EVENT_FORMATS,
  MISSED_POLICIES,
  OVERLAP_POLICIES,
  POISON_POLICIES,
  type TriggerConfig,
} from './config-types.ts';
import { CronError, neverFires, parseCron } from './cron-expression.ts';
import { FAILURE_FIELDS, failureConfig, failureSchemas } from './retry-config.ts';
import { duration } from './units.ts';
import { parseWebhook } from './webhook-config.ts';

const MAX_IDENTIFIER_BYTES = 63;
const MAX_WHEN_CHARS = 10_000;
const MAX_TRIGGERS = 50;
const TYPES = "'http', 'database', 'schedule' or 'webhook'";

const DATABASE_FIELDS = [
  'type',
  'schema',
  'table',
  'operations',
  'events',
  'columns',
  'when',
  'format',
  'orderingKey',
  'poisoned',
  'batch',
  'transaction',
  'delivery',
  ...FAILURE_FIELDS,
] as const;
const MAX_KEY_COLUMNS = 16;
const KEY_TEXT = `a column name, or a list of 1 to ${MAX_KEY_COLUMNS}`;
const BATCH_TEXT = "{ maxSize: 2 to 1000, maxWait: '0ms' to '60s' }";
const oneOf = (names: readonly string[]): string => names.map((name) => `'${name}'`).join(', ');

const batch = z
  .strictObject(
    {
      maxSize: z.int({ error: BATCH_TEXT }).min(2, { error: BATCH_TEXT }).max(1_000, { error: BATCH_TEXT }),
      maxWait: duration(0, 60_000).optional(),
      maxWaitMs: duration(0, 60_000).optional(),
    },
    { error: (issue) => (issue.code === 'unrecognized_keys' ? undefined : BATCH_TEXT) },
  )
  .transform(({ maxSize, maxWait, maxWaitMs = maxWait ?? 0 }) => ({ maxSize, maxWaitMs }));

const SCHEDULE_FIELDS = ['type', 'cron', 'timezone', 'missed', 'overlap', 'jitter', ...FAILURE_FIELDS] as const;
const MAX_JITTER_MS = 3_600_000;

const identifier = z.string().refine(isIdentifier);
const identifierText = 'a name of 1 to 63 bytes without NUL';
const operationsText = "a list of 'INSERT', 'UPDATE', 'DELETE', or one of them";

const operation = z.preprocess(
  (given) => (typeof given === 'string' ? given.toUpperCase() : given),
  z.enum(DATABASE_OPERATIONS, { error: operationsText }),
);
const operations = z
  .union([operation.transform((one) => [one]), z.array(operation).min(1, { error: operationsText })], {
    error: operationsText,
  })
  .transform((list): DatabaseOperation[] => DATABASE_OPERATIONS.filter((name) => list.includes(name)));

const databaseSchema = z.strictObject({
  type: z.literal('database'),
  schema: z.string({ error: identifierText }).refine(isIdentifier, { error: identifierText }).optional(),
  table: z.string({ error: "a table: 'users' (schema public) or 'schema.table'" }),
  operations: operations.optional(),
  columns: z
    .array(identifier, { error: 'a list of column names' })
    .max(1600, { error: 'at most 1600 columns' })
    .default([]),
  when: z
    .string({ error: 'an SQL condition over old and new' })
    .trim()
    .min(1, { error: 'an SQL condition over old and new' })
    .max(MAX_WHEN_CHARS, { error: `an SQL condition of at most ${MAX_WHEN_CHARS} characters` })
    .nullable()
    .default(null),
  format: z.enum(EVENT_FORMATS, { error: oneOf(EVENT_FORMATS) }).default('native'),
  orderingKey: z
    .union(
      [
        identifier.transform((one) => [one]),
        z.array(identifier).min(1, { error: KEY_TEXT }).max(MAX_KEY_COLUMNS, { error: KEY_TEXT }),
      ],
      { error: KEY_TEXT },
    )
    .optional(),
  poisoned: z.enum(POISON_POLICIES, { error: oneOf(POISON_POLICIES) }).optional(),
  batch: batch.optional(),
  transaction: z.boolean({ error: 'true or false' }).default(false),
  delivery: z.enum(['at-least-once', 'atomic'], { error: oneOf(['at-least-once', 'atomic']) }).default('at-least-once'),
  ...failureSchemas,
});

const cronText =
  "five fields 'minute hour day-of-month month day-of-week', or @hourly, @daily, @weekly, @monthly, @yearly";
const timezoneText = "a name of the time zone database, such as 'Europe/Berlin' or 'UTC'";

const scheduleSchema = z.strictObject({
  type: z.literal('schedule'),
  cron: z
    .string({ error: cronText })
    .transform((text) => text.trim().replaceAll(/[ \t]+/g, ' '))
    .check(({ value, issues }) => {
      try {
        parseCron(value);
      } catch (error) {
        if (!(error instanceof CronError)) throw error;
        issues.push({ code: 'custom', input: value, message: `${cronText} (${error.message})` });
      }
    }),
  timezone: z
    .string({ error: timezoneText })
    .transform((name, context) => {
      const known = zoneName(name);
      if (known !== undefined) return known;
      context.addIssue({ code: 'custom', message: timezoneText });
      return z.NEVER;
    })
    .default('UTC'),
  missed: z.enum(MISSED_POLICIES, { error: "'skip', 'once' or 'all'" }).default('once'),
  overlap: z.enum(OVERLAP_POLICIES, { error: "'allow', 'skip' or 'queue'" }).default('allow'),
  jitter: duration(0, MAX_JITTER_MS).default(0),
  ...failureSchemas,
});

/** Parses `triggers`: a list, or one. Problems are added to `problems`; what could be read is returned. */
export function parseTriggers(raw: unknown, problems: FieldProblem[]): TriggerConfig[] {
  if (raw === undefined) return [{ type: 'http' }];
  const list = Array.isArray(raw) ? raw : [raw];
  if (list.length === 0 || list.length > MAX_TRIGGERS) {
    problems.push({ field: 'triggers', given: `${list.length} triggers`, allowed: `1 to ${MAX_TRIGGERS} triggers` });
    return [];
  }
  const triggers = list.flatMap((one, index) =>
    parseTrigger(one, Array.isArray(raw) ? `triggers[${index}]` : 'trigger', problems),
  );
  const webhooks = triggers.filter(({ type }) => type === 'webhook').length;
  if (webhooks > 1) {
    // They would share one address, and a delivery could be meant for either.
    problems.push({ field: 'triggers', given: `${webhooks} webhook triggers`, allowed: 'one webhook trigger' });
  }
  return triggers;
}

function parseTrigger(raw: unknown, field: string, problems: FieldProblem[]): TriggerConfig[] {
  const trigger = typeof raw === 'string' ? { type: raw } : raw;
  if (typeof trigger !== 'object' || trigger === null) {
    problems.push({ field, given: spell(raw), allowed: `an object with a type: ${TYPES}` });
    return [];
  }
  const type = (trigger as { type?: unknown }).type;
  if (type === 'http') return parseHttp(trigger, field, problems);
  if (type === 'database') return parseDatabase(trigger, field, problems);
  if (type === 'schedule') return parseSchedule(trigger, field, problems);
  if (type === 'webhook') return parseWebhook(trigger, field, problems);
  problems.push({ field: `${field}.type`, given: spell(type), allowed: TYPES });
  return [];
}

function parseHttp(trigger: object, field: string, problems: FieldProblem[]): TriggerConfig[] {
  const unknown = Object.keys(trigger).filter((key) => key !== 'type');
  problems.push(...unknown.map((key) => unknownField(`${field}.${key}`, key, ['type'])));
  return [{ type: 'http' }];
}

function parseDatabase(raw: object, field: string, problems: FieldProblem[]): TriggerConfig[] {
  const { events, ...trigger } = raw as Record<string, unknown>;
  if (events !== undefined && trigger.operations !== undefined) {
    problems.push({ field: `${field}.events`, given: 'events beside operations', allowed: 'one of the two' });
    return [];
  }
  if (events !== undefined) trigger.operations = events;
  const parsed = databaseSchema.safeParse(trigger);
  if (!parsed.success) {
    problems.push(...problemsOf(parsed.error, trigger, field, DATABASE_FIELDS));
    return [];
  }
  const { schema, table, operations: chosen = [...DATABASE_OPERATIONS], columns, when, ...delivery } = parsed.data;
  const target = schema === undefined ? splitTable(table) : isIdentifier(table) ? { schema, table } : undefined;
  if (target === undefined) {
    problems.push({
      field: `${field}.table`,
      given: spell(table),
      allowed: `'users' (schema public), 'schema.table', or quoted '"My Schema"."My.Table"'`,
    });
    return [];
  }
  if (columns.length > 0 && !chosen.includes('UPDATE')) {
    problems.push({
      field: `${field}.columns`,
      given: spell(columns),
      allowed: "columns only with the operation 'UPDATE'",
    });
    return [];
  }
  const clash = deliveryClash(delivery);
  if (clash !== undefined) {
    problems.push({ field: `${field}.${clash.field}`, given: spell(delivery[clash.field]), allowed: clash.allowed });
    return [];
  }
  return [
    {
      type: 'database',
      ...target,
      operations: chosen,
      columns: [...new Set(columns)],
      when,
      ...deliveryConfig(delivery),
    },
  ];
}

type GivenDelivery = Pick<
  z.output<typeof databaseSchema>,
  'format' | 'orderingKey' | 'poisoned' | 'batch' | 'transaction' | 'delivery' | 'retry' | 'deadLetter'
>;

/** Options that say two things of one matter. */
function deliveryClash(given: GivenDelivery): { field: keyof GivenDelivery; allowed: string } | undefined {
  if (given.poisoned !== undefined && given.orderingKey === undefined) {
    return { field: 'poisoned', allowed: 'this only beside orderingKey' };
  }
  if (!given.transaction) return undefined;
  if (given.orderingKey !== undefined) return { field: 'orderingKey', allowed: 'orderingKey or transaction, not both' };
  if (given.batch !== undefined) return { field: 'batch', allowed: 'batch or transaction, not both' };
  return undefined;
}

/** Without what is the default. */
function deliveryConfig(given: GivenDelivery): Partial<DatabaseTriggerConfig> {
  const { format, orderingKey, poisoned, batch: batches, transaction, delivery } = given;
  return {
    ...(format === 'native' ? {} : { format }),
    ...(orderingKey === undefined ? {} : { orderingKey: [...new Set(orderingKey)] }),
    ...(poisoned === undefined || poisoned === 'block' ? {} : { poisoned }),
    ...(batches === undefined ? {} : { batch: batches }),
    ...(transaction ? { transaction } : {}),
    ...(delivery === 'atomic' ? { delivery } : {}),
    ...failureConfig(given),
  };
}

function parseSchedule(trigger: object, field: string, problems: FieldProblem[]): TriggerConfig[] {
  const parsed = scheduleSchema.safeParse(trigger);
  if (!parsed.success) {
    problems.push(...problemsOf(parsed.error, trigger, field, SCHEDULE_FIELDS));
    return [];
  }
  const { jitter, retry, deadLetter, ...schedule } = parsed.data;
  return [{ ...schedule, jitterMs: jitter, ...failureConfig({ retry, deadLetter }) }];
}

/** In the spelling of the time zone database; undefined for what it does not have, and for mere offsets such as '+02:00'. */
function zoneName(text: string): string | undefined {
  if (!/^[A-Za-z][A-Za-z0-9_+/-]{0,63}$/.test(text)) return undefined;
  try {
    return Temporal.Instant.fromEpochMilliseconds(0).toZonedDateTimeISO(text).timeZoneId;
  } catch {
    return undefined;
  }
}

/** What is allowed and hardly meant, a sentence each. */
export function triggerWarnings(triggers: readonly TriggerConfig[]): string[] {
  return triggers.flatMap((trigger, index) =>
    trigger.type === 'schedule' && neverFires(parseCron(trigger.cron))
      ? [`triggers[${index}].cron: '${trigger.cron}' never fires, for it names no day that exists`]
      : [],
  );
}

/**
 * 'users', 'app.users', '"Odd.Name"."T"'. Letter case is kept as written (no folding): the name is the one that the
 * catalogue shows.
 */
export function splitTable(text: string): { schema: string; table: string } | undefined {
  const parts: string[] = [];
  // One quoted or bare part, then a dot or the end. Bare parts have no dot and no quote.
  const part = /(?:"((?:[^"]|"")+)"|([^".]+))(\.|$)/y;
  for (let end = false; !end; ) {
    const match = part.exec(text);
    if (match === null) return undefined;
    parts.push(match[1] === undefined ? match[2]! : match[1].replaceAll('""', '"'));
    end = match[3] === '';
  }
  if (parts.length > 2 || !parts.every(isIdentifier)) return undefined;
  return parts.length === 2 ? { schema: parts[0]!, table: parts[1]! } : { schema: 'public', table: parts[0]! };
}

function isIdentifier(text: string): boolean {
  return text !== '' && !text.includes('\0') && text.isWellFormed() && Buffer.byteLength(text) <= MAX_IDENTIFIER_BYTES;
}
