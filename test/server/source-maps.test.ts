/** Stacks on a running node: each position is one of the author's files, whatever the two bundlers made of them. */

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { SourceLocator } from '../../invoker/functions/source-locator.ts';
import { bundleLocal } from '../../runtime/javascript/bundle/index.ts';
import { MappedOutput } from '../../server/mapped-output.ts';
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts';
import { Stopwatch } from '../support/timed.ts';
import { startTestPostern, type TestPostern } from './support.ts';

let db: TestDatabase;
let postern: TestPostern;
let folder: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'postern-maps-'));
  db = await createTestDatabase();
  postern = await startTestPostern(db);
});
afterAll(async () => {
  await postern?.stop();
  await db?.drop();
  rmSync(folder, { recursive: true, force: true });
});

type Body = Record<string, unknown>;

/** As `postern deploy`: bundled here, then sent. */
async function deploy(name: string, files: Readonly<Record<string, string>>): Promise<{ status: number; body: Body }> {
  for (const [file, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, file)), { recursive: true });
    writeFileSync(join(folder, file), text);
  }
  const { code } = await bundleLocal({ entryPath: join(folder, `${name}.ts`) });
  return postern.deploy(name, code, { auth: 'none', fileName: `${name}.ts` });
}

/** The record of the one call of a function. */
async function recordOf(name: string): Promise<{ error: { stack: string }; logs: { message: string }[] }> {
  expect((await postern.call(`/functions/v1/${name}`)).status).toBeLessThan(600);
  const find = async () =>
    ((await postern.admin('GET', `/functions/${name}/invocations?limit=1`)).body.invocations as Body[])[0];
  await expect.poll(find).toBeDefined();
  return (await postern.admin('GET', `/invocations/${(await find())?.id}`)).body as never;
}

const PAD = '// one\n// two\ninterface Unused { readonly a: string }\n';

test('a stack leads through the files of a TypeScript function and a package inside it', async () => {
  const { status } = await deploy('nested', {
    'node_modules/thrower/package.json': '{ "name": "thrower", "version": "1.0.0", "main": "index.js" }',
    'node_modules/thrower/index.js': 'module.exports = (call) => {\n  return call();\n};',
    'lib/deep.ts': `${PAD}export function deep(text: string): never {\n  throw new TypeError(text);\n}\n`,
    'nested.ts': `${PAD}import thrower from 'thrower';\nimport { deep } from './lib/deep';\nexport const handler = () =>\n  thrower(() => deep('no'));\n`,
  });
  expect(status).toBe(201);
  const { error } = await recordOf('nested');
  expect(error.stack).toMatch(/deep \(lib\/deep\.ts:5:\d+\)/);
  expect(error.stack).toMatch(/\(nested\.ts:7:\d+\)/);
  expect(error.stack).toContain('node_modules/thrower/index.js:2:');
  expect(error.stack).not.toContain('function.js');
});

test('a stack of an error after an await names the line that threw', async () => {
  await deploy('later', {
    'later.ts': `${PAD}async function later(n: number): Promise<number> {\n  await null;\n  if (n > 0) throw new Error('late');\n  return n;\n}\nexport const handler = async () => {\n  return await later(1);\n};\n`,
  });
  const { error } = await recordOf('later');
  expect(error.stack).toMatch(/later \(later\.ts:6:\d+\)/);
});

test('an error that a function logs has its stack with the author’s lines', async () => {
  await deploy('logging', {
    'logging.ts': `${PAD}export const handler = () => {\n  console.error(new Error('seen'));\n  console.log('in', { error: new RangeError('inside') });\n  log.error('failed', { error: new Error('in a field') });\n  console.log('last');\n};\n`,
  });
  const { logs } = await recordOf('logging');
  expect(logs[0]?.message).toMatch(/seen[\s\S]*logging\.ts:5:\d+/);
  expect(logs[1]?.message).toMatch(/inside[\s\S]*logging\.ts:6:\d+/);
  expect(JSON.stringify(logs[2])).toMatch(/in a field[\s\S]*logging\.ts:7:\d+/);
  expect(JSON.stringify(logs)).not.toContain('function.js');

  await expect.poll(() => postern.logged.length).toBe(4);
  const lines = postern.logged.map((line) => JSON.parse(line));
  expect(lines.map(({ message }) => message.split('\n', 1)[0])).toEqual([
    expect.stringContaining('seen'),
    expect.stringContaining('in'),
    'failed',
    'last',
  ]);
  expect(lines[0].message).toMatch(/logging\.ts:5:\d+/);
  expect(lines[1].message).toMatch(/logging\.ts:6:\d+/);
  expect(JSON.stringify(lines[2].error)).toMatch(/logging\.ts:7:\d+/);
  expect(postern.logged.join('')).not.toContain('function.js');
});

test('LOG-01 the name of a file forges no line of the log, and no text on a terminal', () => {
  const name = 'a"}\n{"level":"ERROR","message":"forged\u202e\u001b[2J.js';
  const map = { version: 3, sources: [name], names: [], mappings: 'AAAA' };
  const line = JSON.stringify({ message: 'Error: no\n    at f (function.js:1:1)', level: 'INFO' });
  const mapped = new SourceLocator(JSON.stringify(map), {}).mapJson(line);
  expect(JSON.parse(mapped)).toEqual({ message: `Error: no\n    at f (${name}:1:1)`, level: 'INFO' });
  expect(mapped).not.toMatch(/[\n\u202e\u001b]/);
});

test('MEM-06 a text full of positions costs the node little, however large the files and their names are', () => {
  const large = new SourceLocator(JSON.stringify({ version: 3, sources: ['a.js'], names: [], mappings: 'AAAA' }), {
    'a.js': '\n'.repeat(2 ** 21),
  });
  const name = `${'a'.repeat(2 ** 21)}.js`;
  const longNamed = new SourceLocator(JSON.stringify({ version: 3, sources: [name], names: [], mappings: 'AAAA' }), {});
  const text = 'function.js:1:1 '.repeat(500);

  const watch = new Stopwatch();
  const mapped = large.mapStack(text);
  expect(longNamed.mapJson(text)).toBe(text);
  watch.expectBelow(500);
  expect(mapped.startsWith('a.js:1:1 a.js:1:1 ')).toBe(true);
  expect(large.locate(1, 1)).toEqual({ file: 'a.js', line: 1, column: 1, text: '' });
});

test('lines without a stack wait for nothing, lines after one keep their place, and one goes out as it is where there is no map', async () => {
  const written: string[] = [];
  const asked: string[] = [];
  const gate = Promise.withResolvers<string>();
  const output = new MappedOutput({ write: (line) => written.push(line) }, (line) => {
    asked.push(line);
    return gate.promise;
  });
  output.write('first');
  expect(written).toEqual(['first']);
  output.write('at function.js:1:1');
  output.write('after it');
  expect(written).toEqual(['first']);
  gate.reject(new Error('the database is away'));
  await expect.poll(() => written).toEqual(['first', 'at function.js:1:1', 'after it']);
  output.write('at once again');
  expect(written.at(-1)).toBe('at once again');
  expect(asked).toEqual(['at function.js:1:1']);
});

test('an error at the top level fails the deploy with file and line', async () => {
  const { status, body } = await deploy('top', {
    'lib/table.ts': `${PAD}export function table(name: string): string {\n  throw new Error('no ' + name);\n}\n`,
    'top.ts': `import { table } from './lib/table';\nconst name = table('x');\nexport const handler = () => name;\n`,
  });
  expect(status).toBe(422);
  expect(JSON.stringify(body)).toMatch(/lib\/table\.ts/);
  expect(body).toMatchObject({ details: { file: 'lib/table.ts', line: 5 } });
});
