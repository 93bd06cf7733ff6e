import https from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createHttpHostFunction } from '../../host-functions/index.ts';
import type { HostFunctionProvider } from '../../runtime/host-function.ts';
import { Invocation } from './support.ts';
import { TEST_CERTIFICATE, TEST_KEY } from './test-certificate.ts';

let server: https.Server;
let port: number;
const serverNames: (string | false | null | undefined)[] = [];
const providers: HostFunctionProvider[] = [];

beforeAll(async () => {
  server = https.createServer({ key: TEST_KEY, cert: TEST_CERTIFICATE }, (request, response) => {
    serverNames.push((request.socket as unknown as { servername?: string }).servername);
    response.end('secure');
  });
  server.on('tlsClientError', () => {});
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  port = (server.address() as AddressInfo).port;
});
afterAll(async () => {
  await Promise.all(providers.map((provider) => provider.stop?.()));
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
});

function get(host: string, ca?: string): Promise<{ status: number }> {
  const provider = createHttpHostFunction({ resolve: async () => ['127.0.0.1'], ...(ca === undefined ? {} : { ca }) });
  providers.push(provider);
  const guest = new Invocation(provider, { allow: [`${host}:${port}`, `127.0.0.1:${port}`] });
  return guest.call('http.fetch', {
    url: `https://${host}:${port}/`,
    method: 'GET',
    headers: [],
    bodyBase64: null,
    redirect: 'follow',
  });
}

test('https goes to the pinned address with the name of the URL', async () => {
  expect(await get('public.example', TEST_CERTIFICATE)).toMatchObject({ status: 200 });
  expect(serverNames).toEqual(['public.example']);
});

test.each([
  ['a certificate that nobody trusts', 'public.example', undefined, 'DEPTH_ZERO_SELF_SIGNED_CERT'],
  ['a certificate for another name', 'other.example', TEST_CERTIFICATE, 'ERR_TLS_CERT_ALTNAME_INVALID'],
])('NET-14 %s is an error, also where the node would not check', async (_what, host, ca, reason) => {
  process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0';
  try {
    await expect(get(host, ca)).rejects.toMatchObject({ name: 'HttpError', code: 'HTTP_FAILED', details: { reason } });
  } finally {
    delete process.env.NODE_TLS_REJECT_UNAUTHORIZED;
  }
});

test('NET-14 three hundred failing handshakes are as many errors, and no connection is left of them', async () => {
  const open = new Set<Socket>();
  const watch = (socket: Socket): void => {
    open.add(socket);
    socket.once('close', () => open.delete(socket));
  };
  server.on('connection', watch);
  const provider = createHttpHostFunction({ resolve: async () => ['127.0.0.1'] });
  providers.push(provider);
  const scope = {
    allow: [`public.example:${port}`, `127.0.0.1:${port}`],
    rateLimit: { requests: 10_000, windowMs: 1_000 },
  };
  const attempt = async (): Promise<unknown> =>
    new Invocation(provider, scope)
      .call('http.fetch', { url: `https://public.example:${port}/`, method: 'GET', headers: [], bodyBase64: null })
      .catch((error) => error.details?.reason);
  const reasons = new Set<unknown>();
  for (let round = 0; round < 15; round++)
    for (const reason of await Promise.all(Array.from({ length: 20 }, attempt))) reasons.add(reason);
  expect([...reasons]).toEqual(['DEPTH_ZERO_SELF_SIGNED_CERT']);
  await expect.poll(() => open.size).toBe(0);
  server.off('connection', watch);
});
