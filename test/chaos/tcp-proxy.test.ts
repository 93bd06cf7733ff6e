import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { TcpProxy } from '../../chaos/tcp-proxy.ts';

let server: Server;
let proxy: TcpProxy;
let heard: string;
let atServer: Socket[];

/** Answers each piece of bytes with the same, and "!". */
beforeEach(async () => {
  heard = '';
  atServer = [];
  server = createServer((socket) => {
    atServer.push(socket);
    socket.on('error', () => undefined);
    socket.on('data', (bytes) => {
      heard += bytes.toString();
      socket.write(`${bytes}!`);
    });
  });
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
  proxy = await TcpProxy.start({ host: '127.0.0.1', port: (server.address() as AddressInfo).port });
});
afterEach(async () => {
  await proxy.stop();
  await new Promise((closed) => server.close(closed));
});

async function open(): Promise<Socket> {
  const socket = connect({ host: '127.0.0.1', port: proxy.port, noDelay: true });
  socket.on('error', () => undefined);
  await once(socket, 'connect');
  return socket;
}

async function ask(socket: Socket, text: string): Promise<string> {
  const answer = once(socket, 'data');
  socket.write(text);
  return String((await answer)[0]);
}

/** As `once`, which would reject at the error that comes before. */
function closed(socket: Socket): Promise<void> {
  return new Promise((resolve) => socket.once('close', () => resolve()));
}

/** Whether something comes within a moment: a fault is that nothing does. */
async function answers(socket: Socket, text: string): Promise<boolean> {
  const answer = once(socket, 'data').then(
    () => true,
    () => false,
  );
  socket.write(text);
  return Promise.race([answer, new Promise<boolean>((later) => setTimeout(later, 80, false))]);
}

test('bytes go both ways, and each end learns of the end of the other', async () => {
  const socket = await open();
  expect(await ask(socket, 'hello')).toBe('hello!');
  const gone = closed(atServer[0]!);
  socket.end();
  await gone;
  const other = await open();
  expect(await ask(other, 'again')).toBe('again!');
  atServer[1]!.end('bye');
  expect(String((await once(other, 'data'))[0])).toBe('bye');
  await closed(other);
  expect(proxy.connections).toBe(0);
});

test('a cut resets every connection, and new ones work', async () => {
  const sockets = [await open(), await open()];
  for (const socket of sockets) await ask(socket, 'x');
  const all = Promise.all(sockets.map(closed));
  proxy.cut();
  await all;
  expect(await ask(await open(), 'y')).toBe('y!');
});

test('a half-open connection swallows what is sent and tells nobody; new ones work', async () => {
  const socket = await open();
  await ask(socket, 'before');
  proxy.halfOpen();
  expect(await answers(socket, 'swallowed')).toBe(false);
  expect(socket.closed).toBe(false);
  expect(await ask(await open(), 'new')).toBe('new!');
  // The server does not see the client go, until the network is well again.
  socket.destroy();
  await ask(await open(), 'later');
  expect(atServer[0]!.closed).toBe(false);
  const gone = closed(atServer[0]!);
  proxy.heal();
  await gone;
  expect(heard).toBe('beforenewlater');
});

test('a partition holds all bytes, of new connections too, and delivers them when it ends', async () => {
  const old = await open();
  await ask(old, 'a');
  proxy.partition();
  const late = await open();
  expect(await answers(old, 'b')).toBe(false);
  expect(await answers(late, 'c')).toBe(false);
  const both = Promise.all([once(old, 'data'), once(late, 'data')]);
  proxy.heal();
  expect((await both).map(String)).toEqual(['b!', 'c!']);
});

test('a delay holds each piece in both directions', async () => {
  const socket = await open();
  await ask(socket, 'a');
  proxy.delay(60);
  const from = performance.now();
  expect(await ask(socket, 'b')).toBe('b!');
  expect(performance.now() - from).toBeGreaterThanOrEqual(115);
});

test('a reply that is cut was asked for and done, and its connection is reset', async () => {
  const socket = await open();
  await ask(socket, 'a');
  proxy.cutReplies();
  const gone = closed(socket);
  expect(await answers(socket, 'commit')).toBe(false);
  await gone;
  expect(heard).toBe('acommit');
  expect(await ask(await open(), 'b')).toBe('b!');
});
