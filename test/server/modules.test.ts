import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { wasm } from '../runtime/metering/wasm-builder.ts';
import { compileC } from '../support/compile-c.ts';
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts';
import { ADMIN_KEY, startTestPostern, type TestPostern } from './support.ts';

/** Answers by the word `do` of the event; `say` of it is echoed. */
const PROGRAM = `
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "postern.h"
static char event[1 << 16];
static int is(const char *word) { char key[64]; snprintf(key, sizeof key, "\\"do\\":\\"%s\\"", word); return strstr(event, key) != 0; }
int main(void) {
  size_t length = fread(event, 1, sizeof event - 1, stdin);
  if (is("echo")) fwrite(event, 1, length, stdout);
  if (is("status")) printf("{\\"statusCode\\":418,\\"headers\\":{\\"x-tea\\":\\"yes\\"},\\"body\\":\\"short and stout\\"}");
  if (is("log")) { fprintf(stderr, "a line of C\\n"); printf("null"); }
  if (is("env")) printf("\\"%s\\"", getenv("GREETING"));
  if (is("exit")) exit(3);
  if (is("trap")) __builtin_trap();
  if (is("loop")) for (volatile int i = 0;; i++);
  if (is("grow")) for (;;) { volatile char *p = malloc(1 << 20); if (!p) abort(); *p = 1; }
  if (is("query")) {
    const char *request = "{\\"op\\":\\"db.query\\",\\"sql\\":\\"select current_user::text as who, $1::int + 1 as next\\",\\"params\\":[41]}";
    fputs(postern_call(request), stdout);
  }
  return 0;
}`;

describe('a WASI preview 1 command', () => {
  let db: TestDatabase;
  let node: TestPostern;
  let module: string;

  const deploy = (body: Record<string, unknown>) => node.admin('POST', '/functions', body);
  const run = async (event: Record<string, unknown>, name = 'program'): Promise<{ status: number; body: unknown }> => {
    const response = await node.call(`/invoke/${name}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: `Bearer ${await node.token()}` },
      body: JSON.stringify(event),
    });
    const text = await response.text();
    return {
      status: response.status,
      body: text.startsWith('{') || text.startsWith('"') || text === 'null' ? JSON.parse(text) : text,
    };
  };

  beforeAll(async () => {
    db = await createTestDatabase();
    node = await startTestPostern(db);
    module = Buffer.from(await compileC(PROGRAM)).toString('base64');
    const limits = { timeout: '1s', cpu: 'unlimited', memory: '16MB', env: ['GREETING'] };
    expect(await deploy({ module, fileName: 'program.wasm', ...limits })).toMatchObject({
      status: 201,
      body: { name: 'program', created: true },
    });
  });
  afterAll(async () => {
    await node?.stop();
    await db?.drop();
  });

  test('gets the event on standard input and answers on standard output', async () => {
    const event = { do: 'echo', text: 'ünïcode "quotes"' };
    expect(await run(event)).toEqual({ status: 200, body: event });
  });

  test('answers a status, reads its variables, and logs on standard error', async () => {
    const teapot = await node.call('/functions/v1/invoke/program', {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: `Bearer ${await node.token()}` },
      body: '{"do":"status"}',
    });
    expect([teapot.status, teapot.headers.get('x-tea'), await teapot.text()]).toEqual([418, 'yes', 'short and stout']);
    expect(await run({ do: 'env' })).toEqual({ status: 200, body: 'hello' });
    expect(await run({ do: 'log' })).toMatchObject({ status: 200 });
    expect(node.logged.join('')).toMatch(/"source":"function:program","message":"a line of C"/);
  });

  test('reaches the database as its caller', async () => {
    const { body } = await run({ do: 'query' });
    expect(body).toMatchObject({ ok: true, value: { rows: [['authenticated', 42]] } });
  });

  test.each([
    ['exit', 500, 'FUNCTION_ERROR'],
    ['trap', 500, 'FUNCTION_PANIC'],
    ['loop', 504, 'FUNCTION_TIMEOUT'],
    ['grow', 507, 'FUNCTION_OUT_OF_MEMORY'],
  ])('that does %s ends as any function does, and the next call is served', async (what, status, code) => {
    expect(await run({ do: what })).toMatchObject({ status, body: { code } });
    expect(await run({ do: 'echo' })).toMatchObject({ status: 200 });
  });

  test('may have any trigger', async () => {
    const trigger = { type: 'schedule', cron: '0 3 * * *' };
    expect(await deploy({ module, name: 'nightly', trigger })).toMatchObject({ status: 201 });
  });

  test('the same module is the same version, another engine builds it from what was stored', async () => {
    const again = await deploy({
      module,
      fileName: 'program.wasm',
      timeout: '1s',
      cpu: 'unlimited',
      memory: '16MB',
      env: ['GREETING'],
    });
    expect(again).toMatchObject({ status: 201, body: { created: false } });
    await db.pool.query('delete from postern.images');
    const other = await startTestPostern(db);
    const response = await other.call('/invoke/program', {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: `Bearer ${await other.token()}` },
      body: '{"do":"echo"}',
    });
    expect([response.status, await response.json()]).toEqual([200, { do: 'echo' }]);
    await other.stop();
  });

  test.each([
    ['no module', Buffer.from('hello').toString('base64'), /not WebAssembly/],
    ['no base64', 'a b c', /base64 of a WebAssembly module/],
    ['nothing', '', /base64 of a WebAssembly module/],
    // (module)
    ['an empty module', 'AGFzbQEAAAA=', /exports no function _start/],
  ])('%s is refused with what is wrong', async (_what, given, message) => {
    const answer = await deploy({ module: given, name: 'refused' });
    expect(answer.status).toBe(422);
    expect(answer.body.message).toMatch(message);
  });

  test('DEP-01 more than 5 MB of source is refused in every language', async () => {
    for (const language of ['python', 'assemblyscript']) {
      const answer = await deploy({ name: 'refused', language, source: `#${'x'.repeat(5 * 2 ** 20)}` });
      expect(answer.status).toBe(422);
      expect(answer.body.message).toBe('the source is 5 MB; at most 5 MB are allowed');
    }
  });

  test('a module of a hundred megabytes is refused, and the node answers others meanwhile', async () => {
    const huge = `{"name":"refused","module":"${'AAAA'.repeat(25 * 2 ** 20)}"}`;
    const headers = { 'content-type': 'application/json', authorization: `Bearer ${ADMIN_KEY}` };
    const upload = node.call('/functions', { method: 'POST', headers, body: huge });
    expect(await run({ do: 'echo' })).toEqual({ status: 200, body: { do: 'echo' } });
    expect((await upload).status).toBe(413);
  });

  test('a module of a hundred thousand exports runs, and harms nobody', async () => {
    const exports = Array.from({ length: 100_000 }, (_, n) => ({ name: `e${n}`, kind: 0, index: 0 }));
    const bytes = wasm({ functions: [{ code: [], export: '_start' }], memory: { min: 1 }, exports });
    const answer = await deploy({ name: 'many', module: Buffer.from(bytes).toString('base64') });
    expect(answer.status, JSON.stringify(answer.body)).toBe(201);
    expect(await run({}, 'many')).toMatchObject({ status: 200 });
    expect(await run({ do: 'echo' })).toEqual({ status: 200, body: { do: 'echo' } });
  });

  test('a module beside source, source as wasm and a module as JavaScript are refused', async () => {
    for (const body of [
      { module, source: 'x' },
      { source: 'x', language: 'wasm' },
      { module, language: 'javascript' },
      { moduleFile: 'x.wasm' },
    ]) {
      expect(await deploy({ name: 'refused', ...body }), JSON.stringify(Object.keys(body))).toMatchObject({
        status: 422,
        body: { code: 'INVALID_FUNCTION' },
      });
    }
  });
});
