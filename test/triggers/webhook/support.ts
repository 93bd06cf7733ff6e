/** The webhook trigger behind the real server and over a real database; functions are closures of the test. */

import { createHmac, randomUUID } from 'node:crypto';
import pino from 'pino';
import { withTransaction } from '../../../database/index.ts';
import type {
  FunctionResponse,
  FunctionVersion,
  InvocationRequest,
  InvocationResult,
  Invoker,
  WebhookSchemeName,
} from '../../../invoker/index.ts';
import { parseFunctionConfig } from '../../../invoker/index.ts';
import { PosternError } from '../../../runtime/index.ts';
import { createApp } from '../../../server/app.ts';
import {
  DatabaseTriggerInstaller,
  httpTrigger,
  TokenVerifier,
  WebhookSecrets,
  type WebhookTriggerOptions,
  webhookTrigger,
} from '../../../triggers/index.ts';
import type { TestDatabase } from '../../support/postgres.ts';
import { newFunction, USAGE } from '../database/support.ts';

export const SECRET = 'a webhook secret of enough bytes';
/** The key of Standard Webhooks, in its own spelling. */
export const WHSEC = `whsec_${Buffer.from(SECRET).toString('base64')}`;

export type Handler = (request: InvocationRequest) => FunctionResponse | Promise<FunctionResponse>;

/** Secrets that a test changes, and forgets as the catalogue has them forgotten. */
export class TestSecrets {
  readonly values = new Map<string, string>([
    ['SECRET', SECRET],
    ['WHSEC', WHSEC],
  ]);
  version = 0;

  set(name: string, value: string | null): void {
    if (value === null) this.values.delete(name);
    else this.values.set(name, value);
    this.version++;
  }

  async resolve(names: readonly string[]): Promise<Map<string, string>> {
    return new Map(names.flatMap((name) => (this.values.has(name) ? [[name, this.values.get(name)!] as const] : [])));
  }
}

/** What several nodes share: the database, what is deployed, the secrets. */
export class TestFunctions implements Invoker {
  readonly db: TestDatabase;
  readonly secrets = new TestSecrets();
  readonly requests: InvocationRequest[] = [];
  /** How often the catalogue was asked. */
  lookups = 0;
  readonly #functions = new Map<string, { version: FunctionVersion; handler: Handler }>();

  constructor(db: TestDatabase) {
    this.db = db;
  }

  /** A function whose only trigger is this webhook; returns its address. */
  async add(
    trigger: Record<string, unknown> | 'http',
    handler: Handler = () => value('done'),
    config: Record<string, unknown> = {},
  ): Promise<{ path: string; id: number; name: string }> {
    const name = `f-${randomUUID().slice(0, 13)}`;
    const triggers = trigger === 'http' ? ['http'] : [{ type: 'webhook', ...trigger }];
    const checked = parseFunctionConfig({ name, triggers, ...config });
    const id = await newFunction(this.db.pool, name);
    await withTransaction(this.db.pool, (client) =>
      new DatabaseTriggerInstaller().install(client, id, name, checked.triggers),
    );
    const version = {
      functionId: id,
      name,
      version: 1,
      versionId: randomUUID(),
      config: checked,
      envJson: '{}',
      redact: String,
    };
    this.#functions.set(name, { version, handler });
    return { path: `/functions/v1/webhook/${name}`, id, name };
  }

  readonly catalog = {
    active: (name: string): FunctionVersion => {
      this.lookups++;
      const known = this.#functions.get(name);
      if (known === undefined) throw new PosternError('FUNCTION_NOT_FOUND', `there is no function '${name}'`);
      return known.version;
    },
    nameOfActive: async () => null,
  };

  async invoke(request: InvocationRequest): Promise<InvocationResult> {
    this.requests.push(request);
    const { handler, version } = this.#functions.get(request.functionName)!;
    const base = { invocationId: randomUUID(), functionName: version.name, version: 1, usage: USAGE };
    try {
      return { ...base, outcome: 'ok', response: await handler(request) };
    } catch (error) {
      return { ...base, outcome: 'exception', error: PosternError.from(error).toRecord() };
    }
  }

  /** The events in the outbox that a function waits for, as it will get them. */
  async events(functionId: number): Promise<Record<string, unknown>[]> {
    const { rows } = await this.db.pool.query<{ id: string; json: string }>(
      'select id, new_row::text as json from postern.events where function_id = $1 order by seq',
      [functionId],
    );
    return rows.map(({ id, json }) => ({ ...(JSON.parse(json) as object), event_id: id }));
  }

  async deliveries(functionId: number): Promise<number> {
    const { rows } = await this.db.pool.query<{ count: number }>(
      'select count(*)::int as count from postern.webhook_deliveries where function_id = $1',
      [functionId],
    );
    return rows[0]!.count;
  }
}

export const value = (result: unknown): FunctionResponse => ({ kind: 'value', json: JSON.stringify(result) });

export interface WebhookNode {
  readonly url: string;
  readonly port: number;
  readonly logged: string[];
  post(path: string, body: string | Buffer, headers?: Record<string, string>): Promise<Answer>;
  stop(): Promise<void>;
}

export interface Answer {
  readonly status: number;
  readonly text: string;
  readonly body: Record<string, unknown>;
  readonly headers: Headers;
}

export async function startNode(
  functions: TestFunctions,
  options: Partial<WebhookTriggerOptions> = {},
): Promise<WebhookNode> {
  const logged: string[] = [];
  const log = (message: string): void => void logged.push(message);
  const app = createApp({ log: pino({ level: 'silent' }) });
  const { catalog, secrets } = functions;
  await app.register(httpTrigger, {
    invoker: functions,
    catalog,
    tokens: new TokenVerifier({ secret: SECRET }),
    keys: { admit: noKeys, confirm: noKeys },
    idempotency: { once: (_request, run) => run() },
  });
  await app.register(webhookTrigger, {
    pool: functions.db.pool,
    invoker: functions,
    catalog,
    secrets: new WebhookSecrets({ secrets, version: () => secrets.version, log }),
    log,
    ...options,
  });
  await app.listen({ host: '127.0.0.1', port: 0 });
  const { port } = app.server.address() as { port: number };
  const url = `http://127.0.0.1:${port}`;
  return {
    url,
    port,
    logged,
    async post(path, body, headers = {}) {
      const type = { 'content-type': 'application/json' };
      const bytes = new Uint8Array(Buffer.from(body));
      const response = await fetch(url + path, { method: 'POST', body: bytes, headers: { ...type, ...headers } });
      const text = await response.text();
      const json = response.headers.get('content-type')?.includes('json') === true ? JSON.parse(text) : {};
      return { status: response.status, text, body: json as Record<string, unknown>, headers: response.headers };
    },
    stop: async () => {
      app.server.closeAllConnections();
      await app.close();
    },
  };
}

export const seconds = (fromNow = 0): string => String(Math.floor(Date.now() / 1_000) + fromNow);

const hmac = (secret: string | Buffer, ...parts: (string | Buffer)[]) => {
  const sum = createHmac('sha256', secret);
  for (const part of parts) sum.update(part);
  return sum;
};

export interface SignOptions {
  readonly id?: string;
  readonly timestamp?: string;
  readonly secret?: string;
}

/** The headers of a sender, by the formulas that publishers document. */
export function sign(
  scheme: WebhookSchemeName,
  body: string | Buffer,
  { id = randomUUID(), timestamp = seconds(), secret = SECRET }: SignOptions = {},
): Record<string, string> {
  switch (scheme) {
    case 'hmac-sha256':
      return { 'x-webhook-signature': `sha256=${hmac(secret, body).digest('hex')}`, 'x-webhook-id': id };
    case 'github':
      return { 'x-hub-signature-256': `sha256=${hmac(secret, body).digest('hex')}`, 'x-github-delivery': id };
    case 'shopify':
      return { 'x-shopify-hmac-sha256': hmac(secret, body).digest('base64'), 'x-shopify-webhook-id': id };
    case 'stripe':
      return { 'stripe-signature': `t=${timestamp},v1=${hmac(secret, `${timestamp}.`, body).digest('hex')}` };
    case 'slack':
      return {
        'x-slack-request-timestamp': timestamp,
        'x-slack-signature': `v0=${hmac(secret, `v0:${timestamp}:`, body).digest('hex')}`,
      };
    case 'standard-webhooks':
      return {
        'webhook-id': id,
        'webhook-timestamp': timestamp,
        'webhook-signature': `v1,${hmac(secret, `${id}.${timestamp}.`, body).digest('base64')}`,
      };
  }
}

/** The name of the secret that a scheme's trigger has in these tests. */
export const secretOf = (scheme: WebhookSchemeName): string => (scheme === 'standard-webhooks' ? 'WHSEC' : 'SECRET');

function noKeys(): never {
  throw new Error('this test has no API keys');
}
