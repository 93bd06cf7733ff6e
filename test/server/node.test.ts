/** One node end to end: control API, functions in real sandboxes, records, stop. */

import { createHash, randomUUID } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type PublicJwk, verifyReceipts } from '../../invoker/receipts/index.ts';
import { ANONYMOUS } from '../../runtime/index.ts';
import { run as runCli } from '../cli/support.ts';
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts';
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

const HELLO = 'export async function handler(event) { return { hello: event.body?.name ?? "world" }; }';
type Body = Record<string, unknown>;

describe('deploying and calling', () => {
  test('a deployed function answers at once, and its answer changes with the next deploy', async () => {
    const deployed = await postern.deploy('hello', HELLO, { auth: 'none' });
    expect(deployed).toMatchObject({
      status: 201,
      body: { name: 'hello', version: 1, id: expect.stringMatching(/^[0-9a-f]{64}$/), created: true },
    });
    const post = () =>
      postern.call('/functions/v1/invoke/hello', {
        method: 'POST',
        body: '{"name":"Ada"}',
        headers: { 'content-type': 'application/json' },
      });
    expect(await (await post()).json()).toEqual({ hello: 'Ada' });
    await postern.deploy('hello', HELLO.replace('hello:', 'goodbye:'), { auth: 'none' });
    expect(await (await post()).json()).toEqual({ goodbye: 'Ada' });
    const rolledBack = await postern.admin('POST', '/functions/hello/rollback', {});
    expect(rolledBack).toMatchObject({ status: 200, body: { version: 1 } });
    expect(await (await post()).json()).toEqual({ hello: 'Ada' });
  });

  test('a function that needs a token answers its bearer, and hands on who it is', async () => {
    await postern.deploy('whoami', 'export const handler = (event) => event.user_id;');
    expect((await postern.call('/functions/v1/whoami')).status).toBe(401);
    const token = await postern.token({ sub: 'user-1' });
    const response = await postern.call('/functions/v1/whoami', { headers: { authorization: `Bearer ${token}` } });
    expect(await response.json()).toBe('user-1');
  });

  test('a fetch handler gets the request as it came and answers with a Response', async () => {
    await postern.deploy(
      'fetcher',
      `export default { async fetch(request) {
        return new Response(await request.text() + ' ' + new URL(request.url).search, { status: 201, headers: { 'x-method': request.method } });
      } }`,
      { auth: 'none' },
    );
    const body = '{ "n" : 12345678901234567890 }';
    const response = await postern.call('/functions/v1/fetcher/sub?q=1', {
      method: 'PUT',
      body,
      headers: { 'content-type': 'application/json' },
    });
    expect(response.status).toBe(201);
    expect(response.headers.get('x-method')).toBe('PUT');
    expect(await response.text()).toBe(`${body} ?q=1`);
  });

  test('POST /invoke/{id} takes the event itself, under the id of the deploy too', async () => {
    const { body } = await postern.deploy('adder', 'export const handler = ({ a, b }) => a + b;', { auth: 'none' });
    for (const id of ['adder', body.id]) {
      const response = await postern.call(`/invoke/${id}`, { method: 'POST', body: '{"a":1,"b":2}' });
      expect(await response.text()).toBe('3');
    }
  });

  test('configuration in the code counts', async () => {
    const { body } = await postern.admin('POST', '/functions', {
      source: 'export const config = { id: "in-code", timeout: "2s", auth: "none" }; export const handler = () => 1;',
    });
    expect(body).toMatchObject({ name: 'in-code' });
    expect((await postern.admin('GET', '/functions/in-code')).body).toMatchObject({
      config: { timeoutMs: 2_000, auth: 'none' },
      form: 'handler',
    });
  });

  test.each([
    [{ jsEvalAsModule: true }, 'export function handler(event)', 201],
    [{ jsEvalAsModule: true }, 'function handler(event)', 422],
    [{ jsEvalAsModule: false }, 'function handler(event)', 201],
    [{}, 'function handler(event)', 201],
  ])('a manifest of GraalFaaS with %j and "%s" is answered with %i', async (mode, head, status) => {
    const manifest = { id: 'graal', languageId: 'js', functionName: 'handler', auth: 'none', ...mode };
    const source = `${head} { return { message: "Hello, " + event.name + "!" }; }`;
    for (const body of [{ ...manifest, source }, { manifest: JSON.stringify({ ...manifest, source }) }]) {
      const deployed = await postern.admin('POST', '/functions', body);
      expect([deployed.status, deployed.body.message ?? '']).toEqual([
        status,
        status === 201 ? '' : expect.stringContaining('no handler found'),
      ]);
    }
    if (status !== 201) return;
    const response = await postern.call('/invoke/graal', { method: 'POST', body: '{"name":"World"}' });
    expect(await response.json()).toEqual({ message: 'Hello, World!' });
  });

  test('a failing deploy says where, with 422, and the old version goes on', async () => {
    await postern.deploy('steady', 'export const handler = () => "old";', { auth: 'none' });
    const broken = await postern.deploy('steady', 'export const handler = () => {\n  return oops(;\n};');
    expect(broken).toMatchObject({ status: 422, body: { code: 'INVALID_FUNCTION', details: { line: 2 } } });
    const throwing = await postern.deploy('steady', 'const a = 1;\nconst b = a.b.c;\nexport const handler = () => b;', {
      language: 'ts',
    });
    expect(throwing).toMatchObject({
      status: 422,
      body: { details: { file: 'steady.ts', line: 2, text: 'const b = a.b.c;' } },
    });
    expect(throwing.body.message).toContain('steady.ts:2:');
    expect(await (await postern.call('/functions/v1/steady')).json()).toBe('old');
  });

  test.each([
    [{ timout: '5s' }, "did you mean 'timeout'?"],
    [{ timeout: '400s' }, 'a duration from 1 s to 300 s'],
    [{ language: 'cobol' }, 'one of'],
    [{ trigger: { type: 'schedule', cron: '60 * * * *' } }, "its minute has '60'"],
    [{ module: 'AGFzbQ==' }, 'one of the two'],
  ])('the configuration %j is refused with 422', async (config, text) => {
    const { status, body } = await postern.deploy('refused', HELLO, config);
    expect(status).toBe(422);
    expect(body.message).toContain(text);
  });

  test('errors of functions have the status and code of the specification', async () => {
    await postern.deploy('throws', 'export const handler = () => { throw new TypeError("no card"); };', {
      auth: 'none',
    });
    await postern.deploy('spins', 'export const handler = () => { for (;;); };', {
      auth: 'none',
      timeout: '1s',
      cpu: 'unlimited',
    });
    const thrown = await postern.call('/functions/v1/throws');
    expect([thrown.status, await thrown.json()]).toMatchObject([
      500,
      { code: 'FUNCTION_ERROR', message: expect.stringContaining('no card') },
    ]);
    const spun = await postern.call('/functions/v1/spins');
    expect([spun.status, await spun.json()]).toMatchObject([
      504,
      { code: 'FUNCTION_TIMEOUT', error: '504 Gateway Timeout' },
    ]);
  });

  test('a deleted function is gone', async () => {
    await postern.deploy('gone', HELLO, { auth: 'none' });
    expect((await postern.admin('DELETE', '/functions/gone')).status).toBe(204);
    expect((await postern.call('/functions/v1/gone')).status).toBe(404);
    expect((await postern.admin('GET', '/functions/gone')).status).toBe(404);
  });
});

describe('records', () => {
  test("an invocation is recorded with its log, and its stack names the author's file and line", async () => {
    await postern.deploy(
      'logged',
      'export const handler = (event) => {\n  console.log("paid", { amount: 5 });\n  throw new Error("late");\n};',
      {
        auth: 'none',
        fileName: 'logged.ts',
      },
    );
    const requestId = (await postern.call('/functions/v1/logged')).headers.get('x-request-id');
    const find = async () => {
      const { body } = await postern.admin('GET', '/functions/logged/invocations?limit=5');
      return (body.invocations as Body[])[0];
    };
    await expect.poll(find).toBeDefined();
    const summary = (await find())!;
    expect(summary).toMatchObject({
      function: 'logged',
      version: 1,
      trigger: 'http',
      status: 'error',
      outcome: 'exception',
      request_id: requestId,
    });
    expect(summary.logs).toBeUndefined();
    const { body } = await postern.admin('GET', `/invocations/${summary.id}`);
    expect(body).toMatchObject({ error: { code: 'FUNCTION_ERROR', stack: expect.stringContaining('logged.ts:3:') } });
    expect((body.logs as Body[])[0]).toMatchObject({
      level: 'INFO',
      message: expect.stringContaining('paid'),
      timestamp: expect.stringMatching(/Z$/),
    });
    expect(JSON.parse(postern.logged.at(-1)!)).toMatchObject({ source: 'function:logged', request_id: requestId });
    expect((await postern.admin('GET', '/invocations/nonsense')).status).toBe(404);
    expect((await postern.admin('GET', '/functions/logged/invocations?limit=0')).status).toBe(400);
  });
});

describe('secrets', () => {
  test('a secret is set, used, changed and removed; its value is never given back', async () => {
    await postern.deploy(
      'secretive',
      'import { env } from "postern"; export const handler = () => [env("KEY") ?? null, env("GREETING") ?? null, env("DATABASE_URL") ?? null];',
      {
        auth: 'none',
        env: ['KEY', 'GREETING', 'DATABASE_URL'],
      },
    );
    const read = async () => (await postern.call('/functions/v1/secretive')).json();
    expect(await read()).toEqual([null, 'hello', null]);
    expect((await postern.admin('PUT', '/secrets/KEY', { value: 'first-value' })).status).toBe(204);
    expect(await read()).toEqual(['first-value', 'hello', null]);
    await postern.admin('PUT', '/secrets/KEY', { value: 'second-value' });
    expect(await read()).toEqual(['second-value', 'hello', null]);
    expect(JSON.stringify((await postern.admin('GET', '/secrets')).body)).not.toContain('value"');
    expect((await postern.admin('GET', '/secrets/KEY')).body).toMatchObject({ name: 'KEY' });
    expect((await postern.admin('DELETE', '/secrets/KEY')).status).toBe(204);
    expect((await postern.admin('DELETE', '/secrets/KEY')).status).toBe(404);
    expect(await read()).toEqual([null, 'hello', null]);
  });
});

describe('the control API', () => {
  test('answers 401 without the key or with another, for every route of it', async () => {
    for (const [method, path] of [
      ['GET', '/functions'],
      ['POST', '/functions'],
      ['GET', '/functions/x'],
      ['DELETE', '/functions/x'],
      ['GET', '/functions/x/versions'],
      ['POST', '/functions/x/rollback'],
      ['GET', '/functions/x/invocations'],
      ['GET', '/invocations/x'],
      ['GET', '/events'],
      ['POST', '/events/x/redrive'],
      ['GET', '/secrets'],
      ['PUT', '/secrets/x'],
      ['DELETE', '/secrets/x'],
      ['GET', '/api-keys'],
      ['POST', '/api-keys'],
      ['DELETE', '/api-keys/x'],
      ['GET', '/metrics'],
    ] as const) {
      for (const authorization of [
        undefined,
        'Bearer ',
        `Bearer ${ADMIN_KEY}x`,
        `Basic ${ADMIN_KEY}`,
        `Bearer ${await postern.token({ role: 'service_role' })}`,
      ]) {
        const response = await postern.call(path, {
          method,
          headers: authorization === undefined ? {} : { authorization },
        });
        expect([path, response.status]).toEqual([path, 401]);
      }
    }
  });

  test('lists functions and versions', async () => {
    await postern.deploy('listed', HELLO);
    const { functions } = (await postern.admin('GET', '/functions')).body as { functions: Body[] };
    expect(functions.find((one) => one.name === 'listed')).toMatchObject({
      version: 1,
      created_at: expect.any(String),
    });
    expect(functions.every((one) => !('source' in one))).toBe(true);
    expect((await postern.admin('GET', '/functions/listed/versions')).body).toMatchObject({
      versions: [{ version: 1, active: true }],
    });
    expect((await postern.admin('GET', '/functions/listed')).body).toMatchObject({
      source: { files: { 'listed.js': HELLO } },
    });
  });

  test('redrives a dead event and knows no others', async () => {
    const id = '00000000-0000-4000-8000-000000000000';
    expect((await postern.admin('POST', `/events/${id}/redrive`)).status).toBe(202);
    expect(postern.triggers.redriven).toContain(id);
    expect((await postern.admin('POST', `/events/${id.replaceAll('0', '1')}/redrive`)).status).toBe(404);
    expect((await postern.admin('POST', '/events/x/redrive')).status).toBe(404);
    expect((await postern.admin('GET', '/events?status=dead')).body).toEqual({ events: [], next_cursor: null });
    expect((await postern.admin('GET', '/events?status=odd')).status).toBe(400);
  });

  test('refuses bodies that are not JSON, with the code for it', async () => {
    const send = (body: string, type: string) =>
      postern.call('/functions', {
        method: 'POST',
        body,
        headers: { authorization: `Bearer ${ADMIN_KEY}`, 'content-type': type },
      });
    expect((await send('{', 'application/json')).status).toBe(400);
    expect((await send('[]', 'application/json')).status).toBe(400);
    expect((await send('{}', 'text/plain')).status).toBe(400);
    expect((await send('{"source":1}', 'application/json')).status).toBe(400);
  });

  test('refuses what Postgres has no room for, and says what', async () => {
    await postern.deploy('roomy', HELLO);
    const nested = Array.from({ length: 1_001 }).reduce<unknown>((inner) => [inner], 0);
    for (const [path, body, code, told] of [
      ['/functions/roomy/rollback', { version: 2 ** 31 }, 'INVALID_REQUEST', 'version'],
      ['/events/redrive', { from: '0000-01-01T00:00:00Z' }, 'INVALID_REQUEST', 'from'],
      ['/events/redrive', { to: '0000-12-31T00:00:00Z' }, 'INVALID_REQUEST', 'to'],
      ['/functions/roomy/schedule', { at: '2999-01-01T00:00:00Z', event: nested }, 'INVALID_BODY', 'nested'],
    ] as const) {
      const answer = await postern.admin('POST', path, body);
      expect(answer).toMatchObject({ status: 400, body: { code, message: expect.stringContaining(told) } });
    }
  });

  test('health and readiness need no key and say nothing else', async () => {
    expect(await (await postern.call('/health')).json()).toEqual({ status: 'ok' });
    expect(await (await postern.call('/ready')).json()).toEqual({ status: 'ready' });
  });

  test('metrics count invocations by outcome', async () => {
    const response = await postern.call('/metrics', { headers: { authorization: `Bearer ${ADMIN_KEY}` } });
    const text = await response.text();
    expect(response.headers.get('content-type')).toContain('text/plain');
    expect(text).toMatch(/postern_invocations_total\{function="hello",trigger="http",outcome="ok"\} [1-9]/);
    expect(text).toContain('postern_executors 1');
    expect(text).toContain('postern_events{state="dead"} 1');
  });

  test('the OpenAPI document describes every route of the control API', async () => {
    const document = (await (await postern.call('/openapi.json')).json()) as {
      paths: Record<string, Record<string, unknown>>;
    };
    expect(Object.keys(document.paths)).toEqual(
      expect.arrayContaining([
        '/functions',
        '/functions/{name}',
        '/functions/{name}/rollback',
        '/invocations/{id}',
        '/events',
        '/secrets/{name}',
        '/api-keys',
        '/api-keys/{id}',
        '/metrics',
        '/keys',
        '/receipts',
        '/invocations/{id}/receipt',
      ]),
    );
    expect(document.paths['/functions']?.post).toMatchObject({ requestBody: { content: { 'application/json': {} } } });
  });

  test('an unknown route is 404 in the shape of all errors', async () => {
    const response = await postern.call('/nowhere');
    expect(response.status).toBe(404);
    expect(await response.json()).toMatchObject({
      error: '404 Not Found',
      code: 'NOT_FOUND',
      request_id: expect.any(String),
    });
  });
});

describe('receipts', () => {
  type Receipt = { seq: number; prev: string } & Record<string, unknown>;
  const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');
  const keysOf = async () => ((await (await postern.call('/keys')).json()) as { keys: PublicJwk[] }).keys;
  const exported = async () => {
    const { body } = await postern.admin('GET', '/receipts/chains');
    const [{ chain }] = body.chains as [{ chain: string }];
    const response = await postern.call(`/receipts?chain=${chain}`, {
      headers: { authorization: `Bearer ${ADMIN_KEY}` },
    });
    return (await response.text()).trimEnd().split('\n');
  };
  const lastInvocation = async (name: string): Promise<string> => {
    const path = `/functions/${name}/invocations?limit=1`;
    const ids = async () =>
      ((await postern.admin('GET', path)).body.invocations as { id: string }[]).map(({ id }) => id);
    await expect.poll(ids, { timeout: 5_000, interval: 20 }).toHaveLength(1);
    return (await ids())[0]!;
  };

  test('of a call has the hashes of what the caller sent and got and of each host call, and is proven by the published key', async () => {
    await postern.deploy(
      'receipted',
      `import { db, env } from 'postern';
      export async function handler(event) {
        const rows = await db.query('select 1 as one');
        await db.query('select nonsense').catch(() => {});
        return { statusCode: 201, body: rows[0].one + event.body.n };
      }`,
      { auth: 'none', timeout: '7s' },
    );
    const body = '{ "n": 41.0 }';
    const response = await postern.call('/functions/v1/receipted', {
      method: 'POST',
      body,
      headers: { 'content-type': 'application/json' },
    });
    const answer = await response.text();
    const id = await lastInvocation('receipted');
    const line = await (
      await postern.call(`/invocations/${id}/receipt`, { headers: { authorization: `Bearer ${ADMIN_KEY}` } })
    ).text();
    const { receipt } = JSON.parse(line) as { receipt: Receipt };
    const { body: deployed } = await postern.admin('GET', '/functions/receipted');
    expect(receipt).toMatchObject({
      type: 'invocation',
      invocation: id,
      trigger: 'http',
      role: 'anon',
      function: 'receipted',
      version: 1,
      code: deployed.id,
      limits: { timeoutMs: 7_000 },
      body: sha256(body),
      outcome: 'ok',
      status: 201,
      output: sha256(answer),
      usage: { hostCalls: 2 },
      calls: [
        { op: 'db.query', ok: true },
        { op: 'db.query', ok: false },
      ],
    });
    const { proofs } = await verifyReceipts([line.trimEnd()], await keysOf());
    expect(proofs).toMatchObject([{ invocation: id, seq: receipt.seq }]);
  });

  test('of failures and of each kind of trigger are in the chain', async () => {
    await postern.deploy('fails', 'export const handler = () => { throw new Error("no"); }', { auth: 'none' });
    const kinds = ['http', 'database', 'schedule', 'webhook', 'dead_letter', 'manual'] as const;
    for (const trigger of kinds) {
      const { receipt } = await postern.invoker.invoke({
        functionName: 'fails',
        trigger,
        eventJson: `{"of":"${trigger}"}`,
        requestId: 'r',
        identity: ANONYMOUS,
      });
      expect(sha256(receipt!.text)).toBe(receipt!.hash);
    }
    const lines = await exported();
    const receipts = lines.map((line) => JSON.parse(line) as Receipt).filter((one) => one.function === 'fails');
    expect(receipts.map(({ trigger, input, outcome, error }) => [trigger, input, outcome, error])).toEqual(
      kinds.map((kind) => [kind, sha256(`{"of":"${kind}"}`), 'exception', 'FUNCTION_ERROR']),
    );
    expect((await verifyReceipts(lines, await keysOf())).chains).toMatchObject([{ first: 0, closed: false }]);
  });

  test('are for admins only, and what there is not is 404', async () => {
    for (const path of [
      '/receipts/chains',
      `/receipts?chain=${randomUUID()}`,
      `/invocations/${randomUUID()}/receipt`,
    ]) {
      expect([path, (await postern.call(path)).status]).toEqual([path, 401]);
    }
    expect(await postern.admin('GET', `/invocations/${randomUUID()}/receipt`)).toMatchObject({ status: 404 });
    expect(await postern.admin('GET', '/invocations/none/receipt')).toMatchObject({ status: 404 });
    expect(await postern.admin('GET', '/receipts?chain=x')).toMatchObject({ status: 400 });
    expect(JSON.stringify(await keysOf())).not.toContain('"d":');
  });
});

describe('a recorded invocation', () => {
  const PAY = `export const handler = async (event, context) => {
    const [{ total }] = await db.query('select 120 + $1::int as total', [event.body.id]);
    console.log('of', context.env.GREETING);
    if (total > 130) throw new Error('too dear');
    return { paid: total };
  };`;
  const replay = (...argv: string[]) =>
    runCli(['replay', ...argv, '--url', postern.url], { env: { POSTERN_ADMIN_KEY: ADMIN_KEY } });
  const call = async (id: number, headers: Record<string, string> = {}): Promise<number> => {
    const json = { method: 'POST', body: JSON.stringify({ id }) };
    const answer = await postern.call('/functions/v1/pay', {
      ...json,
      headers: { 'content-type': 'application/json', ...headers },
    });
    await answer.text();
    return answer.status;
  };
  const last = async (): Promise<string> => {
    for (;;) {
      const { body } = await postern.admin('GET', '/functions/pay/invocations?limit=1');
      const [newest] = body.invocations as { id: string; started_at: string }[];
      if (newest !== undefined) return newest.id;
    }
  };

  test('that failed is replayed by its id, by who has the admin key', async () => {
    await postern.deploy('pay', PAY, {
      auth: 'none',
      db: { role: 'service_role' },
      env: ['GREETING'],
      record: 'failures',
    });
    expect(await call(20)).toBe(500);
    const id = await last();
    const { status, body } = await postern.admin('GET', `/invocations/${id}/recording`);
    expect([status, body]).toMatchObject([200, { function: 'pay', outcome: 'exception', lost: null }]);
    expect(JSON.parse(body.event as string)).toMatchObject({ body: { id: 20 } });
    expect((await postern.call(`/invocations/${id}/recording`)).status).toBe(401);
    expect((await postern.call(`/invocations/${id}/replay`, { method: 'POST' })).status).toBe(401);

    expect(await replay(id)).toEqual({ code: 0, stdout: 'same pay v1: 6 steps, 1 host call\n', stderr: '' });
    const edited = await replay(id, '--edit', '-', '--json');
    expect(edited.code).toBe(2);
    const folder = mkdtempSync(join(tmpdir(), 'postern-replay-'));
    const file = join(folder, 'pay.json');
    expect((await replay(id, '--save', file)).stderr).toContain(`saved: postern replay ${file}`);
    expect(statSync(file).mode & 0o777).toBe(0o600);
    const again = await replay(id, '--save', file);
    expect([again.code, again.stderr]).toEqual([2, expect.stringContaining(`to ${file}: it is there already`)]);
    const nowhere = { env: { POSTERN_URL: 'http://127.0.0.1:9' } };
    const alone = await runCli(['replay', file], nowhere);
    expect(alone).toEqual({ code: 0, stdout: 'same pay v1: 6 steps, 1 host call\n', stderr: '' });
    writeFileSync(file, readFileSync(file, 'utf8').replace(/"engine_id":"./, '"engine_id":"-'));
    expect((await runCli(['replay', file], nowhere)).stderr).toContain('another release of Postern');
    writeFileSync(file, '{}');
    expect((await runCli(['replay', file], nowhere)).stderr).toContain('no recording that this release');
    rmSync(folder, { recursive: true });
    await postern.deploy('pay', PAY.replace('> 130', '> 1000'), {
      ...{ auth: 'none', db: { role: 'service_role' }, env: ['GREETING'], record: 'failures' },
    });
    const better = await replay(id, '--version', '2');
    expect(better.code).toBe(1);
    expect(better.stdout.split('\n')).toEqual([
      'different pay v2: after 4 steps, 1 host call that were the same',
      expect.stringContaining('  recorded  the result: exception {"name":"Error","message":"too dear"'),
      '  now       the result: value {"paid":140}',
      '  it went on to its end: value {"paid":140}',
      '',
    ]);
    const report = JSON.parse((await replay(id, '--version', '2', '--json')).stdout) as Body;
    expect(report).toMatchObject({ same: false, replayed_version: 2, result: 'value {"paid":140}' });
    expect((await replay('0190d3f2-7d5c-7000-8000-2f6a7c1b9d10')).stderr).toContain('there is no recording');
  });

  test('by a header is one of service_role alone', async () => {
    await postern.deploy('pay', PAY, { db: { role: 'service_role' } });
    const bearer = async (role: string) => ({ authorization: `Bearer ${await postern.token({ role })}` });
    const asked = { 'x-postern-record': 'true' };
    expect(await call(1, { ...asked, ...(await bearer('authenticated')) })).toBe(403);
    expect(await call(1, { ...asked, ...(await bearer('service_role')) })).toBe(200);
    const { rows } = await db.pool.query<{ id: string }>(
      `select invocation_id as id from postern.recordings where outcome = 'ok'`,
    );
    expect((await replay(rows[0]!.id)).code).toBe(0);
  });
});
