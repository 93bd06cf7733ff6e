/** THREATS 2.6: what a malicious HTTP caller sends, over real sockets. */

import { Socket } from 'node:net';
import pino from 'pino';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { sendRaw, startTestServer, type TestServer, value } from './support.ts';

let server: TestServer;

beforeAll(async () => {
  server = await startTestServer();
  server.functions.add('echo', { auth: 'none' }, (event) => value((event as { body: unknown }).body));
});
afterAll(() => server.stop());

const MAX = 6 * 2 ** 20;
const JSON_TYPE = { 'content-type': 'application/json' };
const statusOf = (text: string) => Number(/^HTTP\/1\.1 (\d{3})/.exec(text)?.[1]);
const post = (body: string | Uint8Array<ArrayBuffer>, headers: Record<string, string> = JSON_TYPE) =>
  server.fetch('/functions/v1/echo', { method: 'POST', body, headers });
const head = (target: string, extra = '', method = 'GET') =>
  `${method} ${target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n${extra}\r\n`;

describe('HTTP-01 slow callers', () => {
  test('headers that do not end are answered 408 and the connection is closed', async () => {
    const impatient = await startTestServer({ app: { timeouts: { headersMs: 150, requestMs: 300 } } });
    try {
      expect(statusOf(await impatient.raw('GET /functions/v1/echo HTTP/1.1\r\nHost: a\r\nX-A: '))).toBe(408);
      const slowBody = await impatient.raw(
        'POST /functions/v1/none HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n{',
      );
      expect(statusOf(slowBody)).toBe(404);
    } finally {
      await impatient.stop();
    }
  });

  test('a body that does not end is given up', async () => {
    const impatient = await startTestServer({ app: { timeouts: { headersMs: 150, requestMs: 300 } } });
    try {
      impatient.functions.add('echo', { auth: 'none' }, () => value(1));
      const text = await impatient.raw('POST /functions/v1/echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n{');
      expect([408, 400, Number.NaN]).toContain(statusOf(text));
      expect(impatient.functions.requests).toHaveLength(0);
    } finally {
      await impatient.stop();
    }
  });
});

describe('HTTP-02 bodies over the cap', () => {
  test('declared: refused before a byte of it is read', async () => {
    const before = server.functions.requests.length;
    const text = await server.raw(head('/functions/v1/echo', `Content-Length: ${MAX + 1}\r\n`, 'POST'));
    expect(statusOf(text)).toBe(413);
    expect(text).toContain('PAYLOAD_TOO_LARGE');
    expect(server.functions.requests.length).toBe(before);
  });

  test('chunked: refused when the cap is reached', async () => {
    const before = server.functions.requests.length;
    const chunk = `${(2 ** 20).toString(16)}\r\n${'x'.repeat(2 ** 20)}\r\n`;
    const text = await server.raw(
      head('/functions/v1/echo', 'Transfer-Encoding: chunked\r\n', 'POST') + chunk.repeat(7),
    );
    expect(statusOf(text)).toBe(413);
    expect(server.functions.requests.length).toBe(before);
  });

  test.each([
    ['declared', () => new Uint8Array(20 * 2 ** 20)],
    ['chunked', () => ReadableStream.from(Array.from({ length: 20 }, () => new Uint8Array(2 ** 20)))],
  ])('%s: a client that sends all of it before it reads gets the answer', async (_what, body) => {
    for (let attempt = 0; attempt < 5; attempt++) {
      const response = await server.fetch('/functions/v1/echo', {
        method: 'POST',
        body: body(),
        duplex: 'half',
        headers: JSON_TYPE,
      } as RequestInit);
      expect(response.status).toBe(413);
      expect(await response.json()).toMatchObject({ code: 'PAYLOAD_TOO_LARGE' });
    }
  });

  test('a body that does not stop is read for two seconds or 64 MB after the answer, and the connection closed', async () => {
    const length = 2 ** 40;
    const silent = sendRaw(server.port, head('/functions/v1/echo', `Content-Length: ${length}\r\n`, 'POST'));
    let sent = 0;
    const socket = new Socket();
    socket.on('error', () => {});
    await new Promise<void>((resolve) => socket.connect(server.port, '127.0.0.1', resolve));
    const chunk = Buffer.alloc(2 ** 20);
    const send = (): void => {
      sent += chunk.length;
      if (socket.writable) socket.write(chunk, send);
    };
    socket.write(head('/functions/v1/echo', `Content-Length: ${length}\r\n`, 'POST'), send);
    await new Promise((resolve) => socket.resume().on('close', resolve));
    // In two seconds it would be ten times as much.
    expect(sent).toBeLessThan(160 * 2 ** 20);
    expect(statusOf(await silent)).toBe(413);
  });

  test('exactly 6 MB goes through', async () => {
    const response = await post(`"${'x'.repeat(MAX - 2)}"`);
    expect(response.status).toBe(200);
    expect((await response.text()).length).toBe(MAX);
  });

  test('a compressed body is not unpacked: it reaches the function as the bytes that came', async () => {
    const response = await post(new Uint8Array([0x1f, 0x8b, 8, 0]), { ...JSON_TYPE, 'content-encoding': 'gzip' });
    expect(await response.json()).toBe('H4sIAA==');
  });

  test('a body shorter than declared never runs the function', async () => {
    const before = server.functions.requests.length;
    const socket = new Socket();
    await new Promise<void>((resolve) => socket.connect(server.port, '127.0.0.1', resolve));
    socket.end(`${head('/functions/v1/echo', 'Content-Length: 100\r\n', 'POST')}{"a":1}`);
    await new Promise((resolve) => socket.resume().on('close', resolve));
    expect(server.functions.requests.length).toBe(before);
  });
});

test('LOG-02 a caller who breaks off an upload is a line of information, not an outage of the database', async () => {
  const lines: Record<string, unknown>[] = [];
  const logged = Promise.withResolvers<void>();
  const log = pino(
    { level: 'info' },
    {
      write: (line: string) => {
        lines.push(JSON.parse(line));
        logged.resolve();
      },
    },
  );
  const logging = await startTestServer({ app: { log } });
  try {
    const admitted = Promise.withResolvers<void>();
    logging.functions.add('echo', { auth: 'none' }, () => value(1));
    const { active } = logging.functions.catalog;
    const noting = (name: string) => {
      admitted.resolve();
      return active(name);
    };
    Object.assign(logging.functions.catalog, { active: noting });
    const socket = new Socket();
    socket.connect(logging.port, '127.0.0.1').write(`${head('/functions/v1/echo', 'Content-Length: 10\r\n', 'POST')}{`);
    await admitted.promise;
    socket.resetAndDestroy();
    await logged.promise;
    expect(lines).toMatchObject([{ level: 30, code: 'CANCELED', method: 'POST', url: '/functions/v1/echo' }]);
    expect(JSON.stringify(lines)).not.toContain('stack');
    expect(logging.functions.requests).toHaveLength(0);
  } finally {
    await logging.stop();
  }
});

describe('HTTP-03 requests that two readers would read differently', () => {
  test.each([
    [
      'Content-Length and Transfer-Encoding',
      `${head('/functions/v1/echo', 'Content-Length: 4\r\nTransfer-Encoding: chunked\r\n', 'POST')}0\r\n\r\n`,
    ],
    ['two Content-Length', `${head('/functions/v1/echo', 'Content-Length: 1\r\nContent-Length: 2\r\n', 'POST')}xx`],
    ['a folded header', head('/functions/v1/echo', 'X-A: 1\r\n 2\r\n')],
    ['two Host headers', head('/functions/v1/echo', 'Host: b\r\n')],
    ['two Host headers in other letters', head('/functions/v1/echo', 'hOST: a\r\n')],
    ['two Authorization headers', head('/functions/v1/echo', 'Authorization: Bearer a\r\nauthorization: Bearer b\r\n')],
    [
      'two Content-Type headers',
      head('/functions/v1/echo', 'Content-Type: text/plain\r\nCONTENT-TYPE: application/json\r\n'),
    ],
    ['no Host header', 'GET /functions/v1/echo HTTP/1.1\r\nConnection: close\r\n\r\n'],
    ['a Host header that is no host', 'GET /functions/v1/echo HTTP/1.1\r\nHost: a/b?c\r\nConnection: close\r\n\r\n'],
    ['a target in absolute form', head('http://other/functions/v1/echo')],
    ['NUL in a header', head('/functions/v1/echo', 'X-A: a\0b\r\n')],
    ['a bare line feed in a header', 'GET /functions/v1/echo HTTP/1.1\nHost: a\nConnection: close\nX: a\rb\n\n'],
    ['a method in small letters', head('/functions/v1/echo', '', 'get')],
  ])('%s: 400', async (_what, bytes) => {
    const before = server.functions.requests.length;
    expect(statusOf(await server.raw(bytes))).toBe(400);
    expect(server.functions.requests.length).toBe(before);
  });
});

test.each([
  [400, 'no Host', 'GET /functions/v1/echo HTTP/1.1\r\n\r\n'],
  [400, 'no HTTP', 'hello\r\n\r\n'],
  [417, 'an unknown expectation', head('/functions/v1/echo', 'Expect: foo\r\n')],
  [431, 'headers that are too large', head('/functions/v1/echo', `X-A: ${'a'.repeat(20_000)}\r\n`)],
])('%i for %s has the body and the id of every error, and the connection is closed', async (status, _what, bytes) => {
  const before = server.functions.requests.length;
  const [lines, body] = (await server.raw(bytes)).split('\r\n\r\n') as [string, string];
  expect(statusOf(lines)).toBe(status);
  const { error, code, message, request_id: id } = JSON.parse(body);
  expect([error, code, typeof message]).toEqual([expect.stringContaining(String(status)), 'INVALID_REQUEST', 'string']);
  expect(lines.toLowerCase()).toContain(`x-request-id: ${id}`);
  expect(server.functions.requests.length).toBe(before);
});

test('HTTP/1.0 needs no Host', async () => {
  expect(statusOf(await server.raw('GET /functions/v1/echo HTTP/1.0\r\n\r\n'))).toBe(200);
});

describe('HTTP-04 paths', () => {
  test('what is no name is named in the answer as it was asked for', async () => {
    const response = await server.fetch('/functions/v1/invoke/ECHO/x');
    expect(response.status).toBe(404);
    expect(await response.json()).toMatchObject({
      code: 'FUNCTION_NOT_FOUND',
      message: "there is no function 'ECHO'",
    });
  });

  test.each([
    '/functions/v1//echo',
    '//functions/v1/echo',
    '/functions//v1/echo',
    '/functions/v1/invoke//echo',
    '/functions/v1/%65cho',
    '/functions%2fv1/echo',
    '/functions/v1%2fecho',
    '/%66unctions/v1/echo',
    '/functions/v1/echo%00',
    '/functions/v1/%00echo',
    '/functions/v1/ECHO',
    '/Functions/v1/echo',
    '/functions/v1/echo;x=1',
    '/functions/v1/echo%2fx',
    '/functions/v1/%c0%afecho',
    '/functions/v1/..%2fecho',
    '/functions/v1/./echo',
    '/functions/v1/x/../echo',
    '/functions/v1/echo/../other',
    '/functions/v1/echo/%2e%2E/other',
    '/functions/v1/echo/.',
    '/functions/v1/echo\\x',
    '/functions/v1/',
    '/functions/v1',
    '/functions/v1/invoke',
    '/functions/v1/invoke/',
    `/functions/v1/${'a'.repeat(64)}`,
    `/functions/v1/${'a'.repeat(10_000)}`,
    '/functions/v1/%zz',
    '/functions/v1/__proto__',
    '/functions/v1/constructor',
  ])('%s runs nothing', async (target) => {
    const before = server.functions.requests.length;
    const text = await server.raw(head(target));
    expect([400, 404]).toContain(statusOf(text));
    expect(text).toMatch(/"code":"(NOT_FOUND|FUNCTION_NOT_FOUND|INVALID_REQUEST)"/);
    expect(server.functions.requests.length).toBe(before);
  });

  test('a path of 64 KB is refused', async () => {
    expect(statusOf(await server.raw(head(`/functions/v1/echo/${'a'.repeat(65_536)}`)))).toBe(431);
  });

  test('a path of 8 KB after the name is handed on', async () => {
    const path = `/functions/v1/echo/${'a'.repeat(8_000)}`;
    expect((await server.fetch(path)).status).toBe(200);
    expect(JSON.parse(server.functions.last.eventJson).path).toBe(path);
  });
});

describe('HTTP-06 JSON', () => {
  test.each([
    '{"__proto__":{"admin":true},"constructor":{"prototype":{"x":1}}}',
    '{"a":1,"a":2}',
    '{"big":12345678901234567890,"small":1e-400,"e":1E5}',
    '[1.0,-0]',
    '"\\ud800"',
    ' \n{"a" : 1}\t',
  ])('%s reaches the function with the same bytes', async (body) => {
    await post(body);
    const { eventJson, bodyAt } = server.functions.last;
    expect(eventJson.slice(bodyAt, -1)).toBe(body);
    expect(({} as Record<string, unknown>).admin).toBeUndefined();
  });

  test('brackets in strings are no depth, however long the string and whatever is escaped in it', async () => {
    for (const length of [1, 63, 64, 65, 66, 2_000]) {
      for (const part of ['x', '\\', '"', 'x\\"', '"x\\']) {
        const sent = [part.repeat(length), '['.repeat(1_500), part.repeat(length) + '['.repeat(1_500)];
        expect(await (await post(JSON.stringify(sent))).json()).toEqual(sent);
      }
    }
  });

  test.each([
    ['NaN', 'NaN'],
    ['a byte order mark', '\ufeff{}'],
    ['two documents', '{}{}'],
    ['a closing brace that would end the event', '1},"trigger":"database"'],
    ['a comment', '{} // x'],
    ['nothing but space', '  '],
    ['an open string', '{"a":"'],
    ['a control character', '"\u0001"'],
    ['depth of a million', '['.repeat(1e6) + ']'.repeat(1e6)],
    ['depth of a million, never closed', '{"a":'.repeat(1e6)],
    ['depth of 1001', '['.repeat(1001) + ']'.repeat(1001)],
    ...[1, 63, 64, 65, 66, 200].flatMap((length) =>
      ['x', '\\\\', '\\"', '[', 'x\\\\\\"'].map((part): [string, string] => [
        `depth of 1001 behind ${length} times ${part}`,
        `["${part.repeat(length)}",${'['.repeat(1000)}${']'.repeat(1000)}]`,
      ]),
    ),
  ])('%s: 400', async (_what, body) => {
    const before = server.functions.requests.length;
    const response = await post(body);
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ code: 'INVALID_BODY' });
    expect(server.functions.requests.length).toBe(before);
  });

  test('bytes that are not UTF-8: 400', async () => {
    expect((await post(new Uint8Array([0x22, 0xff, 0x22]))).status).toBe(400);
  });

  test('brackets in strings do not count as depth', async () => {
    expect((await post(JSON.stringify('[{"\\'.repeat(2_000)))).status).toBe(200);
    expect((await post('['.repeat(1_000) + ']'.repeat(1_000))).status).toBe(200);
  });
});

describe('HTTP-11 content types', () => {
  const bodyAs = async (type: string, body: string) => {
    const text = await sendRaw(
      server.port,
      `${head('/functions/v1/echo', `Content-Type: ${type}\r\nContent-Length: ${Buffer.byteLength(body)}\r\n`, 'POST')}${body}`,
    );
    return { status: statusOf(text), body: text.split('\r\n\r\n')[1] };
  };

  test.each([
    'application/json',
    'application/json\t;',
    'Application/JSON',
    'application/json; charset=utf-7',
    'application/problem+json',
    'application/json ; a="b"',
  ])('%j is JSON and is checked as such', async (type) => {
    expect(await bodyAs(type, '{"a":1}')).toEqual({ status: 200, body: '{"a":1}' });
    expect((await bodyAs(type, '{"a":1')).status).toBe(400);
  });

  test('text/plain with JSON in it is text', async () => {
    expect((await bodyAs('text/plain', '{"a":1}')).body).toBe('"{\\"a\\":1}"');
  });

  test.each(['text/plain; charset=utf-7', 'text/html;charset="utf-16"', 'text/plain; charset=latin1'])(
    '%s is bytes: nobody decodes it',
    async (type) => {
      expect((await bodyAs(type, '+AHs-')).body).toBe(`"${Buffer.from('+AHs-').toString('base64')}"`);
    },
  );

  test.each(['application/json, text/plain', 'json', '*/*', ';', 'a/b; boundary=x'])(
    '%s never fails in the host',
    async (type) => {
      expect([200, 400]).toContain((await bodyAs(type, '{"a":1}')).status);
    },
  );
});

describe('HTTP-12 methods without a function', () => {
  test.each(['TRACE', 'CONNECT'])('%s runs nothing', async (method) => {
    const before = server.functions.requests.length;
    const text = await server.raw(head(method === 'CONNECT' ? 'a:1' : '/functions/v1/echo', '', method));
    expect(statusOf(text)).not.toBe(200);
    expect(text).not.toContain('Connection: close\r\n\r\nTRACE');
    expect(server.functions.requests.length).toBe(before);
  });

  test('an Upgrade is not taken up', async () => {
    const text = await server.raw(head('/functions/v1/echo', 'Upgrade: websocket\r\n'));
    expect(statusOf(text)).toBe(200);
  });
});
