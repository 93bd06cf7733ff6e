/** HTTP-01 to HTTP-11 of the threat list against a whole node: real sockets, real sandboxes. */

import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts';
import { sendRaw, startTestServer, type TestServer, value } from '../triggers/http/support.ts';
import { ADMIN_KEY, startTestPostern, type TestPostern } from './support.ts';

let db: TestDatabase;
let postern: TestPostern;

beforeAll(async () => {
  db = await createTestDatabase();
  postern = await startTestPostern(db);
  await deploy('echo', 'export const handler = (event) => event.body;');
});
afterAll(async () => {
  await postern?.stop();
  await db.drop();
});

async function deploy(name: string, source: string, config: Record<string, unknown> = {}): Promise<void> {
  expect(await postern.deploy(name, source, { auth: 'none', ...config })).toMatchObject({ status: 201 });
}

const statuses = (text: string): number[] =>
  [...text.matchAll(/^HTTP\/1\.1 (\d{3})/gm)].map(([, code]) => Number(code));
const head = (target: string, extra = '', method = 'GET') =>
  `${method} ${target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n${extra}\r\n`;
const post = (
  path: string,
  body: string | Uint8Array<ArrayBuffer>,
  headers: Record<string, string> = { 'content-type': 'application/json' },
) => postern.call(path, { method: 'POST', body, headers });
const stillServes = async () => expect(await (await post('/functions/v1/echo', '"here"')).json()).toBe('here');

describe('HTTP-01 slow and vanishing callers', () => {
  let server: TestServer;
  afterEach(() => server?.stop());
  const open = async (bytes = ''): Promise<Socket> => {
    const socket = connect(server.port, '127.0.0.1').on('error', () => {});
    await once(socket, 'connect');
    if (bytes !== '') socket.write(bytes);
    return socket;
  };
  const impatient = async (): Promise<void> => {
    server = await startTestServer({ app: { timeouts: { headersMs: 150, requestMs: 300, keepAliveMs: 100 } } });
    server.functions.add('echo', { auth: 'none' }, () => value(1));
  };

  test.each([
    ['says nothing', ''],
    ['sends half a request line', 'GET /functi'],
    ['sends headers that do not end', 'GET /functions/v1/echo HTTP/1.1\r\nHost: a\r\nX-A: '],
    ['sends a body that does not end', 'POST /functions/v1/echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n{'],
    [
      'sends a chunk that does not end',
      'POST /functions/v1/echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nx',
    ],
  ])('a connection that %s is ended with 408, and no function runs', async (_what, bytes) => {
    await impatient();
    expect(statuses(await server.raw(bytes))).toEqual([408]);
    expect(server.functions.requests).toHaveLength(0);
  });

  test('a body that comes byte by byte is given up at the limit, however steadily it comes', async () => {
    await impatient();
    const socket = await open('POST /functions/v1/echo HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n');
    const drip = setInterval(() => socket.write('x'), 10);
    try {
      await once(socket.resume(), 'close');
      expect(server.functions.requests).toHaveLength(0);
    } finally {
      clearInterval(drip);
    }
  });

  test('a connection that is kept and not used is closed', async () => {
    await impatient();
    const socket = await open('GET /functions/v1/echo HTTP/1.1\r\nHost: a\r\n\r\n');
    await once(socket.resume(), 'close');
    expect(server.functions.requests).toHaveLength(1);
  });

  test('thousands of idle connections keep nobody from being served', { timeout: 60_000 }, async () => {
    server = await startTestServer();
    server.functions.add('echo', { auth: 'none' }, () => value(1));
    const sockets: Socket[] = [];
    try {
      while (sockets.length < 3_000) sockets.push(...(await Promise.all(Array.from({ length: 500 }, () => open()))));
      expect((await server.fetch('/functions/v1/echo')).status).toBe(200);
    } finally {
      for (const socket of sockets) socket.resetAndDestroy();
    }
  });

  test('a caller that closes its side after the request is answered', async () => {
    server = await startTestServer();
    server.functions.add('echo', { auth: 'none' }, () => value(1));
    const socket = await open();
    let text = '';
    socket.on('data', (chunk) => {
      text += chunk;
    });
    socket.end('GET /functions/v1/echo HTTP/1.1\r\nHost: a\r\n\r\n');
    await once(socket, 'close');
    expect(statuses(text)).toEqual([200]);
  });

  test('a caller that resets in the middle of an answer stops nobody', async () => {
    server = await startTestServer();
    server.functions.add('large', { auth: 'none' }, () => value('x'.repeat(5 * 2 ** 20)));
    for (let round = 0; round < 20; round++) {
      const socket = await open('GET /functions/v1/large HTTP/1.1\r\nHost: a\r\n\r\n');
      await once(socket, 'data');
      socket.resetAndDestroy();
    }
    expect((await (await server.fetch('/functions/v1/large')).text()).length).toBe(5 * 2 ** 20 + 2);
  });

  test('a caller that goes away frees the sandbox of its function at once', async () => {
    server = await startTestServer();
    await deploy('waits', 'export const handler = () => new Promise((done) => setTimeout(done, 60_000));', {
      timeout: '70s',
    });
    const running = async () =>
      /postern_invocations_running (\d+)/.exec(
        await (await postern.call('/metrics', { headers: { authorization: `Bearer ${ADMIN_KEY}` } })).text(),
      )?.[1];
    const sockets = await Promise.all(
      Array.from({ length: 5 }, async () => {
        const socket = connect(postern.port, '127.0.0.1');
        await once(socket, 'connect');
        socket.write('GET /functions/v1/waits HTTP/1.1\r\nHost: a\r\n\r\n');
        return socket;
      }),
    );
    await expect.poll(running, { timeout: 10_000 }).toBe('5');
    for (const socket of sockets) socket.resetAndDestroy();
    await expect.poll(running, { timeout: 5_000 }).toBe('0');
    await stillServes();
  });
});

describe('HTTP-02 bodies', () => {
  test('a form of ten thousand parts is not looked into before the function reads it, and costs only the function', {
    timeout: 60_000,
  }, async () => {
    await deploy(
      'parts',
      'export default { fetch: async (request) => Response.json([...(await request.formData())].length) };',
      { timeout: '60s' },
    );
    const part = (index: number) => `--b\r\nContent-Disposition: form-data; name="n${index}"\r\n\r\nv\r\n`;
    const body = `${Array.from({ length: 10_000 }, (_, index) => part(index)).join('')}--b--\r\n`;
    const response = await post('/functions/v1/parts', body, { 'content-type': 'multipart/form-data; boundary=b' });
    expect([response.status, await response.json()]).toEqual([200, 10_000]);
    expect((await post('/functions/v1/echo', body, { 'content-type': 'multipart/form-data; boundary=b' })).status).toBe(
      200,
    );
  });

  test.each([
    ['without a boundary', 'multipart/form-data', '--b\r\n\r\n\r\n--b--'],
    ['that never ends', 'multipart/form-data; boundary=b', '--b\r\nContent-Disposition: form-data; name="a"\r\n\r\nv'],
    ['with an empty boundary', 'multipart/form-data; boundary=', '--\r\n'],
    ['with parts without names', 'multipart/form-data; boundary=b', '--b\r\n\r\nv\r\n--b--\r\n'],
  ])('a form %s is an error of the function, not of the node', async (_what, type, body) => {
    const response = await post('/functions/v1/parts', body, { 'content-type': type });
    expect(response.status).toBe(500);
    expect(await response.json()).toMatchObject({ code: 'FUNCTION_ERROR' });
  });

  test('a compressed body of 6 GB is the few bytes that came', async () => {
    const bomb = new Uint8Array(1_000).fill(0x1f);
    const response = await post('/functions/v1/echo', bomb, {
      'content-type': 'application/json',
      'content-encoding': 'gzip, br',
    });
    expect(await response.json()).toBe(Buffer.from(bomb).toString('base64'));
  });

  test('bytes beyond Content-Length are no part of the body: the connection ends with 400', async () => {
    const text = await sendRaw(
      postern.port,
      'POST /functions/v1/echo HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 1\r\n\r\n12345 /\r\n\r\n',
    );
    expect(statuses(text).at(-1)).toBe(400);
  });

  test('the control API has limits too', async () => {
    const asked = (body: string) =>
      postern.call('/functions', {
        method: 'POST',
        body,
        headers: { authorization: `Bearer ${ADMIN_KEY}`, 'content-type': 'application/json' },
      });
    expect((await asked(`"${'x'.repeat(33 * 2 ** 20)}"`)).status).toBe(413);
    for (const deep of [
      '['.repeat(1e6) + ']'.repeat(1e6),
      `{"config":${'{"a":'.repeat(1e5)}1${'}'.repeat(1e5)}}`,
      `{"manifest":${'{"a":'.repeat(1e5)}1${'}'.repeat(1e5)}}`,
    ])
      expect([400, 422]).toContain((await asked(deep)).status);
  });
});

describe('HTTP-03 what two readers would read differently', () => {
  const smuggled = 'GET /functions/v1/smuggled HTTP/1.1\r\nHost: a\r\n\r\n';
  const chunked = (encoding: string) => head('/functions/v1/echo', `${encoding}\r\n`, 'POST');
  beforeAll(() => deploy('smuggled', 'export const handler = () => console.log("smuggled");'));

  test.each([
    [
      'Content-Length and Transfer-Encoding',
      `${head('/functions/v1/echo', 'Content-Length: 5\r\nTransfer-Encoding: chunked\r\n', 'POST')}0\r\n\r\n${smuggled}`,
    ],
    [
      'Transfer-Encoding and Content-Length',
      `${head('/functions/v1/echo', 'Transfer-Encoding: chunked\r\nContent-Length: 5\r\n', 'POST')}0\r\n\r\n${smuggled}`,
    ],
    [
      'two Content-Length of one value',
      `${head('/functions/v1/echo', 'Content-Length: 0\r\nContent-Length: 0\r\n', 'POST')}${smuggled}`,
    ],
    ['a list in Content-Length', `${head('/functions/v1/echo', 'Content-Length: 0, 0\r\n', 'POST')}${smuggled}`],
    ['Content-Length with a sign', `${head('/functions/v1/echo', 'Content-Length: +0\r\n', 'POST')}${smuggled}`],
    ['Content-Length in hex', `${head('/functions/v1/echo', 'Content-Length: 0x0\r\n', 'POST')}${smuggled}`],
    ['a negative Content-Length', `${head('/functions/v1/echo', 'Content-Length: -1\r\n', 'POST')}${smuggled}`],
    [
      'a Content-Length beyond 64 bits',
      `${head('/functions/v1/echo', 'Content-Length: 18446744073709551616\r\n', 'POST')}${smuggled}`,
    ],
    ['an encoding that is not chunked', `${chunked('Transfer-Encoding: xchunked')}${smuggled}`],
    ['chunked before another encoding', `${chunked('Transfer-Encoding: chunked, identity')}0\r\n\r\n${smuggled}`],
    ['chunked behind a vertical tab', `${chunked('Transfer-Encoding:\x0bchunked')}0\r\n\r\n${smuggled}`],
    ['a space before the colon', `${chunked('Transfer-Encoding : chunked')}0\r\n\r\n${smuggled}`],
    ['a space before the name', `GET /functions/v1/echo HTTP/1.1\r\n Host: a\r\n\r\n${smuggled}`],
    ['a header without a colon', `${head('/functions/v1/echo', 'X-A\r\n')}${smuggled}`],
    ['a header without a name', `${head('/functions/v1/echo', ': x\r\n')}${smuggled}`],
    ['a chunk size with a sign', `${chunked('Transfer-Encoding: chunked')}+0\r\n\r\n${smuggled}`],
    ['a chunk size with a line feed alone', `${chunked('Transfer-Encoding: chunked')}1\nx\r\n0\r\n\r\n${smuggled}`],
    ['a chunk size beyond 64 bits', `${chunked('Transfer-Encoding: chunked')}10000000000000000\r\n\r\n${smuggled}`],
    ['a chunk longer than it says', `${chunked('Transfer-Encoding: chunked')}1\r\nxx\r\n0\r\n\r\n${smuggled}`],
    ['line feeds alone between headers', `GET /functions/v1/echo HTTP/1.1\nHost: a\n\n${smuggled}`],
    ['NUL in the target', `GET /functions/v1/echo\0 HTTP/1.1\r\nHost: a\r\n\r\n${smuggled}`],
    ['a space in the target', `GET /functions/v1/echo x HTTP/1.1\r\nHost: a\r\n\r\n${smuggled}`],
    ['another protocol version', `GET /functions/v1/echo HTTP/3.7\r\nHost: a\r\n\r\n${smuggled}`],
    ['an authority for a target', head('a:80', '', 'GET')],
  ])('%s: 400, and what follows is not a request', async (_what, bytes) => {
    expect(statuses(await sendRaw(postern.port, bytes))).toEqual([400]);
    expect(postern.logged.filter((line) => line.includes('smuggled'))).toEqual([]);
  });
});

describe('HTTP-04 paths of the control API', () => {
  beforeAll(() => postern.admin('PUT', '/secrets/SHIELDED', { value: 'x' }));
  test.each([
    '/functions/..%2fsecrets%2fSHIELDED',
    '/functions/%2e%2e/secrets/SHIELDED',
    '//secrets/SHIELDED',
    '/secrets//SHIELDED',
    '/SECRETS/SHIELDED',
    '/secrets/SHIELDED/',
    '/secrets/%53HIELDED%00',
    '/secrets/%c0%ae',
    '/secrets/SHIELDED;x',
    '/secrets/%zz',
    `/secrets/${'x'.repeat(600)}`,
  ])('DELETE %s deletes nothing', async (target) => {
    const text = await sendRaw(postern.port, head(target, `Authorization: Bearer ${ADMIN_KEY}\r\n`, 'DELETE'));
    expect([400, 404]).toContain(statuses(text)[0]);
    expect((await postern.admin('GET', '/secrets/SHIELDED')).status).toBe(200);
  });
});

describe('HTTP-06 JSON as the function has it', () => {
  test('names of the prototype are names like others, and nothing is polluted', async () => {
    await deploy(
      'polluted',
      `export const handler = ({ body }) => [Object.keys(body), Object.getPrototypeOf(body) === Object.prototype, {}.admin ?? null, body.admin ?? null];`,
    );
    const body = '{"__proto__":{"admin":true},"constructor":{"prototype":{"admin":true}}}';
    const answer = [['__proto__', 'constructor'], true, null, null];
    expect(await (await post('/functions/v1/polluted', body)).json()).toEqual(answer);
    expect(await (await post('/functions/v1/polluted', '{}')).json()).toEqual([[], true, null, null]);
    expect(({} as { admin?: unknown }).admin).toBeUndefined();
  });

  test('a fetch handler has the bytes that came: duplicate keys, large numbers, spaces', async () => {
    await deploy('bytes', 'export default { fetch: async (request) => new Response(await request.text()) };');
    const body = ' {"a":1, "a":2,\t"n":12345678901234567890.10, "\\u0061":1e400}\n';
    expect(await (await post('/functions/v1/bytes', body)).text()).toBe(body);
  });

  test('a deploy can not be talked into another configuration by names of the prototype', async () => {
    const body =
      '{"name":"shut","source":"export const handler = () => 1;","config":{"__proto__":{"auth":"none"}},"__proto__":{"auth":"none"}}';
    const deployed = await postern.call('/functions', {
      method: 'POST',
      body,
      headers: { authorization: `Bearer ${ADMIN_KEY}`, 'content-type': 'application/json' },
    });
    if (deployed.status === 201) expect((await postern.call('/functions/v1/shut')).status).toBe(401);
    else expect(deployed.status).toBe(422);
  });
});

describe('HTTP-07 what a function says of its answer', () => {
  const raw = async (response: string): Promise<string> => {
    await deploy('says', `export const handler = () => (${response});`);
    return sendRaw(postern.port, head('/functions/v1/says'));
  };

  test.each([
    ['a status of 99', '{ statusCode: 99 }'],
    ['a status of 1000', '{ statusCode: 1000 }'],
    ['a status of 101', '{ statusCode: 101, headers: { upgrade: "x", connection: "upgrade" } }'],
    ['a status of 200.5', '{ statusCode: 200.5 }'],
    ['a line break in a value', '{ statusCode: 200, headers: { "x-a": "1\\r\\nset-cookie: a=b" } }'],
    ['a line break in a name', '{ statusCode: 200, headers: { "x-a: 1\\r\\nset-cookie": "a=b" } }'],
    ['a line feed in Location', '{ statusCode: 302, headers: { location: "/x\\nset-cookie: a=b" } }'],
    [
      'a line break in Content-Type',
      '{ statusCode: 200, headers: { "content-type": "text/html\\r\\n\\r\\n<script>" } }',
    ],
    [
      'a line break in one of several cookies',
      '{ statusCode: 200, headers: { "set-cookie": ["ok=1", "a=b\\r\\nx: y"] } }',
    ],
    [
      'letters that become line breaks in Latin-1',
      '{ statusCode: 200, headers: { "x-a": "1\\u010d\\u010aset-cookie: a=b" } }',
    ],
    ['NUL in a value', '{ statusCode: 200, headers: { "x-a": "1\\u0000" } }'],
    ['an empty name', '{ statusCode: 200, headers: { "": "1" } }'],
  ])('%s is 500 INVALID_RESULT, and nothing of it is sent', async (_what, response) => {
    const text = await raw(response);
    expect(statuses(text)).toEqual([500]);
    expect(text).toContain('"code":"INVALID_RESULT"');
    expect(text).not.toMatch(/^(?:set-cookie|x-a):|<script>/im);
  });

  test.each([204, 205, 304])('%d has no body, whatever the function gives and says of its length', async (status) => {
    const text = await raw(
      `{ statusCode: ${status}, headers: { "content-length": "5", "transfer-encoding": "chunked" }, body: "GET /x" }`,
    );
    expect(statuses(text)).toEqual([status]);
    expect(text.split('\r\n\r\n')[1]).toBe('');
    expect(text).not.toMatch(/transfer-encoding|content-length: [1-9]/i);
  });

  test('framing, connection and hop-by-hop headers are ours; cookies and Location are its own', async () => {
    const text = await raw(`{ statusCode: 302, headers: {
      "Content-Length": "1000", "Transfer-Encoding": "chunked", Connection: "keep-alive, x-hop", "Keep-Alive": "timeout=999",
      Trailer: "x-t", Upgrade: "h2c", TE: "trailers", "Proxy-Authenticate": "Basic", "X-Hop": "1", "X-Relay-Error": "true",
      Location: "https://example.com/?a=1", "Set-Cookie": ["a=1; HttpOnly", "b=2"], "X-Own": "1" }, body: "moved" }`);
    const [headers, body] = text.split('\r\n\r\n') as [string, string];
    expect(statuses(text)).toEqual([302]);
    expect(body).toBe('moved');
    expect(headers).toMatch(/^content-length: 5$/im);
    expect(headers).toMatch(/^location: https:\/\/example\.com\/\?a=1$/im);
    expect(headers.match(/^set-cookie: .*$/gim)).toEqual(['set-cookie: a=1; HttpOnly', 'set-cookie: b=2']);
    expect(headers).toMatch(/^x-own: 1$/im);
    expect(headers).not.toMatch(/transfer-encoding|keep-alive|trailer|upgrade|^te:|proxy-|x-hop|x-relay/im);
  });
});

describe('HTTP-10 what a function throws', () => {
  test.each([
    ['null', 'null'],
    ['undefined', 'undefined'],
    ['a symbol', 'Symbol("x")'],
    ['a bigint', '10n'],
    ['a function', '() => 1'],
    ['an object without a prototype', 'Object.create(null)'],
    ['an object whose message throws', '{ get message() { throw new Error("inner"); }, get stack() { throw 1; } }'],
    ['an object whose toString throws', '{ toString() { throw 1; }, [Symbol.toPrimitive]() { throw 2; } }'],
    [
      'an error whose fields throw',
      'Object.defineProperties(new Error("x"), { message: { get() { throw 1; } }, name: { get() { throw 2; } }, stack: { get() { throw 3; } }, cause: { get() { throw 4; } } })',
    ],
    [
      'an error whose fields are objects',
      'Object.assign(new Error("x"), { message: { toString() { throw 1; } }, name: [], stack: { a: 1 }, code: {} })',
    ],
    ['an error that is its own cause', '(() => { const e = new Error("x"); e.cause = e; return e; })()'],
    [
      'a proxy that throws at everything',
      'new Proxy({}, { get() { throw 1; }, getPrototypeOf() { throw 2; }, has() { throw 3; }, ownKeys() { throw 4; } })',
    ],
    ['a revoked proxy', '(() => { const { proxy, revoke } = Proxy.revocable({}, {}); revoke(); return proxy; })()'],
    ['a message of 10 MB', 'new Error("x".repeat(10 * 2 ** 20))'],
    ['a message with line breaks and control characters', 'new Error("a\\r\\nb\\u0000\\u001b[2J\\ud800")'],
    [
      'a record like those of the host',
      '{ code: "INTERNAL_ERROR", fault: "host", message: "x", outcome: "ok", statusCode: 200 }',
    ],
  ])('%s is 500 FUNCTION_ERROR of a few KB, without a stack, and with the id of the request', async (_what, thrown) => {
    await deploy('throws', `export const handler = () => { throw ${thrown}; };`, { fileName: 'secret-file.js' });
    const response = await postern.call('/functions/v1/throws');
    const text = await response.text();
    expect(JSON.parse(text)).toEqual({
      error: '500 Internal Server Error',
      code: 'FUNCTION_ERROR',
      message: expect.any(String),
      request_id: response.headers.get('x-request-id'),
    });
    expect(response.status).toBe(500);
    expect(text.length).toBeLessThan(10_000);
    expect(text).not.toMatch(/secret-file|\bat handler|\/tmp\/|node_modules/);
    await stillServes();
  });

  test('a getter that never ends is stopped at the limit of the function', async () => {
    await deploy('endless', 'export const handler = () => { throw { get message() { for (;;); } }; };', {
      timeout: '1s',
      cpu: 'unlimited',
    });
    const response = await postern.call('/functions/v1/endless');
    expect([response.status, ((await response.json()) as { code: string }).code]).toEqual([504, 'FUNCTION_TIMEOUT']);
    await stillServes();
  });
});

describe('HTTP-11 content types', () => {
  test.each([
    ['application/json; charset=utf-16', '{"a":1}', '{"a":1}'],
    ['APPLICATION/JSON', '{"a":1}', '{"a":1}'],
    ['text/plain', '{"a":1}', '"{\\"a\\":1}"'],
    ['text/plain; charset=utf-7', '+AHs-', '"K0FIcy0="'],
    ['text/html; charset="utf-8"', '<p>', '"<p>"'],
  ])('%s: the function has %s as %s', async (type, body, expected) => {
    expect(await (await post('/functions/v1/echo', body, { 'content-type': type })).text()).toBe(expected);
  });

  test('JSON that is none is refused however its type is written, before the function', async () => {
    for (const type of ['application/json', 'application/json\t;', 'application/json ;x', 'Application/Problem+JSON'])
      expect(
        statuses(
          await sendRaw(
            postern.port,
            `${head('/functions/v1/echo', `Content-Type: ${type}\r\nContent-Length: 2\r\n`, 'POST')}{]`,
          ),
        ),
      ).toEqual([400]);
  });
});
