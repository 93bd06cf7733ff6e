/** The ways to a node besides curl, against one node: `postern/client`, the command line. */

import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
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
    const [create, curl, execute, ...policies] = blocks('docs/execute.md', 'sh').flatMap(commands);
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
