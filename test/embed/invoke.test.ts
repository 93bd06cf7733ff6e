/** What `runtime.invoke` gives back, and how it fails: real executors, no server, no database. */

import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createRuntime } from '../../embed/embedded-runtime.ts';
import * as embed from '../../embed/index.ts';
import type * as declared from '../../types/runtime.d.ts';
import { MUCH_LATER_MS } from '../support/timed.ts';

const {
  FunctionCpuError,
  FunctionError,
  FunctionMemoryError,
  FunctionTimeoutError,
  InvalidRequestError,
  InvalidResultError,
  InvalidSourceError,
  InvokeError,
} = embed;

const MB = 2 ** 20;
let site: Server;
let siteHost: string;
let runtime: embed.Runtime;
beforeAll(async () => {
  site = createServer((request, response) => response.end(`you asked for ${request.url}`));
  await new Promise<void>((listening) => site.listen(0, '127.0.0.1', listening));
  siteHost = `127.0.0.1:${(site.address() as AddressInfo).port}`;
  runtime = await createRuntime({ executors: 2, http: { allow: [siteHost] } });
});
afterAll(async () => {
  await runtime.close();
  site.close();
});

/** What it rejects with; fails where it does not. */
const failure = async (request: embed.InvokeRequest): Promise<embed.InvokeError> => {
  const error = await runtime.invoke(request).then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(InvokeError);
  return error as embed.InvokeError;
};

test('what is declared for users is what there is', () => {
  // Checked by the compiler; at run time, that no name of it is missing.
  const there: Pick<typeof declared, 'createRuntime'> = embed;
  const classes = {
    FunctionCpuError: new FunctionCpuError('', '') satisfies declared.FunctionCpuError,
    FunctionError: new FunctionError('', { guestName: '', guestStack: '' }) satisfies declared.FunctionError,
    InvalidSourceError: new InvalidSourceError('', undefined) satisfies declared.InvalidSourceError,
    InvokeError: new InvokeError('', '') satisfies declared.InvokeError,
  };
  expect(there.createRuntime).toBeTypeOf('function');
  for (const [name, error] of Object.entries(classes)) expect(error.name).toBe(name);
});

describe('a value', () => {
  test('comes back with what was logged and what it cost', async () => {
    const result = await runtime.invoke<{ message: string }>({
      source: `export function handler(event) {
        log.info('greeting', { name: event.name });
        return { message: 'Hello, ' + event.name + '!' };
      }`,
      event: { name: 'World' },
    });
    expect(result.value.message).toBe('Hello, World!');
    expect(result.logs).toEqual([
      { level: 'INFO', message: 'greeting', fields: { name: 'World' }, timestamp: expect.stringMatching(/^20.*Z$/) },
    ]);
    const { durationMs, cpuMs, fuel, peakMemoryBytes, hostCalls } = result.usage;
    for (const used of [durationMs, cpuMs, fuel, peakMemoryBytes]) expect(used).toBeGreaterThan(0);
    expect(hostCalls).toBe(0);
  });

  test.each([
    ['a plain script', 'js', 'function handler(event) { return event.n + 1; }', 'handler'],
    ['CommonJS', 'javascript', 'module.exports = { handler: (event) => event.n + 1 };', 'handler'],
    ['an ES module', 'js', 'export const handler = async (event) => event.n + 1;', 'handler'],
    ['another export', 'js', 'export const main = (event) => event.n + 1;', 'main'],
    ['TypeScript', 'typescript', 'export const handler = (event: { n: number }): number => event.n + 1;', 'handler'],
    ['Python', 'python', 'def handler(event):\n    return event["n"] + 1', 'handler'],
    [
      'AssemblyScript',
      'as',
      "import { Json } from 'postern';\nexport function main(event: Json): Json { return Json.integer(event.get('n').asInteger() + 1); }",
      'main',
    ],
  ] as const)('%s', { timeout: 120_000 }, async (_form, language, source, handler) => {
    expect((await runtime.invoke({ language, source, handler, event: { n: 1 } })).value).toBe(2);
  });

  test('dependencies of a Python function are modules that it imports, and its errors name its lines', async () => {
    const source = 'import greeter\n\ndef handler(event):\n    return greeter.greet(event["name"])';
    const dependencies = { greeter: { source: 'def greet(name):\n    return f"Hello, {name}!"' } };
    const request = { language: 'python', source, dependencies } as const;
    expect((await runtime.invoke({ ...request, event: { name: 'World' } })).value).toBe('Hello, World!');
    await expect(runtime.invoke({ ...request, event: {} })).rejects.toMatchObject({
      guestName: 'KeyError',
      guestStack: expect.stringContaining('line 4'),
    });
    await expect(runtime.invoke({ language: 'python', source: 'def handler(' })).rejects.toMatchObject({
      name: 'InvalidSourceError',
    });
  });

  test('without an event the handler gets null, and what it does not return is null', async () => {
    expect((await runtime.invoke({ source: 'export const handler = (event) => event;' })).value).toBeNull();
    expect((await runtime.invoke({ source: 'export const handler = () => {};' })).value).toBeNull();
  });

  test('an object with a statusCode stays a value, a Response becomes one', async () => {
    const { value } = await runtime.invoke({ source: 'export const handler = () => ({ statusCode: 404 });' });
    expect(value).toEqual({ statusCode: 404 });
    const source = "export const handler = () => new Response('gone', { status: 410, headers: { 'x-a': 'b' } });";
    expect((await runtime.invoke({ source })).value).toEqual({
      statusCode: 410,
      headers: expect.objectContaining({ 'x-a': 'b' }),
      body: 'gone',
    });
  });

  test('waits for what waitUntil was given, and its lines are there', async () => {
    const { value, logs } = await runtime.invoke({
      source: `export const handler = (event, context) => {
        context.waitUntil(new Promise((done) => setTimeout(done, 20)).then(() => console.log('after')));
        return 'early';
      };`,
    });
    expect([value, logs.map(({ message }) => message)]).toEqual(['early', ['after']]);
  });
});

describe('dependencies', () => {
  test('are found by require and by import, from each other too, and nothing else is', async () => {
    const dependencies = {
      greeter: { source: "const { mark } = require('marks'); exports.greet = (name) => 'Hello, ' + name + mark;" },
      marks: { source: "module.exports = { mark: '!' };" },
    };
    const required = "const { greet } = require('greeter'); function handler(event) { return greet(event.name); }";
    const imported = "import { greet } from 'greeter'; export const handler = (event) => greet(event.name);";
    for (const source of [required, imported]) {
      expect((await runtime.invoke({ source, dependencies, event: { name: 'Ada' } })).value).toBe('Hello, Ada!');
    }
    const missing = await failure({ source: "const fs = require('lodash');\nfunction handler() {}", dependencies });
    expect(missing).toBeInstanceOf(InvalidSourceError);
    expect(missing.message).toMatch(/function\.js:1:\d+: .*lodash/);
  });

  test('another text under the same name is another program', async () => {
    const source = "import n from 'n'; export const handler = () => n;";
    for (const n of [1, 2]) {
      const dependencies = { n: { source: `export default ${n};` } };
      expect((await runtime.invoke({ source, dependencies })).value).toBe(n);
    }
  });
});

describe('variables', () => {
  test('are read by env(), each invocation its own, and are redacted in what is logged and thrown', async () => {
    const source = `export const handler = () => {
      console.log('key ' + env('API_KEY'));
      if (env('API_KEY') === 'swordfish') throw new Error('bad ' + env('API_KEY'));
      return [env('API_KEY').length, env('HOME') ?? null];
    };`;
    const { value, logs } = await runtime.invoke({ source, env: { API_KEY: 'open sesame' } });
    expect(value).toEqual([11, null]);
    expect(logs[0]!.message).toBe('key [redacted]');
    const error = await failure({ source, env: { API_KEY: 'swordfish' } });
    expect(error.message).toBe('bad [redacted]');
    expect(JSON.stringify(error.logs)).not.toContain('swordfish');
  });
});

describe('limits', () => {
  const LOOPS = [
    ['a loop', 'for (;;) {}'],
    ['finally', 'try { for (;;) {} } finally { for (;;) {} }'],
    ['a regular expression', "/^(a+)+$/.test('a'.repeat(40) + 'b')"],
    ['a promise that never settles', 'await new Promise(() => setTimeout(() => {}, 60_000))'],
  ] as const;

  test.each(LOOPS)('over the timeout in %s: FunctionTimeoutError, with what was used', async (_where, code) => {
    const source = `export const handler = async () => { console.log('begun'); ${code}; };`;
    const error = await failure({ source, timeoutMs: 200, cpu: 'unlimited' });
    expect(error).toBeInstanceOf(FunctionTimeoutError);
    expect([error.name, error.code]).toEqual(['FunctionTimeoutError', 'FUNCTION_TIMEOUT']);
    expect(error.message).toMatch(/ran longer than its timeout of 200 ms$/);
    expect(error.logs.map(({ message }) => message)).toEqual(['begun']);
    expect(error.usage!.durationMs).toBeGreaterThanOrEqual(190);
    expect(error.usage!.durationMs).toBeLessThan(200 + MUCH_LATER_MS);
  });

  test('over the memory limit: FunctionMemoryError', async () => {
    const source = 'export const handler = () => { const all = []; for (;;) all.push(new Uint8Array(1e6).fill(1)); };';
    const error = await failure({ source, memoryBytes: 16 * MB });
    expect(error).toBeInstanceOf(FunctionMemoryError);
    expect(error.message).toMatch(/needs more than its memory limit of 16 MB$/);
  });

  test('over the CPU limit: FunctionCpuError', async () => {
    const error = await failure({ source: 'export const handler = () => { for (;;) {} };', cpu: 50_000_000 });
    expect(error).toBeInstanceOf(FunctionCpuError);
    expect(error.usage!.fuel).toBeGreaterThanOrEqual(50_000_000);
  });

  test('one that runs over costs its neighbours nothing but time', async () => {
    const endless = 'export const handler = () => { for (;;) {} };';
    const runaway = failure({ source: endless, timeoutMs: 500, cpu: 'unlimited' });
    const source = 'export const handler = (n) => n * 2;';
    const values = await Promise.all([1, 2, 3].map(async (event) => (await runtime.invoke({ source, event })).value));
    expect(values).toEqual([2, 4, 6]);
    expect(await runaway).toBeInstanceOf(FunctionTimeoutError);
  });
});

describe('errors', () => {
  test('what the function throws: its name, message, and stack in its own lines', async () => {
    const source = 'export const handler = (event) => {\n  const missing: any = event;\n  return missing.a.b;\n};';
    const error = (await failure({ language: 'ts', source })) as InstanceType<typeof FunctionError>;
    expect(error).toBeInstanceOf(FunctionError);
    expect([error.code, error.guestName]).toEqual(['FUNCTION_ERROR', 'TypeError']);
    expect(error.message).toContain("cannot read property 'a' of null");
    expect(error.guestStack).toContain('function.ts:3:');
  });

  test('a thrown value that is no Error', async () => {
    const error = await failure({ source: "export const handler = () => { throw 'no'; };" });
    expect(error).toBeInstanceOf(FunctionError);
    expect(error.message).toContain('no');
  });

  test.each(['1n', '() => 1', 'Symbol()', '(() => { const a = {}; a.a = a; return a; })()'])(
    'a result that JSON has no words for, %s: InvalidResultError',
    async (value) => {
      expect(await failure({ source: `export const handler = () => (${value});` })).toBeInstanceOf(InvalidResultError);
    },
  );

  test.each([
    ['a syntax error', 'export const handler = () => {\n  return oops(;\n};', /^function\.js:2:15: /, 2],
    ['a throw at the top level', '\n\nnull.x;\nexport const handler = () => 1;', /^function\.js:3:\d+: .*TypeError/, 3],
    ['an import that there is not', "\nimport 'node:fs';\nexport const handler = () => 1;", /^function\.js:2:/, 2],
    ['no handler', 'export const other = 1;', /no handler found.*the module exports other$/, undefined],
    ['a script without a handler', 'function handlr() {}', /no handler found.*the module exports nothing$/, undefined],
    ['an answer to HTTP alone', 'export default { fetch() {} };', /exports only fetch\(\)/, undefined],
    ['a top level that does not end', 'for (;;) {}', /top level of the module ran longer than 1000 ms/, undefined],
    ['a top level that fills memory', 'const a = []; for (;;) a.push(new Uint8Array(1e6));', /memory/, undefined],
  ])('%s is an InvalidSourceError with its line', async (_what, source, message, line) => {
    const error = (await failure({ source, timeoutMs: 500, memoryBytes: 16 * MB })) as InstanceType<
      typeof InvalidSourceError
    >;
    expect(error).toBeInstanceOf(InvalidSourceError);
    expect(error.message).toMatch(message);
    expect(error.line).toBe(line);
  });

  test.each<[object, RegExp]>([
    [{ source: '' }, /^source has to be text that is not empty$/],
    [
      { source: 'x', timeout: 5 },
      /^timeout: unknown; the request may have language, source, handler, event, timeoutMs/,
    ],
    [{ source: 'x', timeoutMs: 0 }, /^timeoutMs has to be a whole number of milliseconds from 1 to 300000$/],
    [{ source: 'x', memoryBytes: 1 }, /^memoryBytes has to be a whole number of bytes from 16777216 to 536870912$/],
    [{ source: 'x', cpu: -1 }, /^cpu has to be a positive whole number of metered instructions, or 'unlimited'$/],
    [{ source: 'x', language: 'cobol' }, /^language has to be one of javascript, js, typescript, ts, python/],
    [{ source: 'x', dependencies: { a: 'text' } }, /^dependencies\.a has to be an object/],
    [{ source: 'x', env: { A: 1 } }, /^env\.A has to be an object of texts/],
  ])('%j is refused by name', async (request, message) => {
    const error = await failure(request as embed.InvokeRequest);
    expect(error).toBeInstanceOf(InvalidRequestError);
    expect(error.message).toMatch(message);
  });

  test('an event that JSON can not say is refused', async () => {
    expect((await failure({ source: 'x', event: 1n })).message).toMatch(/^event has to be what JSON can say: .*BigInt/);
  });

  test('options that can not be are refused by name', async () => {
    await expect(embed.createRuntime({ http: { allow: ['not a host'] } })).rejects.toThrow(/not a host/);
    await expect(embed.createRuntime({ executors: 0 })).rejects.toThrow(/^executors has to be a whole number/);
  });
});

describe('host functions', () => {
  test('db says that there is no database, and the function may go on', async () => {
    const source = `export const handler = async () => {
      try { await db.query('select 1'); } catch (error) { return [error.name, error.code, error.message]; }
    };`;
    expect((await runtime.invoke({ source })).value).toEqual([
      'DatabaseError',
      'NO_DATABASE',
      'there is no database: this function runs in an embedded runtime',
    ]);
  });

  test('http reaches the hosts of the options, and no other', async () => {
    const source = 'export const handler = async (url) => (await http.fetch(url)).text();';
    const { value, usage } = await runtime.invoke({ source, event: `http://${siteHost}/tea` });
    expect([value, usage.hostCalls]).toEqual(['you asked for /tea', 1]);
    const refused = await failure({ source, event: 'http://127.0.0.1:9/' });
    expect(refused.message).toContain("is not in the function's http.allow");
  });
});

test('nothing of one invocation is seen by the next of the same source', async () => {
  const source = `let count = 0;
    export const handler = () => {
      globalThis.seen = (globalThis.seen ?? 0) + 1;
      Object.prototype.polluted = (Object.prototype.polluted ?? 0) + 1;
      return [++count, globalThis.seen, {}.polluted, Math.random()];
    };`;
  const values: unknown[][] = [];
  for (let i = 0; i < 5; i++) values.push((await runtime.invoke<unknown[]>({ source })).value);
  for (const value of values) expect(value.slice(0, 3)).toEqual([1, 1, 1]);
  expect(new Set(values.map((value) => value[3])).size).toBe(5);
});

test('twenty at once each get their own answer, of one source and of many', async () => {
  const numbers = Array.from({ length: 20 }, (_, n) => n);
  const one = 'export const handler = async (n) => { await new Promise((go) => setTimeout(go, 20)); return n; };';
  const same = await Promise.all(numbers.map((event) => runtime.invoke({ source: one, event })));
  expect(same.map(({ value }) => value)).toEqual(numbers);
  const many = await Promise.all(
    numbers.map((n) => runtime.invoke({ source: `export const handler = (event) => event + ${n};`, event: 100 })),
  );
  expect(many.map(({ value }) => value)).toEqual(numbers.map((n) => 100 + n));
});
