/**
 * What do receipts cost? HTTP end to end on two nodes, one with receipts and one without, in turns, in one run; then what one receipt
 * takes of the node's thread: its hashes and text, its place in the chain, its share of tree and signature (not its compression, which
 * other threads do). Run: `npm run bench -- receipts`.
 */

import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import autocannon from 'autocannon';
import type { Pool } from 'pg';
import { type InvocationFacts, ReceiptLedger, signerOf } from '../invoker/receipts/index.ts';
import { percentile, publish } from './support/report.ts';
import { type BenchServer, startServerWith } from './support/server.ts';

const CONNECTIONS = 32;
/** Two processes that do the same differ by 5 % for as long as they live (measured): so there are several of each. */
const PAIRS = 4;
const ROUNDS = 10;
const SECONDS = 1;
const WARM_UP_ROUNDS = 3;
const BODY = JSON.stringify({ name: 'World' });
const FUNCTION = {
  name: 'hello',
  source: `export async function handler(event) {
  return { statusCode: 200, headers: { 'content-type': 'application/json' }, body: { hello: event.body.name } };
}`,
};
const BATCHES = 60;
const BATCH = 1_000;

interface Load {
  readonly rate: number;
  /** Of the node's process, all threads; it is the same however busy the machine is with other things. */
  readonly cpuMicros: number;
}

async function load({ url, token, pid }: BenchServer): Promise<Load> {
  const before = cpuTicks(pid);
  const result = await autocannon({
    url: `${url}/functions/v1/invoke/hello`,
    connections: CONNECTIONS,
    duration: SECONDS,
    method: 'POST',
    body: BODY,
    headers: { 'content-type': 'application/json', authorization: `Bearer ${token}` },
  });
  if (result.errors + result.non2xx > 0) throw new Error(`${result.errors + result.non2xx} requests failed`);
  const cpuMicros = ((cpuTicks(pid) - before) * TICK_MICROS) / result.requests.total;
  return { rate: result.requests.average, cpuMicros };
}

/** Linux counts them in hundredths of a second. */
const TICK_MICROS = 10_000;

/** User's and system's. */
function cpuTicks(pid: number): number {
  const [, fields = ''] = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ');
  const [user, system] = fields.split(' ').slice(11, 13).map(Number) as [number, number];
  return user + system;
}

const middle = (values: readonly number[]): number =>
  percentile(
    [...values].sort((a, b) => a - b),
    0.5,
  );

/** Microseconds of CPU for one, with the event of the HTTP call above. */
async function receiptMicros(): Promise<number> {
  const head = `{"trigger":"http","method":"POST","path":"/functions/v1/invoke/hello","headers":${JSON.stringify('h'.repeat(300))},"body":`;
  const facts: InvocationFacts = {
    request: {
      trigger: 'http',
      identity: { role: 'authenticated', claims: {}, userId: null },
      eventJson: `${head}${BODY}}`,
      bodyAt: head.length,
    },
    version: {
      functionId: 1,
      name: 'hello',
      version: 1,
      versionId: 'c'.repeat(64),
      config: { timeoutMs: 5_000, memoryBytes: 2 ** 26, cpu: 1e9 } as InvocationFacts['version']['config'],
      envJson: '{}',
      redact: (text) => text,
    },
    result: {
      invocationId: randomUUID(),
      functionName: 'hello',
      version: 1,
      outcome: 'ok',
      response: { kind: 'http', status: 200, headers: [], body: '{"hello":"World"}' },
      usage: {
        durationMs: 1.234567,
        cpuMs: 0.1,
        fuel: 100_000,
        peakMemoryBytes: 2 ** 21,
        hostCalls: 0,
        clockReads: 0,
        randomBytes: 0,
      },
    },
    startedAtMs: Date.now(),
    hostCalls: { calls: [], more: null },
  };
  const ledger = new ReceiptLedger({
    pool: { query: async () => undefined } as unknown as Pool,
    chain: randomUUID(),
    engineId: 'e'.repeat(64),
    signer: signerOf(generateKeyPairSync('ed25519').privateKey),
    onError: (error) => {
      throw error;
    },
  });
  const times: number[] = [];
  for (let batch = 0; batch < BATCHES; batch++) {
    const before = process.threadCpuUsage();
    for (let n = 0; n < BATCH; n++) ledger.invocation({ ...facts, startedAtMs: Date.now() });
    await ledger.flush();
    const { user, system } = process.threadCpuUsage(before);
    times.push((user + system) / BATCH);
  }
  await ledger.stop();
  return middle(times);
}

type Which = 'on' | 'off';

/** Adds the rounds of a pair of nodes. Who starts and who goes first changes, so that what slows the machine down meets both alike. */
async function measurePair(pair: number, loads: Readonly<Record<Which, Load[]>>): Promise<void> {
  const inTurn = (n: number): readonly Which[] => (n % 2 === 0 ? ['on', 'off'] : ['off', 'on']);
  const servers = new Map<Which, BenchServer>();
  try {
    for (const which of inTurn(pair))
      servers.set(which, await startServerWith(which === 'on' ? {} : { POSTERN_RECEIPTS: 'off' }, FUNCTION));
    for (let round = -WARM_UP_ROUNDS; round < ROUNDS; round++) {
      for (const which of inTurn(round)) {
        const one = await load(servers.get(which) as BenchServer);
        if (round >= 0) loads[which].push(one);
      }
    }
  } finally {
    for (const server of servers.values()) await server.stop();
  }
}

const micros = await receiptMicros();
const loads: Record<Which, Load[]> = { on: [], off: [] };
for (let pair = 0; pair < PAIRS; pair++) await measurePair(pair, loads);
const ratios = loads.on.map(({ rate }, round) => rate / (loads.off[round] as Load).rate);
const cpu = loads.on.map(({ cpuMicros }, round) => cpuMicros - (loads.off[round] as Load).cpuMicros);
publish({
  bench: 'receipts',
  question: `HTTP end to end with and without receipts, trivial JSON handler, ${CONNECTIONS} connections, token checked, records on`,
  figures: [
    { name: 'receipts on / off', value: middle(ratios), unit: '×', target: { op: '>=', value: 0.9 } },
    { name: 'on', value: middle(loads.on.map(({ rate }) => rate)), unit: 'requests/s' },
    { name: 'off', value: middle(loads.off.map(({ rate }) => rate)), unit: 'requests/s' },
    { name: 'CPU of the node, on', value: middle(loads.on.map(({ cpuMicros }) => cpuMicros)), unit: 'µs a request' },
    { name: 'CPU of the node, on - off', value: middle(cpu), unit: 'µs a request' },
    { name: "one receipt, of the node's thread", value: micros, unit: 'µs', target: { op: '<=', value: 10 } },
  ],
  notes: [
    `median of ${PAIRS} pairs of nodes with ${ROUNDS} rounds of ${SECONDS} s each in turns, after ${WARM_UP_ROUNDS} to warm up; the median of the ratios of neighbouring rounds; load generator, Postgres and both nodes on the same cores`,
  ],
});
