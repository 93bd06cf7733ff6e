/**
 * How long does a sender wait until his webhook is accepted: signature checked, delivery and event committed (fsync on), 202
 * said? One at a time, the node at rest in between, next to the commit of a bare insert into the same database, which is what the
 * disk asks; and with several senders at once. And what does a delivery with a wrong signature cost the node?
 * The node is a process of its own; each delivery has an id of its own. Run: `npm run bench -- webhook`.
 */

import { createHmac, randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { Agent, request } from 'undici';
import { createSystemPool } from '../database/index.ts';
import { publish, summarize } from './support/report.ts';
import { type BenchServer, startServer } from './support/server.ts';

const SECRET = 'a webhook secret of enough bytes';
const BODY = JSON.stringify({
  id: 'evt_1',
  type: 'charge.succeeded',
  data: { amount: 1_000, note: 'x'.repeat(1_000) },
});
const LARGE = Buffer.alloc(2 ** 20, '[');
const WARM_UP = 300;
const SAMPLES = 200;
/** Longer than function and records of a delivery take. */
const GAP_MS = 60;
const SENDERS = 16;
const PER_SENDER = 150;
const REFUSED = 300;

const GOOD = `sha256=${createHmac('sha256', SECRET).update(BODY).digest('hex')}`;
const BAD = `sha256=${'0'.repeat(64)}`;

const agent = new Agent({ connections: SENDERS });
const server = await startServer({
  name: 'hook',
  source: 'export const handler = () => null;',
  config: { trigger: { type: 'webhook', secret: 'HOOK_SECRET' } },
});
const pool = createSystemPool(server.databaseUrl);
try {
  const set = await request(`${server.url}/secrets/HOOK_SECRET`, {
    method: 'PUT',
    body: JSON.stringify({ value: SECRET }),
    headers: { 'content-type': 'application/json' },
  });
  if (set.statusCode !== 204) throw new Error(`the secret was answered with ${set.statusCode}`);
  await pool.query('create table bare (id uuid primary key)');
  await oneByOne(WARM_UP);
  const idle = { accepted: [] as number[], insert: [] as number[] };
  for (let index = 0; index < SAMPLES; index++) {
    await new Promise((resolve) => setTimeout(resolve, GAP_MS));
    idle.accepted.push(...(await oneByOne(1)));
    await new Promise((resolve) => setTimeout(resolve, GAP_MS));
    const startedAt = performance.now();
    await pool.query('insert into bare values (gen_random_uuid())');
    idle.insert.push(performance.now() - startedAt);
  }
  const [accepted, insert] = [summarize(idle.accepted), summarize(idle.insert)];
  const startedAt = performance.now();
  const busy = summarize((await Promise.all(Array.from({ length: SENDERS }, () => oneByOne(PER_SENDER)))).flat());
  const rate = busy.count / ((performance.now() - startedAt) / 1_000);
  const small = await costOf(server, BODY);
  const large = await costOf(server, LARGE);
  publish({
    bench: 'webhook',
    question: 'a signed webhook: from the request to 202, verified and durable',
    figures: [
      { name: 'accepted, one at a time, p50', value: accepted.p50, unit: 'ms', target: { op: '<=', value: 3 } },
      { name: 'accepted, one at a time, p99', value: accepted.p99, unit: 'ms' },
      { name: 'a bare insert, committed, p50', value: insert.p50, unit: 'ms' },
      { name: `accepted, ${SENDERS} senders, p50`, value: busy.p50, unit: 'ms' },
      { name: `accepted, ${SENDERS} senders`, value: rate, unit: '/s' },
      { name: 'wrong signature, 1 KB, CPU of the node', value: small, unit: 'ms' },
      { name: 'wrong signature, 1 MiB, CPU of the node', value: large, unit: 'ms' },
    ],
    notes: [
      `${accepted.count} deliveries one at a time, ${busy.count} of ${SENDERS} senders without a pause, each run by its function; sender, Postgres and node on the same cores; fsync on`,
    ],
  });
} finally {
  await pool.end();
  await agent.close();
  await server.stop();
}

async function send(body: string | Buffer, signature: string): Promise<number> {
  const { statusCode, body: answer } = await request(`${server.url}/functions/v1/webhook/hook`, {
    dispatcher: agent,
    method: 'POST',
    body,
    headers: {
      'content-type': 'application/json',
      'x-webhook-signature': signature,
      'x-webhook-id': randomUUID(),
    },
  });
  await answer.dump();
  return statusCode;
}

async function oneByOne(count: number): Promise<number[]> {
  const samples: number[] = [];
  for (let index = 0; index < count; index++) {
    const startedAt = performance.now();
    const status = await send(BODY, GOOD);
    if (status !== 202) throw new Error(`a delivery was answered with ${status}`);
    samples.push(performance.now() - startedAt);
  }
  return samples;
}

/** CPU of the node for a request with a wrong signature, reading it included, in milliseconds. */
async function costOf({ pid }: BenchServer, body: string | Buffer): Promise<number> {
  const before = await cpuMs(pid);
  for (let index = 0; index < REFUSED; index++) {
    const status = await send(body, BAD);
    if (status !== 401) throw new Error(`a wrong signature was answered with ${status}`);
  }
  return ((await cpuMs(pid)) - before) / REFUSED;
}

/** User and system time of a process, all threads, from /proc: in ticks of 10 ms. */
async function cpuMs(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, 'latin1');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) * 10;
}
