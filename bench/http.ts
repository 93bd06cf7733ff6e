/**
 * How many HTTP invocations does a node answer, end to end: Fastify, a token, a sandbox that is clean for each request, a
 * record of each in Postgres; next to workerd, which runs all requests in one isolate and keeps no records. In turns, in
 * one run, with one load generator. Run: `npm run bench -- http`.
 */

import { spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import autocannon from 'autocannon';
import { percentile, publish } from './support/report.ts';
import { startServer } from './support/server.ts';

const CONNECTIONS = 32;
const ROUNDS = 3;
const SECONDS = 6;
const BODY = JSON.stringify({ name: 'World' });

const POSTERN_FUNCTION = `export async function handler(event) {
  return { statusCode: 200, headers: { 'content-type': 'application/json' }, body: { hello: event.body.name } };
}`;
const WORKERD_FUNCTION = `export default {
  async fetch(request) {
    const body = await request.json();
    return Response.json({ hello: body.name });
  },
};`;

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  await new Promise<void>((resolve) => server.close(() => resolve()));
  return port;
}

async function startWorkerd(folder: string): Promise<{ url: string; stop(): void }> {
  const port = await freePort();
  await writeFile(join(folder, 'worker.js'), WORKERD_FUNCTION);
  await writeFile(
    join(folder, 'config.capnp'),
    `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [(name = "main", worker = .worker)],
  sockets = [(name = "http", address = "127.0.0.1:${port}", http = (), service = "main")]
);
const worker :Workerd.Worker = (modules = [(name = "worker", esModule = embed "worker.js")], compatibilityDate = "2026-01-01");
`,
  );
  const workerd = createRequire(import.meta.url).resolve('workerd/bin/workerd');
  // The package's install step puts the binary itself in the place of its script.
  const child = spawn(workerd, ['serve', join(folder, 'config.capnp')], {
    stdio: 'inherit',
    detached: true,
  });
  const url = `http://127.0.0.1:${port}/`;
  for (let tries = 0; ; tries++) {
    const up = await fetch(url, { method: 'POST', body: BODY }).then(
      (response) => response.ok,
      () => false,
    );
    if (up) break;
    if (tries > 100) throw new Error('workerd did not start');
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  return { url, stop: () => process.kill(-(child.pid as number), 'SIGKILL') };
}

async function load(url: string, token?: string): Promise<{ rate: number; p50: number; p99: number; errors: number }> {
  const result = await autocannon({
    url,
    connections: CONNECTIONS,
    duration: SECONDS,
    method: 'POST',
    body: BODY,
    headers: {
      'content-type': 'application/json',
      ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
    },
  });
  return {
    rate: result.requests.average,
    p50: result.latency.p50,
    p99: result.latency.p99,
    errors: result.errors + result.non2xx,
  };
}

const folder = await mkdtemp(join(tmpdir(), 'postern-bench-'));
const workerd = await startWorkerd(folder);
const postern = await startServer({ name: 'hello', source: POSTERN_FUNCTION });
try {
  const target = `${postern.url}/functions/v1/invoke/hello`;
  const check = await fetch(target, {
    method: 'POST',
    body: BODY,
    headers: { 'content-type': 'application/json', authorization: `Bearer ${postern.token}` },
  });
  if ((await check.text()) !== '{"hello":"World"}') throw new Error(`postern answers ${check.status}`);
  await load(target, postern.token);
  await load(workerd.url);
  const rounds = {
    postern: [] as Awaited<ReturnType<typeof load>>[],
    workerd: [] as Awaited<ReturnType<typeof load>>[],
  };
  for (let round = 0; round < ROUNDS; round++) {
    rounds.postern.push(await load(target, postern.token));
    rounds.workerd.push(await load(workerd.url));
  }
  const middle = (values: number[]): number =>
    percentile(
      values.sort((a, b) => a - b),
      0.5,
    );
  const [ours, theirs] = [rounds.postern, rounds.workerd].map((all) => middle(all.map(({ rate }) => rate))) as [
    number,
    number,
  ];
  publish({
    bench: 'http',
    question: `HTTP end to end, trivial JSON handler, ${CONNECTIONS} connections, token checked, records on`,
    figures: [
      { name: 'postern / workerd', value: ours / theirs, unit: '×', target: { op: '>=', value: 0.8 } },
      { name: 'postern', value: ours, unit: 'requests/s' },
      { name: 'workerd', value: theirs, unit: 'requests/s' },
      { name: 'postern p50', value: middle(rounds.postern.map(({ p50 }) => p50)), unit: 'ms' },
      { name: 'postern p99', value: middle(rounds.postern.map(({ p99 }) => p99)), unit: 'ms' },
      { name: 'workerd p99', value: middle(rounds.workerd.map(({ p99 }) => p99)), unit: 'ms' },
      {
        name: 'errors',
        value: [...rounds.postern, ...rounds.workerd].reduce((sum, { errors }) => sum + errors, 0),
        unit: '',
        target: { op: '<=', value: 0 },
      },
    ],
    notes: [
      `median of ${ROUNDS} rounds of ${SECONDS} s in turns, after one to warm up; load generator, Postgres and both servers on the same cores`,
    ],
  });
} finally {
  workerd.stop();
  await postern.stop();
  await rm(folder, { recursive: true, force: true });
}
