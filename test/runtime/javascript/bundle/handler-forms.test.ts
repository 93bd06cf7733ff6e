import { readFileSync } from 'node:fs';
import { afterAll, describe, expect, test } from 'vitest';
import { stopBundler } from '../../../../runtime/javascript/bundle/index.ts';
import { bundleSource, evaluate, handlerOf, type Namespace, refusal } from './support.ts';

afterAll(stopBundler);

const call = async (source: string, more: Parameters<typeof bundleSource>[1] = {}): Promise<unknown> => {
  const namespace = await evaluate(await bundleSource(source, more));
  return handlerOf(namespace, more.handlerName)({ name: 'World' });
};

describe('every handler form is reachable in the bundle', () => {
  test('an exported function', async () => {
    expect(
      await call('export async function handler(event: { name: string }) { return "Hello, " + event.name + "!"; }'),
    ).toBe('Hello, World!');
  });

  test('another export, named by the configuration', async () => {
    expect(await call('export const greet = (event) => event.name;', { handlerName: 'greet' })).toBe('World');
  });

  test('a default export with fetch', async () => {
    const namespace = await evaluate(
      await bundleSource('export default { async fetch(request) { return new Response("hi"); } };'),
    );
    expect(namespace.default?.fetch).toBeTypeOf('function');
  });

  test('module.exports', async () => {
    expect(await call('function handler(event) { return event.name }\nmodule.exports = { handler };')).toBe('World');
  });

  test('exports.name', async () => {
    expect(await call('exports.greet = (event) => event.name;', { handlerName: 'greet' })).toBe('World');
  });

  test('a function as module.exports', async () => {
    const namespace = await evaluate(await bundleSource('module.exports = (event) => event.name;'));
    expect((namespace as unknown as { default: (event: unknown) => unknown }).default({ name: 'World' })).toBe('World');
  });

  test('CommonJS that was compiled from an ES module', async () => {
    const compiled =
      'Object.defineProperty(exports, "__esModule", { value: true }); exports.default = { fetch() { return 1 } };';
    expect((await evaluate(await bundleSource(compiled))).default?.fetch).toBeTypeOf('function');
  });

  test('a plain script, as GraalFaaS takes it', async () => {
    const script = 'function handler(event) { return { message: "Hello, " + event.name + "!" } }';
    expect(await call(script)).toEqual({ message: 'Hello, World!' });
  });

  test.each([
    ['over Javy.IO', ''],
    ['with javy/fs', "import { readFileSync, writeFileSync, STDIO } from 'javy/fs';"],
    ['with the npm package’s files', "import { readFileSync, writeFileSync, STDIO } from './fs.js';"],
  ])('a program that was written for Javy, %s', async (_how, imports) => {
    const files = {
      'fs.js': readFileSync('node_modules/javy/dist/fs/index.js', 'utf8'),
      'index.js': readFileSync('node_modules/javy/dist/index.js', 'utf8'),
    };
    const fs = { ...files, 'fs.js': files['fs.js'].replace('../index.js', './index.js') };
    const io = `const buffer = new Uint8Array(1000);
      const bytes = buffer.subarray(0, Javy.IO.readSync(0, buffer));
      const write = (text) => Javy.IO.writeSync(1, new TextEncoder().encode(text));`;
    const lib = `const bytes = readFileSync(STDIO.Stdin);
      const write = (text) => writeFileSync(STDIO.Stdout, new TextEncoder().encode(text));`;
    const program = `${imports}
      ${imports === '' ? io : lib}
      const event = JSON.parse(new TextDecoder().decode(bytes));
      write('{"hello":');
      write(JSON.stringify(event.name) + '}');`;
    expect(await call(program, { files: fs })).toEqual({ hello: 'World' });
  });

  test('a program for Javy keeps the lines of its errors, and starts anew with each event', async () => {
    const source =
      "let calls = 0;\nJavy.IO.writeSync(1, new TextEncoder().encode(String(++calls)));\nif (calls > 1) throw new Error('again');";
    const bundled = await bundleSource(source);
    const handler = handlerOf(await evaluate(bundled));
    expect([await handler({}), await handler({})]).toEqual([1, 1]);
    const broken = await refusal('Javy.IO.writeSync(1, );;;)');
    expect(broken.details).toMatchObject({ line: 1 });
  });

  test('a plain script that ends in a comment', async () => {
    expect(await call('const handler = (event) => event.name; // the end')).toBe('World');
  });

  test('a plain script with another handler name and dependencies in memory', async () => {
    const script = "const greeter = require('greeter');\nfunction greet(event) { return greeter.greet(event.name) }";
    const dependencies = {
      greeter: {
        source:
          "const { shout } = require('@acme/shout'); module.exports = { greet: (name) => shout('Hello, ' + name) };",
      },
      '@acme/shout': { source: "exports.shout = (text) => text + '!';" },
    };
    expect(await call(script, { handlerName: 'greet', dependencies })).toBe('Hello, World!');
  });

  test('a script that declares no handler is bundled with none: the sandbox says what is missing', async () => {
    const namespace = await evaluate(await bundleSource('const x = 1;'));
    expect(() => handlerOf(namespace)).toThrow('no handler');
  });

  test('a reserved word may name an export but is never put into a script', async () => {
    expect(
      handlerOf(
        await evaluate(await bundleSource('const f = () => 1; export { f as delete };', { handlerName: 'delete' })),
        'delete',
      )({}),
    ).toBe(1);
    await bundleSource('const x = 1;', { handlerName: 'delete' });
  });

  test('asModule takes a file without exports for an ES module', async () => {
    expect(Object.keys(await evaluate(await bundleSource('function handler() {}', { asModule: true })))).toEqual([]);
  });

  test.each(['a; process.exit()', '', 'a b', '1a', 'x'.repeat(200)])(
    'the handler name %j is refused',
    async (handlerName) => {
      await expect(bundleSource('export const a = 1', { handlerName })).rejects.toMatchObject({
        code: 'INVALID_FUNCTION',
      });
    },
  );
});

describe('config', () => {
  test.each([
    ['ES module', 'export const config = { timeout: "5s" }; export const handler = () => 1;'],
    ['CommonJS', 'exports.config = { timeout: "5s" }; exports.handler = () => 1;'],
    ['script', 'const config = { timeout: "5s" }; function handler() {}'],
  ])('passes through from %s', async (_, source) => {
    expect((await evaluate(await bundleSource(source))).config).toEqual({ timeout: '5s' });
  });

  test('is undefined where CommonJS has none', async () => {
    expect((await evaluate(await bundleSource('exports.handler = () => 1;'))).config).toBeUndefined();
  });
});

describe('the module "postern"', () => {
  const load = async (source: string): Promise<Namespace> => evaluate(await bundleSource(source));

  test('gives the host functions', async () => {
    Object.assign(globalThis, { db: 'db', log: 'log', env: 'env', http: 'http' });
    const { all } = await load(
      "import { db, log, env, http } from 'postern'; export const all = [db, log, env, http];",
    );
    expect(all).toEqual(['db', 'log', 'env', 'http']);
  });

  test('NonRetryableError carries retry: false as its own property', async () => {
    const { error } = await load(
      "import { NonRetryableError } from 'postern'; export const error = new NonRetryableError('no', { cause: 1 });",
    );
    expect(error).toMatchObject({ name: 'NonRetryableError', message: 'no', retry: false, cause: 1 });
    expect(Object.keys(error as object)).toEqual(['retry']);
  });

  test('RetryAfterError carries retryAfterMs as its own property', async () => {
    const { error } = await load(
      "const { RetryAfterError } = require('postern'); export const error = new RetryAfterError('later', 1500);",
    );
    expect(error).toMatchObject({ name: 'RetryAfterError', message: 'later', retryAfterMs: 1500 });
  });

  test('RetryAfterError refuses what is no number of milliseconds', async () => {
    const { make } = await load(
      "import { RetryAfterError } from 'postern'; export const make = () => new RetryAfterError('later', '1s');",
    );
    expect(make as () => void).toThrow('it was given 1s');
  });

  test('a name that it does not have is refused with its place', async () => {
    await expect(
      bundleSource("import { sql } from 'postern';\nexport const handler = () => sql;"),
    ).rejects.toMatchObject({
      details: { file: 'hello.ts', line: 1, column: 10 },
    });
  });
});

describe('files', () => {
  test.each([
    ['./lib/mail', 'lib/mail.ts'],
    ['./lib/mail.ts', 'lib/mail.ts'],
    ['./lib/mail.js', 'lib/mail.ts'],
    ['./lib', 'lib/index.ts'],
    ['./lib/', 'lib/index.js'],
    ['././lib/../lib/mail.mjs', 'lib/mail.mts'],
  ])('%s finds %s', async (specifier, file) => {
    const bundled = await bundleSource(`import { a } from '${specifier}'; export const handler = () => a;`, {
      files: { [file]: 'export const a: number = 7;' },
    });
    expect(handlerOf(await evaluate(bundled))({})).toBe(7);
  });

  test('JSON and text are imported as values', async () => {
    const source =
      "import table from './table.json'; import sql from './find.sql'; export const handler = () => [table.a, sql];";
    const bundled = await bundleSource(source, { files: { 'table.json': '{"a":1}', 'find.sql': 'select 1' } });
    expect(handlerOf(await evaluate(bundled))({})).toEqual([1, 'select 1']);
  });

  test('an import with a literal path in a function is bundled too', async () => {
    const bundled = await bundleSource("export const handler = async () => (await import('./late')).a;", {
      files: { 'late.ts': 'export const a = 1' },
    });
    expect(await handlerOf(await evaluate(bundled))({})).toBe(1);
  });

  test('types are erased, not checked', async () => {
    expect(await call('enum Level { Low = 1 }\nexport const handler = (): string => Level.Low;')).toBe(1);
  });
});

describe('node: modules', () => {
  test('are bundled, with and without the prefix, imported and required', async () => {
    const source = `
      import { EventEmitter } from 'node:events';
      class Mine extends require('events') {}
      export const handler = () => new Mine() instanceof EventEmitter;`;
    const bundled = await bundleSource(source);
    expect(handlerOf(await evaluate(bundled))({})).toBe(true);
    expect(bundled.code).not.toMatch(/from\s*"node:/);
  });

  test('Buffer, process and global are there without an import, in every handler form', async () => {
    const body = "[Buffer.from('hi').toString('hex'), typeof process.nextTick, global === globalThis]";
    for (const source of [
      `export const handler = () => ${body};`,
      `exports.handler = () => ${body};`,
      `function handler() { return ${body} }`,
    ]) {
      const bundled = await bundleSource(source);
      expect(handlerOf(await evaluate(bundled))({})).toEqual(['6869', 'function', true]);
    }
  });

  test('what is not mentioned is not in the bundle', async () => {
    const { code } = await bundleSource('export const handler = () => 1; // no Buffer');
    expect(code.length).toBeLessThan(200);
  });

  test('node:async_hooks follows its store through await', async () => {
    const source = `
      import { AsyncLocalStorage } from 'node:async_hooks';
      const storage = new AsyncLocalStorage();
      export const handler = () => storage.run('store', async () => { await null; return storage.getStore(); });`;
    const { code } = await bundleSource(source);
    expect(code).not.toMatch(/\bawait /);
  });

  test('one that a function can not have is refused by name', async () => {
    await expect(bundleSource("import fs from 'node:child_process'; export const handler = () => fs;")).rejects.toThrow(
      '"node:child_process" is not available in a function; these node: modules are: ',
    );
  });
});

describe('the bundle', () => {
  test('has no path of this machine in it, nor has its source map', async () => {
    const { code, sourceMap } = await bundleSource(
      "import { Buffer } from 'node:buffer'; import { b } from './b'; export const handler = () => [Buffer, b];",
      {
        files: { 'b.ts': 'export const b = 1;' },
      },
    );
    for (const text of [code, sourceMap])
      expect(text).not.toMatch(/node_modules|unenv\/|\/work|\/home|postern-file:\//);
    expect(JSON.parse(sourceMap).sources).toContain('b.ts');
  });

  test('has a source map with the sources as they were given', async () => {
    const source = 'export function handler(): number {\n  return 1;\n}\n';
    const map = JSON.parse((await bundleSource(source)).sourceMap) as { sources: string[]; sourcesContent: string[] };
    expect(map.sources).toEqual(['hello.ts']);
    expect(map.sourcesContent).toEqual([source]);
  });

  test('is the same for the same input', async () => {
    const source = "import { EventEmitter } from 'node:events'; export const handler = () => new EventEmitter();";
    expect(await bundleSource(source)).toEqual(await bundleSource(source));
  });

  test('comes with warnings that name their place', async () => {
    const { warnings } = await bundleSource('export const handler = (event) => {\n  return event === NaN;\n};');
    expect(warnings).toEqual([expect.stringMatching(/^hello\.ts:2:\d+: Comparison with NaN/)]);
  });
});
