/** GraalFaaS' command line, as Postern's: each example of it is uploaded from a file to a server, and invoked there. */

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts';
import { Folder, type Ran, run, SERVE_SECRETS, spawnCli } from './support.ts';

let db: TestDatabase;
let folder: Folder;
let serve: ReturnType<typeof spawnCli>;
let url: string;

beforeAll(async () => {
  db = await createTestDatabase();
  folder = new Folder();
  await startServer();
});
afterAll(async () => {
  serve.child.kill('SIGKILL');
  await serve.ended;
  folder.remove();
  await db.drop();
});

async function startServer(): Promise<void> {
  serve = spawnCli(['serve', '--port', '0', '--executors', '1'], { env: { ...SERVE_SECRETS, DATABASE_URL: db.url } });
  await serve.prints(/Postern serves on/);
  [url] = /http:\S+/.exec(serve.text.stdout) as unknown as [string];
}

const command = (...argv: string[]): Promise<Ran> =>
  run([...argv, '--url', url], { env: { POSTERN_ADMIN_KEY: SERVE_SECRETS.POSTERN_ADMIN_KEY } });
async function invoke(id: string, event: unknown): Promise<unknown> {
  const response = await fetch(`${url}/invoke/${id}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(event),
  });
  return response.json();
}
const WORLD = { name: 'World' };

test("without an argument a demo prints the JavaScript handler's result, and needs no server", async () => {
  const demo = spawnCli([]);
  expect(await demo.ended).toEqual({ code: 0, signal: null });
  expect(demo.text.stdout).toBe('{"message":"Hello, World!"}\n');
  expect(JSON.parse((await run(['demo', '--json'])).stdout)).toEqual({ message: 'Hello, World!' });
});

describe('upload', () => {
  test('JavaScript hello, inline, from a manifest with comments and any name', async () => {
    const path = folder.write(
      'hello-manifest.jsonc',
      `{
        "id": "hello", // the caller's own
        "languageId": "js", "auth": "none",
        "source": "function handler(event) { return { message: 'Hello, ' + event.name + '!' }; }",
      }`,
    );
    const { code, stdout } = await command('upload', path);
    expect([code, stdout]).toEqual([0, expect.stringContaining('deployed hello v1')]);
    expect(await invoke('hello', WORLD)).toEqual({ message: 'Hello, World!' });
  });

  test('dependencies by source and by file, beside a sourceFile, from plain JSON', async () => {
    folder.write(
      'src/greet.js',
      "const { greet } = require('greeter');\nfunction handler(event) { return { message: greet(event.name) }; }",
    );
    folder.write('lib/greeter.js', "exports.greet = (name) => 'Hello, ' + name + require('marks').mark;");
    const path = folder.write(
      'greet.json',
      JSON.stringify({
        id: 'greet',
        languageId: 'js',
        functionName: 'handler',
        auth: 'none',
        sourceFile: 'src/greet.js',
        dependencies: { greeter: { file: 'lib/greeter.js' }, marks: { source: "module.exports = { mark: '!' };" } },
      }),
    );
    expect((await command('upload', path)).code).toBe(0);
    expect(await invoke('greet', WORLD)).toEqual({ message: 'Hello, World!' });
  });

  test('jsEvalAsModule: an ES module, inline and from its file', async () => {
    const source = "export function handler(event) { return { message: 'Hello, ' + event.name + '!' }; }";
    folder.write('module.mjs', source);
    for (const code of [{ source }, { sourceFile: 'module.mjs' }]) {
      const manifest = { id: 'module', languageId: 'js', jsEvalAsModule: true, auth: 'none', ...code };
      expect((await command('upload', folder.write('module.jsonc', JSON.stringify(manifest)))).code).toBe(0);
      expect(await invoke('module', WORLD)).toEqual({ message: 'Hello, World!' });
    }
    const script = { id: 'module', languageId: 'js', jsEvalAsModule: true, source: 'function handler() {}' };
    const refused = await command('upload', folder.write('script.jsonc', JSON.stringify(script)));
    expect([refused.code, refused.stderr]).toEqual([1, expect.stringContaining('no handler found')]);
  });

  test('a file that is JSON and no manifest is wrong usage', async () => {
    const { code, stderr } = await command('upload', folder.write('data.json', '{"a":1}'));
    expect([code, stderr]).toEqual([2, expect.stringContaining('data.json is no function')]);
  });

  test('a manifest that can not be read says where', async () => {
    const { code, stderr } = await command('upload', folder.write('broken.jsonc', '{\n  "id": "x",\n  "source" 1\n}'));
    expect([code, stderr]).toEqual([1, expect.stringContaining('broken.jsonc:3:12: ')]);
  });

  test("a dependency's file that is not there is named", async () => {
    const manifest = { id: 'x', languageId: 'js', source: '', dependencies: { gone: { file: 'lib/gone.js' } } };
    const { code, stderr } = await command('upload', folder.write('gone.jsonc', JSON.stringify(manifest)));
    expect([code, stderr]).toEqual([1, expect.stringContaining('dependencies.gone: the file lib/gone.js')]);
  });
});

test('list has the ids of the callers, also after the server was ended and started again', async () => {
  const ids = async () =>
    (JSON.parse((await command('list', '--json')).stdout) as { name: string }[]).map(({ name }) => name).sort();
  expect(await ids()).toEqual(['greet', 'hello', 'module']);
  serve.child.kill('SIGTERM');
  expect(await serve.ended).toEqual({ code: 0, signal: null });
  await startServer();
  expect(await ids()).toEqual(['greet', 'hello', 'module']);
  expect(await invoke('greet', WORLD)).toEqual({ message: 'Hello, World!' });
});

describe('Python', {
  timeout: 60_000,
}, () => {
  test('hello, inline and from its file', async () => {
    const source = 'def handler(event):\n    return "Hello, " + event.get("name", "World") + "!"\n';
    folder.write('hello.py', source);
    for (const code of [{ source }, { sourceFile: 'hello.py' }]) {
      const manifest = { id: 'py-hello', languageId: 'python', auth: 'none', ...code };
      expect((await command('upload', folder.write('py-hello.jsonc', JSON.stringify(manifest)))).code).toBe(0);
      expect(await invoke('py-hello', WORLD)).toBe('Hello, World!');
    }
  });
});
