/** Servers that speak TCP as they like. */

import net, { type AddressInfo } from 'node:net';
import { gzipSync } from 'node:zlib';
import { afterAll, afterEach, expect, test } from 'vitest';
import { createHttpHostFunction, type HttpHostFunctionOptions } from '../../host-functions/index.ts';
import type { HostFunctionProvider } from '../../runtime/host-function.ts';
import { Invocation, type ScopeOptions } from './support.ts';

type Speaker = (socket: net.Socket) => void;

const providers: HostFunctionProvider[] = [];
const servers: net.Server[] = [];
const sockets = new Set<net.Socket>();
afterEach(async () => {
  for (const socket of sockets) socket.destroy();
  await Promise.all(servers.splice(0).map((server) => new Promise((resolve) => server.close(resolve))));
});
afterAll(() => Promise.all(providers.map((provider) => provider.stop?.())));

/** Speaks once the request has begun to come in. */
async function listen(speak: Speaker): Promise<number> {
  const server = net.createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    socket.once('data', () => speak(socket));
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return (server.address() as AddressInfo).port;
}

function guestOf(port: number, scope: ScopeOptions = {}, options: HttpHostFunctionOptions = {}): Invocation {
  const provider = createHttpHostFunction(options);
  providers.push(provider);
  return new Invocation(provider, { allow: [`localhost:${port}`], ...scope });
}

const get = (guest: Invocation, port: number): Promise<{ status: number; bodyBase64: string }> =>
  guest.call('http.fetch', {
    url: `http://localhost:${port}/`,
    method: 'GET',
    headers: [],
    bodyBase64: null,
    redirect: 'follow',
  });
const failureOf = async (speak: Speaker, scope: ScopeOptions = {}, options: HttpHostFunctionOptions = {}) => {
  const port = await listen(speak);
  return get(guestOf(port, scope, options), port).then(
    (answer) => expect.fail(`answered ${answer.status}`),
    (error: unknown) => error,
  );
};
/** Writes for as long as the other side takes it; the promise is the end of the connection. */
const pour = (socket: net.Socket, text: string | Buffer): Promise<void> => {
  const more = (): void => {
    while (!socket.destroyed && socket.write(text));
  };
  socket.on('drain', more);
  more();
  return new Promise((resolve) => socket.once('close', () => resolve()));
};

test('NET-11 a body that comes a byte at a time ends with the time of the invocation', async () => {
  const failure = await failureOf(
    (socket) => {
      socket.write('HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n');
      const timer = setInterval(() => socket.write('x'), 5);
      socket.on('close', () => clearInterval(timer));
    },
    { remainingMs: 100 },
  );
  expect(failure).toMatchObject({ name: 'HttpError', code: 'HTTP_TIMEOUT' });
});

test('NET-11 a body that says it has 10 GB, or says nothing, is cut off at the limit and its connection closed', async () => {
  for (const head of ['content-length: 10000000000\r\n', '', 'transfer-encoding: chunked\r\n']) {
    const closed = Promise.withResolvers<void>();
    const chunk = head.startsWith('transfer') ? `2000\r\n${'x'.repeat(0x2000)}\r\n` : 'x'.repeat(0x2000);
    const failure = await failureOf(
      (socket) => {
        socket.write(`HTTP/1.1 200 OK\r\n${head}\r\n`);
        pour(socket, chunk).then(closed.resolve);
      },
      {},
      { limits: { maxResponseBytes: 100_000 } },
    );
    expect(failure).toMatchObject({ name: 'LimitError', code: 'HTTP_RESPONSE_LIMIT' });
    await closed.promise;
  }
});

test.each([
  ['100 continue', 'HTTP/1.1 100 Continue\r\n\r\n'],
  ['102 processing', 'HTTP/1.1 102 Processing\r\n\r\n'],
  ['103 early hints', `HTTP/1.1 103 Early Hints\r\nlink: </a>; rel=preload\r\n\r\n`],
])('NET-11 a flood of %s ends the request', async (_name, interim) => {
  const closed = Promise.withResolvers<void>();
  const failure = await failureOf((socket) => void pour(socket, interim).then(closed.resolve));
  expect(failure).toMatchObject({ name: 'HttpError', code: 'HTTP_FAILED' });
  await closed.promise;
});

test('NET-11 early hints before an answer are read over, and never become a part of it', async () => {
  const port = await listen((socket) => {
    socket.write('HTTP/1.1 103 Early Hints\r\nlink: </a>\r\nx-hint: 1\r\n\r\n');
    socket.end('HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-answer: 1\r\n\r\nok');
  });
  expect(await get(guestOf(port), port)).toMatchObject({
    status: 200,
    headers: [
      ['content-length', '2'],
      ['x-answer', '1'],
    ],
  });
});

test.each([
  ['one without end', 'x-a: '],
  ['many', null],
])('NET-11 headers that go on and on, %s, end the request', async (_name, start) => {
  const closed = Promise.withResolvers<void>();
  const failure = await failureOf((socket) => {
    socket.write('HTTP/1.1 200 OK\r\n');
    if (start !== null) socket.write(start);
    pour(socket, start === null ? 'x-a: b\r\n' : 'x'.repeat(8_192)).then(closed.resolve);
  });
  expect(failure).toMatchObject({ name: 'HttpError', code: 'HTTP_FAILED' });
  await closed.promise;
});

test('NET-11 a layer of an encoding that decodes to nothing has no endless one below it', async () => {
  // Each is a whole gzip member of no data: 20 bytes that decode to none, which one more gzip packs a hundredfold.
  const members = Buffer.concat(new Array(1_000_000).fill(gzipSync('')));
  const body = gzipSync(members);
  expect(body.length).toBeLessThan(200_000);
  const failure = await failureOf(
    (socket) => {
      socket.write(`HTTP/1.1 200 OK\r\ncontent-encoding: gzip, gzip\r\ncontent-length: ${body.length}\r\n\r\n`);
      socket.end(body);
    },
    {},
    { limits: { maxResponseBytes: 200_000 } },
  );
  expect(failure).toMatchObject({ name: 'LimitError', code: 'HTTP_RESPONSE_LIMIT' });
});

test('NET-11 decoding ends with the time of the invocation, also when the last byte is there', async () => {
  const body = gzipSync(gzipSync(Buffer.alloc(500_000_000)));
  const before = process.cpuUsage();
  const failure = await failureOf(
    (socket) => {
      socket.write(`HTTP/1.1 200 OK\r\ncontent-encoding: gzip, gzip\r\ncontent-length: ${body.length}\r\n\r\n`);
      socket.end(body);
    },
    { remainingMs: 1 },
    { limits: { maxResponseBytes: 1_000_000_000 } },
  );
  expect(failure).toMatchObject({ name: 'HttpError', code: 'HTTP_TIMEOUT' });
  // Of all threads, and no more than it has time for: half a second's grace is in it. All of it takes 1,700.
  const { user, system } = process.cpuUsage(before);
  expect((user + system) / 1_000).toBeLessThan(1_200);
});

test('NET-12 an answer that nobody asked for does not become the answer of the next request', async () => {
  const port = await listen((socket) => {
    const answer = (text: string): string => `HTTP/1.1 200 OK\r\ncontent-length: ${text.length}\r\n\r\n${text}`;
    socket.write(answer('asked') + answer('smuggled'));
    socket.on('data', () => socket.write(answer('smuggled')));
  });
  const guest = guestOf(port);
  const texts: string[] = [];
  for (let index = 0; index < 3; index++) {
    const { bodyBase64 } = await get(guest, port);
    texts.push(Buffer.from(bodyBase64, 'base64').toString());
  }
  expect(texts).toEqual(['asked', 'asked', 'asked']);
});

test.each([
  ['both lengths', 'content-length: 2\r\ntransfer-encoding: chunked\r\n'],
  ['two lengths', 'content-length: 2\r\ncontent-length: 3\r\n'],
  ['a line that is no header', 'no colon here\r\n'],
])('NET-12 an answer with %s is an error', async (_name, head) => {
  const failure = await failureOf((socket) => socket.end(`HTTP/1.1 200 OK\r\n${head}\r\nok`));
  expect(failure).toMatchObject({ name: 'HttpError', code: 'HTTP_FAILED' });
});

test('an answer that switches protocols is an error', async () => {
  const failure = await failureOf((socket) =>
    socket.end('HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n'),
  );
  expect(failure).toMatchObject({ name: 'HttpError', code: 'HTTP_FAILED' });
});
