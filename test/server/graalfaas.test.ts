/** What GraalFaaS promised its users, through the routes of a real node; and what they had to live with there, gone. */

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts';
import { TIMED } from '../support/timed.ts';
import { ADMIN_KEY, startTestPostern, type TestPostern } from './support.ts';

let db: TestDatabase;
let postern: TestPostern;

beforeAll(async () => {
  db = await createTestDatabase();
  postern = await startTestPostern(db);
});
afterAll(async () => {
  await postern?.stop();
  await db.drop();
});

/** `auth: 'none'`: GraalFaaS knew no callers. Everything else is a manifest of it as it stands. */
const upload = (manifest: Record<string, unknown>) =>
  postern.admin('POST', '/functions', { auth: 'none', ...manifest });
async function invoke(id: string, event: unknown): Promise<{ status: number; body: unknown }> {
  const response = await postern.call(`/invoke/${id}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(event),
  });
  return { status: response.status, body: await response.json() };
}
const WORLD = { name: 'World' };
const HELLO_WORLD = { status: 200, body: { message: 'Hello, World!' } };

describe('routes', () => {
  test('GET /health answers without a key', async () => {
    expect((await postern.call('/health')).status).toBe(200);
  });

  test('a function and code that are asked for with GET say that they take POST', async () => {
    const messageOf = async (path: string) =>
      ((await (await postern.call(path)).json()) as { message: string }).message;
    expect(await messageOf('/invoke/hello?a=1')).toBe('there is no route GET /invoke/hello: it takes POST');
    expect(await messageOf('/execute')).toBe('there is no route GET /execute: it takes POST');
    expect(await messageOf('/invoke')).toBe('there is no route GET /invoke');
  });

  test('JavaScript hello: its event is the body, its answer the bare result', async () => {
    const source = 'function handler(event) { return { message: "Hello, " + event.name + "!" }; }';
    expect((await upload({ id: 'hello', languageId: 'js', source })).status).toBe(201);
    expect(await invoke('hello', WORLD)).toEqual(HELLO_WORLD);
  });

  test('another function of the source is called by its name', async () => {
    const source = 'function greet(event) { return "Hello, " + event.name + "!"; } function handler() { return "no"; }';
    await upload({ id: 'named', languageId: 'js', functionName: 'greet', source });
    expect(await invoke('named', WORLD)).toEqual({ status: 200, body: 'Hello, World!' });
  });

  test('jsEvalAsModule: an ES module with an exported handler', async () => {
    const source =
      'const mark = "!"; export function handler(event) { return { message: "Hello, " + event.name + mark }; }';
    await upload({ id: 'module', languageId: 'js', jsEvalAsModule: true, source });
    expect(await invoke('module', WORLD)).toEqual(HELLO_WORLD);
  });

  test("require('greeter'): a dependency by its source, with module.exports or exports", async () => {
    const source =
      "const { greet } = require('greeter'); function handler(event) { return { message: greet(event.name) }; }";
    for (const greeter of [
      'module.exports = { greet: (name) => "Hello, " + name + "!" };',
      'exports.greet = (name) => "Hello, " + name + "!";',
    ]) {
      await upload({ id: 'requires', languageId: 'js', source, dependencies: { greeter: { source: greeter } } });
      expect(await invoke('requires', WORLD)).toEqual(HELLO_WORLD);
    }
  });

  test("require('greeter'): a dependency by its file, which comes with the deploy", async () => {
    const { status } = await upload({
      id: 'by-file',
      languageId: 'js',
      sourceFile: 'hello.js',
      dependencies: { greeter: { file: 'lib/greeter.js' } },
      files: {
        'hello.js':
          "const { greet } = require('greeter'); function handler(event) { return { message: greet(event.name) }; }",
        'lib/greeter.js': 'module.exports.greet = (name) => "Hello, " + name + "!";',
      },
    });
    expect(status).toBe(201);
    expect(await invoke('by-file', WORLD)).toEqual(HELLO_WORLD);
  });

  test('what a deploy lacks is named: the text of its sourceFile, and a type that is taken', async () => {
    const { status, body } = await upload({ id: 'lacks', languageId: 'js', sourceFile: 'hello.js' });
    expect([status, body.message]).toEqual([422, expect.stringContaining("or 'files', with the text of 'hello.js'")]);
    const typed = await postern.call('/functions', {
      method: 'POST',
      headers: { authorization: `Bearer ${ADMIN_KEY}`, 'content-type': 'application/x-www-form-urlencoded' },
      body: '{}',
    });
    expect([typed.status, ((await typed.json()) as { message: string }).message]).toEqual([
      400,
      'the Content-Type is none that is taken here: send application/json',
    ]);
  });

  test.each(['greeter', 'fs', 'node:child_process', './secret.js', '/etc/passwd'])(
    'nothing outside of the map resolves: %s',
    async (name) => {
      const source = `const it = require('${name}'); function handler() { return typeof it; }`;
      const answer = await upload({ id: 'outside', languageId: 'js', source, dependencies: { other: { source: '' } } });
      expect(answer).toMatchObject({ status: 422, body: { code: 'INVALID_FUNCTION', details: { line: 1 } } });
      expect(answer.body.message).toContain(name);
    },
  );

  test('a manifest with comments and trailing commas is taken as application/jsonc', async () => {
    const send = (body: string) =>
      postern.call('/functions', {
        method: 'POST',
        headers: { authorization: `Bearer ${ADMIN_KEY}`, 'content-type': 'application/jsonc' },
        body,
      });
    const made = await send(`{
      // as it lies in a repository
      "id": "commented", "languageId": "js", "auth": "none",
      "source": "function handler(event) { return { message: 'Hello, ' + event.name + '!' }; }", /* no more */
    }`);
    expect([made.status, made.headers.get('location')]).toEqual([201, '/functions/commented']);
    expect(await invoke('commented', WORLD)).toEqual(HELLO_WORLD);
    const broken = await send('{\n  "id": broken\n}');
    expect(broken.status).toBe(422);
    expect(await broken.json()).toMatchObject({ message: expect.stringMatching(/^manifest:2:9: /) });
    expect((await send('[]')).status).toBe(422);
    expect(
      (await postern.call('/functions', { method: 'POST', headers: { 'content-type': 'application/jsonc' } })).status,
    ).toBe(401);
  });

  test('a function that runs over its time is 504, within it', async () => {
    const endless = { languageId: 'js', timeoutMillis: 1_000, source: 'function handler() { for (;;); }' };
    await upload({ id: 'endless', ...endless, cpu: 'unlimited' });
    expect(await invoke('endless', {})).toMatchObject({
      status: 504,
      body: { code: 'FUNCTION_TIMEOUT', message: expect.stringContaining('timeout of 1000 ms') },
    });
    // GraalFaaS knew no limit of instructions: on a fast machine the ten billion that there are by default come first.
    await upload({ id: 'endless-there', ...endless });
    expect(await invoke('endless-there', {})).toMatchObject({
      status: 504,
      body: { code: expect.stringMatching(/^FUNCTION_(TIMEOUT|CPU_LIMIT)$/) },
    });
  });

  test('there is no network', async () => {
    await upload({
      id: 'phones',
      languageId: 'js',
      source: "function handler() { return fetch('https://example.com'); }",
    });
    expect(await invoke('phones', {})).toMatchObject({
      status: 500,
      body: { code: 'FUNCTION_ERROR', message: expect.stringContaining('http.allow') },
    });
  });
});

describe('results', () => {
  // docs/functions.md has the same table.
  test.each([
    ['text', '"a"', '"a"'],
    ['numbers', '[1, 1.5, -0, 1e300]', '[1,1.5,0,1e+300]'],
    ['lists and maps', '{ a: [{ b: null }], c: true }', '{"a":[{"b":null}],"c":true}'],
    ['nothing', 'undefined', 'null'],
    ['no number', '[NaN, Infinity]', '[null,null]'],
    ['a date', 'new Date(0)', '"1970-01-01T00:00:00.000Z"'],
    ['what says itself what it is', '{ toJSON: () => "me" }', '"me"'],
    ['properties without words', '{ a: undefined, b() {}, c: Symbol(), d: 1 }', '{"d":1}'],
    ['a Map and a Set', '[new Map([[1, 2]]), new Set([1])]', '[{},{}]'],
    ['their entries', '[Object.fromEntries(new Map([["a", 2]])), [...new Set([1])]]', '[{"a":2},[1]]'],
  ])('%s', async (_what, value, json) => {
    await upload({ id: 'result', languageId: 'js', source: `function handler() { return ${value}; }` });
    expect(await (await postern.call('/invoke/result', { method: 'POST', body: '{}' })).text()).toBe(json);
  });

  test.each([
    ['a BigInt', '10n', 'BigInt'],
    ['a function', '() => 1', "can't return a function"],
    ['a symbol', 'Symbol("s")', "can't return a symbol"],
    ['what has itself', '(() => { const a = {}; a.a = a; return a; })()', 'circular'],
  ])('%s has no JSON, and is refused by name, not made into some text', async (_what, value, message) => {
    await upload({ id: 'result', languageId: 'js', source: `function handler() { return (${value}); }` });
    const { status, body } = await invoke('result', {});
    expect([status, body]).toEqual([500, expect.objectContaining({ code: 'INVALID_RESULT' })]);
    expect((body as { message: string }).message).toContain(message);
  });
});

describe('what users had to live with there', () => {
  test("the caller's id is kept, in the list too", async () => {
    const { body } = await upload({ id: 'my_own-id', languageId: 'js', source: 'function handler() { return 1; }' });
    expect(body.name).toBe('my_own-id');
    const { functions } = (await postern.admin('GET', '/functions')).body as { functions: { name: string }[] };
    expect(functions.map(({ name }) => name)).toContain('my_own-id');
  });

  test('a function can be invoked once its upload has been answered, and is what was uploaded last', async () => {
    for (let n = 0; n < 10; n++) {
      await upload({ id: 'newest', languageId: 'js', source: `function handler() { return ${n}; }` });
      expect(await invoke('newest', {})).toEqual({ status: 200, body: n });
      await upload({ id: `fresh-${n}`, languageId: 'js', source: `function handler() { return ${n}; }` });
      expect(await invoke(`fresh-${n}`, {})).toEqual({ status: 200, body: n });
    }
  });

  test('functions are there after a restart, with nothing set up for it', async () => {
    await upload({ id: 'lasting', languageId: 'js', source: 'function handler(event) { return event.n + 1; }' });
    await postern.stop();
    postern = await startTestPostern(db);
    expect(await invoke('lasting', { n: 1 })).toEqual({ status: 200, body: 2 });
  });

  test('logs are lines with a level and a time, kept with the invocation that wrote them', async () => {
    const source = 'function handler(event) { console.warn("odd", { n: event.n }); return 1; }';
    await upload({ id: 'talks', languageId: 'js', source });
    await invoke('talks', { n: 7 });
    const logs = async () => {
      const { body } = await postern.admin('GET', '/functions/talks/invocations?logs=true');
      return (body.invocations as { logs: unknown[] }[])[0]?.logs;
    };
    await expect
      .poll(logs)
      .toEqual([{ level: 'WARN', message: expect.stringContaining('odd'), timestamp: expect.stringMatching(/Z$/) }]);
  });

  test("a guest that runs away or fills memory runs in another process: the host's answers go on", async () => {
    await upload({ id: 'away', languageId: 'js', timeout: '2s', source: 'function handler() { for (;;); }' });
    await upload({
      id: 'fills',
      languageId: 'js',
      source: 'function handler() { const a = []; for (;;) a.push(new Uint8Array(1e6).fill(1)); }',
    });
    await upload({ id: 'beside', languageId: 'js', source: 'function handler() { return "fine"; }' });
    const away = invoke('away', {});
    const fills = invoke('fills', {});
    expect((await postern.call('/health')).status).toBe(200);
    expect(await invoke('beside', {})).toEqual({ status: 200, body: 'fine' });
    expect((await away).status).toBe(504);
    expect((await fills).status).toBe(507);
  });
});

describe('Python', {
  timeout: 60_000,
}, () => {
  test('hello answers its text', async () => {
    const source = 'def handler(event):\n    return "Hello, " + event.get("name", "World") + "!"\n';
    expect((await upload({ id: 'py-hello', languageId: 'python', source })).status).toBe(201);
    expect(await invoke('py-hello', WORLD)).toEqual({ status: 200, body: 'Hello, World!' });
    expect(await invoke('py-hello', {})).toEqual({ status: 200, body: 'Hello, World!' });
  });

  test('another function of the source is called by its name', async () => {
    const source = 'def greet(event):\n    return {"message": "Hello, " + event["name"] + "!"}\n';
    await upload({ id: 'py-named', languageId: 'python', functionName: 'greet', source });
    expect(await invoke('py-named', WORLD)).toEqual(HELLO_WORLD);
  });

  test('results are plain values', async () => {
    const source = 'def handler(event):\n    return [1, 1.5, "a", True, None, {"k": [2]}]\n';
    await upload({ id: 'py-values', languageId: 'python', source });
    expect(await invoke('py-values', {})).toEqual({ status: 200, body: [1, 1.5, 'a', true, null, { k: [2] }] });
  });

  let tries = 0;
  test('its first invocation does not wait seconds for an interpreter', TIMED, async () => {
    const id = `py-first-${++tries}`;
    await upload({ id, languageId: 'python', source: `def handler(event):\n    return ${tries}\n` });
    const startedAt = performance.now();
    expect(await invoke(id, {})).toEqual({ status: 200, body: tries });
    expect(performance.now() - startedAt).toBeLessThan(1_500);
  });
});
