import { hash } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { run as runCli } from '../cli/support.ts';
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts';
import { ADMIN_KEY, startTestPostern, type TestPostern } from './support.ts';

let db: TestDatabase;
let node: TestPostern;
let key: string;

beforeAll(async () => {
  db = await createTestDatabase();
  node = await startTestPostern(db);
  key = await makeKey({ policy: 'default' });
}, 60_000);
afterAll(async () => {
  await node.stop();
  await db.drop();
});

async function makeKey(wanted: Record<string, unknown> = {}): Promise<string> {
  const rate = { limit: 10_000, window_seconds: 60 };
  const { status, body } = await node.admin('POST', '/api-keys', { name: 'k', rate, ...wanted });
  if (status !== 201) throw new Error(JSON.stringify(body));
  return body.key as string;
}

/** A key whose policy has these rules. */
async function keyWith(name: string, rules: Record<string, unknown>, wanted: Record<string, unknown> = {}) {
  const { status, body } = await node.admin('PUT', `/policies/${name}`, rules);
  if (status !== 200) throw new Error(JSON.stringify(body));
  return makeKey({ policy: name, ...wanted });
}

interface Ran {
  readonly status: number;
  readonly headers: Headers;
  readonly body: Record<string, unknown>;
}

async function execute(body: unknown, as: string | undefined = key): Promise<Ran> {
  const headers = { 'content-type': 'application/json', ...(as === '' ? {} : { authorization: `Bearer ${as}` }) };
  const text = typeof body === 'string' ? body : JSON.stringify(body);
  const response = await node.call('/execute', { method: 'POST', headers, body: text });
  return {
    status: response.status,
    headers: response.headers,
    body: (await response.json()) as Record<string, unknown>,
  };
}
const resultOf = async (body: Record<string, unknown>) => (await execute(body)).body.result;

describe('POST /execute', () => {
  test('answers with the result, what was printed, and what it took', async () => {
    const { status, body } = await execute({
      code: "console.log('to stdout', input.n);\nconsole.error('to stderr');\nlog.info('both', { n: 1 });\n({ twice: input.n * 2 })",
      input: { n: 21 },
    });
    expect(status).toBe(200);
    expect(body).toMatchObject({
      result: { twice: 42 },
      stdout: 'to stdout 21\nboth\n',
      stderr: 'to stderr\n',
      usage: { host_calls: 0 },
      cached: false,
      cache: 'off',
    });
    expect(body.logs).toMatchObject([{ level: 'INFO' }, { level: 'ERROR' }, { level: 'INFO', fields: { n: 1 } }]);
    expect(body.id).toMatch(/^[0-9a-f]{64}$/);
    const receipt = body.receipt as { hash: string; text: string };
    expect(hash('sha256', receipt.text)).toBe(receipt.hash);
    expect(JSON.parse(receipt.text)).toMatchObject({ invocation: body.invocation_id, code: body.id, outcome: 'ok' });
    const usage = body.usage as Record<string, number>;
    expect(usage.cpu).toBeGreaterThan(10_000);
    expect(usage.memory_bytes).toBeGreaterThan(65_536);
  });

  test('waits for the work behind the result, and has what that took and printed', async () => {
    const work = 'new Promise((done) => setTimeout(done)).then(() => console.log("after"))';
    const { body } = await execute({
      code: `const handler = (event, context) => { console.log("before"); context.waitUntil(${work}); return 1 };`,
    });
    expect(body).toMatchObject({ result: 1, stdout: 'before\nafter\n', receipt: { seq: expect.any(Number) } });
    expect((body.usage as Record<string, number>).cpu).toBeGreaterThan(10_000);
  });

  test.each([
    [
      'a handler',
      'export function handler(event, context) { return [event, typeof context.getRemainingTimeMs()] }',
      [1, 'number'],
    ],
    ['a handler that is declared', 'const handler = async (event) => event + 1', 2],
    ['a CommonJS handler', 'module.exports = { handler: (event) => event + 2 }', 3],
    ['a default export', 'export default (event) => event + 3', 4],
    ['top-level await', 'const x = await new Promise((done) => setTimeout(done, 1, 5)); x', 5],
    [
      'a module of Node',
      "import { createHash } from 'node:crypto'; createHash('md5').update('a').digest('hex')",
      '0cc175b9c0f1b6a831c399e269772661',
    ],
    ['a value that is no JSON', '() => 1', null],
    ['an object with a statusCode', '({ statusCode: 500, body: "x" })', { statusCode: 500, body: 'x' }],
    ['nothing', ';', null],
  ])('runs JavaScript with %s', async (_what, code, expected) => {
    expect(await resultOf({ code, input: 1 })).toEqual(expected);
  });

  test('runs TypeScript, and names the line as it was written', async () => {
    const code =
      "interface A { x: number }\n\nenum E { P = 3 }\nconst a: A = { x: 1 };\nif (input === 1) throw new TypeError('no ' + E.P);\na.x as number";
    expect(await resultOf({ language: 'typescript', code })).toBe(1);
    const { status, body } = await execute({ language: 'ts', code, input: 1 });
    expect(status).toBe(500);
    expect(body).toMatchObject({
      code: 'FUNCTION_ERROR',
      message: 'TypeError: no 3',
      name: 'TypeError',
      line: 5,
      column: 28,
    });
  });

  test('gives JavaScript the modules of the request', async () => {
    const dependencies = {
      greeter: { source: 'export const to = "you"; export default (n) => "hi " + n;' },
      old: 'module.exports = 3',
    };
    const code = "import greet, { to } from 'greeter';\nimport three from 'old';\n[greet(to), three, require('old')]";
    expect(await resultOf({ code, dependencies })).toEqual(['hi you', 3, 3]);
    expect((await execute({ code: "import 'none'" })).body.message).toMatch(
      /^Error: there is no module 'none'; there are node:assert/,
    );
  });

  test.each([
    ['its last expression', 'x = input\n[i * 2 for i in x]', [2, 4]],
    ['a handler', 'def handler(event, context):\n    return sum(event)', 3],
    ['a handler of one parameter', 'async def handler(event):\n    return len(event)', 2],
    ['what it returns', 'y = 3\nif y:\n    return y + 1', 4],
    ['top-level await', 'import asyncio\nawait asyncio.sleep(0)\n7', 7],
    ['what JSON can not say', '{1: {2, 3}, "o": 1 + 2j}', { 1: [2, 3], o: '(1+2j)' }],
    ['modules of the request', 'from greeter import hi\nhi(1)', 'hi 1'],
  ])(
    'runs Python with %s',
    async (_what, code, expected) => {
      const dependencies = { greeter: 'def hi(x):\n    return f"hi {x}"' };
      const { body } = await execute({ language: 'python', code, input: [1, 2], dependencies });
      expect(body.result).toEqual(expected);
    },
    20_000,
  );

  test('an error in a module or a function has the line of the code that it came through, the innermost', async () => {
    const js = "\nconst { fail } = require('m');\nconst g = () => 1 + fail(null);\ng()";
    const dependencies = { m: 'export const a = 1;\n\nexport const fail = (x) => x.y' };
    expect((await execute({ code: js, dependencies })).body).toMatchObject({ line: 3 });
    const py = 'import m\ndef g():\n    m.fail()\n\ng()';
    const failing = { m: '\n\n\n\n\n\ndef fail():\n    1 / 0' };
    expect((await execute({ language: 'python', code: py, dependencies: failing })).body.line).toBe(3);
  });

  test("Python's errors have the line, and what was printed before", async () => {
    const { status, body } = await execute({ language: 'python', code: 'print("so far")\n\n1 / 0' });
    expect([status, body.message, body.line, body.stdout]).toEqual([
      500,
      'ZeroDivisionError: division by zero',
      3,
      'so far\n',
    ]);
    expect(JSON.stringify(body)).not.toContain('Traceback');
  });

  test("an error's place is the innermost line of the code itself", async () => {
    const python = 'import json\ndef f(x):\n    return json.loads(x)\n\nf("{")';
    expect((await execute({ language: 'python', code: python })).body).toMatchObject({
      name: 'JSONDecodeError',
      line: 3,
    });
    const script = "function f(x) {\n  return JSON.parse(x);\n}\nawait 0;\n\nf('{')";
    expect((await execute({ code: script })).body).toMatchObject({ name: 'SyntaxError', line: 2 });
    const handler = 'export function handler() {\n\n  throw new RangeError("x");\n}';
    expect((await execute({ code: handler })).body).toMatchObject({ name: 'RangeError', line: 3, column: 13 });
  });

  test('code that writes its answer by itself says nothing but its result', async () => {
    const forged = (json: string) => ({
      language: 'python',
      code: `import sys\nat = sys._getframe()\nwhile at:\n    if 'to_json' in at.f_globals: at.f_globals['to_json'] = lambda *_, **__: b'${json}'\n    at = at.f_back\n1`,
    });
    expect((await execute(forged('2'))).body.result).toBe(2);
    const { status, body } = await execute(forged('1, "session": { "token": "forged" }'));
    expect([status, body.code, body.stdout]).toEqual([500, 'INVALID_RESULT', '']);
    expect(body).not.toHaveProperty('session');
  });

  test('of a stack that code makes up, a hundred places are looked at', async () => {
    const thrown = (places: number) => ({
      code: `const error = new Error('x');\nerror.stack = '(<input>:9:9)\\n'.repeat(${places}) + '(<input>:2:1)';\nthrow error`,
    });
    expect((await execute(thrown(99))).body).toMatchObject({ message: 'Error: x', line: 2 });
    expect((await execute(thrown(100))).body).not.toHaveProperty('line');
  });

  test('compiles AssemblyScript once for the same code', async () => {
    const code = 'export function handler(event: string): string { return event + "!"; }';
    const first = await execute({ language: 'assemblyscript', code, input: 21 });
    const again = await execute({ language: 'assemblyscript', code, input: 4 });
    expect([first.body.result, again.body.result, again.body.id]).toEqual(['21!', '4!', first.body.id]);
  }, 30_000);

  test('hands the input on as it came', async () => {
    const inputs = [
      '12345678901234567890',
      '[-0.0]',
      '{"2": 1, "1": 2}',
      '{"__proto__": {"x": 1}}',
      '"\\ud800\\u0000"',
    ];
    for (const input of inputs) {
      const body = `{"input":{"a":",}"},"language":"python","code":"import json\\njson.dumps(input)", "\\u0069nput" : ${input} }`;
      expect((await execute(body)).body.result).toBe(input);
    }
    expect(await resultOf({ code: 'input' })).toBeNull();
    expect((await execute('{"input": 1')).body.code).toBe('INVALID_BODY');
    expect((await execute('')).status).toBe(400);
  });

  test('the same code has the same id, and other code, language or modules another', async () => {
    const runs = [
      { code: '1' },
      { code: '1', input: 5 },
      { code: '2' },
      { code: '1', language: 'typescript' },
      { code: '1', dependencies: { a: '1' } },
    ];
    const ids = await Promise.all(runs.map(async (run) => (await execute(run)).body.id));
    expect(ids[1]).toBe(ids[0]);
    expect(new Set(ids).size).toBe(4);
  });

  test('a run knows nothing of the one before', async () => {
    await execute({ code: 'globalThis.left = 1; let also = 2; Array.prototype.mine = 3' });
    expect(await resultOf({ code: '[typeof left, typeof also, typeof [].mine]' })).toEqual([
      'undefined',
      'undefined',
      'undefined',
    ]);
    await execute({ language: 'python', code: 'left = 1\nimport json\njson.mine = 2' });
    expect(
      await resultOf({ language: 'python', code: 'import json\n["left" in globals(), hasattr(json, "mine")]' }),
    ).toEqual([false, false]);
  });
});

describe('a run that fails', () => {
  test.each([
    ['throws', { code: 'null.x' }, 500, 'FUNCTION_ERROR', /^TypeError: /],
    [
      'runs too long',
      { code: 'for (;;);', timeout: '100ms' },
      504,
      'FUNCTION_TIMEOUT',
      /^the code ran longer than its timeout of 100 ms/,
    ],
    ['computes too much', { code: 'for (;;);', cpu: 1_000_000 }, 504, 'FUNCTION_CPU_LIMIT', /^the code used more/],
    [
      'needs too much memory',
      { code: 'const a = []; for (;;) a.push(new Uint8Array(2e6))', memory: '16MB' },
      507,
      'FUNCTION_OUT_OF_MEMORY',
      /^the code needs more/,
    ],
    ['gives what JSON can not say', { code: '10n' }, 500, 'INVALID_RESULT', /BigInt/],
    ['is no JavaScript', { code: 'let = = 1' }, 422, 'INVALID_FUNCTION', /^SyntaxError/],
    [
      'is no Python',
      { code: 'x = 1\nif x\n  1', language: 'python' },
      422,
      'INVALID_FUNCTION',
      /^SyntaxError: expected ':'$/,
    ],
    [
      'is no Python at a line',
      { code: 'x = 1\n  y = 2', language: 'python' },
      422,
      'INVALID_FUNCTION',
      /^IndentationError: unexpected indent$/,
    ],
    [
      'raises what Python raises of other code',
      { code: 'eval("1 +")', language: 'python' },
      500,
      'FUNCTION_ERROR',
      /^SyntaxError: invalid syntax/,
    ],
    ['is no TypeScript', { code: 'let a: = 1', language: 'ts' }, 422, 'INVALID_FUNCTION', /main\.ts:1/],
    [
      'is Python nested too deeply',
      { code: '('.repeat(9_000), language: 'python' },
      422,
      'INVALID_FUNCTION',
      /nested too deeply/,
    ],
  ])('%s: the answer says so', async (_what, request, status, code, message) => {
    const ran = await execute(request);
    expect([ran.status, ran.body.code]).toEqual([status, code]);
    expect(ran.body.message).toMatch(message);
    expect(JSON.stringify(ran.body)).not.toMatch(/node_modules|\/work\/|evaluate\.ts|at handler/);
  });
});

test.each([
  ['javascript', 'let a = 1;\na = = 1', { line: 2, column: 5, text: 'a = = 1' }],
  ['python', 'a = 1\nb = = 1', { line: 2, column: 5, text: 'b = = 1' }],
])('code that is no %s is refused with its place', async (language, code, details) => {
  expect((await execute({ language, code })).body).toMatchObject({ code: 'INVALID_FUNCTION', details });
});

describe('a policy', () => {
  test.each([
    ['timeout', { code: '1', timeout: '11s' }, 11_000, 10_000],
    ['memory', { code: '1', memory: '256MB' }, 268_435_456, 134_217_728],
    ['cpu', { code: '1', cpu: 10_000_000_001 }, 10_000_000_001, 10_000_000_000],
    ['http.allow', { code: '1', http: { allow: ['example.com'] } }, ['example.com'], []],
    ['env', { code: '1', env: ['SECRET'] }, ['SECRET'], []],
    ['record', { code: '1', record: 'failures' }, 'failures', false],
    ['code', { code: `/*${'x'.repeat(70_000)}*/` }, 70_004, 65_536],
    ['code', { code: '1', dependencies: { big: `/*${'x'.repeat(70_000)}*/` } }, 70_005, 65_536],
    ['input', { code: '1', input: 'x'.repeat(1_100_000) }, 1_100_002, 1_048_576],
  ])('refuses by its rule %s before anything runs', async (rule, request, given, allowed) => {
    const { status, body } = await execute(request);
    expect([status, body.code, body.details]).toEqual([
      403,
      'POLICY_REFUSED',
      { policy: 'default', rule, given, allowed },
    ]);
    expect(body.message).toContain(`refuses the run: ${rule} is `);
  });

  test('allows nothing but computing where it says nothing', async () => {
    const run = (code: string) => execute({ code });
    expect((await run("await fetch('https://example.com/')")).body.message).toMatch(/example\.com/);
    expect((await run("await db.query('select 1')")).body.message).toBe(
      "PolicyError: the policy of this run allows no database: its roles don't have the key's",
    );
    expect((await run('await db.transaction(async () => {})')).status).toBe(500);
    expect((await run("[env('PATH') ?? null, env('DATABASE_URL') ?? null]")).body.result).toEqual([null, null]);
  });

  test('gives what its rules allow', async () => {
    const rules = {
      languages: ['javascript'],
      roles: ['anon'],
      env: ['NAME'],
      memory: '32MB',
    };
    const allowed = await keyWith('more', rules);
    const hurried = await keyWith('hurried', { timeout: '200ms', cpu: 1e12 });
    expect((await execute({ code: "(await db.query('select 1 as one'))[0].one" }, allowed)).body.result).toBe(1);
    expect((await execute({ language: 'python', code: '1' }, allowed)).body.details).toMatchObject({
      rule: 'languages',
    });
    expect((await execute({ code: 'for(;;);' }, hurried)).body.message).toMatch(/timeout of 200 ms/);
    expect((await execute({ code: '1', env: ['NAME', 'OTHER'] }, allowed)).body.details).toMatchObject({
      rule: 'env',
      given: ['OTHER'],
    });
  });

  test('is taken at once when it changes, and by whoever has it', async () => {
    const changing = await keyWith('changing', { code: '10B' });
    expect((await execute({ code: '1234567890 + 1' }, changing)).body.code).toBe('POLICY_REFUSED');
    await node.admin('PUT', '/policies/changing', { code: '1KB' });
    expect((await execute({ code: '1234567890 + 1' }, changing)).body.result).toBe(1_234_567_891);
    expect((await node.admin('DELETE', '/policies/changing')).body).toMatchObject({ code: 'CONFLICT' });
    expect((await node.admin('DELETE', '/policies/none')).status).toBe(404);
  });

  test('is refused where it says what there is not', async () => {
    for (const rules of [{ timeout: 'never' }, { codes: 1 }, { http: { allow: ['a b'] } }, { roles: ['postgres'] }, []])
      expect((await node.admin('PUT', '/policies/odd', rules)).status).toBe(400);
    expect((await node.admin('PUT', '/policies/odd', { codes: 1 })).body.message).toMatch(
      /^codes: unknown; there are languages, code, input, timeout, .*, outputs$/,
    );
    expect((await node.admin('PUT', '/policies/Odd%20Name', {})).status).toBe(400);
    expect((await node.admin('POST', '/api-keys', { name: 'k', policy: 'none' })).body.message).toBe(
      "there is no policy 'none'",
    );
  });
});

describe('who may run code', () => {
  test('is who has an API key with a policy', async () => {
    const without = await makeKey();
    const [nobody, token, keyless] = await Promise.all([
      execute({ code: '1' }, ''),
      node.token().then((jwt) => execute({ code: '1' }, jwt)),
      execute({ code: '1' }, without),
    ]);
    expect([nobody.status, token.status, keyless.status]).toEqual([401, 401, 403]);
    expect([nobody, token].map(({ body }) => body.message)).toEqual([
      'running code needs an API key with a policy: send the header "Authorization: Bearer <API key>"',
      'running code needs an API key with a policy, which begins with "pstn_": the token that was sent is none',
    ]);
    expect(keyless.body.message).toBe('this API key has no policy, so it runs no code of its own');
  });

  test('is counted against the rate of the key before its code is looked at', async () => {
    const slow = await makeKey({ policy: 'default', rate: { limit: 2, window_seconds: 86_400 } });
    const ran = [
      await execute({ code: '1' }, slow),
      await execute('no JSON', slow),
      await execute({ code: '1' }, slow),
    ];
    expect(ran.map(({ status }) => status)).toEqual([200, 400, 429]);
    expect(ran[0]?.headers.get('ratelimit-remaining')).toBe('1');
    expect(ran[2]?.headers.get('retry-after')).toMatch(/^\d+$/);
  });

  test('runs as many at once as the policy says, and the others wait', async () => {
    const narrow = await keyWith('narrow', { concurrency: 1 });
    const code = 'const from = Date.now(); await new Promise((done) => setTimeout(done, 30)); [from, Date.now()]';
    const ran = await Promise.all([1, 2, 3].map(() => execute({ code }, narrow)));
    const times = ran.map(({ body }) => body.result as [number, number]).sort(([a], [b]) => a - b);
    for (const [index, [from]] of times.entries())
      if (index > 0) expect(from).toBeGreaterThanOrEqual(times[index - 1]![1]);
  });
});

describe('code that is made to hold up others', () => {
  test('as TypeScript holds up no deploy', async () => {
    const [hostile, gone] = [await makeKey({ policy: 'default' }), new AbortController()];
    await execute({ language: 'ts', code: '0' });
    const running = Array.from({ length: 3 }, (_, i) =>
      node
        .call('/execute', {
          method: 'POST',
          headers: { 'content-type': 'application/json', authorization: `Bearer ${hostile}` },
          body: JSON.stringify({ language: 'ts', code: `${i};${'a<'.repeat(20_000)}` }),
          signal: gone.signal,
        })
        .catch(() => undefined),
    );
    const first = await Promise.race([...running, node.deploy('beside', 'export const handler = () => 1')]);
    expect(first).toMatchObject({ status: 201 });
    gone.abort();
    await Promise.all(running);
  }, 20_000);
});

describe('a body', () => {
  test('is no larger than what the policy of its key allows, announced or not', async () => {
    const small = await keyWith('tiny', { code: '1KB', input: '1KB' });
    const body = JSON.stringify({ code: '1', input: 'x'.repeat(100_000) });
    const refused = { status: 413, body: { code: 'PAYLOAD_TOO_LARGE' } };
    expect(await execute(body, small)).toMatchObject(refused);
    expect(await execute({ code: 'x'.repeat(72_000) }, small)).toMatchObject(refused);
    const headers = { 'content-type': 'application/json', authorization: `Bearer ${small}` };
    const sent = new Blob([body]).stream();
    const init = { method: 'POST', headers, body: sent, duplex: 'half' } as RequestInit;
    expect((await node.call('/execute', init)).status).toBe(413);
    expect((await execute({ code: '\n'.repeat(1_000), input: 'x'.repeat(900) }, small)).status).toBe(200);
  });
});

describe('a request that is none', () => {
  test('is one without a body', async () => {
    const headers = { authorization: `Bearer ${key}` };
    const answer = await node.call('/execute', { method: 'POST', headers });
    expect([answer.status, ((await answer.json()) as { code: string }).code]).toEqual([400, 'INVALID_REQUEST']);
  });

  test.each([
    ['no JSON', '{', 400, 'INVALID_BODY', /JSON/],
    ['no object', '[]', 400, 'INVALID_REQUEST', /has to be a JSON object/],
    ['no code', {}, 400, 'INVALID_REQUEST', /code: text/],
    [
      'an unknown field',
      { code: '1', tiemout: 1 },
      400,
      'INVALID_REQUEST',
      /tiemout: unknown; there are language, code/,
    ],
    [
      'an unknown language',
      { code: '1', language: 'ruby' },
      400,
      'INVALID_REQUEST',
      /one of javascript, typescript, python, assemblyscript/,
    ],
    ['a module of WebAssembly', { code: '1', language: 'wasm' }, 400, 'INVALID_REQUEST', /one of/],
    ['a timeout without a unit', { code: '1', timeout: '5' }, 400, 'INVALID_REQUEST', /timeout: a duration from/],
    ['a cache that is neither', { code: '1', cache: 'yes' }, 400, 'INVALID_REQUEST', /^cache: true or false$/],
    [
      'a name of a module that is none',
      { code: '1', dependencies: { '../x': '1' } },
      400,
      'INVALID_REQUEST',
      /^dependencies: "\.\.\/x" is no name of a module: letters, digits/,
    ],
    [
      'a module that nobody would read',
      '{ "code": "1", "dependencies": { "__proto__": "1" } }',
      400,
      'INVALID_REQUEST',
      /no module can be called __proto__/,
    ],
    [
      'thousands of values that nobody asked for',
      { code: '1', dependencies: Array.from({ length: 5_001 }, () => []) },
      400,
      'INVALID_REQUEST',
      /more than 5000 values beside its input/,
    ],
    [
      'a thousand modules',
      { code: '1', dependencies: Object.fromEntries(Array.from({ length: 1_000 }, (_, i) => [`m${i}`, '1'])) },
      400,
      'INVALID_REQUEST',
      /dependencies: at most 100 modules/,
    ],
  ])('is refused with what is wrong: %s', async (_what, body, status, code, message) => {
    const ran = await execute(body);
    expect([ran.status, ran.body.code]).toEqual([status, code]);
    expect(ran.body.message).toMatch(message);
  });

  test('of a GET there is no route', async () => {
    expect((await node.call('/execute')).status).toBe(404);
  });
});

describe('what is too large for an answer', () => {
  const get = (url: string, headers: Record<string, string> = {}, as = key) =>
    node.call(url, { headers: { authorization: `Bearer ${as}`, ...headers } });
  const large = { code: 'Array.from({ length: input }, (_, i) => "é" + i)', input: 40_000, cache: true };
  const expected = JSON.stringify(Array.from({ length: 40_000 }, (_, i) => `é${i}`));

  test('is kept by reference, also for the next that asks the cache', async () => {
    const { status, body } = await execute(large);
    expect([status, body.result, body.cache]).toEqual([200, null, 'stored']);
    const { id, bytes, url, expires_at } = body.result_ref as Record<string, string>;
    expect([bytes, url]).toEqual([Buffer.byteLength(expected), `/outputs/${id}`]);
    expect(Date.parse(expires_at!) - Date.now()).toBeGreaterThan(3_500_000);
    const whole = await get(url!);
    expect(Object.fromEntries(whole.headers)).toMatchObject({
      'content-type': 'application/json',
      'content-length': String(bytes),
      'accept-ranges': 'bytes',
      'x-content-type-options': 'nosniff',
      etag: `"${id}"`,
    });
    expect(await whole.text()).toBe(expected);
    expect((await execute(large)).body).toMatchObject({ cache: 'hit', result: null, result_ref: body.result_ref });
  });

  test('is given in ranges, to its key alone', async () => {
    const { id, bytes, url } = (await execute(large)).body.result_ref as { id: string; bytes: number; url: string };
    const text = Buffer.from(expected);
    const ask = async (range: string, headers: Record<string, string> = {}) => {
      const answer = await get(url, { range, ...headers });
      return [answer.status, answer.headers.get('content-range'), Buffer.from(await answer.arrayBuffer()).length];
    };
    expect(await ask('bytes=2-9')).toEqual([206, `bytes 2-9/${bytes}`, 8]);
    expect(await (await get(url, { range: 'bytes=2-9' })).text()).toBe(text.subarray(2, 10).toString());
    expect(await ask('bytes=-5')).toEqual([206, `bytes ${bytes - 5}-${bytes - 1}/${bytes}`, 5]);
    expect(await ask(`bytes=${bytes - 1}-99999999`)).toEqual([206, `bytes ${bytes - 1}-${bytes - 1}/${bytes}`, 1]);
    expect(await ask('bytes=0-0', { 'if-range': `"${id}"` })).toEqual([206, `bytes 0-0/${bytes}`, 1]);
    for (const headers of [{ 'if-range': '"other"' }, { range: 'bytes=5-2' }, { range: 'bytes=0-1,4-5' }])
      expect(await ask('bytes=0-0', headers)).toEqual([200, null, bytes]);
    for (const range of [`bytes=${bytes}-`, 'bytes=-0']) expect(await ask(range)).toEqual([416, `bytes */${bytes}`, 0]);
    const head = await node.call(url, {
      method: 'HEAD',
      headers: { authorization: `Bearer ${key}`, range: 'bytes=2-9' },
    });
    expect([head.status, head.headers.get('content-length'), await head.text()]).toEqual([200, String(bytes), '']);
    const other = await makeKey({ policy: 'default' });
    const [theirs, none] = [await get(url, {}, other), await get(`/outputs/${crypto.randomUUID()}`)];
    expect([theirs.status, none.status, (await get(url, {}, await makeKey())).status]).toEqual([404, 404, 403]);
    const reasons = [await theirs.json(), await none.json()] as { message: string }[];
    expect(reasons[0]?.message.replace(id, '')).toBe(reasons[1]?.message.replace(/[0-9a-f-]{36}/, ''));
  });

  test('has its beginning in the answer where it was printed, cut between characters', async () => {
    const code = 'for (let i = 0; i < 30; i++) console.error("a" + "€".repeat(1_000)); throw new Error("after it")';
    const { status, body } = await execute({ code });
    expect([status, body.message, body.stdout, 'stdout_ref' in body]).toEqual([500, 'Error: after it', '', false]);
    const { bytes, url } = body.stderr_ref as { bytes: number; url: string };
    const all = await (await get(url)).text();
    expect([all, bytes]).toEqual([`a${'€'.repeat(1_000)}\n`.repeat(30), 30 * 3_002]);
    const shown = body.stderr as string;
    expect(all.startsWith(shown)).toBe(true);
    expect(Buffer.byteLength(shown)).toBeGreaterThan(65_536 - 4);
    expect(Buffer.byteLength(shown)).toBeLessThanOrEqual(65_536);
  });

  test('is lost where the policy has no room for it, and the answer says so', async () => {
    const small = await keyWith('small', { outputs: '300KB' });
    const code = 'console.log("ran"); "x".repeat(280_000)';
    expect((await execute({ code }, small)).body).toHaveProperty('result_ref');
    const { status, body } = await execute({ code }, small);
    expect([status, body.code, body.stdout]).toEqual([403, 'POLICY_REFUSED', 'ran\n']);
    expect(body.details).toEqual({ policy: 'small', rule: 'outputs', allowed: 307_200 });
    const printed = 'for (let i = 0; i < 20; i++) console.log("y".repeat(4_000)); 7';
    expect((await execute({ code: printed }, small)).body).toMatchObject({ result: 7, stdout_ref: null });
  });
});

describe('a run that is recorded', () => {
  const replay = (id: unknown, body: Record<string, unknown> = {}) =>
    node.admin('POST', `/invocations/${id}/replay`, body);

  test('is replayed by who has an admin key, in each language, from the memory that its session had', async () => {
    const recorded = await keyWith('recorded', { record: true, sessions: 1 });
    const ran = await execute(
      {
        language: 'assemblyscript',
        code: 'export function handler(event: string): string { return event + "!"; }',
        input: 21,
        record: true,
      },
      recorded,
    );
    const id = ran.body.invocation_id;
    expect((await replay(id)).body).toMatchObject({ same: true, engine_changed: false, replayed_version: 0 });
    expect((await replay(id, { event: 4 })).body).toMatchObject({ same: false, result: 'value "4!"' });
    expect(await replay(id, { version: 1 })).toMatchObject({ status: 400, body: { code: 'INVALID_REQUEST' } });
    expect((await node.admin('GET', `/invocations/${id}/recording`)).body).toMatchObject({
      event: '21',
      code: { language: 'assemblyscript', dependencies: {} },
    });

    const language = 'python';
    const begun = await execute({ language, code: 'import random\nxs = [random.random()]', session: 'new' }, recorded);
    const { token } = begun.body.session as { token: string };
    const code = 'import time\nxs.append(time.time())\nprint(xs)\nxs + [random.random()]';
    const next = await execute({ language, code, session: token, record: true }, recorded);
    expect((await replay(next.body.invocation_id)).body).toMatchObject({ same: true, changed: false, lost: null });
  }, 30_000);

  test('on the command line is told by its id', async () => {
    const recorded = await keyWith('recorded', { record: true });
    const env = { POSTERN_API_KEY: recorded, POSTERN_ADMIN_KEY: ADMIN_KEY };
    const url = ['--url', node.url];
    const { stderr } = await runCli(['execute', '--record', ...url], { env, stdin: 'Math.random()' });
    const [, id = ''] = /recorded: postern replay (\S+)/.exec(stderr) ?? [];
    const { code, stdout } = await runCli(['replay', id, ...url], { env });
    expect([code, stdout]).toEqual([0, expect.stringMatching(/^same execute:[-\w]+: \d steps, 0 host calls\n$/)]);
    const failed = await runCli(['execute', '--record-failures', ...url], { env, stdin: 'null.x' });
    expect(failed.stderr).toContain('recorded: postern replay ');
  });
});

describe('the cache of results', () => {
  const cached = (body: Record<string, unknown>, as = key) => execute({ cache: true, ...body }, as);

  test('gives the answer of the same run again, and says so', async () => {
    const run = { code: 'console.log("once"); input.map((x) => x * 2)', input: [1, 2] };
    const [first, again] = [await cached(run), await cached(run)];
    expect(first.body).toMatchObject({ cached: false, cache: 'stored', result: [2, 4] });
    expect(again.body).toEqual({ ...first.body, cached: true, cache: 'hit' });
  });

  test.each([
    ['a clock', 'Date.now()', 'it looked at a clock'],
    ['a date', 'new Date().getFullYear() > 2000', 'it looked at a clock'],
    ['a timer with a clock', 'performance.now() >= 0', 'it looked at a clock'],
    ['Math.random', 'Math.random() < 2', 'it drew randomness'],
    ['a UUID', 'crypto.randomUUID().length', 'it drew randomness'],
    ['a host call', 'await fetch("https://example.com/").catch(() => 1)', 'it called a host function'],
    [
      'two timers',
      'let n = 0; setInterval(() => n++, 1); await new Promise((done) => setTimeout(done, 5)); n',
      'it looked at a clock',
    ],
    [
      'a clock, and work behind its answer',
      'const handler = (e, context) => { context.waitUntil(new Promise((done) => setTimeout(done))); return Date.now() };',
      'it looked at a clock',
    ],
  ])('keeps nothing of a run with %s', async (_what, code, reason) => {
    for (let times = 0; times < 2; times++)
      expect((await cached({ code })).body).toMatchObject({ cached: false, cache: `not cacheable: ${reason}` });
  });

  test('keeps nothing of a Python run with a clock or randomness, and keeps what has neither', async () => {
    const caches = async (code: string) => (await cached({ language: 'python', code })).body.cache;
    expect(await caches('import time\ntime.time() > 0')).toBe('not cacheable: it looked at a clock');
    expect(await caches('import random\nrandom.random() < 2')).toBe('not cacheable: it drew randomness');
    expect(await caches('import uuid\nlen(str(uuid.uuid4()))')).toBe('not cacheable: it drew randomness');
    expect(await caches('sorted({"b", "a"})')).toBe('stored');
    expect(await caches('sorted({"b", "a"})')).toBe('hit');
  });

  test('what is kept is told no deadline, and what asks how much time is left is not kept', async () => {
    const looks = 'const parse = JSON.parse; let told; JSON.parse = (text) => (told = parse(text));';
    const read = `${looks} const handler = (event, context) => [context.attempt, told.deadline]`;
    expect((await cached({ code: read })).body).toMatchObject({ result: [1, null], cache: 'stored' });
    const python = 'import postern\npostern._state.read_meta()["deadline"]';
    expect((await cached({ code: python, language: 'python' })).body).toMatchObject({ result: null, cache: 'stored' });
    for (const ask of [
      { code: 'const handler = (event, context) => context.getRemainingTimeMs()' },
      { code: 'def handler(event, context):\n    return context.remaining_time_ms()', language: 'python' },
    ]) {
      const { body } = await cached(ask);
      expect(body.cache).toBe('not cacheable: it looked at a clock');
      expect(body.result).toBeGreaterThan(1_000);
      expect(body.result).toBeLessThanOrEqual(5_000);
    }
  });

  test('keeps no failure', async () => {
    for (let times = 0; times < 2; times++) expect((await cached({ code: 'null.x' })).body.cached).toBe(false);
  });

  test('tells runs apart by input, limits and API key', async () => {
    const other = await makeKey({ policy: 'default' });
    const run = { code: 'typeof input' };
    const caches = [
      (await cached({ ...run, input: 1 })).body.cache,
      (await cached({ ...run, input: 2 })).body.cache,
      (await cached({ ...run, input: 1, memory: '32MB' })).body.cache,
      (await cached({ ...run, input: 1 }, other)).body.cache,
      (await cached({ ...run, input: 1 })).body.cache,
    ];
    expect(caches).toEqual(['stored', 'stored', 'stored', 'stored', 'hit']);
  });

  test('tells runs apart by the variables that they may read', async () => {
    const reader = await keyWith('reader', { env: ['GREETING'] });
    const run = { code: "env('GREETING') ?? null" };
    expect((await cached({ ...run, env: ['GREETING'] }, reader)).body).toMatchObject({
      cache: 'stored',
      result: 'hello',
    });
    expect((await cached(run, reader)).body).toMatchObject({ cache: 'stored', result: null });
  });

  test('lets one of many run that come for the same at once', async () => {
    const code = `let n = 0; for (let i = 0; i < 3e5; i++) n += i; n + ${Math.random()}`;
    const ran = await Promise.all(Array.from({ length: 12 }, () => cached({ code })));
    expect(ran.filter(({ body }) => body.cache === 'stored')).toHaveLength(1);
    expect(new Set(ran.map(({ body }) => body.invocation_id)).size).toBe(1);
  });

  test('is shared by the nodes of a database', async () => {
    const run = { code: '"for all nodes"' };
    const first = await cached(run);
    await expect
      .poll(async () => (await db.pool.query('select 1 from postern.execute_results')).rowCount)
      .toBeGreaterThan(0);
    const other = await startTestPostern(db);
    try {
      const headers = { 'content-type': 'application/json', authorization: `Bearer ${key}` };
      const answer = await other.call('/execute', {
        method: 'POST',
        headers,
        body: JSON.stringify({ ...run, cache: true }),
      });
      expect(await answer.json()).toEqual({ ...first.body, cached: true, cache: 'hit' });
    } finally {
      await other.stop();
    }
  });
});

describe('sessions', () => {
  let holder: string;
  beforeAll(async () => {
    holder = await keyWith('holder', { sessions: 20 });
  });
  const inSession = (session: unknown, code: string, more: Record<string, unknown> = {}) =>
    execute({ code, session, ...more }, holder);
  const sessionOf = ({ body }: Ran) => body.session as { token: string; run: number };
  const ask = async (method: string, path: string, as: string) => {
    const response = await node.call(path, { method, headers: { authorization: `Bearer ${as}` } });
    return { status: response.status, body: response.status === 204 ? null : await response.json() };
  };

  test('a run finds what the last one left: declarations, functions, imports, modules and handlers', async () => {
    const dependencies = { greeter: 'export const greet = (n) => "hi " + n;' };
    const first = await inSession(
      'new',
      "import { greet } from 'greeter';\nlet n = 1;\nconst list = [greet(n)];\nclass P { x = 5 }\nfunction add() { return ++n }",
      { dependencies },
    );
    expect(first).toMatchObject({ status: 200, body: { cache: 'off', session: { run: 1 } } });
    const { token } = sessionOf(first);
    expect(token).toMatch(/^[\w-]{43}$/);
    const second = await inSession(token, 'list.push(greet(add())); let n2: number = n; [list, new P().x, n2]', {
      language: 'ts',
    });
    expect(second.body).toMatchObject({ result: [['hi 1', 'hi 2'], 5, 2], session: { token, run: 2 } });
    const failed = await inSession(token, 'n = 100; throw new Error("no")');
    expect(failed).toMatchObject({ status: 500, body: { code: 'FUNCTION_ERROR' } });
    expect(failed.body.session).toBeUndefined();
    const slow = await inSession(token, 'n = 100; for (;;);', { timeout: '100ms' });
    expect(slow).toMatchObject({ status: 504, body: { code: 'FUNCTION_TIMEOUT' } });
    expect((await inSession(token, 'let n = add() + 1; n')).body.result).toBe(4);
    expect((await inSession({ rewind: token, run: 1 }, '[n, list.length]')).body.result).toEqual([1, 1]);
    const fork = await inSession({ fork: token, run: 2 }, 'list.push("forked"); list.length');
    expect([fork.body.result, sessionOf(fork).run, sessionOf(fork).token === token]).toEqual([3, 1, false]);
  });

  test('the receipts of its runs say which memory each went on from: the one that an earlier run left', async () => {
    const memoryOf = ({ body }: Ran) =>
      (JSON.parse((body.receipt as { text: string }).text) as { session?: { from: string | null; to: string | null } })
        .session;
    const first = await inSession('new', 'let n = 0');
    const { token } = sessionOf(first);
    const second = await inSession(token, 'n += 1');
    const fork = await inSession({ fork: token, run: 1 }, 'n');
    expect(memoryOf(first)).toEqual({ from: null, to: expect.stringMatching(/^[0-9a-f]{64}$/) });
    expect(memoryOf(second)?.from).toBe(memoryOf(first)?.to);
    expect(memoryOf(second)?.to).not.toBe(memoryOf(first)?.to);
    expect(memoryOf(fork)?.from).toBe(memoryOf(first)?.to);
    const failed = await inSession(token, 'n = 100; throw new Error("no")');
    expect(memoryOf(failed)).toEqual({
      from: memoryOf(second)?.to,
      to: null,
    });
    expect(memoryOf(await execute({ code: '1' }))).toBeUndefined();
  });

  test('in Python too', async () => {
    const language = 'python';
    const first = await inSession('new', 'import math\nxs = [1]\ndef area(r):\n    return math.pi * r * r', {
      language,
    });
    const { token } = sessionOf(first);
    expect((await inSession(token, 'xs.append(round(area(1)))\nxs', { language })).body).toMatchObject({
      result: [1, 3],
    });
    expect((await inSession(token, 'xs = None\n1 / 0', { language })).body).toMatchObject({
      name: 'ZeroDivisionError',
    });
    expect(
      (await inSession(token, 'import asyncio\nawait asyncio.sleep(0.001)\nxs', { language })).body.result,
    ).toEqual([1, 3]);
    expect((await inSession(token, 'xs')).body).toMatchObject({
      code: 'INVALID_REQUEST',
      message: expect.stringMatching('python'),
    });
  });

  test('its next run waits for the one before; with a short timeout it is told so', async () => {
    const { token } = sessionOf(await inSession('new', 'let n = 0'));
    const add = 'await new Promise((r) => setTimeout(r, 30)); n += 1';
    const ran = await Promise.all([1, 2, 3].map(() => inSession(token, add)));
    expect(ran.map(({ body }) => body.result).sort()).toEqual([1, 2, 3]);
    const slow = inSession(token, 'await new Promise((r) => setTimeout(r, 1_500)); n');
    await expect.poll(async () => (await inSession(token, 'n', { timeout: '1ms' })).body.code).toBe('SESSION_BUSY');
    expect((await slow).body.result).toBe(3);
  });

  test('a policy says how many; its refusal names the rule', async () => {
    expect((await execute({ code: '1', session: 'new' })).body).toMatchObject({
      code: 'POLICY_REFUSED',
      details: { policy: 'default', rule: 'sessions', allowed: 0 },
    });
    const one = await keyWith('one-session', { sessions: 1 });
    expect((await execute({ code: '1', session: 'new' }, one)).status).toBe(200);
    const second = await execute({ code: '1', session: 'new' }, one);
    expect(second).toMatchObject({
      status: 403,
      body: { code: 'POLICY_REFUSED', details: { rule: 'sessions', given: 2, allowed: 1 } },
    });
  });

  test.each([
    [{ session: 'new', cache: true }, 'cache'],
    [{ session: 'new', language: 'assemblyscript' }, 'session'],
    [{ record: true, cache: true }, 'record'],
    [{ record: 'all' }, 'record'],
    [{ session: 7 }, 'session'],
    [{ session: { rewind: 'x' } }, 'session'],
  ])('what makes no sense is refused: %j', async (wanted, field) => {
    const { status, body } = await execute({ code: '1', ...wanted }, holder);
    expect([status, body.message]).toEqual([400, expect.stringMatching(`^${field}: `)]);
  });

  test('what holds too much is as it was', async () => {
    const { token } = sessionOf(await inSession('new', 'const all = []'));
    const fill = 'for (let i = 0; i < 300; i++) all.push(crypto.getRandomValues(new Uint8Array(60_000))); all.length';
    const { status, body } = await inSession(token, fill);
    expect([status, body.code, body.usage]).toEqual([413, 'SESSION_TOO_LARGE', expect.anything()]);
    expect((await inSession(token, 'all.length')).body.result).toBe(0);
  });

  test('SES-03 a key lists and deletes its own, the operator all of them', async () => {
    const mine = await keyWith('mine', { sessions: 5 });
    const created = await execute({ code: 'globalThis.x = 1', session: 'new' }, mine);
    const { token } = sessionOf(created);
    const { sessions } = (await ask('GET', '/execute/sessions', mine)).body as { sessions: Record<string, unknown>[] };
    expect(sessions).toEqual([
      expect.objectContaining({ policy: 'mine', language: 'javascript', runs: { first: 1, last: 1 } }),
    ]);
    expect(JSON.stringify(sessions)).not.toContain(token);
    const path = `/execute/sessions/${sessions[0]?.id}`;
    const told = await execute({ code: 'x', session: token }, holder);
    expect(told).toMatchObject({ status: 404, body: { code: 'SESSION_NOT_FOUND' } });
    expect(await ask('DELETE', path, holder)).toMatchObject({ status: 404 });
    expect(await ask('DELETE', path, '')).toMatchObject({ status: 401 });
    expect((await node.admin('GET', '/sessions')).body.sessions).toContainEqual(sessions[0]);
    expect(await ask('DELETE', path, mine)).toMatchObject({ status: 204 });
    expect(await node.admin('DELETE', `/sessions/${sessions[0]?.id}`)).toMatchObject({ status: 404 });
    expect(await node.admin('DELETE', '/sessions/none')).toMatchObject({ status: 404 });
    expect(await execute({ code: 'x', session: token }, mine)).toMatchObject({ status: 404 });
  });
});
