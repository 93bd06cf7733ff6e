import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { MAX_SOURCE_BYTES, stopBundler } from '../../../../runtime/javascript/bundle/index.ts';
import { bundleSource, evaluate, handlerOf, refusal } from './support.ts';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'postern-bundle-'));
  writeFileSync(join(folder, 'secret.js'), 'export default "CANARY";');
  writeFileSync(join(folder, 'secret.json'), '"CANARY"');
});
afterAll(async () => {
  rmSync(folder, { recursive: true });
  await stopBundler();
});

const upFrom = (from: string): string => relative(from, folder);

describe('a source reaches nothing but the files that it came with', () => {
  test.each([
    '/etc/passwd',
    '../../x',
    '../../../../../../../../etc/passwd',
    'file:///etc/passwd',
    'data:text/javascript,export default 1',
    'https://example.com/x.js',
    'http://127.0.0.1/x.js',
    'C:\\Windows\\win.ini',
    '#internal',
    'esbuild',
    'typescript/package.json',
    './node_modules/zod/index.js',
    'postern-file:hello.ts',
    'postern-node:events',
    '\0/etc/passwd',
  ])('importing %j is refused', async (specifier) => {
    const literal = JSON.stringify(specifier);
    for (const source of [
      `import x from ${literal}; export const handler = () => x;`,
      `exports.handler = () => require(${literal});`,
      `export const handler = () => import(${literal});`,
    ]) {
      const error = await refusal(source);
      expect(error.details).toMatchObject({ file: 'hello.ts', line: 1 });
    }
  });

  test('a file of this machine is not read by its absolute path', async () => {
    for (const name of ['secret.js', 'secret.json']) {
      const error = await refusal(
        `import x from ${JSON.stringify(join(folder, name))}; export const handler = () => x;`,
      );
      expect(error.message).not.toContain('CANARY');
    }
  });

  test.each([
    ['import(', (path: string) => `export const handler = (x) => import('${path}/' + x);`],
    ['import with a template', (path: string) => `export const handler = (x) => import(\`${path}/\${x}.js\`);`],
    ['require(', (path: string) => `export const handler = (x) => require('${path}/' + x + '.js');`],
    ['a conditional', (path: string) => `export const handler = (x) => import(x ? '${path}/' + x : './b');`],
  ])('a path put together at run time walks no directory: %s', async (_, source) => {
    for (const path of [
      '.',
      '..',
      upFrom('/'),
      upFrom(process.cwd()),
      upFrom(join(process.cwd(), 'runtime/javascript/bundle')),
    ]) {
      const error = await refusal(source(path.startsWith('.') ? path : `./${path}`));
      expect(error.message).toContain('put together at run time');
      expect(JSON.stringify(error.toRecord())).not.toMatch(/CANARY|secret|open files|Cannot read/);
    }
  });

  test('whether a directory exists does not show', async () => {
    const ask = async (path: string): Promise<unknown> =>
      (await refusal(`export const handler = (x) => import('${path}/' + x);`)).toRecord().message;
    expect(await ask('../../../../../../../../etc')).toBe(await ask('../../../../../../../../none'));
  });

  test('a dynamic import without a path to walk is left to fail in the sandbox', async () => {
    const { code } = await bundleSource('export const handler = (x) => import(x);');
    expect(code).toContain('import(x)');
  });

  test('a path put together from an enum is left to fail in the sandbox', async () => {
    const { code } = await bundleSource(
      "enum Where { Up = './' }\nexport const handler = (x) => import(Where.Up + x);",
    );
    expect(code).toContain('import(');
  });

  test('require.resolve stays a call that fails when it runs', async () => {
    const bundled = await bundleSource("export const handler = () => require.resolve('/etc/passwd');");
    expect(bundled.code).not.toContain('root:');
  });

  test.each(['js', 'text', 'file', 'dataurl', 'copy', 'css', 'base64'])(
    'an import attribute "%s" picks no loader of files',
    async (type) => {
      await refusal(`import x from '/etc/passwd' with { type: '${type}' }; export const handler = () => x;`);
    },
  );

  test('a tsconfig.json or package.json among the files configures nothing', async () => {
    const bundled = await bundleSource('export const handler = () => 1;', {
      files: {
        'tsconfig.json': JSON.stringify({
          extends: join(folder, 'secret.json'),
          compilerOptions: { paths: { x: [join(folder, 'secret.js')] } },
        }),
        'package.json': '{"imports":{"#x":"/etc/passwd"},"browser":{"./a":"/etc/passwd"}}',
      },
    });
    expect(handlerOf(await evaluate(bundled))({})).toBe(1);
    await refusal("import x from 'x'; export const handler = () => x;", { files: { 'tsconfig.json': '{}' } });
  });

  test('a comment that names a source map or a reference is not followed', async () => {
    const path = join(folder, 'secret.json');
    const source = `/// <reference path="${path}"/>\n/** @jsxImportSource ${folder} */\nexport const handler = () => 1;\n//# sourceMappingURL=${path}`;
    const { code, sourceMap } = await bundleSource(source);
    expect(code).not.toContain('CANARY');
    expect((JSON.parse(sourceMap) as { sources: string[] }).sources).toEqual(['hello.ts']);
  });

  test('new URL(…, import.meta.url) is left as it is', async () => {
    const { code } = await bundleSource("export const handler = () => new URL('/etc/passwd', import.meta.url);");
    expect(code).toContain('"/etc/passwd"');
  });

  test('a dependency sees the other dependencies but none of the files', async () => {
    const error = await refusal("export const handler = () => require('a');", {
      files: { 'b.ts': '' },
      dependencies: { a: { source: "module.exports = require('./b');" } },
    });
    expect(error.details).toMatchObject({ file: 'dependencies/a', line: 1 });
  });

  test.each([
    '/abs.ts',
    '../up.ts',
    'a/../b.ts',
    './a.ts',
    'a//b.ts',
    'a\\b.ts',
    'a\0b.ts',
    '',
    `${'d/'.repeat(200)}a.ts`,
  ])('the file name %j is refused', async (name) => {
    expect((await refusal('export const a = 1;', { files: { [name]: '' } })).message).toContain('is not allowed');
  });

  test.each(['postern', 'node:fs', '../x', '/etc', 'a/../b', 'a b', ''])(
    'the dependency name %j is refused',
    async (name) => {
      expect((await refusal('export const a = 1;', { dependencies: { [name]: { source: '' } } })).message).toMatch(
        /is not allowed|would hide/,
      );
    },
  );

  test('files named like parts of an object are files', async () => {
    const bundled = await bundleSource(
      "import a from './__proto__.ts'; import b from 'constructor'; export const handler = () => [a, b];",
      {
        files: { '__proto__.ts': 'export default 1;' },
        dependencies: { constructor: { source: 'module.exports = 2;' } },
      },
    );
    expect(handlerOf(await evaluate(bundled))({})).toEqual([1, 2]);
    await refusal("import a from 'toString'; export const handler = () => a;");
  });
});

describe('a source takes bounded time and memory', () => {
  test('more than 5 MB of source is refused before it is read', async () => {
    const error = await refusal('/'.repeat(MAX_SOURCE_BYTES + 1));
    expect(error.message).toContain('at most 5 MB are allowed');
    expect(error.details).toMatchObject({ limit: 'sourceBytes', allowed: MAX_SOURCE_BYTES });
  });

  test('an ordinary source of almost 5 MB is bundled', async () => {
    const line =
      'table.push((event) => ({ ...event, text: "Hello, " + event.name, list: [1, 2, 3].map((n) => n * 2) }));\n';
    const source = `export const table = [];\n${line.repeat(Math.floor(MAX_SOURCE_BYTES / line.length) - 1)}`;
    expect((await bundleSource(source)).code.length).toBeGreaterThan(4_000_000);
  });

  test.each([
    ['brackets', '['.repeat(4_000_000)],
    ['negations', `x=${'!'.repeat(4_000_000)}1`],
    ['templates', '`${'.repeat(1_500_000)],
    ['conditionals', `x=${'a?b:'.repeat(1_000_000)}1`],
  ])('nesting without end is refused and the next build works: %s', async (_, source) => {
    expect((await refusal(source)).message).toContain('nested too deeply');
    await bundleSource('export const handler = () => 1;');
  });

  test('imports without end are refused', async () => {
    const unresolved = Array.from({ length: 100_000 }, (_, index) => `import './m${index}';`).join('\n');
    expect((await refusal(unresolved)).message).toContain('more than 50 imports can not be resolved');
    const resolved = Array.from(
      { length: 6_000 },
      (_, index) => `import './${'./'.repeat(index % 50)}b?${index}';`,
    ).join('\n');
    await refusal(resolved, { files: { 'b.ts': '' } });
  });

  test('too many files are refused', async () => {
    const files = Object.fromEntries(Array.from({ length: 1_001 }, (_, index) => [`f${index}.ts`, '']));
    expect((await refusal('export const a = 1;', { files })).message).toContain('at most 1000 are allowed');
  });

  test('builds that fail do not disturb others that wait beside them', async () => {
    const [bad, good, bad2] = await Promise.allSettled([
      bundleSource('['.repeat(4_000_000)),
      bundleSource('export const handler = () => 1;'),
      bundleSource('export const handler = () => {'),
    ]);
    expect([bad.status, good.status, bad2.status]).toEqual(['rejected', 'fulfilled', 'rejected']);
  });
});

test('stopBundler ends the process, twice is safe, and a later bundle starts another', async () => {
  const children = (): string[] =>
    execFileSync('ps', ['--ppid', String(process.pid), '-o', 'comm='], { encoding: 'utf8' }).match(/esbuild/g) ?? [];
  await bundleSource('export const handler = () => 1;');
  expect(children().length).toBeGreaterThan(0);
  await stopBundler();
  await stopBundler();
  await expect.poll(children).toEqual([]);
  await bundleSource('export const handler = () => 1;');
});

test('nothing of the environment reaches esbuild', async () => {
  await stopBundler();
  process.env.POSTERN_CANARY = 'CANARY';
  await bundleSource('export const handler = () => 1;');
  delete process.env.POSTERN_CANARY;
  const pids =
    execFileSync('ps', ['--ppid', String(process.pid), '-o', 'pid=,comm='], { encoding: 'utf8' }).match(
      /\d+(?= esbuild)/g,
    ) ?? [];
  expect(pids).toHaveLength(1);
  expect(execFileSync('cat', [`/proc/${pids[0]}/environ`], { encoding: 'utf8' })).toBe('GOMAXPROCS=2\0TZ=\0');
});
