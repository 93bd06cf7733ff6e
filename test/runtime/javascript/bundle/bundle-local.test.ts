import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { bundle, bundleLocal, stopBundler } from '../../../../runtime/javascript/bundle/index.ts';
import { evaluate, handlerOf } from './support.ts';

// Inside the repository, so that the packages of node_modules are found.
let folder: string;
beforeAll(() => {
  mkdirSync('.postern', { recursive: true });
  folder = mkdtempSync(resolve('.postern', 'bundle-local-'));
});
afterAll(async () => {
  rmSync(folder, { recursive: true });
  await stopBundler();
});

const write = (name: string, text: string): string => {
  const path = join(folder, name);
  mkdirSync(join(path, '..'), { recursive: true });
  writeFileSync(path, text);
  return path;
};

/** What `postern deploy` does: bundled here, sent as one file, bundled again. */
async function deployed(
  entryPath: string,
  more: { handlerName?: string; dependencies?: Record<string, { source: string }> } = {},
) {
  const { handlerName = 'handler', dependencies = {} } = more;
  const local = await bundleLocal({ entryPath, handlerName, dependencyNames: Object.keys(dependencies) });
  const bundled = await bundle({
    entry: 'hello.js',
    files: { 'hello.js': local.code },
    language: 'javascript',
    handlerName,
    dependencies,
  });
  return { local, bundled, call: handlerOf(await evaluate(bundled), handlerName) };
}

describe('bundleLocal', () => {
  test('takes packages from node_modules', async () => {
    const path = write(
      'zod.ts',
      "import { z } from 'zod';\nexport const handler = (event: unknown) => z.object({ name: z.string() }).parse(event);",
    );
    const { call, local } = await deployed(path);
    expect(call({ name: 'World', more: 1 })).toEqual({ name: 'World' });
    expect(local.inputs).toContain(path);
    expect(local.inputs.some((input) => input.includes('node_modules/zod'))).toBe(true);
  });

  test.each([
    ['not-there-at-all', 'not-there-at-all'],
    ['@nobody/has.it/deep/inside.js', '@nobody/has.it'],
  ])('says how to get a package that is not there: %s', async (path, name) => {
    await expect(bundleLocal({ entryPath: write('lacks.js', `import x from '${path}';`) })).rejects.toMatchObject({
      code: 'INVALID_FUNCTION',
      message: `lacks.js:1:15: Could not resolve "${path}": run "npm install ${name}", or begin the path of a file with "./"`,
    });
  });

  test('takes a Hono app', async () => {
    const path = write(
      'app.ts',
      "import { Hono } from 'hono';\nconst app = new Hono().get('/hi', (c) => c.text('hi'));\nexport default app;",
    );
    const local = await bundleLocal({ entryPath: path });
    const app = (await evaluate(local)).default as unknown as { request(path: string): Promise<Response> };
    expect(await (await app.request('/hi')).text()).toBe('hi');
  });

  test('honours tsconfig.json', async () => {
    write('paths/tsconfig.json', '{ "compilerOptions": { "paths": { "@/*": ["./lib/*"] } } }');
    write('paths/lib/a.ts', 'export const a = 5;');
    expect(
      (await deployed(write('paths/f.ts', "import { a } from '@/a';\nexport const handler = () => a;"))).call({}),
    ).toBe(5);
  });

  test('leaves postern, node: modules and dependencies to the server, required ones too', async () => {
    const source = `
      const { NonRetryableError } = require('postern');
      const greeter = require('greeter');
      class Emitter extends require('events') {}
      exports.handler = (event) => [greeter(event.name), new Emitter().listenerCount('x'), new NonRetryableError('x').retry];`;
    const dependencies = { greeter: { source: 'module.exports = (name) => "Hello, " + name;' } };
    const { call } = await deployed(write('cjs.cjs', source), { dependencies });
    expect(call({ name: 'World' })).toEqual(['Hello, World', 0, false]);
  });

  test('takes a plain script', async () => {
    const path = write('script.js', 'function greet(event) { return event.name } // end');
    expect((await deployed(path, { handlerName: 'greet' })).call({ name: 'World' })).toBe('World');
  });

  test('keeps the names and texts of the author’s files through both bundlers', async () => {
    write('maps/lib/b.ts', 'export const b = (): never => {\n  throw new Error("here");\n};');
    const path = write('maps/f.ts', "import { b } from './lib/b';\nexport const handler = () => b();");
    const { bundled } = await deployed(path);
    const map = JSON.parse(bundled.sourceMap) as { sources: string[]; sourcesContent: (string | null)[] };
    expect(map.sources).toEqual(['lib/b.ts', 'f.ts']);
    expect(map.sourcesContent[0]).toContain('throw new Error("here")');
  });

  test('sends no path of the author’s machine', async () => {
    const { code, sourceMap } = await bundleLocal({
      entryPath: write('here.ts', "import { z } from 'zod';\nexport const handler = () => z;"),
    });
    expect(code).not.toContain(folder);
    expect(sourceMap).not.toContain(folder);
  });

  test('names file, line and column of an error, and what to go on watching', async () => {
    const path = write('broken.ts', "import { a } from './not-there';\nexport const handler = () => a;");
    await expect(bundleLocal({ entryPath: path })).rejects.toMatchObject({
      code: 'INVALID_FUNCTION',
      details: { file: 'broken.ts', line: 1, inputs: [path] },
    });
  });

  test('says which node: modules there are', async () => {
    const path = write(
      'fs.ts',
      "import { readFileSync } from 'node:child_process';\nexport const handler = () => readFileSync;",
    );
    await expect(bundleLocal({ entryPath: path })).rejects.toThrow(
      '"node:child_process" is not available in a function',
    );
  });

  test('bundles a package that needs a missing module of Node for a part of it; calling that part throws', async () => {
    write(
      'node_modules/templates/index.mjs',
      "import { readFileSync } from 'fs';\nexport const text = (t) => t.toUpperCase();\nexport const file = (f) => readFileSync(f);",
    );
    write('node_modules/templates/package.json', '{ "name": "templates", "main": "index.mjs" }');
    const path = write(
      'templated.ts',
      "import { file, text } from 'templates';\nexport const handler = (event) => event.file ? file(event.file) : text('hi');",
    );
    const { warnings } = await bundleLocal({ entryPath: path });
    expect(warnings.join()).toContain('"node:fs" is not available in a function');
    const { call } = await deployed(path);
    expect(call({})).toBe('HI');
    expect(() => call({ file: 'a' })).toThrow('"node:fs" is not available in a function (fs.readFileSync)');
  });
});
