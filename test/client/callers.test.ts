/** The ways to a node besides curl, against one node: `postern/client`, the command line, MCP over both transports. */

import { readFileSync } from 'node:fs';
import { request } from 'node:http';
import { resolve } from 'node:path';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import type { CallToolResult } from '@modelcontextprotocol/sdk/types.js';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import {
  PolicyError,
  PosternClient,
  type PosternClientError,
  RateLimitedError,
  UnauthorizedError,
} from '../../client/index.ts';
import { Folder, run as runCli } from '../cli/support.ts';
import { ADMIN_KEY, startTestPostern, type TestPostern } from '../server/support.ts';
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts';
import { sharedPartsEnv } from '../support/shared-parts-env.ts';

let db: TestDatabase;
let node: TestPostern;
let folder: Folder;
/** Of a key that has the policy `default`. */
let key: string;
let postern: PosternClient;

beforeAll(async () => {
  folder = new Folder();
  db = await createTestDatabase();
  node = await startTestPostern(db);
  key = await makeKey({ policy: 'default' });
  postern = new PosternClient({ url: node.url, apiKey: key, adminKey: ADMIN_KEY });
  await postern.deploy({ name: 'double', source: 'export const handler = ({ body }) => body * 2;' });
}, 60_000);
afterAll(async () => {
  await node?.stop();
  await db.drop();
  folder.remove();
});

async function makeKey(wanted: Record<string, unknown> = {}): Promise<string> {
  const rate = { limit: 10_000, window_seconds: 3_600 };
  const { status, body } = await node.admin('POST', '/api-keys', { name: 'k', rate, ...wanted });
  if (status !== 201) throw new Error(JSON.stringify(body));
  return body.key as string;
}
async function setPolicy(name: string, rules: Record<string, unknown>): Promise<void> {
  expect(await node.admin('PUT', `/policies/${name}`, rules)).toMatchObject({ status: 200 });
}
/** Of a key whose code may have sessions. */
async function sessionKey(): Promise<string> {
  await setPolicy('with-sessions', { sessions: 10 });
  return makeKey({ policy: 'with-sessions' });
}
const ENDLESS = 'for (;;);';
async function running(): Promise<number> {
  const text = await (await node.call('/metrics', { headers: { authorization: `Bearer ${ADMIN_KEY}` } })).text();
  return Number(/^postern_invocations_running(?:\{.*\})? (\d+)/m.exec(text)![1]);
}
const failure = (work: Promise<unknown>): Promise<PosternClientError> =>
  work.then(
    () => expect.unreachable('it was answered'),
    (error: unknown) => error as PosternClientError,
  );
const blocks = (page: string, language: string): string[] =>
  [...readFileSync(page, 'utf8').matchAll(new RegExp(`\`\`\`${language}\\n([\\s\\S]*?)\`\`\``, 'g'))].map(
    ([, text]) => text!,
  );

describe('postern/client', () => {
  test('the example of docs/client.md prints what it says', async () => {
    const [example] = blocks('docs/client.md', 'ts');
    const here = example!
      .replace("'postern/client'", JSON.stringify(resolve('client/index.ts')))
      .replace('http://127.0.0.1:8787', node.url)
      .replace('process.env.POSTERN_API_KEY', JSON.stringify(key));
    const printed = vi.spyOn(console, 'log').mockImplementation(() => {});
    await import(folder.write('example.ts', here));
    const lines = printed.mock.calls;
    printed.mockRestore();
    expect(lines).toEqual([
      [6, 'adding\n'],
      ['http.allow', ['example.com'], []],
    ]);
  });

  test('execute tells of code that fails what it said, its name and its line', async () => {
    const error = await failure(postern.execute({ code: "console.log('before');\nthrow new RangeError('no')" }));
    expect(error).toMatchObject({ name: 'FunctionError', code: 'FUNCTION_ERROR', message: 'RangeError: no' });
    expect(error.run).toMatchObject({ stdout: 'before\n', name: 'RangeError', line: 2, usage: { host_calls: 0 } });
  });

  test('what a policy refuses, a key that is none and a rate that is over have classes of their own', async () => {
    expect(await failure(postern.execute({ code: '1', memory: '512MB' }))).toBeInstanceOf(PolicyError);
    const stranger = new PosternClient({ url: node.url, apiKey: `pstn_${'x'.repeat(43)}` });
    expect(await failure(stranger.execute({ code: '1' }))).toBeInstanceOf(UnauthorizedError);
    const once = await makeKey({ policy: 'default', rate: { limit: 1, window_seconds: 86_400 } });
    const limited = new PosternClient({ url: node.url, apiKey: once, retries: 3 });
    expect((await limited.execute({ code: '1' })).result).toBe(1);
    const error = await failure(limited.execute({ code: '1' }));
    expect(error).toBeInstanceOf(RateLimitedError);
    expect(error.retryAfterMs).toBeGreaterThan(0);
  });

  test('deploys, lists, invokes and reads logs', async () => {
    const source =
      'export const handler = ({ body }, context) => { log.info("saw", { body }); return body.map((n) => n + 1); };';
    expect(await postern.deploy({ name: 'adds', source })).toMatchObject({ name: 'adds', version: 1, created: true });
    expect(await postern.invoke('adds', [1, 2])).toEqual([2, 3]);
    expect((await postern.functions()).map(({ name }) => name)).toEqual(['adds', 'double']);
    await expect.poll(async () => (await postern.invocations('adds'))[0]?.logs).toMatchObject([{ message: 'saw' }]);
    expect(await failure(postern.deploy({ name: 'bad', source: 'const' }))).toMatchObject({
      name: 'InvalidRequestError',
      code: 'INVALID_FUNCTION',
      details: { line: 1 },
    });
    expect(await failure(postern.invoke('nobody'))).toMatchObject({ name: 'NotFoundError', status: 404 });
  });

  test('a session goes on from its last run, is forked, and has errors of a class of their own', async () => {
    const apiKey = await sessionKey();
    const client = new PosternClient({ url: node.url, apiKey });
    const { session } = await client.execute({ code: 'var n = 1', session: 'new' });
    const next = await client.execute({ code: '++n', session: session!.token });
    expect([next.result, next.session]).toEqual([2, { token: session!.token, run: 2 }]);
    const fork = await client.execute({ code: 'n', session: { fork: session!.token, run: 1 } });
    expect(fork.result).toBe(1);
    const rewound = await client.execute({ code: 'n', session: { rewind: session!.token, run: 1 } });
    expect(rewound.result).toBe(1);
    const unknown = await failure(client.execute({ code: 'n', session: 'x'.repeat(session!.token.length) }));
    expect(unknown).toMatchObject({ name: 'SessionError', code: 'SESSION_NOT_FOUND' });
  });

  test('what is too large for an answer is had by its reference', async () => {
    const { result, result_ref } = await postern.execute({ code: "'x'.repeat(300_000)" });
    expect([result, result_ref?.bytes]).toEqual([null, 300_002]);
    expect(await postern.output(result_ref!)).toBe('x'.repeat(300_000));
  });

  test('an API key can be asked what it is good for', async () => {
    const rate = { limit: 7, window_seconds: 60 };
    const expires_at = '2099-01-01T00:00:00.000Z';
    const apiKey = await makeKey({ functions: ['double'], role: 'authenticated', rate, expires_at });
    expect(await new PosternClient({ url: node.url, apiKey }).apiKey()).toEqual({
      id: expect.any(String),
      role: 'authenticated',
      functions: ['double'],
      policy: null,
      rate,
      expires_at,
    });
    const { policy, functions } = await postern.apiKey();
    expect(functions).toBeNull();
    expect(policy).toMatchObject({ name: 'default', rules: { timeout: 10_000, http: { allow: [] } } });
    expect((await node.call('/api-key')).status).toBe(401);
  });

  test('a call that is aborted ends what it runs', async () => {
    const abort = new AbortController();
    const aborted = expect(postern.execute({ code: ENDLESS }, { signal: abort.signal })).rejects.toThrow('aborted');
    await expect.poll(running).toBe(1);
    abort.abort();
    await aborted;
    await expect.poll(running).toBe(0);
  });
});

describe('the command line', () => {
  const env = () => ({ POSTERN_URL: node.url, POSTERN_ADMIN_KEY: ADMIN_KEY, POSTERN_API_KEY: key });
  const cli = (argv: readonly string[], stdin?: string) =>
    runCli(argv, { env: env(), ...(stdin === undefined ? {} : { stdin }) });

  test('the commands of docs/execute.md do what it says', async () => {
    const [create, curl, execute, ...others] = blocks('docs/execute.md', 'sh').flatMap(commands);
    const created = await cli(create!.slice(1));
    expect(created).toMatchObject({ code: 0, stdout: expect.stringMatching(/^pstn_\S+\n$/) });
    const [, url, ...rest] = curl!;
    const body = rest[rest.indexOf('-d') + 1]!;
    const response = await fetch(url!.replace('http://127.0.0.1:8787', node.url), {
      method: 'POST',
      headers: { authorization: `Bearer ${created.stdout.trim()}` },
      body,
    });
    expect(await response.json()).toMatchObject({ result: 18, stdout: '15\n', cache: 'off' });
    expect(execute!.slice(0, 5)).toEqual(['echo', 'input.prices.length', '|', 'postern', 'execute']);
    expect(await cli(execute!.slice(4), execute![1])).toEqual({ code: 0, stdout: '2\n', stderr: '' });
    const policies = others.filter(([program]) => program === 'postern');
    expect(policies).toHaveLength(2);
    for (const [, ...argv] of policies) expect((await cli(argv)).code).toBe(0);
    expect((await cli(['policies', 'list'])).stdout).toMatch(/^analyst +0 +python +30000 ms +268435456 bytes/m);
    expect((await cli(['keys', 'list'])).stdout).toMatch(/ assistant +pstn_\S+ +all +anon +default +100\/60s/);
  });

  test('policies are set from a file or standard input, shown, and deleted once no key has them', async () => {
    const file = folder.write('rules.json', '{"languages": ["python"], "http": {"allow": ["api.example.com"]}}');
    expect((await cli(['policies', 'set', 'files', '--rules-file', file])).code).toBe(0);
    const { stdout } = await cli(['policies', 'show', 'files']);
    expect(stdout).toMatch(/^languages +python\n/m);
    expect(stdout).toMatch(/^http +api\.example\.com\n/m);
    expect(stdout).toMatch(/^env +none\n/m);
    expect((await cli(['policies', 'set', 'files', '--rules-file', '-', '--json'], '{"cpu": 5}')).stdout).toContain(
      '"cpu":5',
    );
    const wrong = await cli(['policies', 'set', 'files', '--rules', '{"cup": 5}']);
    expect(wrong).toMatchObject({ code: 1, stderr: expect.stringContaining('cup') });
    expect((await cli(['policies', 'delete', 'default'])).stderr).toMatch(/^error: API keys have the policy 'default'/);
    expect(await cli(['policies', 'delete', 'files'])).toEqual({ code: 0, stdout: 'deleted files\n', stderr: '' });
    expect((await cli(['policies', 'show', 'files'])).code).toBe(1);
  });

  test('execute takes the language of the file, prints the result, and to standard error what was printed', async () => {
    const file = folder.write('sum.ts', "console.log('adding');\n(input as number[]).reduce((a, b) => a + b)");
    const input = folder.write('numbers.json', '[1, 2]');
    expect(await cli(['execute', file, '--input', `@${input}`, '--timeout', '9s', '--memory', '64MB'])).toEqual({
      code: 0,
      stdout: '3\n',
      stderr: 'adding\n',
    });
    const { stdout } = await cli(['execute', '--cache', '--json'], 'input ?? 4');
    expect(JSON.parse(stdout)).toMatchObject({ result: 4, cache: 'stored' });
  });

  test('execute goes on with a session, and prints a result that is kept by reference', async () => {
    const env = { POSTERN_URL: node.url, POSTERN_API_KEY: await sessionKey() };
    const begun = await runCli(['execute', '--session', 'new'], { env, stdin: "var text = 'x'.repeat(300_000); 0" });
    const [, token] = /^session (\S+), run 1\n$/.exec(begun.stderr)!;
    const { stdout, stderr } = await runCli(['execute', '--session', token!], { env, stdin: 'text' });
    expect(stdout).toBe(`"${'x'.repeat(300_000)}"\n`);
    expect(stderr).toBe(`session ${token}, run 2\n`);
  });

  test('execute prints all that a run printed, also one that failed', async () => {
    const env = { POSTERN_URL: node.url, POSTERN_API_KEY: await sessionKey() };
    const lines = 'for (let i = 0; i < 20; i++) console.log("x".repeat(7_000));';
    const all = `${'x'.repeat(7_000)}\n`.repeat(20);
    expect(await runCli(['execute'], { env, stdin: `${lines} 1` })).toMatchObject({
      code: 0,
      stdout: '1\n',
      stderr: all,
    });
    const { stderr } = await runCli(['execute'], { env, stdin: `${lines} throw new Error("no")` });
    expect(stderr.startsWith(`${all}error: Error: no`)).toBe(true);
  });

  test('execute exits 1 with the code of the error and its line, and 2 where it is used wrongly', async () => {
    const failed = await cli(['execute'], "console.error('so far');\nnull.x");
    expect(failed).toMatchObject({ code: 1, stdout: '' });
    expect(failed.stderr).toMatch(/^so far\nerror: TypeError: .+ \(line 2, column \d+\)\n/);
    const asJson = JSON.parse((await cli(['execute', '--json'], 'null.x')).stdout) as { error: unknown };
    expect(asJson.error).toMatchObject({ code: 'FUNCTION_ERROR', details: { run: { line: 1 } } });
    const refused = await cli(['execute', '--memory', '512MB'], '1');
    expect(refused).toMatchObject({ code: 1, stderr: expect.stringContaining('`postern policies show`') });
    const keyless = await runCli(['execute', '--url', node.url], { stdin: '1' });
    expect(keyless).toMatchObject({ code: 1, stderr: expect.stringContaining('POSTERN_API_KEY') });
    for (const argv of [['no-such-file.js'], ['--input', '{'], ['--input', '-'], ['--language', 'cobol']]) {
      expect((await cli(['execute', ...argv])).code).toBe(2);
    }
  });
});

describe('MCP', () => {
  interface Connected {
    readonly client: Client;
    names(): Promise<string[]>;
    call(name: string, given?: Record<string, unknown>): Promise<Told>;
  }
  interface Told {
    readonly isError: boolean;
    /** What the text says. */
    readonly said: Record<string, unknown>;
    readonly structured: unknown;
  }

  async function connect(transport: StdioClientTransport | StreamableHTTPClientTransport): Promise<Connected> {
    const client = new Client({ name: 'a test', version: '1' });
    // Of its own types: it means `exactOptionalPropertyTypes` otherwise.
    await client.connect(transport as Parameters<Client['connect']>[0]);
    return {
      client,
      names: async () => (await client.listTools()).tools.map(({ name }) => name),
      call: async (name, given = {}) => {
        const result = (await client.callTool({ name, arguments: given })) as CallToolResult;
        const [first] = result.content;
        const text = first?.type === 'text' ? first.text : '';
        const isJson = /^[[{]|^\d/.test(text);
        return {
          isError: result.isError === true,
          said: isJson ? JSON.parse(text) : { text },
          structured: result.structuredContent,
        };
      },
    };
  }
  const overHttp = (headers: Record<string, string>) =>
    connect(new StreamableHTTPClientTransport(new URL('/mcp', node.url), { requestInit: { headers } }));
  const bearer = (text: string) => ({ authorization: `Bearer ${text}` });

  test('over HTTP, as docs/mcp.md configures it: runs code, gives errors with code, line and hint', async () => {
    const [, config] = blocks('docs/mcp.md', 'json').map((text) => JSON.parse(text).mcpServers.postern);
    expect(config).toMatchObject({ type: 'http', url: 'http://127.0.0.1:8787/mcp' });
    const { client, names, call } = await overHttp(JSON.parse(JSON.stringify(config.headers).replace('pstn_…', key)));
    expect(client.getServerVersion()).toMatchObject({ name: 'postern', version: '0.1.0' });
    expect(await names()).toEqual(['execute_code', 'invoke_function']);
    const ran = await call('execute_code', {
      code: "console.log('in');\n(input.n as number) * 2",
      language: 'typescript',
      input: { n: 4 },
    });
    expect(ran).toMatchObject({ isError: false, structured: { result: 8, stdout: 'in\n', stderr: '' } });
    expect(ran.said).toEqual(ran.structured);
    expect(await call('execute_code', { code: 'log.info("a");\nnull.x' })).toMatchObject({
      isError: true,
      said: {
        code: 'FUNCTION_ERROR',
        line: 2,
        stdout: 'a\n',
        hint: expect.stringContaining('mend'),
        request_id: expect.any(String),
      },
    });
    expect(await call('execute_code', { code: '1', hosts: ['api.example.com'] })).toMatchObject({
      isError: true,
      said: { text: expect.stringContaining('hosts') },
    });
    expect(await call('execute_code', { code: '1', timeout: '1m' })).toMatchObject({
      isError: true,
      said: { code: 'POLICY_REFUSED', details: { rule: 'timeout', allowed: 10_000 } },
    });
    expect(await call('invoke_function', { name: 'double', event: 21 })).toMatchObject({ isError: false, said: 42 });
    expect(await call('create_function', { name: 'x', source: '1' })).toMatchObject({
      isError: true,
      said: { text: expect.stringContaining('create_function not found') },
    });
    await client.close();
  });

  test('over stdio, as docs/mcp.md configures it: what both keys allow', async () => {
    const [config] = blocks('docs/mcp.md', 'json').map((text) => JSON.parse(text).mcpServers.postern);
    const [, , ...argv] = config.args as string[];
    expect([config.command, argv[0]]).toEqual(['npx', 'mcp']);
    const args = [resolve('cli/main.ts'), ...argv.map((text) => text.replace('http://127.0.0.1:8787', node.url))];
    const env = { ...sharedPartsEnv(), ...config.env, POSTERN_API_KEY: key, POSTERN_ADMIN_KEY: ADMIN_KEY };
    const { client, names, call } = await connect(new StdioClientTransport({ command: process.execPath, args, env }));
    expect(await names()).toEqual([
      'execute_code',
      'create_function',
      'invoke_function',
      'list_functions',
      'read_logs',
    ]);
    const source =
      'export const handler = ({ body }) => { log.info("greeting", { to: body }); return "Hello, " + body; };';
    const config_ = {
      triggers: [{ type: 'http' }, { type: 'schedule', cron: '0 6 * * *' }],
      http: { allow: ['api.example.com'] },
    };
    expect(await call('create_function', { name: 'greets', source: 'const' })).toMatchObject({
      isError: true,
      said: { code: 'INVALID_FUNCTION', details: { line: 1 } },
    });
    expect(await call('create_function', { name: 'greets', source, timeout: '5s', config: config_ })).toMatchObject({
      structured: { name: 'greets', version: 1, url: `${node.url}/functions/v1/invoke/greets` },
    });
    expect((await call('invoke_function', { name: 'greets', event: 'you' })).said).toEqual({ text: 'Hello, you' });
    expect((await call('list_functions')).said).toContainEqual(
      expect.objectContaining({ name: 'greets', language: 'javascript', auth: 'required' }),
    );
    const logs = async () => (await call('read_logs', { name: 'greets', limit: 1 })).said;
    await expect.poll(logs).toMatchObject([{ outcome: 'ok', logs: [{ message: 'greeting', fields: { to: 'you' } }] }]);
    expect((await call('execute_code', { code: 'input', input: [1] })).structured).toMatchObject({ result: [1] });
    await client.close();
  });

  test('code goes on in a session where the policy allows some', async () => {
    const { client, call } = await overHttp(bearer(await sessionKey()));
    const begun = await call('execute_code', { code: 'var kept = [1]', session: 'new' });
    const { token } = (begun.structured as { session: { token: string } }).session;
    const next = await call('execute_code', { code: "kept.push('x'.repeat(300_000)); kept[1]", session: token });
    expect(next.structured).toMatchObject({ result: null, result_ref: { bytes: 300_002 }, session: { token, run: 2 } });
    const { tools } = await client.listTools();
    expect(tools[0]!.inputSchema.properties).toHaveProperty('session');
    await client.close();
  });

  test('postern mcp ends where a key is not good or nobody is there, and says so', async () => {
    const mcp = (env: Record<string, string>) => runCli(['mcp'], { env: { POSTERN_URL: node.url, ...env } });
    expect(await mcp({ POSTERN_API_KEY: 'pstn_none' })).toEqual({
      code: 1,
      stdout: '',
      stderr: 'error: the API key is not valid\n',
    });
    expect(await mcp({ POSTERN_ADMIN_KEY: 'another-admin-key' })).toMatchObject({ code: 1, stdout: '' });
    const nobody = await mcp({ POSTERN_URL: 'http://127.0.0.1:40001' });
    expect(nobody).toMatchObject({ code: 1, stderr: expect.stringContaining('can not be reached (ECONNREFUSED)') });
  });

  test('tools and their schemas are those that the keys allow', async () => {
    await setPolicy('narrow', {
      languages: ['python'],
      timeout: '2s',
      http: { allow: ['api.example.com'] },
      env: ['TOKEN'],
    });
    const narrow = await overHttp(bearer(await makeKey({ policy: 'narrow', functions: ['double'] })));
    const [code, invoke] = (await narrow.client.listTools()).tools;
    expect(code!.inputSchema.properties).toMatchObject({
      language: { enum: ['python'], default: 'python' },
      hosts: { type: 'array' },
      env: { items: { enum: ['TOKEN'] } },
      timeout: { description: expect.stringContaining('at most 2s') },
    });
    expect(code!.description).toContain('network only to api.example.com');
    expect(invoke!.inputSchema.properties).toMatchObject({ name: { enum: ['double'] } });
    const plain = await overHttp(bearer(await makeKey()));
    expect(await plain.names()).toEqual(['invoke_function']);
    const admin = await overHttp(bearer(ADMIN_KEY));
    const { tools } = await admin.client.listTools();
    expect(tools[1]!.description).toMatch(/only functions with auth none or optional\.$/);
    expect(await admin.names()).toEqual(['create_function', 'invoke_function', 'list_functions', 'read_logs']);
    const both = await overHttp({ ...bearer(ADMIN_KEY), apikey: key });
    expect(await both.names()).toHaveLength(5);
    for (const { client } of [narrow, plain, admin, both]) await client.close();
  });

  const message = (body: unknown, headers: Record<string, string> = {}, signal?: AbortSignal) =>
    node.call('/mcp', {
      method: 'POST',
      ...(signal === undefined ? {} : { signal }),
      headers: { 'content-type': 'application/json', accept: 'application/json, text/event-stream', ...headers },
      body: JSON.stringify(body),
    });
  const rpc = (method: string, params: object = {}) => ({ jsonrpc: '2.0', id: 1, method, params });
  const call = (name: string, given: object) => rpc('tools/call', { name, arguments: given });

  test('nobody without a key is let in, no page of another origin, and no batch', async () => {
    const codeOf = async (response: Response) => [response.status, ((await response.json()) as { code: string }).code];
    const list = rpc('tools/list');
    expect(await codeOf(await message(list))).toEqual([401, 'UNAUTHORIZED']);
    expect(await codeOf(await message(list, bearer('not-the-admin-key')))).toEqual([401, 'UNAUTHORIZED']);
    expect(await codeOf(await message(list, bearer(`pstn_${'x'.repeat(43)}`)))).toEqual([401, 'UNAUTHORIZED']);
    const page = { ...bearer(key), origin: node.url, host: 'evil.example' };
    expect(await codeOf(await message(list, page))).toEqual([403, 'FORBIDDEN']);
    expect(await codeOf(await message([list], bearer(key)))).toEqual([400, 'INVALID_REQUEST']);
    const stream = await node.call('/mcp', { headers: { ...bearer(key), accept: 'text/event-stream' } });
    expect([stream.status, stream.headers.get('allow')]).toEqual([405, 'POST']);
  });

  test('messages count against the rate of the key, a tool call as the request that it is', async () => {
    const limited = bearer(await makeKey({ policy: 'default', rate: { limit: 4, window_seconds: 86_400 } }));
    const remaining = async (sent: Promise<Response>) => (await sent).headers.get('ratelimit-remaining');
    expect(await remaining(message(rpc('tools/list'), limited))).toBe('3');
    expect(await remaining(message(call('no_such_tool', {}), limited))).toBe('2');
    const ran = (await (await message(call('execute_code', { code: '1' }), limited)).json()) as {
      result: CallToolResult;
    };
    expect(ran.result.structuredContent).toMatchObject({ result: 1 });
    expect(await remaining(message(rpc('ping'), limited))).toBe('0');
    expect((await message(rpc('tools/list'), limited)).status).toBe(429);
    const { result } = (await (await message(call('execute_code', { code: '1' }), limited)).json()) as {
      result: CallToolResult;
    };
    expect(result).toMatchObject({
      isError: true,
      content: [{ text: expect.stringContaining('"code":"RATE_LIMITED"') }],
    });
  });

  test('what is no message counts as one, and a key over its rate sends no large one', async () => {
    const limited = bearer(await makeKey({ policy: 'default', rate: { limit: 2, window_seconds: 86_400 } }));
    const sent = (body: string) =>
      node.call('/mcp', { method: 'POST', headers: { 'content-type': 'application/json', ...limited }, body });
    const told = async (body: string) => {
      const { status, headers } = await sent(body);
      return [status, headers.get('ratelimit-remaining')];
    };
    expect(await told('[')).toEqual([400, '1']);
    expect(await told('[]')).toEqual([400, '0']);
    expect(await told('[')).toEqual([429, '0']);
    const large = JSON.stringify(call('execute_code', { code: ' '.repeat(100_000) }));
    expect(await told(large)).toEqual([429, '0']);
  });

  test('a message of more values than a parser makes at once is refused before it is parsed', async () => {
    const body = `{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":[${'{},'.repeat(100_000)}1]}}`;
    const headers = { 'content-type': 'application/json', ...bearer(key) };
    const refused = await node.call('/mcp', { method: 'POST', headers, body });
    expect([refused.status, ((await refused.json()) as { message: string }).message]).toEqual([
      400,
      expect.stringContaining('more than 20000 values'),
    ]);
  });

  test('a deploy and a refusal by MCP are in the audit log with where they came from', async () => {
    const source = '127.0.0.9';
    const deploy = call('create_function', { name: 'audited', source: 'export const handler = () => 1;' });
    expect(await messageFrom(source, deploy, bearer(ADMIN_KEY))).toBe(200);
    expect(await messageFrom(source, deploy, bearer('not-the-admin-key'))).toBe(401);
    const entries = async () => (await node.admin('GET', '/audit')).body.entries as Record<string, unknown>[];
    const deployed = { action: 'POST /functions', target: 'audited', source, status: 201 };
    expect(await entries()).toContainEqual(expect.objectContaining(deployed));
    await expect.poll(entries).toContainEqual(expect.objectContaining({ action: 'POST /mcp', source, status: 401 }));
  });

  /** Resolves with the status. */
  function messageFrom(localAddress: string, body: unknown, headers: Record<string, string>): Promise<number> {
    const accept = 'application/json, text/event-stream';
    const all = { ...headers, 'content-type': 'application/json', accept };
    const sent = request(new URL('/mcp', node.url), { method: 'POST', localAddress, headers: all });
    sent.end(JSON.stringify(body));
    return new Promise((answered, failed) => {
      sent.once('error', failed).once('response', (response) => {
        response.resume().once('end', () => answered(response.statusCode!));
      });
    });
  }

  test('what runs is canceled when the assistant goes away', async () => {
    const abort = new AbortController();
    const body = call('execute_code', { code: ENDLESS, timeout: '10s' });
    const gone = expect(message(body, bearer(key), abort.signal)).rejects.toThrow('aborted');
    await expect.poll(running).toBe(1);
    abort.abort();
    await gone;
    await expect.poll(running).toBe(0);
  });
});

/** Words of a command of the documents: quotes are single or double, a line may go on after a backslash. */
function commands(block: string): string[][] {
  return block
    .replaceAll('\\\n', ' ')
    .trim()
    .split('\n')
    .map((line) =>
      [...line.matchAll(/'([^']*)'|"([^"]*)"|(\S+)/g)].map(([, single, double, bare]) => single ?? double ?? bare!),
    );
}
