/** The control API of SPEC 6 and the functions' own URLs, as the commands use them. */

import { z } from 'zod';
import { OperationError } from './errors.ts';

const text = z.string();

export const deploymentSchema = z.looseObject({
  id: text,
  name: text,
  version: z.number(),
  created: z.boolean().default(true),
  url: text.optional(),
  warnings: z.array(text).default([]),
});
export type Deployment = z.infer<typeof deploymentSchema>;

const functionSchema = z.looseObject({
  name: text,
  version: z.number(),
  id: text,
  config: z.looseObject({
    language: text.optional(),
    auth: text.optional(),
    triggers: z.array(z.looseObject({ type: text })).default([]),
  }),
  next_fires: z.array(text).default([]),
  problems: z.array(text).default([]),
  updated_at: text,
});
export type FunctionInfo = z.infer<typeof functionSchema>;

const invocationSchema = z.looseObject({
  id: text,
  function: text,
  version: z.number(),
  trigger: text,
  status: text,
  outcome: text,
  error: z.object({ code: text, message: text.nullable(), stack: text.nullable().default(null) }).nullable(),
  started_at: text,
  duration_ms: z.number(),
  request_id: text.nullable(),
  logs: z
    .array(z.looseObject({ level: text.optional(), message: z.unknown(), timestamp: text.optional() }))
    .default([]),
});
export type Invocation = z.infer<typeof invocationSchema>;

const stepSchema = z.looseObject({ kind: text, operation: text.optional(), text });
export type ReplayStep = z.infer<typeof stepSchema>;

const replaySchema = z.looseObject({
  function: text,
  replayed_version: z.number(),
  changed: z.boolean(),
  engine_changed: z.boolean(),
  same: z.boolean(),
  steps: z.number(),
  host_calls: z.number(),
  difference: z
    .looseObject({ step: z.number(), host_call: z.number(), recorded: stepSchema, now: stepSchema })
    .nullable(),
  unanswered: stepSchema.nullable(),
  end: text.nullable(),
  result: text.nullable(),
  lost: text.nullable(),
});
export type ReplayReport = z.infer<typeof replaySchema>;
export const readReplayReport = (said: unknown): ReplayReport => replaySchema.parse(said);

const eventSchema = z.looseObject({
  id: text,
  status: text,
  function: text.nullable(),
  schema: text,
  table: text,
  operation: text,
  attempt: z.number(),
  occurred_at: text,
  error: z.looseObject({}).nullable(),
});
export type EventInfo = z.infer<typeof eventSchema>;

const secretSchema = z.looseObject({ name: text, updated_at: text });
export type SecretInfo = z.infer<typeof secretSchema>;

const rotationSchema = z.looseObject({
  rotated: z.number(),
  remaining: z.number(),
  unreadable: z.array(text).default([]),
});
export type Rotation = z.infer<typeof rotationSchema>;

const apiKeySchema = z.looseObject({
  id: text,
  name: text,
  display: text,
  functions: z.array(text).nullable(),
  role: text,
  policy: text.nullable(),
  rate: z.looseObject({ limit: z.number(), window_seconds: z.number() }),
  expires_at: text.nullable(),
  revoked_at: text.nullable(),
  last_used_at: text.nullable(),
  refused: z.record(text, z.number()),
});
export type ApiKeyInfo = z.infer<typeof apiKeySchema>;
const createdKeySchema = apiKeySchema.extend({ key: text });

const sessionSchema = z.looseObject({
  id: text,
  api_key_id: text,
  policy: text,
  language: text,
  runs: z.looseObject({ first: z.number(), last: z.number() }),
  bytes: z.number(),
  last_used_at: text,
  expires_at: text,
});
export type SessionInfo = z.infer<typeof sessionSchema>;
const policySchema = z.looseObject({
  name: text,
  rules: z.record(text, z.unknown()),
  api_keys: z.number(),
  updated_at: text,
});
export type PolicyInfo = z.infer<typeof policySchema>;

const errorSchema = z.object({
  code: text,
  message: text,
  request_id: text.optional(),
  details: z.looseObject({}).optional(),
});

const auditSchema = z.looseObject({
  at: text,
  actor: text.nullable(),
  source: text,
  action: text,
  target: text.nullable(),
  status: z.number().nullable(),
  count: z.number(),
});
export type AuditInfo = z.infer<typeof auditSchema>;

const receiptChainSchema = z.looseObject({ chain: text, first: z.number(), last: z.number(), from: text, to: text });
export type ReceiptChainInfo = z.infer<typeof receiptChainSchema>;

export interface ControlClientOptions {
  readonly url: string;
  readonly adminKey?: string | undefined;
  /** For whom it is said in hints, e.g. `--url`. */
  readonly timeoutMs?: number;
}

const DEFAULT_TIMEOUT_MS = 120_000;

export class ControlClient {
  readonly url: string;
  readonly #adminKey: string | undefined;
  readonly #timeoutMs: number;

  constructor({ url, adminKey, timeoutMs = DEFAULT_TIMEOUT_MS }: ControlClientOptions) {
    this.url = url.replace(/\/+$/, '');
    this.#adminKey = adminKey === '' ? undefined : adminKey;
    this.#timeoutMs = timeoutMs;
  }

  deploy(body: Readonly<Record<string, unknown>>): Promise<Deployment> {
    return this.#json('POST', '/functions', deploymentSchema, body);
  }

  async list(): Promise<readonly FunctionInfo[]> {
    return (await this.#json('GET', '/functions', z.looseObject({ functions: z.array(functionSchema) }))).functions;
  }

  async delete(name: string): Promise<void> {
    await this.#request('DELETE', `/functions/${encodeURIComponent(name)}`);
  }

  rollback(name: string, version?: number): Promise<Deployment> {
    const body = version === undefined ? {} : { version };
    return this.#json('POST', `/functions/${encodeURIComponent(name)}/rollback`, deploymentSchema, body);
  }

  /** Newest first, with their log lines. */
  async invocations(name: string, query: Readonly<Record<string, string>>): Promise<readonly Invocation[]> {
    const path = `/functions/${encodeURIComponent(name)}/invocations?${new URLSearchParams({ ...query, logs: 'true' })}`;
    return (await this.#json('GET', path, z.looseObject({ invocations: z.array(invocationSchema) }))).invocations;
  }

  invocation(id: string): Promise<Invocation> {
    return this.#json('GET', `/invocations/${encodeURIComponent(id)}`, invocationSchema);
  }

  async events(query: Readonly<Record<string, string>>): Promise<readonly EventInfo[]> {
    const path = `/events?${new URLSearchParams(query)}`;
    return (await this.#json('GET', path, z.looseObject({ events: z.array(eventSchema) }))).events;
  }

  async redrive(id: string): Promise<void> {
    await this.#request('POST', `/events/${encodeURIComponent(id)}/redrive`);
  }

  async redriveAll(filter: { function?: string; from?: string; to?: string; limit?: number }): Promise<number> {
    return (await this.#json('POST', '/events/redrive', z.looseObject({ redriven: z.number() }), filter)).redriven;
  }

  async discard(id: string): Promise<void> {
    await this.#request('DELETE', `/events/${encodeURIComponent(id)}`);
  }

  async pause(name: string, how: 'pause' | 'resume', trigger?: string): Promise<readonly string[]> {
    const path = `/functions/${encodeURIComponent(name)}/${how}`;
    const body = trigger === undefined ? {} : { trigger };
    return (await this.#json('POST', path, z.looseObject({ triggers: z.array(z.string()) }), body)).triggers;
  }

  async secrets(): Promise<readonly SecretInfo[]> {
    return (await this.#json('GET', '/secrets', z.looseObject({ secrets: z.array(secretSchema) }))).secrets;
  }

  async setSecret(name: string, value: string): Promise<void> {
    await this.#request('PUT', `/secrets/${encodeURIComponent(name)}`, { value });
  }

  async unsetSecret(name: string): Promise<void> {
    await this.#request('DELETE', `/secrets/${encodeURIComponent(name)}`);
  }

  async audit(limit: number): Promise<readonly AuditInfo[]> {
    return (await this.#json('GET', `/audit?limit=${limit}`, z.looseObject({ entries: z.array(auditSchema) }))).entries;
  }

  async receiptChains(): Promise<readonly ReceiptChainInfo[]> {
    const { chains } = await this.#json(
      'GET',
      '/receipts/chains',
      z.looseObject({ chains: z.array(receiptChainSchema) }),
    );
    return chains;
  }

  /** A page of a chain's lines, and where the next one begins. */
  async receipts(chain: string, from: number): Promise<{ readonly lines: string; readonly next: number | null }> {
    const path = `/receipts?${new URLSearchParams({ chain, from: String(from) })}`;
    const { response, text: lines } = await this.#send('GET', path);
    const next = Number(/[?&]from=(\d+)>; rel="next"/.exec(response.headers.get('link') ?? '')?.[1]);
    // A server that leads backwards would be asked for ever.
    return { lines, next: next > from ? next : null };
  }

  /** One line. */
  async receipt(invocation: string): Promise<string> {
    return (await this.#send('GET', `/invocations/${encodeURIComponent(invocation)}/receipt`)).text;
  }

  signingKeys(): Promise<{ readonly keys: readonly unknown[] }> {
    return this.#json('GET', '/keys', z.looseObject({ keys: z.array(z.unknown()) }));
  }

  rotateSecrets(): Promise<Rotation> {
    return this.#json('POST', '/secrets/rotate', rotationSchema);
  }

  /** `key` of the answer is told this once. */
  createApiKey(body: Readonly<Record<string, unknown>>): Promise<ApiKeyInfo & { readonly key: string }> {
    return this.#json('POST', '/api-keys', createdKeySchema, body);
  }

  /** id: of an invocation, or of an event. */
  replay(id: string, changes: { readonly event?: unknown; readonly version?: number }): Promise<ReplayReport> {
    return this.#json('POST', `/invocations/${encodeURIComponent(id)}/replay`, replaySchema, changes);
  }

  /** The text of the file. */
  async savedRecording(id: string): Promise<string> {
    return (await this.#send('POST', `/invocations/${encodeURIComponent(id)}/recording/save`)).text;
  }

  async apiKeys(): Promise<readonly ApiKeyInfo[]> {
    return (await this.#json('GET', '/api-keys', z.looseObject({ api_keys: z.array(apiKeySchema) }))).api_keys;
  }

  async revokeApiKey(id: string): Promise<void> {
    await this.#request('DELETE', `/api-keys/${encodeURIComponent(id)}`);
  }

  async sessions(): Promise<readonly SessionInfo[]> {
    return (await this.#json('GET', '/sessions', z.looseObject({ sessions: z.array(sessionSchema) }))).sessions;
  }

  async deleteSession(id: string): Promise<void> {
    await this.#request('DELETE', `/sessions/${encodeURIComponent(id)}`);
  }

  async policies(): Promise<readonly PolicyInfo[]> {
    return (await this.#json('GET', '/policies', z.looseObject({ policies: z.array(policySchema) }))).policies;
  }

  policy(name: string): Promise<PolicyInfo> {
    return this.#json('GET', `/policies/${encodeURIComponent(name)}`, policySchema);
  }

  setPolicy(name: string, rules: unknown): Promise<PolicyInfo> {
    return this.#json('PUT', `/policies/${encodeURIComponent(name)}`, policySchema, rules);
  }

  async deletePolicy(name: string): Promise<void> {
    await this.#request('DELETE', `/policies/${encodeURIComponent(name)}`);
  }

  /** Calls a function. Resolves with whatever it answered, an error status too. */
  async call(name: string, call: FunctionCall): Promise<FunctionAnswer> {
    const path = `/functions/v1/invoke/${encodeURIComponent(name)}${call.path}`;
    const response = await this.#fetch(path, {
      method: call.method,
      headers: {
        ...(call.body === undefined ? {} : { 'content-type': call.contentType }),
        ...(call.token === undefined ? {} : { authorization: `Bearer ${call.token}` }),
      },
      ...(call.body === undefined ? {} : { body: call.body }),
    });
    return {
      status: response.status,
      headers: Object.fromEntries(response.headers),
      body: Buffer.from(await this.#read(response.arrayBuffer())),
    };
  }

  async #json<T extends z.ZodType>(method: string, path: string, schema: T, body?: unknown): Promise<z.infer<T>> {
    const answer = await this.#request(method, path, body);
    const parsed = schema.safeParse(answer);
    if (parsed.success) return parsed.data;
    throw new OperationError(
      'UNEXPECTED_ANSWER',
      `${this.url}${path} gave an answer that this version of postern does not know`,
      {
        hint: 'is it a Postern server, and of the same version?',
        cause: parsed.error,
      },
    );
  }

  async #request(method: string, path: string, body?: unknown): Promise<unknown> {
    return parseJson((await this.#send(method, path, body)).text);
  }

  /** Rejects with the server's refusal. */
  async #send(
    method: string,
    path: string,
    body?: unknown,
  ): Promise<{ readonly response: Response; readonly text: string }> {
    const response = await this.#fetch(path, {
      method,
      headers: {
        accept: 'application/json',
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        ...(this.#adminKey === undefined ? {} : { authorization: `Bearer ${this.#adminKey}` }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const answer = await this.#read(response.text());
    if (response.ok) return { response, text: answer };
    throw this.#refused(response.status, parseJson(answer), answer);
  }

  async #fetch(path: string, init: RequestInit): Promise<Response> {
    return this.#read(
      fetch(`${this.url}${path}`, { ...init, redirect: 'manual', signal: AbortSignal.timeout(this.#timeoutMs) }),
    );
  }

  async #read<T>(work: Promise<T>): Promise<T> {
    try {
      return await work;
    } catch (error) {
      const timedOut = error instanceof Error && error.name === 'TimeoutError';
      const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
      const reason = (cause as { code?: string }).code ?? (cause as Error).message;
      throw new OperationError(
        'UNREACHABLE',
        timedOut
          ? `${this.url} did not answer within ${this.#timeoutMs / 1000} s`
          : `${this.url} can not be reached (${reason})`,
        {
          hint: 'start a server with `postern dev` or `postern serve`, or name one with --url or POSTERN_URL',
          cause: error,
        },
      );
    }
  }

  #refused(status: number, value: unknown, answer: string): OperationError {
    const parsed = errorSchema.safeParse(value);
    if (!parsed.success) {
      return new OperationError('UNEXPECTED_ANSWER', `${this.url} answered ${status}: ${answer.slice(0, 200)}`, {
        hint: 'is it a Postern server?',
      });
    }
    const { code, message, details } = parsed.data;
    const hint =
      code === 'UNAUTHORIZED' ? 'give the admin key in POSTERN_ADMIN_KEY or with --admin-key-file' : undefined;
    return new OperationError(code, message, {
      ...(hint === undefined ? {} : { hint }),
      ...(details === undefined ? {} : { details }),
    });
  }
}

export interface FunctionCall {
  readonly method: string;
  /** What follows the name: '' or '/…', with the query. */
  readonly path: string;
  readonly body: string | undefined;
  readonly contentType: string;
  readonly token: string | undefined;
}

export interface FunctionAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
}

function parseJson(text: string): unknown {
  try {
    return text === '' ? undefined : JSON.parse(text);
  } catch {
    return undefined;
  }
}
