import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createHttpHostFunction } from '../../host-functions/index.ts';
import { HostCalls } from '../../invoker/host-calls.ts';
import { stopBundler } from '../../runtime/javascript/bundle/index.ts';
import { testScope } from '../host-functions/support.ts';
import { type HostCall, TestRuntime } from '../runtime/javascript/support/sandboxes.ts';
import { deployFile, FunctionFolder, runInNode } from './run.ts';

/** Clients of services, against a server of this process that answers with what it was asked. */
const CLIENTS: Readonly<Record<string, (port: number) => string>> = {
  stripe: (port) => `
    import Stripe from 'stripe';
    const stripe = new Stripe('sk_test_1', { httpClient: Stripe.createFetchHttpClient(), host: '127.0.0.1', port: ${port}, protocol: 'http', maxNetworkRetries: 0 });
    export async function handler() {
      const made = await stripe.customers.create({ email: 'a@b.de', metadata: { plan: 'x y' } }, { idempotencyKey: 'key-1' });
      const failed = await stripe.charges.retrieve('missing').catch((error) => [error.type, error.statusCode]);
      const payload = '{"id":"evt_1","object":"event"}';
      const header = await stripe.webhooks.generateTestHeaderStringAsync({ payload, secret: 'whsec_1' });
      const event = await stripe.webhooks.constructEventAsync(payload, header, 'whsec_1');
      return [made.asked, made.method, made.body, made.authorization, failed, event.id];
    }`,
  '@octokit/rest': (port) => `
    import { Octokit } from '@octokit/rest';
    const octokit = new Octokit({ auth: 'token-1', baseUrl: 'http://127.0.0.1:${port}' });
    export async function handler() {
      const { data } = await octokit.rest.issues.create({ owner: 'o', repo: 'r', title: 'Hello' });
      const failed = await octokit.rest.repos.get({ owner: 'o', repo: 'missing' }).catch((error) => [error.name, error.status]);
      return [data.asked, data.method, JSON.parse(data.body), data.authorization, failed];
    }`,
  '@supabase/supabase-js': (port) => `
    import { createClient } from '@supabase/supabase-js';
    export async function handler() {
      const client = createClient('http://127.0.0.1:${port}', 'anon-key', { auth: { persistSession: false, autoRefreshToken: false } });
      const { data } = await client.from('notes').select('id, body').eq('owner', 'ann').limit(3).single();
      const { error } = await client.from('missing').insert({ a: 1 });
      return [data.asked, data.method, data.authorization, error.message];
    }`,
};

let server: Server;
let folder: FunctionFolder;
let runtime: TestRuntime;
const http = createHttpHostFunction();
const defects: string[] = [];
const depths: (string | string[] | undefined)[] = [];

async function bodyOf(request: IncomingMessage): Promise<string> {
  let text = '';
  for await (const chunk of request) text += chunk;
  return text;
}

beforeAll(async () => {
  server = createServer(async (request, response) => {
    const { method, url = '', headers } = request;
    depths.push(headers['x-postern-depth']);
    const missing = url.includes('missing');
    response.writeHead(missing ? 404 : 200, { 'content-type': 'application/json' });
    const answer = missing
      ? { message: 'no such thing', error: { type: 'invalid_request_error', message: 'no such thing' } }
      : { asked: url, method, body: await bodyOf(request), authorization: headers.authorization ?? null };
    response.end(JSON.stringify(answer));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  folder = await FunctionFolder.create();
  runtime = await TestRuntime.boot();
});
afterAll(async () => {
  await http.stop?.();
  server.close();
  await folder.remove();
  await stopBundler();
});

/** The node's side of a function's host calls: the real `http.fetch`, which the function may use for that server alone. */
function hostCalls(): HostCalls {
  const { port } = server.address() as AddressInfo;
  return new HostCalls(
    new Map([['http.fetch', http]]),
    (signal) => ({ ...testScope({ allow: [`http://127.0.0.1:${port}`] }), signal }),
    (operation, error) => defects.push(`${operation}: ${error}`),
  );
}

for (const [name, source] of Object.entries(CLIENTS)) {
  test(`${name} talks to its service from a function as from Node`, async () => {
    const file = await folder.write(name, source((server.address() as AddressInfo).port));
    const inNode = (await runInNode([file]))[file];
    expect(inNode?.error).toBeUndefined();
    const image = await deployFile(runtime, file);
    const host = hostCalls();
    const onHostCall = ({ operation, payload, answer }: HostCall): void =>
      void host.call(operation, payload).then(
        (text) => answer(true, text),
        (error: Error) => answer(false, error.message),
      );
    expect(await runtime.value(image, { limits: { timeoutMs: 20_000 }, onHostCall })).toEqual(inNode?.value);
    host.close();
    expect(defects).toEqual([]);
    // Only `http.fetch` says how deep in a chain of functions a request is.
    expect(depths.splice(0)).toContain('1');
  });
}
