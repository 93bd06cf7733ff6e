/** The HTTP trigger behind the real server on a real port, over functions that are closures of the test. */

import { randomUUID } from 'node:crypto';
import { connect } from 'node:net';
import { SignJWT } from 'jose';
import pino from 'pino';
import type {
  FunctionConfig,
  FunctionResponse,
  FunctionVersion,
  InvocationRequest,
  InvocationResult,
  Invoker,
} from '../../../invoker/index.ts';
import { parseFunctionConfig } from '../../../invoker/index.ts';
import { PosternError } from '../../../runtime/index.ts';
import { type AppOptions, createApp } from '../../../server/app.ts';
import { type HttpTriggerOptions, httpTrigger, TokenVerifier } from '../../../triggers/index.ts';

export const SECRET = 'a-test-secret-that-has-more-than-32-bytes';
const USAGE = { durationMs: 1, cpuMs: 1, fuel: 1, peakMemoryBytes: 1, hostCalls: 0, clockReads: 0, randomBytes: 0 };

export type FakeHandler = (event: unknown, request: InvocationRequest) => FunctionResponse | Promise<FunctionResponse>;

export class FakeFunctions implements Invoker {
  readonly #functions = new Map<string, { version: FunctionVersion; handler: FakeHandler }>();
  readonly requests: InvocationRequest[] = [];

  add(name: string, config: Record<string, unknown>, handler: FakeHandler): void {
    const checked: FunctionConfig = parseFunctionConfig({ name, ...config });
    const number = (this.#functions.get(name)?.version.version ?? 0) + 1;
    const versionId = Buffer.from(`${name}-${number}`).toString('hex').padEnd(64, '0').slice(0, 64);
    const version = { functionId: 1, name, version: number, versionId, config: checked, envJson: '{}', redact: String };
    this.#functions.set(name, { version, handler });
  }

  readonly catalog = {
    active: (name: string): FunctionVersion => {
      const known = this.#functions.get(name);
      if (known === undefined) throw new PosternError('FUNCTION_NOT_FOUND', `there is no function '${name}'`);
      return known.version;
    },
    nameOfActive: async (versionId: string) =>
      [...this.#functions.values()].find(({ version }) => version.versionId === versionId)?.version.name ?? null,
  };

  get last(): InvocationRequest {
    return this.requests.at(-1)!;
  }

  async invoke(request: InvocationRequest): Promise<InvocationResult> {
    this.requests.push(request);
    const { handler, version } = this.#functions.get(request.functionName)!;
    const base = { invocationId: randomUUID(), functionName: version.name, version: version.version, usage: USAGE };
    try {
      return { ...base, outcome: 'ok', response: await handler(JSON.parse(request.eventJson), request) };
    } catch (error) {
      return { ...base, outcome: 'exception', error: PosternError.from(error).toRecord() };
    }
  }
}

export const value = (result: unknown): FunctionResponse => ({ kind: 'value', json: JSON.stringify(result) ?? 'null' });
export const http = (
  status: number,
  headers: readonly (readonly [string, string])[] = [],
  body: string | Uint8Array = '',
): FunctionResponse => ({ kind: 'http', status, headers, body });

export interface TestServer {
  readonly url: string;
  readonly port: number;
  readonly functions: FakeFunctions;
  fetch(path: string, init?: RequestInit): Promise<Response>;
  /** Bytes as they are; answers all that came until the server closed the connection. */
  raw(bytes: string | Buffer): Promise<string>;
  stop(): Promise<void>;
}

export async function startTestServer(
  options: Partial<HttpTriggerOptions> & { readonly app?: Partial<AppOptions> } = {},
): Promise<TestServer> {
  const functions = new FakeFunctions();
  const app = createApp({ log: pino({ level: 'silent' }), ...options.app });
  await app.register(httpTrigger, {
    invoker: functions,
    catalog: functions.catalog,
    tokens: new TokenVerifier({ secret: SECRET }),
    // Those that are kept in a database have tests of their own.
    keys: { admit: noKeys, confirm: noKeys },
    idempotency: { once: (_request, run) => run() },
    ...options,
  });
  await app.listen({ host: '127.0.0.1', port: 0 });
  const { port } = app.server.address() as { port: number };
  const url = `http://127.0.0.1:${port}`;
  return {
    url,
    port,
    functions,
    fetch: (path, init) => fetch(url + path, init),
    raw: (bytes) => sendRaw(port, bytes),
    stop: async () => {
      app.server.closeAllConnections();
      await app.close();
    },
  };
}

function noKeys(): never {
  throw new PosternError('UNAUTHORIZED', 'there are no API keys');
}

export function sendRaw(port: number, bytes: string | Buffer): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1', () => socket.write(bytes));
    const chunks: Buffer[] = [];
    socket.on('data', (chunk: Buffer) => chunks.push(chunk));
    socket.on('close', () => resolve(Buffer.concat(chunks).toString('latin1')));
    socket.on('error', (error: NodeJS.ErrnoException) => (error.code === 'ECONNRESET' ? undefined : reject(error)));
  });
}

export const seconds = (fromNow: number): number => Math.floor(Date.now() / 1_000) + fromNow;

export function sign(
  claims: Record<string, unknown>,
  secret = SECRET,
  header: Record<string, unknown> = {},
): Promise<string> {
  return new SignJWT({ role: 'authenticated', exp: seconds(600), ...claims })
    .setProtectedHeader({ alg: 'HS256', ...header })
    .sign(Buffer.from(secret));
}

export const bearer = async (claims: Record<string, unknown> = {}) => ({
  authorization: `Bearer ${await sign(claims)}`,
});
