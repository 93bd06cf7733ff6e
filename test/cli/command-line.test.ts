import { readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import type { Command } from 'commander';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { createProgram } from '../../cli/program.ts';
import { CONFIG_FIELDS } from '../../invoker/index.ts';
import { run, SERVE_SECRETS, StandIn, spawnCli } from './support.ts';

let server: StandIn;
let folder: string;
beforeAll(async () => {
  server = await StandIn.start();
  folder = await mkdtemp(join(tmpdir(), 'postern-command-line-'));
});
afterAll(async () => {
  await server.stop();
  await rm(folder, { recursive: true, force: true });
});
beforeEach(() => {
  server.received.length = 0;
});

const program = createProgram({
  stdout: { write() {} },
  stderr: { write() {} },
  stdin: Readable.from([]),
  env: {},
  signal: AbortSignal.abort(),
});
const paths = (command: Command, prefix: readonly string[] = []): string[][] =>
  command.commands.flatMap((child) => [[...prefix, child.name()], ...paths(child, [...prefix, child.name()])]);

describe('help', () => {
  test.each(paths(program))('%s %s has help with examples', async (...path) => {
    const { code, stdout } = await run([...path.filter(Boolean), '--help']);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^Usage: postern/);
    expect(stdout).toMatch(/Examples:\n {2}\$ /);
  });

  test('--version prints the version of the package', async () => {
    expect((await run(['--version'])).stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
  });

  test('an older Node is told which one it takes, without a stack', async () => {
    const older = 'Object.defineProperty(process, "versions", { value: { ...process.versions, node: "22.1.0" } })';
    const cli = spawnCli(['--version'], {
      env: { NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(older)}` },
    });
    expect((await cli.ended).code).toBe(2);
    expect(cli.text).toEqual({
      stdout: '',
      stderr: expect.stringMatching(/^error: postern needs Node 26 or newer, this is v\S+\n$/) as string,
    });
  });

  test('no command at all runs a function, and prints its result', async () => {
    const { code, stdout, stderr } = await run([]);
    expect([code, stdout]).toEqual([0, '{"message":"Hello, World!"}\n']);
    expect(stderr).toContain('`postern --help` has every command');
  });
});

describe('the database', () => {
  const commands = [['serve', '--port', '0'], ['dev', '.', '--port', '0'], ['migrate'], ['doctor']];

  test.each(commands)('that can not be reached is named, without its password: %s', async (...argv) => {
    const env = { ...SERVE_SECRETS, DATABASE_URL: 'postgres://app:geheim@127.0.0.1:1/shop' };
    const { code, stderr } = await run(argv, { env });
    expect([code, stderr]).toEqual([
      1,
      'error: the database 127.0.0.1:1/shop can not be reached: connect ECONNREFUSED 127.0.0.1:1\n',
    ]);
  });

  test.each(commands)('whose URL can not be read is wrong usage, and nothing of it is shown: %s', async (...argv) => {
    for (const url of [
      'geheim',
      'mysql://app:geheim@db/shop',
      'postgres:/app:geheim@db/shop',
      'postgres://app:12/geheim@db/shop',
    ]) {
      const { code, stderr } = await run(argv, { env: { ...SERVE_SECRETS, DATABASE_URL: url } });
      expect([code, stderr]).toEqual([
        2,
        expect.stringMatching(/^error: the database URL (?:has to begin|can not be read)/),
      ]);
      expect(stderr).not.toContain('geheim');
    }
  });
});

describe('docs', () => {
  test('docs/cli.md names every command, and no other', () => {
    const text = readFileSync('docs/cli.md', 'utf8');
    const named = [...text.matchAll(/^\| `(\w+)/gm)].map(([, name]) => name);
    expect([...new Set(named)].sort()).toEqual(program.commands.map((command) => command.name()).sort());
  });

  test('docs/functions.md has every field of the configuration', () => {
    const text = readFileSync('docs/functions.md', 'utf8');
    for (const field of CONFIG_FIELDS) expect(text).toMatch(new RegExp(`^\\| \`${field}[.\`]`, 'm'));
  });
});

describe('wrong usage exits 2 and says what is allowed', () => {
  test.each<[string[], RegExp]>([
    [['deplyo'], /unknown command 'deplyo'[\s\S]*Did you mean deploy/],
    [['list', '--jsn'], /unknown option '--jsn'[\s\S]*Did you mean --json/],
    [['delete'], /missing required argument 'name'\n\(postern delete --help shows/],
    [['events', 'discard'], /missing required argument 'ids'\n\(postern events discard --help shows/],
    [['list', '--url', 'ftp://x'], /Give an http or https URL/],
    [['rollback', 'hello', '--to', '0'], /Give a whole number from 1/],
    [['dev', '--port', '70000'], /Give a port from 0 \(a free one\) to 65535/],
    [['dev', 'no/such/folder'], /there is no folder no\/such\/folder/],
    [['deploy', 'no/such/file.ts'], /there is no file or folder no\/such\/file\.ts/],
    [['deploy', 'package.json'], /package\.json is no function/],
    [['invoke', 'hello', '--as', 'root'], /Allowed choices are anon, authenticated, service_role/],
    [['invoke', 'hello', '--path', 'x'], /--path begins with \/ or \?; it was given "x"/],
    [['invoke', 'hello', '-X', 'GET', '-d', '{}'], /GET has no body/],
    [['invoke', 'hello', '-d', '@no-such-file'], /the file no-such-file can not be read \(ENOENT\)/],
    [['invoke', 'hello', '--as', 'anon', '--data-dir', '/no/such'], /--as needs POSTERN_JWT_SECRET/],
    [['migrate'], /which database\? Give --database-url or DATABASE_URL/],
    [['migrate', '--database-url', 'mysql://x'], /has to begin with postgres:\/\//],
    [
      ['secrets', 'set', 'A=hunter2'],
      /^error: a value is not taken from the command line: give the name alone, `postern secrets set A`(?!.*hunter2)/,
    ],
    [['secrets', 'set', 'A', 'B'], /too many arguments/],
    [['secrets', 'set', 'A'], /there is no value for A/],
    [['events', 'list', '--status', 'x'], /Allowed choices are dead, pending, leased/],
  ])('%j', async (argv, message) => {
    const { code, stderr, stdout } = await run(argv);
    expect(stderr).toMatch(message);
    expect(code).toBe(2);
    expect(stdout).toBe('');
  });
});

describe('an operation that fails exits 1', () => {
  test('when the server can not be reached, with what to do', async () => {
    const { code, stderr } = await run(['list', '--url', 'http://127.0.0.1:40001']);
    expect(code).toBe(1);
    expect(stderr).toMatch(/^error: http:\/\/127\.0\.0\.1:40001 can not be reached \(ECONNREFUSED\)\n.*postern dev/);
  });

  test('when the server refuses, with its words', async () => {
    server.answer = () => ({
      status: 404,
      body: {
        error: '404 Not Found',
        message: "there is no function 'x'",
        code: 'FUNCTION_NOT_FOUND',
        request_id: 'r',
      },
    });
    const { code, stderr } = await run(['delete', 'x', '--url', server.url]);
    expect([code, stderr]).toEqual([1, "error: there is no function 'x'\n"]);
  });

  test('when the admin key is missing, with where to give it', async () => {
    server.answer = () => ({ status: 401, body: { message: 'the control API needs a key', code: 'UNAUTHORIZED' } });
    expect((await run(['list', '--url', server.url])).stderr).toContain('POSTERN_ADMIN_KEY');
  });

  test('when something else than Postern answers', async () => {
    server.answer = () => ({ status: 200, body: '<html>', headers: { 'content-type': 'text/html' } });
    const { code, stderr } = await run(['list', '--url', server.url]);
    expect(code).toBe(1);
    expect(stderr).toContain('is it a Postern server');
  });

  test('and what the server says can not act on the terminal', async () => {
    server.answer = () => ({ status: 404, body: { message: 'no \u001b[2J\\x1b[31m', code: 'FUNCTION_NOT_FOUND' } });
    const { stderr } = await run(['delete', 'x', '--url', server.url], { tty: true, env: { NO_COLOR: '1' } });
    expect(stderr).toBe('error: no \\x1b[2J\\x1b[31m\n');
  });

  test('as one JSON value on stdout with --json', async () => {
    server.answer = () => ({ status: 404, body: { message: 'no', code: 'FUNCTION_NOT_FOUND' } });
    const { stdout } = await run(['delete', 'x', '--json', '--url', server.url]);
    expect(JSON.parse(stdout)).toEqual({ error: { code: 'FUNCTION_NOT_FOUND', message: 'no' } });
  });
});

describe('where the server is', () => {
  beforeEach(() => {
    server.answer = () => ({ status: 200, body: { functions: [] } });
  });

  test('POSTERN_URL and POSTERN_ADMIN_KEY say it', async () => {
    const { code, stdout } = await run(['list'], {
      env: { POSTERN_URL: `${server.url}/`, POSTERN_ADMIN_KEY: 'secret' },
    });
    expect([code, stdout]).toEqual([0, 'no functions are deployed; `postern deploy` deploys those of functions/\n']);
    expect(server.received[0]).toMatchObject({ url: '/functions', headers: { authorization: 'Bearer secret' } });
  });

  test('the flags win over the environment', async () => {
    const file = join(folder, 'key');
    await writeFile(file, 'from-a-file\n');
    await run(['list', '--url', server.url, '--admin-key-file', file], {
      env: { POSTERN_URL: 'http://127.0.0.1:40001', POSTERN_ADMIN_KEY: 'env' },
    });
    expect(server.received[0]?.headers.authorization).toBe('Bearer from-a-file');
  });

  test.each([
    ['ops=a-key-of-the-server,other=another-one', 'a-key-of-the-server'],
    ['a-key-of-the-server, another-one', 'a-key-of-the-server'],
    ['YS1rZXktaW4tYmFzZTY0==', 'YS1rZXktaW4tYmFzZTY0=='],
  ])('of the list of keys that a server has the first is used: %s', async (keys, key) => {
    await run(['list', '--url', server.url], { env: { POSTERN_ADMIN_KEY: keys } });
    expect(server.received[0]?.headers.authorization).toBe(`Bearer ${key}`);
  });

  test('no flag takes an admin key, for every process of the machine can read it there', async () => {
    const flagged = await run(['list', '--url', server.url, '--admin-key', 'secret']);
    expect([flagged.code, server.received.length]).toEqual([2, 0]);
    expect(flagged.stderr + flagged.stdout).not.toContain('secret');
    const missing = await run(['list', '--url', server.url, '--admin-key-file', join(folder, 'none')]);
    expect([missing.code, server.received.length]).toEqual([2, 0]);
  });

  test('an empty variable counts as none', async () => {
    await run(['list', '--url', server.url], { env: { POSTERN_ADMIN_KEY: '' } });
    expect(server.received[0]?.headers.authorization).toBeUndefined();
  });
});

describe('colour and progress', () => {
  const fail = ['list', '--url', 'http://127.0.0.1:40001'];

  test('are there on a terminal', async () => {
    expect((await run(fail, { tty: true })).stderr).toContain('\u001b[31merror');
  });

  test('are not in a pipe, nor with NO_COLOR', async () => {
    for (const options of [{}, { tty: true, env: { NO_COLOR: '1' } }])
      expect((await run(fail, options)).stderr).not.toContain('\u001b[3');
  });
});
