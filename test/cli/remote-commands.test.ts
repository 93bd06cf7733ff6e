import { jwtVerify } from 'jose';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { stopBundler } from '../../runtime/javascript/bundle/index.ts';
import { Folder, type Received, run, StandIn, TypedKeys } from './support.ts';

let server: StandIn;
let folder: Folder;
beforeAll(async () => {
  server = await StandIn.start();
  folder = new Folder();
});
afterAll(async () => {
  await server.stop();
  folder.remove();
  await stopBundler();
});
beforeEach(() => {
  server.received.length = 0;
});

const at = (...argv: string[]): string[] => [...argv, '--url', server.url];
const deployed = ({ body }: Received) => {
  const { fileName = 'x', name = fileName.replace('.js', '') } = JSON.parse(body) as {
    fileName?: string;
    name?: string;
  };
  return {
    status: 201,
    body: { id: 'a'.repeat(64), name, version: 1, created: true, url: `/functions/v1/invoke/${name}`, warnings: [] },
  };
};

describe('deploy', () => {
  test('sends one bundled text under the name of the file, with the language of the file', async () => {
    server.answer = deployed;
    const path = folder.write(
      'one/hello.ts',
      "import { z } from 'zod';\nexport const handler = (event: unknown) => z.string().parse(event);",
    );
    const { code, stdout } = await run(at('deploy', path));
    expect([code, stdout]).toEqual([0, `deployed hello v1  ${server.url}/functions/v1/invoke/hello\n`]);
    const body = JSON.parse(server.received[0]!.body) as Record<string, string>;
    expect(body).toMatchObject({ fileName: 'hello.js', language: 'typescript' });
    expect(body.source).toContain('handler');
    expect(body.source).not.toMatch(/from\s+["']zod/);
  });

  test('sends a manifest with the texts of the files that it names', async () => {
    server.answer = deployed;
    folder.write('two/lib/greeter.js', "module.exports = () => 'hi';");
    folder.write('two/main.js', "const greeter = require('greeter');\nfunction greet() { return greeter(); }");
    const path = folder.write(
      'two/greeter.function.jsonc',
      '{ // comment\n "id": "greeter", "functionName": "greet", "sourceFile": "main.js", "dependencies": { "greeter": { "file": "lib/greeter.js" } }, }',
    );
    expect((await run(at('deploy', path))).code).toBe(0);
    const body = JSON.parse(server.received[0]!.body) as Record<string, unknown>;
    expect(body).toMatchObject({
      manifest: { id: 'greeter', functionName: 'greet' },
      manifestName: 'greeter.function.jsonc',
      dependencies: { greeter: { source: "module.exports = () => 'hi';" } },
      fileName: 'greeter.js',
    });
  });

  test('takes inline source of a manifest as it is', async () => {
    server.answer = deployed;
    const path = folder.write('three/inline.function.jsonc', '{ "source": "function handler() { return 1 }" }');
    await run(at('deploy', path));
    expect(JSON.parse(server.received[0]!.body)).toMatchObject({ source: 'function handler() { return 1 }' });
  });

  test('of a folder goes on after a function that fails, and says which', async () => {
    server.answer = deployed;
    folder.write('four/bad.ts', 'export const handler = () => {');
    folder.write('four/good.ts', 'export const handler = () => 1;');
    const { code, stdout, stderr } = await run(at('deploy', `${folder.path}/four`));
    expect(code).toBe(1);
    expect(stdout).toContain('deployed good v1');
    expect(stderr).toMatch(/bad\.ts: bad\.ts:1:\d+: Unexpected end of file/);
    expect(stderr).toContain('1 of 2 functions could not be deployed: bad');
  });

  test('names file, line and column, and shows the line', async () => {
    const path = folder.write('five/bad.ts', 'export const a = 1;\nexport const handler = () => retur 1;');
    const { code, stderr } = await run(at('deploy', path));
    expect(code).toBe(1);
    expect(stderr).toBe('error: bad.ts:2:36: Expected ";" but found "1"\n  export const handler = () => retur 1;\n');
  });

  test('--json gives what was deployed and what failed', async () => {
    server.answer = deployed;
    const { stdout } = await run(at('deploy', `${folder.path}/four`, '--json'));
    const [first] = stdout.split('\n');
    expect(JSON.parse(first!)).toMatchObject({
      deployed: [{ name: 'good', version: 1 }],
      failed: [{ code: 'INVALID_FUNCTION', details: { file: 'bad.ts', line: 1 } }],
    });
  });

  test('--name renames a single function and is refused for several', async () => {
    server.answer = deployed;
    const path = folder.write('six/a.ts', 'export const handler = () => 1;');
    expect((await run(at('deploy', path, '--name', 'other'))).stdout).toContain('deployed other');
    expect((await run(at('deploy', `${folder.path}/four`, '--name', 'other'))).code).toBe(2);
  });

  test('all errors of a source are shown, each with its place', async () => {
    const path = folder.write('eight/bad.ts', "import './a.ts';\nimport './b.ts';\nexport const handler = () => 1;");
    const { code, stderr } = await run(at('deploy', path));
    expect(code).toBe(1);
    expect(stderr).toMatch(/^error: bad\.ts:1:8: .*\.\/a\.ts.*\(and 1 more\)\n.*\n {2}bad\.ts:2:8: .*\.\/b\.ts/);
  });

  test('of what an earlier version is already says that no version was made', async () => {
    server.answer = (received) => {
      const { status, body } = deployed(received);
      return { status, body: { ...body, created: false } };
    };
    const path = folder.write('twelve/hello.ts', 'export const handler = () => 1;');
    expect((await run(at('deploy', path))).stdout).toMatch(/^deployed hello v1 \(was there already\) /);
  });

  test('code whose manifest is not given says that the manifest is not read', async () => {
    server.answer = deployed;
    const path = folder.write('nine/hello.ts', 'export const handler = () => 1;');
    folder.write('nine/hello.function.jsonc', '{ "auth": "none" }');
    folder.write('nine/other.function.jsonc', '{ "sourceFile": "other.ts" }');
    const { code, stderr } = await run(at('deploy', path));
    expect([code, stderr]).toEqual([0, 'warning: hello.function.jsonc is not read: give it in place of hello.ts\n']);
  });

  test('a module that was not compiled, or is empty, is named', async () => {
    const missing = folder.write('ten/gone.function.jsonc', '{ "moduleFile": "gone.wasm" }');
    expect((await run(at('deploy', missing))).stderr).toMatch(/gone\.wasm can not be read: has it been compiled\?/);
    expect((await run(at('deploy', folder.write('ten/empty.wasm', '')))).stderr).toMatch(/empty\.wasm is empty\n$/);
  });

  test('a broken manifest is refused with its place', async () => {
    const path = folder.write('seven/x.function.jsonc', '{\n  "id": }');
    expect((await run(at('deploy', path))).stderr).toContain('x.function.jsonc:2:9: value expected');
  });
});

describe('execute', () => {
  test('a file in no language that runs is refused before anything is sent', async () => {
    const file = folder.write('run/main.rb', 'puts 1');
    const { code, stderr } = await run(at('execute', file));
    expect([code, stderr]).toEqual([2, expect.stringContaining('main.rb: no language has the ending .rb')]);
    expect(server.received).toEqual([]);
  });
});

describe('invoke', () => {
  const answers = (status: number, body: unknown, type = 'application/json') => {
    server.answer = () => ({ status, body, headers: { 'content-type': type } });
  };

  test('posts the data and prints the body', async () => {
    answers(200, { message: 'Hello, World!' });
    const { code, stdout } = await run(at('invoke', 'hello', '-d', '{"name":"World"}', '--token', 'jwt'));
    expect([code, stdout]).toEqual([0, '{"message":"Hello, World!"}']);
    expect(server.received[0]).toMatchObject({
      method: 'POST',
      url: '/functions/v1/invoke/hello',
      body: '{"name":"World"}',
      headers: { authorization: 'Bearer jwt', 'content-type': 'application/json' },
    });
  });

  test('reads data from a file and from standard input', async () => {
    answers(200, 1);
    await run(at('invoke', 'hello', '-d', `@${folder.write('data.json', '{"a":1}')}`));
    await run(at('invoke', 'hello', '-d', '-'), { stdin: 'plain text' });
    expect(server.received.map(({ body }) => body)).toEqual(['{"a":1}', 'plain text']);
    expect(server.received[1]?.headers['content-type']).toBe('text/plain; charset=utf-8');
  });

  test('takes method and path', async () => {
    answers(200, []);
    await run(at('invoke', 'api', '-X', 'get', '-p', '/orders?limit=1'));
    expect(server.received[0]).toMatchObject({
      method: 'GET',
      url: '/functions/v1/invoke/api/orders?limit=1',
      body: '',
    });
  });

  test('signs a token for a role', async () => {
    answers(200, 1);
    const secret = 's'.repeat(32);
    await run(at('invoke', 'hello', '--as', 'authenticated'), { env: { POSTERN_JWT_SECRET: secret } });
    const token = server.received[0]!.headers.authorization!.slice('Bearer '.length);
    const { payload } = await jwtVerify(token, new TextEncoder().encode(secret));
    expect(payload).toMatchObject({ role: 'authenticated', sub: expect.any(String), exp: expect.any(Number) });
  });

  test('exits 1 where the answer is an error, and still prints it', async () => {
    answers(500, { error: '500 Internal Server Error', message: 'boom', code: 'FUNCTION_ERROR' });
    const { code, stdout, stderr } = await run(at('invoke', 'hello'));
    expect(code).toBe(1);
    expect(stdout).toContain('FUNCTION_ERROR');
    expect(stderr).toBe('error: hello answered 500: boom\n');
  });

  test('--json gives status, headers and body', async () => {
    answers(201, 'text', 'text/plain');
    expect(JSON.parse((await run(at('invoke', 'hello', '--json'))).stdout)).toMatchObject({
      status: 201,
      headers: { 'content-type': 'text/plain' },
      body: 'text',
    });
  });

  test('LOG-01: what a function answers can not act on the terminal, and reaches a pipe as it is', async () => {
    const evil = '\u001b]0;owned\u0007\u001b[2J\u009b31mred\u202e';
    answers(200, evil, 'text/plain');
    expect((await run(at('invoke', 'hello'), { tty: true })).stdout).toBe(
      '\\x1b]0;owned\\x07\\x1b[2J\\x9b31mred\\u{202e}\n',
    );
    expect((await run(at('invoke', 'hello'))).stdout).toBe(evil);
  });
});

describe('logs', () => {
  const invocation = (id: string, more: object = {}) => ({
    id,
    function: 'hello',
    version: 2,
    trigger: 'http',
    status: 'ok',
    outcome: 'ok',
    error: null,
    started_at: new Date().toISOString(),
    duration_ms: 1.5,
    request_id: null,
    logs: [],
    ...more,
  });

  test('shows invocations, oldest first, with their log lines', async () => {
    server.answer = () => ({
      status: 200,
      body: {
        invocations: [
          invocation('b', {
            started_at: '2026-02-06T09:00:01.000Z',
            status: 'error',
            outcome: 'exception',
            error: { code: 'FUNCTION_ERROR', message: 'boom', stack: 'Error: boom\n    at handler (hello.ts:3:9)' },
          }),
          invocation('a', {
            started_at: '2026-02-06T09:00:00.000Z',
            logs: [{ level: 'INFO', message: 'greeting', name: 'World' }],
          }),
        ],
      },
    });
    const { stdout } = await run(at('logs', 'hello', '--stack'));
    expect(stdout).toBe(
      [
        '09:00:00.000 hello v2 http ok 1.5 ms',
        '  INFO  greeting {"name":"World"}',
        '09:00:01.000 hello v2 http exception 1.5 ms',
        '  FUNCTION_ERROR boom',
        '    Error: boom',
        '        at handler (hello.ts:3:9)',
        '',
      ].join('\n'),
    );
  });

  test('LOG-01: a message can neither act on the terminal nor forge a line', async () => {
    const message = 'hi\n09:00:00.000 admin v1 http ok\r\u001b[2K\u001b]8;;http://evil\u0007\u202eevil\u009b2J';
    server.answer = () => ({
      status: 200,
      body: {
        invocations: [invocation('a', { logs: [{ level: 'INFO\u001b[31m', message, '\u001b[0m': '\u001b' }] })],
      },
    });
    const { stdout } = await run(at('logs', 'hello'), { tty: true, env: { NO_COLOR: '1' } });
    expect(stdout.split('\n')).toHaveLength(3);
    expect(stdout).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202e]/);
    expect(stdout).toContain('hi\\n09:00');
  });

  test('--follow shows what comes, each once, through an outage, until it is told to stop', async () => {
    const stop = new AbortController();
    let polls = 0;
    server.answer = () => {
      polls++;
      if (polls === 3)
        return {
          status: 200,
          body: { invocations: [invocation('new'), invocation('old', { started_at: '2026-01-01T00:00:00Z' })] },
        };
      return {
        status: 200,
        body: { invocations: polls > 3 ? [invocation('later'), invocation('new')] : [invocation('first')] },
      };
    };
    const { code, stdout } = await run(at('logs', 'hello', '--follow', '--json'), {
      signal: stop.signal,
      onOutput: (text) => {
        if (text.includes('"later"')) stop.abort();
      },
    });
    expect(code).toBe(0);
    expect(
      stdout
        .trim()
        .split('\n')
        .map((line) => (JSON.parse(line) as { id: string }).id),
    ).toEqual(['first', 'new', 'later']);
  });

  test('says so when there are none', async () => {
    const hello = {
      name: 'hello',
      version: 1,
      id: 'x',
      config: { language: 'python', auth: 'none', triggers: [] },
      next_fires: [],
      created_at: 'c',
      updated_at: 'u',
    };
    server.answer = ({ url }) => ({
      status: 200,
      body: url === '/functions' ? { functions: [hello] } : { invocations: [] },
    });
    const nothing = (stderr: string) => ({ code: 0, stdout: '', stderr });
    expect(await run(at('logs', 'hello'))).toMatchObject(nothing('there are no invocations of hello\n'));
    expect(await run(at('logs', 'helo'))).toMatchObject(
      nothing('there are no invocations of helo, and no function of that name\n'),
    );
  });
});

describe('list, rollback, delete, secrets, events, audit', () => {
  test('list shows names, versions, triggers and the next fire', async () => {
    const config = {
      language: 'typescript',
      auth: 'required',
      triggers: [
        { type: 'http' },
        { type: 'database', schema: 'public', table: 'users', operations: ['INSERT'] },
        { type: 'schedule', cron: '0 3 * * *', timezone: 'UTC' },
      ],
    };
    server.answer = () => ({
      status: 200,
      body: {
        functions: [
          { name: 'hello', version: 3, id: 'x', config, next_fires: ['n'], created_at: 'c', updated_at: 'u' },
        ],
      },
    });
    const { stdout } = await run(at('list'));
    expect(stdout).toContain(
      'hello  v3       typescript  http (auth required), INSERT of public.users, 0 3 * * * (UTC)  n          u',
    );
    expect(JSON.parse((await run(at('list', '--json'))).stdout)).toMatchObject([{ name: 'hello', version: 3 }]);
  });

  test('rollback sends the version', async () => {
    server.answer = () => ({ status: 200, body: { id: 'x', name: 'hello', version: 1 } });
    expect((await run(at('rollback', 'hello', '--to', '1'))).stdout).toBe('hello v1 is active\n');
    expect(server.received[0]).toMatchObject({
      method: 'POST',
      url: '/functions/hello/rollback',
      body: '{"version":1}',
    });
  });

  test('delete deletes, and a name can not leave its place in the path', async () => {
    server.answer = () => ({ status: 204 });
    expect((await run(at('delete', '../secrets/x'))).code).toBe(0);
    expect(server.received[0]).toMatchObject({ method: 'DELETE', url: '/functions/..%2Fsecrets%2Fx' });
  });

  test.each([
    ['sk_1', 'sk_1'],
    ['sk_1\n', 'sk_1'],
    ['sk_1\r\n', 'sk_1'],
    ['-----BEGIN-----\nabc\n-----END-----\n\n', '-----BEGIN-----\nabc\n-----END-----\n'],
    [' a=b ü ', ' a=b ü '],
  ])('a secret is set from standard input, %j as %j, and never printed', async (stdin, value) => {
    server.answer = () => ({ status: 204 });
    const { code, stdout, stderr } = await run(at('secrets', 'set', 'STRIPE_KEY'), { stdin });
    expect([code, stdout, stderr]).toEqual([0, 'set STRIPE_KEY\n', '']);
    expect(server.received.map(({ method, url, body }) => [method, url, JSON.parse(body)])).toEqual([
      ['PUT', '/secrets/STRIPE_KEY', { value }],
    ]);
  });

  test.each([
    ['sk_1\r', 'sk_1'],
    ['sk_x\u007f1\n', 'sk_1'],
    ['wrong\u0015sk_1\r', 'sk_1'],
    ['pässwört\u0004', 'pässwört'],
  ])('at a terminal a secret is asked for, %j is %j, and nothing that is typed is shown', async (keys, value) => {
    server.answer = () => ({ status: 204 });
    const keyboard = new TypedKeys(keys);
    const { code, stdout, stderr } = await run(at('secrets', 'set', 'A'), { keyboard, tty: true });
    expect([code, stdout, stderr]).toEqual([0, 'set A\n', 'value of A (not shown): \n']);
    expect(server.received.map(({ body }) => JSON.parse(body))).toEqual([{ value }]);
    expect(keyboard.modes).toEqual([true, false]);
  });

  test('Ctrl-C at the prompt sets nothing and leaves the terminal as it was', async () => {
    const keyboard = new TypedKeys('half\u0003');
    const { code, stderr } = await run(at('secrets', 'set', 'A'), { keyboard });
    expect([code, stderr]).toEqual([1, 'value of A (not shown): \nerror: A was not set\n']);
    expect(server.received).toEqual([]);
    expect(keyboard.modes).toEqual([true, false]);
  });

  test('secrets rotate says how many, and fails where some are left, with their names', async () => {
    server.answer = () => ({ status: 200, body: { rotated: 1, remaining: 0, unreadable: [] } });
    expect(await run(at('secrets', 'rotate'))).toMatchObject({ code: 0, stdout: '1 secret rotated\n' });
    expect(server.received[0]).toMatchObject({ method: 'POST', url: '/secrets/rotate' });
    server.answer = () => ({ status: 200, body: { rotated: 2, remaining: 1, unreadable: ['LOST'] } });
    const { code, stdout, stderr } = await run(at('secrets', 'rotate'));
    expect([code, stdout]).toEqual([1, '2 secrets rotated\n']);
    expect(stderr).toContain('1 can not be opened by any key that the server has: LOST');
  });

  test('secrets are listed by name and unset', async () => {
    server.answer = ({ method }) =>
      method === 'GET'
        ? { status: 200, body: { secrets: [{ name: 'A', created_at: 'c', updated_at: 'u' }] } }
        : { status: 204 };
    expect((await run(at('secrets', 'list'))).stdout).toBe('NAME  SET\nA     u\n');
    expect((await run(at('secrets', 'unset', 'A'))).stdout).toBe('removed A\n');
  });

  test('sessions are listed with their runs and sizes, and deleted by id', async () => {
    const session = {
      id: 's-1',
      api_key_id: 'k-1',
      policy: 'default',
      language: 'python',
      runs: { first: 3, last: 12 },
    };
    const times = { bytes: 250_000, created_at: 'c', last_used_at: 'u', expires_at: 'e' };
    server.answer = ({ method }) =>
      method === 'GET' ? { status: 200, body: { sessions: [{ ...session, ...times }] } } : { status: 204 };
    const { stdout } = await run(at('sessions', 'list'));
    expect(stdout).toMatch(/s-1 +k-1 +default +python +3-12 +245 KB +u +e\n$/);
    expect((await run(at('sessions', 'delete', 's-1', 's-2'))).stdout).toBe('deleted s-1, s-2\n');
    expect(server.received.slice(1).map(({ method, url }) => `${method} ${url}`)).toEqual([
      'DELETE /sessions/s-1',
      'DELETE /sessions/s-2',
    ]);
    server.answer = () => ({ status: 200, body: { sessions: [] } });
    expect((await run(at('sessions', 'list'))).stdout).toBe('there are no sessions\n');
  });

  test('audit shows who changed what, and what a stranger sent can not act on the terminal', async () => {
    const entry = { at: '2026-01-02T03:04:05Z', source: '10.0.0.1', request_id: 'r', count: 1 };
    const entries = [
      { ...entry, actor: null, action: 'GET /functions', target: null, status: 401, count: 7 },
      { ...entry, actor: 'ci', action: 'DELETE /secrets/:name', target: '\u001b[2J', status: 204 },
      { ...entry, actor: 'ci', action: 'POST /functions', target: 'hi', status: null },
    ];
    server.answer = () => ({ status: 200, body: { entries } });
    const { code, stdout } = await run(at('audit', '--limit', '3'), { tty: true });
    expect([code, server.received[0]?.url]).toEqual([0, '/audit?limit=3']);
    expect(stdout).toMatch(/refused +10\.0\.0\.1 +GET \/functions +401 +7\n/);
    expect(stdout).toMatch(/ci +10\.0\.0\.1 +POST \/functions +hi +not answered +1\n/);
    expect(stdout).not.toContain('\u001b');
    expect(JSON.parse((await run(at('audit', '--json'))).stdout)).toEqual(entries);
    server.answer = () => ({ status: 200, body: { entries: [] } });
    expect((await run(at('audit'))).stdout).toBe('nothing has been changed yet\n');
  });

  test('dead events are listed and redriven', async () => {
    const event = {
      id: 'e1',
      status: 'dead',
      function: 'f',
      schema: 'public',
      table: 't',
      operation: 'INSERT',
      attempt: 5,
      occurred_at: 'o',
      run_at: 'r',
      dead_at: 'd',
      error: { message: 'boom' },
    };
    server.answer = ({ method }) =>
      method === 'GET' ? { status: 200, body: { events: [event] } } : { status: 202, body: { id: 'e1' } };
    expect((await run(at('events', 'list'))).stdout).toContain(
      'e1  f         INSERT public.t  5        o         boom',
    );
    expect((await run(at('events', 'redrive', 'e1'))).stdout).toBe('sent again: e1\n');
    expect(server.received.map(({ url }) => url)).toEqual(['/events?status=dead&limit=50', '/events/e1/redrive']);
  });
});
