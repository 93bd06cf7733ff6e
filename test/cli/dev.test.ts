import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts';
import { Folder, run, spawnCli } from './support.ts';

let db: TestDatabase;
let folder: Folder;
let dataDir: string;
let dev: ReturnType<typeof spawnCli>;

beforeAll(async () => {
  db = await createTestDatabase();
  dataDir = await mkdtemp(join(tmpdir(), 'postern-dev-'));
  folder = new Folder();
  folder.write('_shared.ts', "export const greeting = 'Hello';");
  folder.write('schema.sql', 'create table if not exists notes (id int primary key, text text);');
  folder.write(
    'hello.ts',
    "import { greeting } from './_shared.ts';\nexport const config = { auth: 'none' };\nexport const handler = (event: { body: { name: string } }) => greeting + ', ' + event.body.name + '!';",
  );
  folder.write('broken.ts', 'export const handler = () => {');
  dev = spawnCli(['dev', folder.path, '--port', '0', '--data-dir', dataDir, '--executors', '1', '--json'], {
    env: { DATABASE_URL: db.url },
  });
  await dev.prints(/"tokens"/);
});
afterAll(async () => {
  dev.child.kill('SIGKILL');
  await dev.ended;
  folder.remove();
  await rm(dataDir, { recursive: true, force: true });
  await db.drop();
});
afterEach(({ task }) => {
  if (task.result?.state === 'fail') console.log(dev.text);
});

interface Welcome {
  readonly url: string;
  readonly tokens: Readonly<Record<string, string>>;
  readonly functions: readonly { readonly name: string }[];
}
const welcome = (): Welcome =>
  JSON.parse(dev.text.stdout.split('\n').find((line) => line.includes('"tokens"'))!) as Welcome;
const hello = async (): Promise<string> =>
  (await run(['invoke', 'hello', '--url', welcome().url, '-d', '{"name":"World"}'])).stdout;

test('it prints where it serves, what, and tokens that work', async () => {
  const { url, tokens, functions } = welcome();
  expect(functions).toEqual([{ name: 'hello', version: 1 }]);
  expect(Object.keys(tokens)).toEqual(['anon', 'authenticated', 'service_role']);
  expect(await hello()).toBe('"Hello, World!"');
  const answer = await run([
    'invoke',
    'hello',
    '--url',
    url,
    '--as',
    'authenticated',
    '--data-dir',
    dataDir,
    '-d',
    '{"name":"Ada"}',
  ]);
  expect(answer).toMatchObject({ code: 0, stdout: '"Hello, Ada!"' });
});

test('it applies schema.sql', async () => {
  expect((await db.pool.query("select to_regclass('notes') is not null as there")).rows).toEqual([{ there: true }]);
});

test('a function that can not be deployed is reported with its place, and the others go on', async () => {
  expect(dev.text.stderr).toMatch(/failed {3}.*broken\.ts\n {2}broken\.ts:1:\d+: Unexpected end of file/);
});

test('saving a function deploys it again', async () => {
  folder.write(
    'hello.ts',
    "import { greeting } from './_shared.ts';\nexport const config = { auth: 'none' };\nexport const handler = () => greeting + ' again';",
  );
  await expect.poll(hello, { timeout: 15_000 }).toBe('"Hello again"');
});

test('saving a file that a function imports deploys the function again', async () => {
  folder.write('_shared.ts', "export const greeting = 'Goodbye';");
  await expect.poll(hello, { timeout: 15_000 }).toBe('"Goodbye again"');
});

test('saving a mistake keeps the version before, and mending it deploys', async () => {
  folder.write('hello.ts', 'export const handler = ');
  await dev.prints(/hello v\d+ goes on/);
  expect(await hello()).toBe('"Goodbye again"');
  folder.write('hello.ts', "export const config = { auth: 'none' };\nexport const handler = () => 'mended';");
  await expect.poll(hello, { timeout: 15_000 }).toBe('"mended"');
});

test('a new file is deployed and a removed one deleted', async () => {
  const { url } = welcome();
  const names = async (): Promise<string[]> =>
    (JSON.parse((await run(['list', '--url', url, '--json'])).stdout) as { name: string }[])
      .map(({ name }) => name)
      .sort();
  const path = folder.write('fresh.ts', "export const config = { auth: 'none' };\nexport const handler = () => 1;");
  await expect.poll(names, { timeout: 15_000 }).toEqual(['fresh', 'hello']);
  await rm(path);
  await expect.poll(names, { timeout: 15_000 }).toEqual(['hello']);
});

test('assistants of this machine need no key, and no page of its browser is one', async () => {
  const ask = async (headers: Record<string, string> = {}) => {
    const accept = 'application/json, text/event-stream';
    const response = await fetch(`${welcome().url}/mcp`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', accept, ...headers },
      body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name: 'list_functions' } }),
    });
    return { status: response.status, text: await response.text() };
  };
  expect(await ask()).toMatchObject({ status: 200, text: expect.stringContaining('hello') });
  expect((await ask({ origin: 'http://evil.example' })).status).toBe(403);
  // A function that reaches localhost is no assistant.
  expect((await ask({ 'x-postern-depth': '1' })).status).toBe(401);
});

test('SIGTERM stops it gracefully with exit code 0', async () => {
  dev.child.kill('SIGTERM');
  expect(await dev.ended).toEqual({ code: 0, signal: null });
});
