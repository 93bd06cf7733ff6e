/** Functions that send HTTP requests from a whole node: to one another, to the node itself, with secrets. */

import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts';
import { startTestPostern, type TestPostern } from './support.ts';

let db: TestDatabase;
let postern: TestPostern;
let remote: http.Server;
let remotePort: number;
const received: http.IncomingHttpHeaders[] = [];

beforeAll(async () => {
  db = await createTestDatabase();
  postern = await startTestPostern(db, { mode: 'dev', adminKey: undefined as unknown as string });
  // Sends back what it was sent: the worst that a server can do with a secret.
  remote = http.createServer((request, response) => {
    received.push(request.headers);
    response.end(request.headers.authorization ?? '');
  });
  await new Promise<void>((resolve) => remote.listen(0, '127.0.0.1', resolve));
  remotePort = (remote.address() as AddressInfo).port;
});
afterAll(async () => {
  await postern?.stop();
  remote.closeAllConnections();
  remote.close();
  await db.drop();
});

const deploy = async (name: string, source: string, config: Record<string, unknown> = {}): Promise<void> => {
  const deployed = await postern.deploy(name, source, { auth: 'none', ...config });
  expect(deployed, JSON.stringify(deployed.body)).toMatchObject({ status: 201 });
};
const call = async (name: string): Promise<{ status: number; body: unknown }> => {
  const response = await postern.call(`/functions/v1/${name}`);
  return { status: response.status, body: await response.json() };
};

test('ISO-16 two functions that call each other in a circle end at a limit, with an error that says so', async () => {
  const caller = (other: string): string => `export const handler = async () => {
    const answer = await (await fetch('http://localhost:${postern.port}/functions/v1/${other}')).json();
    return { ...answer, chain: (answer.chain ?? 0) + 1 };
  };`;
  const http = { allow: [`localhost:${postern.port}`] };
  await deploy('ping', caller('pong'), { http });
  await deploy('pong', caller('ping'), { http });
  const { status, body } = await call('ping');
  expect(status).toBe(200);
  expect(body).toMatchObject({
    chain: 17,
    code: 'FORBIDDEN',
    message: 'functions call one another more than 16 deep',
  });
});

test('ISO-16 a function can not say itself how deep it stands', async () => {
  await deploy(
    'liar',
    `export const handler = async () => {
      const tried = [];
      for (const name of ['x-postern-depth', 'X-Postern-Depth', 'x-postern-depth ']) {
        try {
          const response = await fetch('http://localhost:${remotePort}/', { headers: { [name]: '0' } });
          tried.push(response.status);
        } catch (error) {
          tried.push(error.code ?? error.name);
        }
      }
      return tried;
    };`,
    { http: { allow: [`localhost:${remotePort}`] } },
  );
  received.length = 0;
  expect(await call('liar')).toEqual({
    status: 200,
    body: ['HTTP_INVALID_REQUEST', 'HTTP_INVALID_REQUEST', 'TypeError'],
  });
  expect(received).toEqual([]);
});

test('NET-16 a function reaches the node itself only where it is listed, and its control API not even then without a key', async () => {
  const source = `export const handler = async () => {
    const tried = [];
    for (const host of ['localhost', '127.0.0.1', '[::1]']) {
      try {
        const response = await fetch('http://' + host + ':${postern.port}/functions', {
          method: 'POST', headers: { 'content-type': 'application/json' },
          body: JSON.stringify({ name: 'planted', source: 'export const handler = () => 1' }),
        });
        tried.push([response.status, (await response.json()).code]);
      } catch (error) {
        tried.push(error.code);
      }
    }
    return tried;
  };`;
  await deploy('outsider', source);
  expect((await call('outsider')).body).toEqual(['HTTP_NOT_ALLOWED', 'HTTP_NOT_ALLOWED', 'HTTP_NOT_ALLOWED']);
  await deploy('insider', source, { http: { allow: [`localhost:${postern.port}`] } });
  expect((await call('insider')).body).toEqual([[403, 'FORBIDDEN'], 'HTTP_NOT_ALLOWED', 'HTTP_NOT_ALLOWED']);
  expect((await call('planted')).status).toBe(404);
});

test('ENV-02 ENV-04 a secret that a function may only send is nowhere in the function, and redacted where a server sends it back', async () => {
  await postern.secrets.set('SENT_KEY', 'sk_live_sent-and-never-read');
  await deploy(
    'sender',
    `export const handler = async (event, context) => {
      const response = await fetch('http://localhost:${remotePort}/', { headers: { authorization: 'Bearer {{secret:SENT_KEY}}' } });
      const reflected = await response.text();
      console.log('reflected', reflected, { in: btoa(reflected.slice(7)) });
      if (event.query?.fail) throw new Error('reflected ' + reflected);
      return {
        env: [env('SENT_KEY'), context.env.SENT_KEY, process.env.SENT_KEY],
        keys: [Object.keys(context.env), Object.keys(process.env)],
        hasIt: JSON.stringify([Object.getOwnPropertyNames(globalThis), context, process.env]).includes('sk_live'),
      };
    };`,
    { http: { allow: [`localhost:${remotePort}`], secrets: ['SENT_KEY'] } },
  );
  received.length = 0;
  const { body } = await call('sender');
  expect(received[0]?.authorization).toBe('Bearer sk_live_sent-and-never-read');
  expect(body).toEqual({ env: [null, null, null], keys: [[], ['NODE_ENV']], hasIt: false });
  const failed = await call('sender?fail=1');
  expect(failed).toMatchObject({ status: 500, body: { message: 'reflected Bearer [redacted]' } });
  const lines = postern.logged.filter((line) => line.includes('function:sender'));
  expect(lines).toHaveLength(2);
  expect(lines.join()).toContain('[redacted]');
  expect(lines.join()).not.toMatch(/sk_live|c2tfbGl2/);
});

test('ENV-04 a secret that changes is sent as it is then', async () => {
  await postern.secrets.set('CHANGING', 'value-one');
  await deploy(
    'changing',
    `export const handler = async () => (await fetch('http://localhost:${remotePort}/', { headers: { authorization: '{{secret:CHANGING}}' } })).text();`,
    { http: { allow: [`localhost:${remotePort}`], secrets: ['CHANGING'] } },
  );
  expect((await call('changing')).body).toBe('value-one');
  await fetch(`${postern.url}/secrets/CHANGING`, {
    method: 'PUT',
    headers: { 'content-type': 'application/json' },
    body: '{"value":"value-two"}',
  });
  expect((await call('changing')).body).toBe('value-two');
});
