import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { PosternError } from '../../../runtime/index.ts';
import { bearer, http, startTestServer, type TestServer, value } from './support.ts';

let server: TestServer;

beforeAll(async () => {
  server = await startTestServer();
  server.functions.add('echo', { auth: 'none' }, (event) => value(event));
  server.functions.add('hello', { auth: 'none' }, () => value({ hello: 'world' }));
});
afterAll(() => server.stop());

type Event = Record<string, unknown>;
const eventOf = async (path: string, init?: RequestInit): Promise<Event> =>
  (await server.fetch(path, init)).json() as Promise<Event>;

describe('the event', () => {
  test('has the shape of the specification', async () => {
    const event = await eventOf('/functions/v1/invoke/echo?a=1&b=2&b=3&__proto__=x', {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'x-custom': 'é' },
      body: '{"key":"value"}',
    });
    expect(event).toMatchObject({
      trigger: 'http',
      method: 'POST',
      path: '/functions/v1/invoke/echo',
      url: `${server.url}/functions/v1/invoke/echo?a=1&b=2&b=3&__proto__=x`,
      subpath: '',
      headers: { 'content-type': 'application/json' },
      body: { key: 'value' },
      user_id: null,
      request_id: expect.stringMatching(/^[0-9a-f-]{36}$/),
    });
    expect(Object.entries(event.query as object)).toEqual([
      ['a', '1'],
      ['b', ['2', '3']],
      ['__proto__', 'x'],
    ]);
  });

  test.each(['GET', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'QUERY', 'PROPFIND'])(
    'any method runs the function: %s',
    async (method) => {
      // QUERY must say what it carries (RFC 10008); Fastify refuses it otherwise.
      const headers: Record<string, string> = method === 'QUERY' ? { 'content-type': 'text/plain' } : {};
      expect(await eventOf('/functions/v1/echo', { method, headers })).toMatchObject({ method, body: null });
    },
  );

  test('a path after the name is handed on as it was sent, under both prefixes', async () => {
    for (const prefix of ['/functions/v1/invoke/echo', '/functions/v1/echo']) {
      expect(await eventOf(`${prefix}/users/%41%2Fb?x`)).toMatchObject({
        path: `${prefix}/users/%41%2Fb`,
        subpath: '/users/%41%2Fb',
        query: { x: '' },
      });
    }
  });

  test('text is a string, bytes are base64, an empty body is null', async () => {
    const send = (body: string | Uint8Array<ArrayBuffer>, type?: string) =>
      eventOf('/functions/v1/echo', {
        method: 'POST',
        body,
        headers: type === undefined ? {} : { 'content-type': type },
      });
    expect(await send('héllo "x"', 'text/plain; charset=utf-8')).toMatchObject({ body: 'héllo "x"' });
    expect(await send('a=1&b=2', 'application/x-www-form-urlencoded')).toMatchObject({ body: 'a=1&b=2' });
    expect(await send(new Uint8Array([0, 255]), 'application/octet-stream')).toMatchObject({
      body: 'AP8=',
      isBase64Encoded: true,
    });
    expect(await send(new Uint8Array([0xc3, 0x28]), 'text/plain')).toMatchObject({
      body: 'wyg=',
      isBase64Encoded: true,
    });
    expect(await send('', 'application/json')).toMatchObject({ body: null });
  });

  test('the text of a JSON body is the last thing in the event, at bodyAt', async () => {
    const body = ' {"n": 12345678901234567890, "n": 1.0e2}\n';
    await server.fetch('/functions/v1/echo', { method: 'POST', body, headers: { 'content-type': 'application/json' } });
    const { eventJson, bodyAt } = server.functions.last;
    expect(eventJson.slice(bodyAt, -1)).toBe(body);
    await server.fetch('/functions/v1/echo', { method: 'POST', body: 'text' });
    expect(server.functions.last.bodyAt).toBeUndefined();
  });

  test('a public origin replaces the Host header in the url', async () => {
    const other = await startTestServer({ publicOrigin: 'https://fn.example.com' });
    try {
      other.functions.add('echo', { auth: 'none' }, (event) => value(event));
      const event = (await (await other.fetch('/functions/v1/echo/x')).json()) as Event;
      expect(event.url).toBe('https://fn.example.com/functions/v1/echo/x');
    } finally {
      await other.stop();
    }
  });

  test("a caller's request id is taken if it is a UUID and answered back", async () => {
    const id = '6E1F8B0A-7E0B-4C5E-9A52-3B3F8E3C2A11';
    const response = await server.fetch('/functions/v1/echo', { headers: { 'x-request-id': id } });
    expect(response.headers.get('x-request-id')).toBe(id.toLowerCase());
    expect(await response.json()).toMatchObject({ request_id: id.toLowerCase() });
    const other = await server.fetch('/functions/v1/echo', { headers: { 'x-request-id': 'x'.repeat(5_000) } });
    expect(other.headers.get('x-request-id')).toMatch(/^[0-9a-f-]{36}$/);
  });
});

describe('the response', () => {
  const answer = async (name: string, result: Parameters<typeof server.functions.add>[2], init?: RequestInit) => {
    server.functions.add(name, { auth: 'none' }, result);
    return server.fetch(`/functions/v1/invoke/${name}`, init);
  };

  test('a value is JSON with status 200', async () => {
    const response = await server.fetch('/functions/v1/hello');
    expect(response.status).toBe(200);
    expect(response.headers.get('content-type')).toBe('application/json; charset=utf-8');
    expect(await response.text()).toBe('{"hello":"world"}');
  });

  test('a response object has its status, headers and body; bytes stay bytes', async () => {
    const response = await answer('bytes', () =>
      http(
        201,
        [
          ['Content-Type', 'image/png'],
          ['X-A', '1'],
          ['x-a', '2'],
        ],
        new Uint8Array([0, 255, 1]),
      ),
    );
    expect(response.status).toBe(201);
    expect(response.headers.get('content-type')).toBe('image/png');
    expect(response.headers.get('x-a')).toBe('1, 2');
    expect([...(await response.bytes())]).toEqual([0, 255, 1]);
  });

  test('several cookies stay several', async () => {
    const response = await answer('cookies', () =>
      http(200, [
        ['Set-Cookie', 'a=1; Path=/'],
        ['set-cookie', 'b=2'],
      ]),
    );
    expect(response.headers.getSetCookie()).toEqual(['a=1; Path=/', 'b=2']);
  });

  test.each([204, 205, 304])('%d has no body', async (status) => {
    const response = await answer('empty', () => http(status, [['content-type', 'text/plain']], 'not to be sent'));
    expect(response.status).toBe(status);
    expect(await response.text()).toBe('');
  });

  test('HEAD has the headers and no body, and the connection goes on', async () => {
    server.functions.add('head', { auth: 'none' }, () => http(200, [['x-a', '1']], 'four'));
    const text = await server.raw(
      'HEAD /functions/v1/head HTTP/1.1\r\nHost: a\r\n\r\nGET /functions/v1/hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n',
    );
    expect(text).toMatch(/^HTTP\/1\.1 200 OK\r\n(?:(?!\r\n\r\n)[\s\S])*x-a: 1[\s\S]*?\r\n\r\nHTTP\/1\.1 200 OK\r\n/);
    expect(text).not.toContain('four');
  });

  test('a function can not say another request id than the one in logs and records', async () => {
    server.functions.add('renamed', { auth: 'none' }, () => http(200, [['X-Request-Id', 'mine']], 'body'));
    const response = await server.fetch('/functions/v1/renamed');
    expect(response.headers.get('x-request-id')).toBe(server.functions.last.requestId);
  });

  test('hop-by-hop headers, framing and what Connection names are dropped', async () => {
    server.functions.add('framing', { auth: 'none' }, () =>
      http(
        200,
        [
          ['Content-Length', '1'],
          ['Transfer-Encoding', 'chunked'],
          ['Connection', 'close, x-secret'],
          ['Keep-Alive', 'x'],
          ['X-Secret', 's'],
          ['x-ok', 'y'],
        ],
        'body',
      ),
    );
    const text = await server.raw('GET /functions/v1/framing HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n');
    expect(text).toMatch(/content-length: 4\r\n/i);
    expect(text).toContain('x-ok: y');
    expect(text).not.toMatch(/transfer-encoding|x-secret|keep-alive: x/i);
  });

  test.each([
    ['status 99', http(99)],
    ['status 101', http(101)],
    ['status 199', http(199)],
    ['status 600', http(600)],
    ['status 200.5', http(200.5)],
    ['status NaN', http(Number.NaN)],
    ['a line break in a value', http(200, [['x-a', 'a\r\nset-cookie: b=1']])],
    ['a control character in a value', http(200, [['x-a', 'a\0b']])],
    ['a character beyond Latin-1 in a value', http(200, [['x-a', '☃']])],
    ['a name with a space', http(200, [['x a', 'b']])],
    ['an empty name', http(200, [['', 'b']])],
    ['a name with a colon', http(200, [['x:', 'b']])],
    [
      'too many headers',
      http(
        200,
        Array.from({ length: 201 }, (_, index) => [`x-${index}`, ''] as const),
      ),
    ],
    ['too large headers', http(200, [['x-a', 'a'.repeat(40_000)]])],
    ['a body over 6 MB', http(200, [], 'x'.repeat(6 * 2 ** 20 + 1))],
    ['a body over 6 MB in bytes, under it in characters', http(200, [], 'é'.repeat(3 * 2 ** 20 + 1))],
  ])('HTTP-07 %s is INVALID_RESULT', async (_what, response) => {
    const answered = await answer('invalid', () => response);
    expect(answered.status).toBe(500);
    expect(await answered.json()).toMatchObject({ code: 'INVALID_RESULT', error: '500 Internal Server Error' });
    expect(answered.headers.get('set-cookie')).toBeNull();
  });

  test('a value of exactly 6 MB goes through', async () => {
    const response = await answer('large', () => ({ kind: 'value', json: `"${'x'.repeat(6 * 2 ** 20 - 2)}"` }));
    expect((await response.text()).length).toBe(6 * 2 ** 20);
  });
});

describe('POST /invoke/{id}', () => {
  const post = (id: string, body?: string) =>
    server.fetch(`/invoke/${id}`, { method: 'POST', ...(body === undefined ? {} : { body }) });

  test('hands the body over as the event and answers the bare result', async () => {
    const response = await post('echo', '{"n":1.0}');
    expect(server.functions.last).toMatchObject({ eventJson: '{"n":1.0}', trigger: 'manual' });
    expect(await response.text()).toBe('{"n":1}');
    expect(await (await post('echo')).text()).toBe('null');
  });

  test('accepts the id of the active version and no other', async () => {
    const { versionId } = server.functions.catalog.active('hello');
    expect(await (await post(versionId)).json()).toEqual({ hello: 'world' });
    expect((await post('f'.repeat(64))).status).toBe(404);
  });

  test('answers a response object as it was returned', async () => {
    server.functions.add('responds', { auth: 'none' }, () => http(201, [['a', '1']], 'x'));
    const response = await post('responds');
    expect(response.status).toBe(200);
    expect(await response.json()).toEqual({ statusCode: 201, headers: { a: '1' }, body: 'x' });
  });

  test('refuses what is not JSON, whatever the content type, and needs the token that the function needs', async () => {
    expect((await post('echo', 'not json')).status).toBe(400);
    server.functions.add('closed', {}, () => value(1));
    expect((await post('closed')).status).toBe(401);
    expect((await server.fetch('/invoke/echo')).status).toBe(404);
  });
});

describe('HTTP-10 errors', () => {
  test("a function's own message is shown, never its stack", async () => {
    server.functions.add('throws', { auth: 'none' }, () => {
      throw new PosternError('FUNCTION_ERROR', 'card declined', {
        guestName: 'TypeError',
        guestStack: 'at secret.ts:1:1',
      });
    });
    const response = await server.fetch('/functions/v1/throws');
    expect(response.status).toBe(500);
    const body = await response.json();
    expect(body).toEqual({
      error: '500 Internal Server Error',
      message: 'card declined',
      code: 'FUNCTION_ERROR',
      request_id: response.headers.get('x-request-id'),
    });
  });

  test('a huge message is shortened', async () => {
    server.functions.add('verbose', { auth: 'none' }, () => {
      throw new PosternError('FUNCTION_ERROR', 'x'.repeat(1e6));
    });
    expect((await (await server.fetch('/functions/v1/verbose')).text()).length).toBeLessThan(5_000);
  });

  test('a fault of the host is told by its code alone', async () => {
    server.functions.add('broken', { auth: 'none' }, () => {
      throw new Error('connect ECONNREFUSED postgres://user:password@10.0.0.1/x at /srv/postern/x.ts');
    });
    const response = await server.fetch('/functions/v1/broken');
    expect(response.status).toBe(500);
    expect(await response.json()).toMatchObject({ code: 'INTERNAL_ERROR', message: 'a defect in Postern' });
  });

  test('an overloaded node says when to come back', async () => {
    server.functions.add('busy', { auth: 'none' }, () => {
      throw new PosternError('OVERLOADED', 'full', { details: { retryAfterMs: 2_500 } });
    });
    const response = await server.fetch('/functions/v1/busy');
    expect(response.status).toBe(503);
    expect(response.headers.get('retry-after')).toBe('3');
  });

  test('an unknown function is 404', async () => {
    const response = await server.fetch('/functions/v1/invoke/nobody');
    expect(response.status).toBe(404);
    expect(await response.json()).toMatchObject({ code: 'FUNCTION_NOT_FOUND' });
  });
});

describe('while a request is under way', () => {
  test('a caller that goes away aborts the invocation', async () => {
    const started = Promise.withResolvers<AbortSignal>();
    server.functions.add('slow', { auth: 'none' }, async (_event, { signal }) => {
      started.resolve(signal!);
      await new Promise((resolve) => signal!.addEventListener('abort', resolve));
      return value(null);
    });
    const caller = new AbortController();
    const asking = server.fetch('/functions/v1/slow', { signal: caller.signal }).catch(() => 'gone');
    const signal = await started.promise;
    expect(signal.aborted).toBe(false);
    caller.abort();
    expect(await asking).toBe('gone');
    await expect.poll(() => signal.aborted).toBe(true);
  });

  test('an answered invocation is not aborted afterwards', async () => {
    await (await server.fetch('/functions/v1/hello')).text();
    await sleep(0);
    expect(server.functions.last.signal?.aborted).toBe(false);
  });

  test('a deploy during the upload that closes the function to strangers keeps them out', async () => {
    server.functions.add('closing', { auth: 'none' }, () => value('open'));
    const reachedServer = server.raw(
      'POST /functions/v1/closing HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n',
    );
    void reachedServer;
    const { connect } = await import('node:net');
    const socket = connect(server.port, '127.0.0.1');
    const text = new Promise<string>((resolve) => {
      let all = '';
      socket.on('data', (chunk) => {
        all += chunk;
        // The request's head has been let in; now the function closes, then the body comes.
        if (all.includes('100 Continue') && !all.includes('HTTP/1.1 4')) {
          server.functions.add('closing', { auth: 'required' }, () => value('closed'));
          setImmediate(() => socket.write('{}'));
        }
      });
      socket.on('close', () => resolve(all));
    });
    socket.write(
      'POST /functions/v1/closing HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n',
    );
    expect(await text).toContain('401 Unauthorized');
  });

  test('ISO-16 a chain of functions that call one another is cut', async () => {
    const call = (depth: string) => server.fetch('/functions/v1/echo', { headers: { 'x-postern-depth': depth } });
    expect((await call('16')).status).toBe(200);
    expect(server.functions.last.depth).toBe(16);
    expect((await call('17')).status).toBe(403);
    expect((await call('-1')).status).toBe(200);
    expect(server.functions.last.depth).toBe(0);
  });
});

describe('CORS', () => {
  const origin = 'https://app.example.com';
  const preflight = {
    method: 'OPTIONS',
    headers: {
      origin,
      'access-control-request-method': 'POST',
      'access-control-request-headers': 'authorization, x-client-info, apikey',
    },
  };

  test('functions that need a token may be called from any page, never with credentials', async () => {
    server.functions.add('private', {}, () => value(1));
    const response = await server.fetch('/functions/v1/private', preflight);
    expect(response.status).toBe(204);
    expect(response.headers.get('access-control-allow-origin')).toBe('*');
    expect(response.headers.get('access-control-allow-headers')).toBe('authorization, x-client-info, apikey');
    expect(response.headers.get('access-control-allow-credentials')).toBeNull();
    const called = await server.fetch('/functions/v1/private', { headers: { origin, ...(await bearer()) } });
    expect(called.headers.get('access-control-allow-origin')).toBe('*');
    const refused = await server.fetch('/functions/v1/private', { headers: { origin } });
    expect(refused.status).toBe(401);
    expect(refused.headers.get('access-control-allow-origin')).toBe('*');
  });

  test('functions without a token answer their preflights themselves', async () => {
    server.functions.add('own-cors', { auth: 'none' }, () =>
      http(204, [['access-control-allow-origin', 'https://own.example']]),
    );
    const response = await server.fetch('/functions/v1/own-cors', preflight);
    expect(response.headers.get('access-control-allow-origin')).toBe('https://own.example');
    expect(
      (await server.fetch('/functions/v1/hello', { headers: { origin } })).headers.get('access-control-allow-origin'),
    ).toBeNull();
  });

  test('a list of origins is for every function and names the origin', async () => {
    const listed = await startTestServer({ cors: [origin] });
    try {
      listed.functions.add('hello', { auth: 'none' }, () => value(1));
      const allowed = await listed.fetch('/functions/v1/hello', preflight);
      expect(allowed.headers.get('access-control-allow-origin')).toBe(origin);
      expect(allowed.headers.get('vary')).toBe('Origin');
      const other = await listed.fetch('/functions/v1/hello', { headers: { origin: 'https://evil.example' } });
      expect(other.headers.get('access-control-allow-origin')).toBeNull();
      expect(other.headers.get('vary')).toBe('Origin');
      listed.functions.add('varies', { auth: 'none' }, () => http(200, [['vary', 'accept-language']]));
      const plain = await listed.fetch('/functions/v1/varies');
      expect(plain.headers.get('vary')).toBe('Origin, accept-language');
    } finally {
      await listed.stop();
    }
  });

  test('no header asked for in a preflight gets out as a header of its own', async () => {
    const evil = { ...preflight, headers: { ...preflight.headers, 'access-control-request-headers': 'a;b=<script>' } };
    expect((await server.fetch('/functions/v1/private', evil)).headers.get('access-control-allow-headers')).toBeNull();
  });
});
