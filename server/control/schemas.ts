/** What goes into the control API and comes out of it, in zod; `/openapi.json` is derived from it. */

import { z } from 'zod';
import { CONFIG_FIELDS } from '../../invoker/index.ts';
import { PosternError } from '../../runtime/index.ts';
import {
  DEFAULT_KEY_ROLE,
  DEFAULT_RATE_LIMIT,
  DEFAULT_RATE_WINDOW_SECONDS,
  EVENT_STATUSES,
  TOKEN_ROLES,
} from '../../triggers/index.ts';

const text = z.string();
const time = z.iso.datetime();
/** Postgres knows no year 0. */
const givenTime = time.refine((value) => !value.startsWith('0000'), 'the first year is 0001');
const files = z.record(text, text);
const record = z.record(text, z.unknown());

export const functionName = z.string().regex(/^[a-z][a-z0-9_-]{0,62}$/);

export const deployBody = z
  .looseObject({
    source: text.optional().describe('inline code'),
    module: text.optional().describe('base64 of a WebAssembly module, in place of code'),
    fileName: text.optional().describe('what the inline code or module is called in errors; gives name and language'),
    files: files.optional().describe('relative path -> text'),
    main: text.optional().describe('which of files is deployed'),
    manifest: z.union([text, record]).optional().describe('text of a .function.jsonc, or its object'),
    manifestName: text.optional(),
    jsEvalAsModule: z
      .boolean()
      .optional()
      .describe('true: an ES module with an exported handler, whatever it looks like'),
    dependencies: record.optional().describe('in-memory modules: {"name": {"source": "…"} | {"file": "lib/name.js"}}'),
    config: record.optional().describe('configuration; wins over the manifest and the code'),
  })
  .describe(`Configuration may also stand beside these fields: ${CONFIG_FIELDS.join(', ')}.`);

export const deployed = z.object({
  id: text.describe('content hash of code, configuration and engine'),
  name: text,
  version: z.int(),
  created: z.boolean().describe('false where this version was there already'),
  url: text.optional().describe('where it is called or webhooks are sent to; absent without such a trigger'),
  warnings: z.array(text),
});

export const functionSummary = z.object({
  name: text,
  version: z.int(),
  id: text,
  config: record,
  next_fires: z.array(time).describe('of its schedules: one in a list, five of a single function'),
  problems: z.array(text).describe('why row changes may be missed; empty where all is well'),
  created_at: time,
  updated_at: time,
});
export const functionDetails = functionSummary.extend({
  form: z.enum(['handler', 'fetch', 'handler+fetch']),
  source: z.object({ main: text, files, dependencies: files }),
});
export const versionSummary = z.object({ version: z.int(), id: text, active: z.boolean(), created_at: time });

export const rollbackBody = z.strictObject({ version: z.int32().min(1).optional() });
export const rolledBack = z.object({ id: text, name: text, version: z.int() });

export const invocationSummary = z.object({
  id: text,
  function: text,
  version: z.int(),
  trigger: text,
  status: z.enum(['ok', 'error']),
  outcome: text,
  error: z.object({ code: text, message: text.nullable(), stack: text.nullable() }).nullable(),
  started_at: time,
  duration_ms: z.number(),
  cpu_ms: z.number().nullable(),
  peak_memory_bytes: z.int().nullable(),
  host_calls: z.int().nullable(),
  request_id: text.nullable(),
  event_id: text.nullable(),
  attempt: z.int().nullable(),
  logs: z.array(record).optional(),
});

const recordedInvocation = {
  invocation_id: text,
  function: text,
  version: z.int(),
  outcome: text,
  started_at: time,
};

const step = z.object({ kind: text, operation: text.optional(), text });

export const recordingDetails = z.object({
  ...recordedInvocation,
  event: text.nullable().describe('JSON text'),
  code: z
    .object({ language: text, code: text, dependencies: z.record(text, text) })
    .nullable()
    .describe('of a run of `POST /execute`'),
  lost: text.nullable().describe('why there is no recording'),
  steps: z.array(step),
});

export const replayBody = z.strictObject({
  event: z.unknown().optional().describe('another event; of a run of code, another input'),
  version: z.int().min(1).optional().describe('another version'),
});

export const replayReport = z.object({
  ...recordedInvocation,
  replayed_version: z.int(),
  changed: z.boolean().describe('another event or version: it went on where it departed'),
  engine_changed: z.boolean(),
  same: z.boolean(),
  steps: z.int().describe('that were the same'),
  host_calls: z.int(),
  difference: z.object({ step: z.int(), host_call: z.int(), recorded: step, now: step }).nullable(),
  unanswered: step.nullable().describe('the call that a changed run ended at: nobody made it before'),
  end: text.nullable(),
  result: text.nullable(),
  lost: text.nullable().describe('what kept the replay from saying anything'),
});

export const invocationsQuery = z.strictObject({
  limit: z.coerce.number().int().min(1).max(1_000).default(50),
  since: time.optional().describe('started at this time or later'),
  before: time.optional().describe('started before this time'),
  status: z.enum(['ok', 'error']).optional(),
  logs: z.stringbool().default(false).describe('with the log lines'),
});

export const eventsQuery = z.strictObject({
  status: z.enum(EVENT_STATUSES).default('dead'),
  function: functionName.optional(),
  limit: z.coerce.number().int().min(1).max(1_000).default(50),
  cursor: text.optional().describe('next_cursor of the page before'),
});
const eventSummary = z.object({
  id: text,
  status: z.enum(EVENT_STATUSES),
  function: text,
  trigger_id: text,
  trigger: text.describe('database, schedule, webhook or dead_letter'),
  schema: text.describe('empty, as table and operation, for what no row change made'),
  table: text,
  operation: text,
  attempt: z.int(),
  occurred_at: time,
  run_at: time.nullable(),
  dead_at: time.nullable(),
  error: z.object({ code: text, message: text, outcome: text }).nullable(),
});
export const eventPage = z.object({ events: z.array(eventSummary), next_cursor: text.nullable() });
export const eventDetail = eventSummary.extend({
  old: text.nullable().describe('JSON text'),
  new: text.nullable().describe('JSON text'),
  claims: text.nullable().describe('request.jwt.claims of the writer'),
});

export const redriveBody = z.strictObject({
  function: functionName.optional(),
  from: givenTime.optional().describe('changes made at this time or later'),
  to: givenTime.optional().describe('changes made before this time'),
  limit: z.int().min(1).max(10_000).default(1_000),
});
export const pauseBody = z.strictObject({
  trigger: text.optional().describe('one trigger by its id; all where absent'),
});
export const installedTrigger = z.object({
  id: text,
  type: text,
  paused: z.boolean(),
  config: z.record(z.string(), z.unknown()),
  problems: z.array(text).describe('why changes may be missed; empty where all is well'),
});

export const secretBody = z.strictObject({ value: text });
export const rotation = z.object({
  rotated: z.int().describe('secrets that are under the current key now'),
  remaining: z.int().describe('secrets that no key of this node opens'),
  unreadable: z.array(text).describe('their names'),
});
export const secretSummary = z.object({ name: text, created_at: time, updated_at: time });

export const auditQuery = z.strictObject({ limit: z.coerce.number().int().min(1).max(1_000).default(50) });
export const auditEntry = z.object({
  at: time,
  actor: text.nullable().describe('name or fingerprint of the admin key, or loopback; null for a refused request'),
  source: text,
  action: text,
  target: text.nullable(),
  status: z.int().nullable().describe('null where it was not answered'),
  request_id: text,
  count: z.int().describe('refusals of one source in one minute are one entry'),
});

const count = z.int().min(0);
export const receiptsQuery = z.strictObject({
  chain: z.uuid(),
  from: z.coerce.number().int().min(0).max(Number.MAX_SAFE_INTEGER).default(0).describe('seq of a receipt'),
});
export const receiptChain = z.object({
  chain: text.describe('id of the node, which is another with each start'),
  first: count.describe('seq of the first receipt that is kept'),
  last: count,
  from: time,
  to: time,
});
export const signingKey = z.object({
  kty: z.literal('OKP'),
  crv: z.literal('Ed25519'),
  x: text,
  kid: text,
  alg: z.literal('EdDSA'),
  use: z.literal('sig'),
});

const rate = z.strictObject({
  limit: z.int().min(1).max(1_000_000).describe('requests that are let in during each window'),
  window_seconds: z.int().min(1).max(86_400),
});
export const policyName = z.string().regex(/^[a-z][a-z0-9_-]{0,62}$/, 'is no name of a policy: a-z, 0-9, _ and -');
export const apiKeyBody = z.strictObject({
  name: z
    .string()
    .min(1)
    .max(100)
    .regex(/^\P{Cc}*$/u, 'has a control character'),
  functions: z.array(functionName).min(1).max(1_000).optional().describe('which it is good for; all where absent'),
  role: z.enum(TOKEN_ROLES).default(DEFAULT_KEY_ROLE),
  policy: policyName.optional().describe('by which it may run code of its own; none where absent'),
  rate: rate.default({ limit: DEFAULT_RATE_LIMIT, window_seconds: DEFAULT_RATE_WINDOW_SECONDS }),
  expires_at: time.refine((end) => Date.parse(end) > Date.now(), 'is not in the future').optional(),
});
export const apiKeySummary = z.object({
  id: text,
  name: text,
  display: text.describe('the first characters of the key'),
  functions: z.array(text).nullable(),
  role: text,
  policy: text.nullable(),
  rate,
  created_at: time,
  expires_at: time.nullable(),
  revoked_at: time.nullable(),
  last_used_at: time.nullable().describe('some seconds behind'),
  refused: z
    .object({ rate: z.int(), scope: z.int(), inactive: z.int() })
    .describe("requests beyond the rate, to other functions, and after the key's end"),
});
export const policySummary = z.object({
  name: text,
  rules: z.record(z.string(), z.unknown()).describe('durations in milliseconds, sizes in bytes'),
  api_keys: z.int().describe('how many keys have it'),
  updated_at: time,
});
export const apiKeyCreated = apiKeySummary.extend({ key: text.describe('given here and never again') });

export const sessionSummary = z.object({
  id: text,
  api_key_id: text,
  policy: text,
  language: text,
  runs: z.object({ first: z.int(), last: z.int() }).describe('numbers of those that can be gone back to'),
  bytes: z.int().describe('of all that is kept'),
  created_at: time,
  last_used_at: time,
  expires_at: time.describe('when nobody uses it before'),
});

/** Parses input of the control API. Throws INVALID_REQUEST that names the field. */
export function read<T extends z.ZodType>(schema: T, input: unknown): z.output<T> {
  const parsed = schema.safeParse(input);
  if (parsed.success) return parsed.data;
  const text = parsed.error.issues.map((issue) => {
    const at = issue.path.join('.');
    const message =
      issue.code === 'unrecognized_keys' && at === '' && schema instanceof z.ZodObject
        ? `${issue.keys.join(', ')}: unknown; there are ${Object.keys(schema.shape).join(', ')}`
        : issue.message;
    return at === '' ? message : `${at}: ${message}`;
  });
  throw new PosternError('INVALID_REQUEST', text.join('; ').slice(0, 1_000));
}

/** As the document needs it. */
export function jsonSchema(schema: z.ZodType, io: 'input' | 'output' = 'input'): Record<string, unknown> {
  const { $schema: _, ...document } = z.toJSONSchema(schema, { io, unrepresentable: 'any' });
  return document;
}
