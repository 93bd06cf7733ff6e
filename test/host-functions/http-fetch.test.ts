import http from 'node:http';
import type { AddressInfo } from 'node:net';
import net from 'node:net';
import { gzipSync } from 'node:zlib';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { createHttpHostFunction, type HttpHostFunctionOptions } from '../../host-functions/index.ts';
import { parseFunctionConfig } from '../../invoker/index.ts';
import type { HostFunctionProvider } from '../../runtime/host-function.ts';
import { MUCH_LATER_MS } from '../support/timed.ts';
import { Invocation, recordingLog, type ScopeOptions } from './support.ts';

interface Answer {
  status: number;
  statusText: string;
  url: string;
  redirected: boolean;
  headers: [string, string][];
  bodyBase64: string;
}

/** A real server that answers by path and notes what it was asked. */
let server: http.Server;
let port: number;
const seen: { method: string; url: string; headers: http.IncomingHttpHeaders; body: string }[] = [];
const routes = new Map<string, http.RequestListener>();

beforeAll(async () => {
  server = http.createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const { method = '', url = '', headers } = request;
    seen.push({ method, url, headers, body: Buffer.concat(chunks).toString() });
    const route = routes.get(url);
    if (route !== undefined) route(request, response);
    else response.writeHead(200, { 'content-type': 'text/plain' }).end(`you asked for ${url}`);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  port = (server.address() as AddressInfo).port;
});
afterAll(async () => {
  await Promise.all(providers.map((provider) => provider.stop?.()));
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
});
afterEach(() => {
  seen.length = 0;
  routes.clear();
});

const providers: HostFunctionProvider[] = [];

function invocation(options: HttpHostFunctionOptions, scope: ScopeOptions): Invocation {
  const provider = createHttpHostFunction(options);
  providers.push(provider);
  return new Invocation(provider, scope);
}

/** To the loopback server by its listed address. */
const local = (scope: ScopeOptions = {}, options: HttpHostFunctionOptions = {}): Invocation =>
  invocation(options, { allow: [`localhost:${port}`, `127.0.0.1:${port}`], ...scope });

/** A public name that a forged resolver leads to `addresses`. */
const forged = (addresses: readonly string[] | (() => readonly string[]), log = recordingLog()): Invocation =>
  invocation(
    { resolve: async () => (typeof addresses === 'function' ? addresses() : addresses), log },
    { allow: [`http://public.example:${port}`] },
  );

const fetchFrom = (guest: Invocation, url: string, init: Record<string, unknown> = {}): Promise<Answer> =>
  guest.call('http.fetch', { url, method: 'GET', headers: [], bodyBase64: null, redirect: 'follow', ...init });
const textOf = (answer: Answer): string => Buffer.from(answer.bodyBase64, 'base64').toString();
const base64 = (text: string): string => Buffer.from(text).toString('base64');

test('a request goes out as it was made, and its answer comes back whole', async () => {
  routes.set('/echo?a=1', (_request, response) => {
    response.setHeader('set-cookie', ['a=1', 'b=2']);
    response.writeHead(201, 'Made', { 'x-answer': 'yes' }).end('ünïcode');
  });
  const answer = await fetchFrom(local(), `http://localhost:${port}/echo?a=1#fragment`, {
    method: 'post',
    headers: [
      ['X-Custom', 'v'],
      ['content-type', 'application/json'],
      ['content-length', '7'],
    ],
    bodyBase64: base64('{"a":1}'),
  });
  expect(seen).toMatchObject([
    {
      method: 'POST',
      body: '{"a":1}',
      headers: { 'x-custom': 'v', host: `localhost:${port}`, 'user-agent': 'postern' },
    },
  ]);
  expect(answer).toMatchObject({
    status: 201,
    statusText: 'Made',
    url: `http://localhost:${port}/echo?a=1`,
    redirected: false,
  });
  expect(answer.headers.filter(([name]) => name === 'set-cookie')).toEqual([
    ['set-cookie', 'a=1'],
    ['set-cookie', 'b=2'],
  ]);
  expect(textOf(answer)).toBe('ünïcode');
});

test.each([
  '127.0.0.1',
  '2130706433',
  '0x7f.1',
  '0177.0.0.1',
  '127.1',
  '0',
  '①②⑦.⓪.⓪.①',
  '127。0。0。1',
  '[::1]',
  '[::]',
  '[::ffff:7f00:1]',
  '[::127.0.0.1]',
  '[64:ff9b::7f00:1]',
  '[2002:7f00:1::]',
  '169.254.169.254',
  '[fd00:ec2::254]',
  'localhost',
  'metadata.google.internal',
])('NET-01 NET-02 NET-03 http://%s is refused unless it is listed', async (host) => {
  const guest = invocation({}, { allow: ['api.example.com', `http://public.example:${port}`, '*.example.org'] });
  await expect(fetchFrom(guest, `http://${host}:${port}/`)).rejects.toMatchObject({
    name: 'HttpNotAllowedError',
    code: 'HTTP_NOT_ALLOWED',
  });
  expect(seen).toEqual([]);
});

test.each([
  ['127.0.0.1'],
  ['10.0.0.1'],
  ['169.254.169.254'],
  ['::1'],
  ['::ffff:127.0.0.1'],
  ['64:ff9b::7f00:1'],
  ['fd00::1'],
  ['8.8.8.8', '127.0.0.1'],
  ['2606:4700:4700::1111', '::1'],
  ['not an address'],
])('NET-04 a listed name that leads to %s %s is refused, whatever else it leads to', async (...addresses) => {
  const log = recordingLog();
  const failure = await fetchFrom(forged(addresses, log), `http://public.example:${port}/`).catch((error) => error);
  expect(failure).toMatchObject({
    code: 'HTTP_NOT_ALLOWED',
    message: 'public.example leads to an address that functions may not reach',
  });
  expect(seen).toEqual([]);
  expect(log.lines).toMatchObject([{ message: 'guest request refused', fields: { host: `public.example:${port}` } }]);
});

test('NET-04 a listed name may lead to a private address that is listed itself, with that port', async () => {
  const resolve = async () => ['127.0.0.1'];
  const listed = invocation({ resolve }, { allow: [`http://public.example:${port}`, `127.0.0.1:${port}`] });
  expect((await fetchFrom(listed, `http://public.example:${port}/`)).status).toBe(200);
  expect(seen[0]?.headers.host).toBe(`public.example:${port}`);
  const otherPort = invocation(
    { resolve },
    { allow: [`http://public.example:${port}`, '127.0.0.1:9'.replace(':9', ':9999')] },
  );
  await expect(fetchFrom(otherPort, `http://public.example:${port}/`)).rejects.toMatchObject({
    code: 'HTTP_NOT_ALLOWED',
  });
});

test('NET-05 a name is asked once a connection, and only the answer that was checked is connected to', async () => {
  const answers = [['203.0.114.1'], ['127.0.0.1']];
  let asked = 0;
  const guest = invocation(
    { resolve: async () => answers[Math.min(asked++, 1)] as string[] },
    { allow: [`http://public.example:${port}`], remainingMs: 500 },
  );
  await expect(fetchFrom(guest, `http://public.example:${port}/`)).rejects.toMatchObject({ name: 'HttpError' });
  expect(asked).toBe(1);
  await expect(
    fetchFrom(
      forged(() => ['127.0.0.1']),
      `http://public.example:${port}/`,
    ),
  ).rejects.toMatchObject({ code: 'HTTP_NOT_ALLOWED' });
  expect(seen).toEqual([]);
});

test('NET-05 a name that leads elsewhere later: a kept connection stays with the address that was checked, and the next one is checked anew', async () => {
  let leadsTo = ['127.0.0.1'];
  const guest = invocation(
    { resolve: async () => leadsTo },
    { allow: [`http://public.example:${port}`, `127.0.0.1:${port}`] },
  );
  const sockets = new Set<net.Socket>();
  for (const path of ['/first', '/kept', '/last']) {
    routes.set(path, ({ socket }, response) => {
      sockets.add(socket);
      response.writeHead(200, path === '/last' ? { connection: 'close' } : {}).end();
    });
  }
  const outcome = (path: string): Promise<unknown> =>
    fetchFrom(guest, `http://public.example:${port}${path}`).then(
      ({ status }) => status,
      ({ code }) => code,
    );
  expect(await outcome('/first')).toBe(200);
  leadsTo = ['8.8.8.8', '127.0.0.2'];
  // The connection may not be free again at once; a new one is refused.
  for (const path of ['/kept', '/last']) {
    const answers: unknown[] = [];
    await expect.poll(async () => answers[answers.push(await outcome(path)) - 1]).toBe(200);
    expect(answers.slice(0, -1).every((answer) => answer === 'HTTP_NOT_ALLOWED')).toBe(true);
  }
  for (const addresses of [['8.8.8.8', '127.0.0.2'], ['10.0.0.1'], ['::1']]) {
    leadsTo = addresses;
    expect(await outcome('/after')).toBe('HTTP_NOT_ALLOWED');
  }
  expect(sockets.size).toBe(1);
  expect(seen.map((request) => request.url)).toEqual(['/first', '/kept', '/last']);
});

test('NET-05 NET-06 a redirect to a listed name that leads to a private address is refused, on its first answer and on a later one', async () => {
  const answers = [['127.0.0.1'], ['127.0.0.2'], ['8.8.8.8', '::1']];
  let asked = 0;
  const resolve = async (host: string): Promise<string[]> =>
    host === 'localhost' ? ['127.0.0.1'] : (answers[asked++] as string[]);
  const rebound = `http://rebound.example:${port}`;
  const guest = invocation({ resolve }, { allow: [`localhost:${port}`, `127.0.0.1:${port}`, rebound] });
  routes.set('/go', (_request, response) => void response.writeHead(307, { location: `${rebound}/there` }).end());
  routes.set('/there', (_request, response) => void response.writeHead(200, { connection: 'close' }).end());
  const go = () => fetchFrom(guest, `http://localhost:${port}/go`);
  expect(await go()).toMatchObject({ status: 200, redirected: true });
  for (const _ of answers.slice(1)) await expect(go()).rejects.toMatchObject({ code: 'HTTP_NOT_ALLOWED' });
  expect(asked).toBe(3);
  expect(seen.filter((request) => request.url === '/there')).toHaveLength(1);
});

test('NET-06 each hop of a redirect is checked like a first request', async () => {
  for (const target of [
    'http://10.0.0.1/',
    'http://127.0.0.1:1/',
    `http://localhost:${port + 1}/`,
    'https://elsewhere.example/',
    'http://169.254.169.254/latest/',
    `http://user:pass@localhost:${port}/`,
    'file:///etc/passwd',
    'ftp://localhost/',
  ]) {
    routes.set('/go', (_request, response) => void response.writeHead(302, { location: target }).end());
    const failure = await fetchFrom(local(), `http://localhost:${port}/go`).catch((error) => error);
    expect(['HTTP_NOT_ALLOWED', 'HTTP_INVALID_REQUEST'], target).toContain(failure.code);
  }
  expect(seen.every((request) => request.url === '/go')).toBe(true);
});

test('NET-06 redirects are followed, handed over or refused as the request says', async () => {
  routes.set('/a', (_request, response) => void response.writeHead(302, { location: '/b' }).end('moved'));
  const followed = await fetchFrom(local(), `http://localhost:${port}/a`);
  expect(followed).toMatchObject({ status: 200, redirected: true, url: `http://localhost:${port}/b` });
  const manual = await fetchFrom(local(), `http://localhost:${port}/a`, { redirect: 'manual' });
  expect(manual).toMatchObject({ status: 302, redirected: false });
  expect(manual.headers).toContainEqual(['location', '/b']);
  await expect(fetchFrom(local(), `http://localhost:${port}/a`, { redirect: 'error' })).rejects.toMatchObject({
    details: { reason: 'UNEXPECTED_REDIRECT' },
  });
  routes.set('/loop', (_request, response) => void response.writeHead(307, { location: '/loop' }).end());
  await expect(fetchFrom(local(), `http://localhost:${port}/loop`)).rejects.toMatchObject({
    details: { reason: 'TOO_MANY_REDIRECTS' },
  });
});

test('NET-07 credentials and bodies stay with their origin', async () => {
  const headers = [
    ['authorization', 'Bearer secret'],
    ['cookie', 'a=1'],
    ['x-api-key', 'secret'],
    ['accept', 'text/plain'],
    ['content-type', 'text/plain'],
  ];
  const other = `http://127.0.0.1:${port}/landed`;
  routes.set('/away', (_request, response) => void response.writeHead(302, { location: other }).end());
  await fetchFrom(local(), `http://localhost:${port}/away`, { headers });
  expect(seen[1]).toMatchObject({ url: '/landed', headers: { accept: 'text/plain' } });
  for (const name of ['authorization', 'cookie', 'x-api-key']) expect(seen[1]?.headers).not.toHaveProperty(name);

  routes.set('/near', (_request, response) => void response.writeHead(302, { location: '/landed' }).end());
  await fetchFrom(local(), `http://localhost:${port}/near`, { headers });
  expect(seen.at(-1)).toMatchObject({ url: '/landed', headers: { authorization: 'Bearer secret' } });

  routes.set('/body', (_request, response) => void response.writeHead(307, { location: other }).end());
  const post = { method: 'POST', bodyBase64: base64('private') };
  await expect(fetchFrom(local(), `http://localhost:${port}/body`, post)).rejects.toMatchObject({
    code: 'HTTP_NOT_ALLOWED',
  });
  routes.set('/body', (_request, response) => void response.writeHead(307, { location: '/landed' }).end());
  await fetchFrom(local(), `http://localhost:${port}/body`, post);
  expect(seen.at(-1)).toMatchObject({ url: '/landed', method: 'POST', body: 'private' });
  routes.set('/body', (_request, response) => void response.writeHead(303, { location: other }).end());
  await fetchFrom(local(), `http://localhost:${port}/body`, { ...post, headers });
  expect(seen.at(-1)).toMatchObject({ url: '/landed', method: 'GET', body: '' });
});

test.each([
  'file:///etc/passwd',
  'data:text/plain,hi',
  'blob:x',
  'ftp://localhost/',
  'ws://localhost/',
  'unix:/tmp/x',
  'javascript:1',
  '//localhost',
  'http://',
  'nonsense',
  'http://user:pass@localhost/',
])('NET-08 NET-09 the URL %s is refused', async (url) => {
  await expect(fetchFrom(local(), url)).rejects.toMatchObject({ name: 'TypeError', code: 'HTTP_INVALID_REQUEST' });
});

test.each([
  ['host', 'other.example'],
  ['content-length', '5'],
  ['transfer-encoding', 'chunked'],
  ['connection', 'upgrade'],
  ['upgrade', 'h2c'],
  ['expect', '100-continue'],
  ['te', 'trailers'],
  ['proxy-authorization', 'x'],
  ['x-forwarded-for', '127.0.0.1'],
  ['forwarded', 'for=x'],
  ['x-a', 'a\r\nx-b: c'],
  ['x-a', 'a\nb'],
  ['x-a', 'a\0b'],
  ['x\r\na', 'b'],
  ['', 'b'],
  ['x a', 'b'],
  ['x-a', 'ā'],
])('NET-10 the header %j: %j is refused', async (name, value) => {
  await expect(fetchFrom(local(), `http://localhost:${port}/`, { headers: [[name, value]] })).rejects.toMatchObject({
    code: 'HTTP_INVALID_REQUEST',
  });
  expect(seen).toEqual([]);
});

test('NET-10 too many headers, or too large ones, are over the limit', async () => {
  const many = Array.from({ length: 32_769 }, (_, index) => [`x-${index}`, 'v']);
  await expect(fetchFrom(local(), `http://localhost:${port}/`, { headers: many })).rejects.toMatchObject({
    name: 'LimitError',
    code: 'HTTP_HEADERS_LIMIT',
  });
  await expect(
    fetchFrom(local(), `http://localhost:${port}/`, { headers: [['x-a', 'x'.repeat(1_000_000)]] }),
  ).rejects.toMatchObject({ code: 'HTTP_HEADERS_LIMIT' });
});

test.each(['CONNECT', 'TRACE', 'GET\r\nX: y', ''])('the method %j is refused', async (method) => {
  await expect(fetchFrom(local(), `http://localhost:${port}/`, { method })).rejects.toMatchObject({
    code: 'HTTP_INVALID_REQUEST',
  });
});

test('NET-11 a response over the limit is stopped: endless, compressed, and with huge headers', async () => {
  const limits = { maxResponseBytes: 100_000, maxRequestBytes: 1_000 };
  routes.set('/endless', (_request, response) => {
    const timer = setInterval(() => response.write('x'.repeat(10_000)), 1);
    response.on('close', () => clearInterval(timer));
  });
  await expect(fetchFrom(local({}, { limits }), `http://localhost:${port}/endless`)).rejects.toMatchObject({
    name: 'LimitError',
    code: 'HTTP_RESPONSE_LIMIT',
  });
  routes.set(
    '/bomb',
    (_request, response) =>
      void response.writeHead(200, { 'content-encoding': 'gzip' }).end(gzipSync(Buffer.alloc(50_000_000))),
  );
  await expect(fetchFrom(local({}, { limits }), `http://localhost:${port}/bomb`)).rejects.toMatchObject({
    code: 'HTTP_RESPONSE_LIMIT',
  });
  routes.set(
    '/nested',
    (_request, response) =>
      void response.writeHead(200, { 'content-encoding': new Array(50).fill('gzip').join(', ') }).end('x'),
  );
  await expect(fetchFrom(local({}, { limits }), `http://localhost:${port}/nested`)).rejects.toMatchObject({
    details: { reason: 'ENCODINGS' },
  });
  routes.set('/headers', (_request, response) => void response.writeHead(200, { 'x-a': 'x'.repeat(200_000) }).end());
  await expect(fetchFrom(local({}, { limits }), `http://localhost:${port}/headers`)).rejects.toMatchObject({
    name: 'HttpError',
  });
  await expect(
    fetchFrom(local({}, { limits }), `http://localhost:${port}/`, {
      method: 'POST',
      bodyBase64: base64('x'.repeat(2_000)),
    }),
  ).rejects.toMatchObject({ code: 'HTTP_REQUEST_LIMIT' });
});

test('compressed answers are decoded, broken ones are an error', async () => {
  routes.set(
    '/gzip',
    (_request, response) => void response.writeHead(200, { 'content-encoding': 'gzip' }).end(gzipSync('plain')),
  );
  expect(textOf(await fetchFrom(local(), `http://localhost:${port}/gzip`))).toBe('plain');
  routes.set(
    '/broken',
    (_request, response) => void response.writeHead(200, { 'content-encoding': 'gzip' }).end('not gzip'),
  );
  await expect(fetchFrom(local(), `http://localhost:${port}/broken`)).rejects.toMatchObject({
    name: 'HttpError',
    code: 'HTTP_FAILED',
  });
  routes.set(
    '/head',
    (_request, response) => void response.writeHead(200, { 'content-encoding': 'gzip', 'content-length': '100' }).end(),
  );
  expect(textOf(await fetchFrom(local(), `http://localhost:${port}/head`, { method: 'HEAD' }))).toBe('');
});

test('NET-12 functions never share a connection, invocations of one do', async () => {
  const functionsOf = new Map<net.Socket, Set<string>>();
  routes.set('/', (request, response) => {
    const names = functionsOf.get(request.socket) ?? new Set();
    functionsOf.set(request.socket, names.add(String(request.headers['x-function'])));
    response.end();
  });
  const provider = createHttpHostFunction();
  providers.push(provider);
  for (let round = 0; round < 3; round++) {
    for (const functionName of ['one', 'two', 'three']) {
      const guest = new Invocation(provider, { allow: [`localhost:${port}`], functionName });
      await fetchFrom(guest, `http://localhost:${port}/`, { headers: [['x-function', functionName]] });
      await guest.end();
    }
  }
  const groups = [...functionsOf.values()].map((names) => [...names]);
  expect(groups.every((names) => names.length === 1)).toBe(true);
  expect(groups.length).toBeGreaterThanOrEqual(3);
  expect(groups.length).toBeLessThan(9);
});

test('NET-12 a version with another list of hosts does not use the connections of the one before', async () => {
  const sockets = new Set<net.Socket>();
  routes.set('/', (request, response) => {
    sockets.add(request.socket);
    response.end();
  });
  const provider = createHttpHostFunction();
  providers.push(provider);
  for (const allow of [[`localhost:${port}`], [`localhost:${port}`, 'api.example.com']]) {
    await fetchFrom(new Invocation(provider, { allow, functionName: 'one' }), `http://localhost:${port}/`);
  }
  expect(sockets.size).toBe(2);
});

test('NET-12 cookies that a server sets are not sent back', async () => {
  routes.set('/', (_request, response) => void response.writeHead(200, { 'set-cookie': 'a=1; path=/' }).end());
  const guest = local();
  await fetchFrom(guest, `http://localhost:${port}/`);
  await fetchFrom(guest, `http://localhost:${port}/`);
  expect(seen.map(({ headers }) => headers.cookie)).toEqual([undefined, undefined]);
});

test("NET-13 proxies of the node's environment are ignored", async () => {
  const names = ['HTTP_PROXY', 'http_proxy', 'HTTPS_PROXY', 'https_proxy', 'ALL_PROXY', 'NODE_USE_ENV_PROXY'] as const;
  const before = names.map((name) => process.env[name]);
  for (const name of names) process.env[name] = name === 'NODE_USE_ENV_PROXY' ? '1' : 'http://127.0.0.1:9';
  try {
    expect((await fetchFrom(local(), `http://localhost:${port}/direct`)).status).toBe(200);
  } finally {
    names.forEach((name, index) => {
      if (before[index] === undefined) delete process.env[name];
      else process.env[name] = before[index];
    });
  }
});

test('a function makes so many requests per window, redirects counted, and is told when to come back', async () => {
  let nowMs = 1_000;
  const guest = local({ rateLimit: { requests: 3, windowMs: 1_000 } }, { now: () => nowMs });
  routes.set('/two', (_request, response) => void response.writeHead(302, { location: '/one' }).end());
  await fetchFrom(guest, `http://localhost:${port}/two`);
  await fetchFrom(guest, `http://localhost:${port}/one`);
  const failure = await fetchFrom(guest, `http://localhost:${port}/one`).catch((error) => error);
  expect(failure).toMatchObject({
    name: 'RateLimitError',
    code: 'HTTP_RATE_LIMITED',
    details: { allowed: 3, retryAfterMs: 1_000 },
  });
  nowMs += 2_001;
  expect((await fetchFrom(guest, `http://localhost:${port}/one`)).status).toBe(200);
});

test('a function may make 100 requests per 10 s where its configuration says nothing, whichever invocations make them', async () => {
  const { rateLimit } = parseFunctionConfig({ name: 'f' }).http;
  expect(rateLimit).toEqual({ requests: 100, windowMs: 10_000 });
  const provider = createHttpHostFunction({ now: () => 0 });
  providers.push(provider);
  const failures: unknown[] = [];
  for (let made = 0; made < 102; made++) {
    const guest = new Invocation(provider, { allow: [`localhost:${port}`], rateLimit, functionName: 'busy' });
    await fetchFrom(guest, `http://localhost:${port}/`).catch((error) => failures.push(error));
  }
  expect(seen).toHaveLength(100);
  expect(failures).toMatchObject([{ code: 'HTTP_RATE_LIMITED' }, { code: 'HTTP_RATE_LIMITED' }]);
  const other = new Invocation(provider, { allow: [`localhost:${port}`], rateLimit, functionName: 'other' });
  expect((await fetchFrom(other, `http://localhost:${port}/`)).status).toBe(200);
});

test("requests that are refused count too: a function can not fill the operator's log with them", async () => {
  const log = recordingLog();
  const guest = local({ rateLimit: { requests: 3, windowMs: 10_000 } }, { log, now: () => 0 });
  const codes: string[] = [];
  for (let made = 0; made < 10; made++)
    await fetchFrom(guest, 'https://elsewhere.example/').catch((error) => codes.push(error.code));
  expect(codes).toEqual([...new Array(3).fill('HTTP_NOT_ALLOWED'), ...new Array(7).fill('HTTP_RATE_LIMITED')]);
  expect(log.lines).toHaveLength(3);
});

test('NET-15 a name that does not resolve, is too long or leads inside by an alias is an error of its own', async () => {
  const asked: string[] = [];
  const guest = invocation(
    {
      resolve: async (name) => {
        asked.push(name);
        if (name === 'alias.example.com') return ['10.0.0.7'];
        throw Object.assign(new Error(`queryA ENOTFOUND ${name} at 10.0.0.53`), { code: 'ENOTFOUND' });
      },
    },
    { allow: ['*.example.com'], rateLimit: { requests: 50, windowMs: 10_000 } },
  );
  await expect(fetchFrom(guest, 'https://alias.example.com/')).rejects.toMatchObject({ code: 'HTTP_NOT_ALLOWED' });
  const failure = await fetchFrom(guest, 'https://gone.example.com/').catch((error) => error);
  expect(failure).toMatchObject({ code: 'HTTP_FAILED', details: { reason: 'ENOTFOUND' } });
  expect(failure.message).not.toContain('10.0.0.53');
  await expect(fetchFrom(guest, `https://${'a.'.repeat(7_000)}example.com/`)).rejects.toMatchObject({
    code: 'HTTP_INVALID_REQUEST',
  });
  const codes: string[] = [];
  for (let index = 0; index < 200; index++)
    await fetchFrom(guest, `https://n${index}.example.com/`).catch((error) => codes.push(error.code));
  expect(codes.filter((code) => code === 'HTTP_RATE_LIMITED').length).toBeGreaterThan(100);
  expect(asked.length).toBeLessThanOrEqual(50);
});

test('a request that is open at the deadline says nothing before its invocation ends', async () => {
  routes.set('/never', () => {});
  const guest = local({ remainingMs: 20 });
  const order: string[] = [];
  const call = fetchFrom(guest, `http://localhost:${port}/never`).catch(() => order.push('answer'));
  await new Promise((resolve) => setTimeout(resolve, 150));
  order.push('end');
  await guest.end();
  await call;
  expect(order).toEqual(['end', 'answer']);
});

test('a request ends with its invocation, and within its time', async () => {
  routes.set('/never', () => {});
  const guest = local();
  const call = fetchFrom(guest, `http://localhost:${port}/never`).catch((error) => error);
  await new Promise((resolve) => setTimeout(resolve, 50));
  // Each by itself: a request of its own has 20 s.
  const startMs = performance.now();
  await guest.end();
  expect(await call).toMatchObject({ code: 'HTTP_TIMEOUT' });
  expect(
    await fetchFrom(local({ remainingMs: 100 }), `http://localhost:${port}/never`).catch((error) => error),
  ).toMatchObject({ code: 'HTTP_TIMEOUT' });
  expect(performance.now() - startMs).toBeLessThan(MUCH_LATER_MS);
});

test('a server that is not there, or breaks off, is an error with a code and no address', async () => {
  const closed = net.createServer((socket) => socket.destroy());
  await new Promise<void>((resolve) => closed.listen(0, '127.0.0.1', resolve));
  const closedPort = (closed.address() as AddressInfo).port;
  const allow = [`localhost:${closedPort}`];
  const broken = await fetchFrom(local({ allow }), `http://localhost:${closedPort}/`).catch((error) => error);
  expect(broken).toMatchObject({ name: 'HttpError', code: 'HTTP_FAILED' });
  await new Promise((resolve) => closed.close(resolve));
  const gone = await fetchFrom(local({ allow }), `http://localhost:${closedPort}/`).catch((error) => error);
  expect(gone.toPayload()).toBe(
    `{"reason":"ECONNREFUSED","name":"HttpError","message":"the request to localhost:${closedPort} failed: ECONNREFUSED","code":"HTTP_FAILED"}`,
  );
});

test('an invocation has a bounded number of requests open', async () => {
  routes.set('/never', () => {});
  const guest = local({}, { limits: { maxOutstanding: 2 } });
  const open = [1, 2].map(() => fetchFrom(guest, `http://localhost:${port}/never`).catch(() => undefined));
  await expect(fetchFrom(guest, `http://localhost:${port}/`)).rejects.toMatchObject({ code: 'HTTP_CONCURRENCY_LIMIT' });
  await guest.end();
  await Promise.all(open);
});
