/** What `init` writes works as it is: types, deploy, invocation, in every language that servers take. */

import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { applySchema } from '../../cli/dev-session.ts';
import { findFunctions } from '../../cli/function-files.ts';
import { OFFERED_LANGUAGES, PROJECTS } from '../../cli/project-templates.ts';
import { compileAssemblyScript } from '../../runtime/assemblyscript/index.ts';
import { compileC } from '../support/compile-c.ts';
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts';
import { Folder, run, SERVE_SECRETS, spawnCli } from './support.ts';

const TEMPLATES = resolve('cli/templates');
const env = { POSTERN_ADMIN_KEY: SERVE_SECRETS.POSTERN_ADMIN_KEY };

let db: TestDatabase;
let folder: Folder;
let serve: ReturnType<typeof spawnCli>;
let url: string;

beforeAll(async () => {
  db = await createTestDatabase();
  folder = new Folder();
  serve = spawnCli(['serve', '--port', '0', '--executors', '1'], { env: { ...SERVE_SECRETS, DATABASE_URL: db.url } });
  await serve.prints(/Postern serves on/);
  [url] = /http:\S+/.exec(serve.text.stdout) as unknown as [string];
});
afterAll(async () => {
  serve.child.kill('SIGKILL');
  await serve.ended;
  folder.remove();
  await db.drop();
});

const compiled = (source: string) => compileC(source, ['-O2', '-Werror']);

test.each(OFFERED_LANGUAGES)('--language %s: its functions deploy, and hello answers', async (language) => {
  const project = join(folder.path, language);
  expect((await run(['init', project, '--language', language])).code).toBe(0);
  const program = join(project, 'functions/hello.c');
  if (existsSync(program)) {
    folder.write(join(language, 'functions/hello.wasm'), await compiled(readFileSync(program, 'utf8')));
  }
  const schema = join(project, 'functions/schema.sql');
  if (existsSync(schema)) await applySchema(db.url, readFileSync(schema, 'utf8'));
  const names = (await findFunctions(join(project, 'functions'))).map(({ name }) => name);
  const { stdout, stderr } = await run(['deploy', join(project, 'functions'), '--url', url], { env });
  for (const name of names) expect(stdout + stderr).toContain(`deployed ${name} v`);
  const hello = async (...body: string[]) => (await run(['invoke', 'hello', '--url', url, ...body])).stdout;
  expect(await hello('-d', '{"name":"Ada"}')).toBe('{"message":"Hello, Ada!"}');
  expect(await hello()).toBe('{"message":"Hello, World!"}');
});

test.each(['typescript', 'javascript'])('--language %s: its types check', async (language) => {
  const project = join(folder.path, `${language}-types`);
  await run(['init', project, '--language', language]);
  const packages = join(project, 'node_modules');
  mkdirSync(packages);
  symlinkSync(resolve('.'), join(packages, 'postern'));
  await promisify(execFile)(process.execPath, [resolve('node_modules/typescript/bin/tsc'), '-p', project]);
});

describe('the templates', () => {
  test('are all there, and none is in no project', () => {
    const used = Object.values(PROJECTS).flatMap(({ files }) => Object.keys(files));
    const there = readdirSync(TEMPLATES, { recursive: true, encoding: 'utf8' }).filter((path) =>
      path.endsWith('.tmpl'),
    );
    expect(there.sort()).toEqual([...new Set(used)].sort());
  });

  test('of C and AssemblyScript compile', async () => {
    const read = (path: string) => readFileSync(join(TEMPLATES, path), 'utf8');
    expect(WebAssembly.validate(await compiled(read('c/functions/hello.c.tmpl')))).toBe(true);
    const source = { 'hello.as.ts': read('assemblyscript/functions/hello.as.ts.tmpl') };
    const module = await compileAssemblyScript(source, 'hello.as.ts', 'handler');
    expect(WebAssembly.validate(Uint8Array.from(module))).toBe(true);
  });

  test('a language that servers do not take yet is not offered', async () => {
    const { code, stderr } = await run(['init', folder.path, '--language', 'cobol']);
    expect([code, stderr]).toEqual([2, expect.stringContaining(`Allowed choices are ${OFFERED_LANGUAGES.join(', ')}`)]);
  });
});
