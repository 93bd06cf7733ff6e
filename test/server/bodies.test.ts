/** Large bodies of callers who share a process. */

import { afterEach, expect, test } from 'vitest';
import { Bodies } from '../../server/bodies.ts';
import { sendRaw, startTestServer, type TestServer, value } from '../triggers/http/support.ts';

const KB = 1_024;
const MAX_BODY_BYTES = 150 * KB;
const LARGE = `"${'x'.repeat(100 * KB)}"`;

const servers: TestServer[] = [];
afterEach(() => Promise.all(servers.splice(0).map((server) => server.stop())));

/** `echo` answers at once, `hold` when `release` is called. */
async function start(): Promise<{ server: TestServer; release: () => void }> {
  const server = await startTestServer({ app: { maxBodyBytes: MAX_BODY_BYTES } });
  servers.push(server);
  const held = Promise.withResolvers<void>();
  server.functions.add('echo', { auth: 'none' }, (event) => value((event as { body: string }).body.length));
  server.functions.add('hold', { auth: 'none' }, () => held.promise.then(() => value('released')));
  return { server, release: held.resolve };
}

const post = (server: TestServer, name: string, body: string) =>
  server.fetch(`/functions/v1/${name}`, { method: 'POST', body, headers: { 'content-type': 'application/json' } });

test('HTTP-02 what is given back with the answer is there for the next: any number of large bodies, one after the other', async () => {
  const { server } = await start();
  for (let sent = 0; sent < 10; sent++) expect((await post(server, 'echo', LARGE)).status).toBe(200);
});

test('HTTP-02 while a function holds a large body another one is refused with 503 and Retry-After, and small ones go on', async () => {
  const { server, release } = await start();
  const holding = post(server, 'hold', LARGE);
  await expect.poll(() => server.functions.requests.length).toBe(1);
  const refused = await post(server, 'echo', LARGE);
  expect([refused.status, refused.headers.get('retry-after')]).toEqual([503, '1']);
  expect(await refused.json()).toMatchObject({ code: 'OVERLOADED' });
  expect((await post(server, 'echo', '"small"')).status).toBe(200);
  release();
  expect(await (await holding).json()).toBe('released');
  expect((await post(server, 'echo', LARGE)).status).toBe(200);
});

test('HTTP-01 a large body that does not go on makes room for one that does', async () => {
  const { server } = await start();
  let answer = '';
  const slow = `POST /functions/v1/echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: ${200 * KB}\r\n\r\n${LARGE}`;
  const slowly = sendRaw(server.port, slow).then((text) => {
    answer = text;
  });
  const quickly = async (): Promise<string> => {
    expect((await post(server, 'echo', LARGE)).status).toBe(200);
    return answer;
  };
  await expect.poll(quickly, { timeout: 20_000 }).toMatch(/^HTTP\/1\.1 503 .*OVERLOADED/s);
  await slowly;
});

test('HTTP-02 the only body there is may be larger than what all may have', async () => {
  const { server } = await start();
  expect((await post(server, 'echo', LARGE + ' '.repeat(MAX_BODY_BYTES))).status).toBe(200);
});

test('large bodies are looked through one in a turn of the event loop, small ones at once', async () => {
  const bodies = new Bodies(MAX_BODY_BYTES);
  const seen: string[] = [];
  const take = (name: string, bytes: number): void => bodies.takeTurn(Buffer.alloc(bytes), () => seen.push(name));
  take('first', 100 * KB);
  take('second', 100 * KB);
  take('small', KB);
  bodies.takeTurn(undefined, () => seen.push('none'));
  expect(seen).toEqual(['small', 'none']);
  const turn = () => new Promise((resolve) => setImmediate(resolve));
  await turn();
  expect(seen).toEqual(['small', 'none', 'first']);
  take('third', 100 * KB);
  await turn();
  expect(seen.slice(3)).toEqual(['second']);
  await turn();
  expect(seen.slice(4)).toEqual(['third']);
});
