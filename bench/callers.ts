/**
 * What does it cost to know callers, and what do bad ones cost others? First `auth: required` with a token that was seen before,
 * and with an API key, next to `auth: none`: the same requests with the same headers, in turns. Then one client's throughput
 * beside eight others: while those send what it sends (its share of the node), and while they send tokens that somebody else
 * signed, keys that nobody made, keys beyond their rate and bodies that are no JSON, as fast as they are refused.
 * Run: `npm run bench -- callers`.
 */

import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import autocannon from 'autocannon';
import { signToken } from '../cli/dev-keys.ts';
import { percentile, publish } from './support/report.ts';
import { startServer } from './support/server.ts';

const AUTH_CONNECTIONS = 32;
const AUTH_ROUNDS = 9;
const AUTH_SECONDS = 2;
/** Each of the nine clients. */
const CLIENT_CONNECTIONS = 4;
/** Of each kind of bad request; four kinds make eight clients. */
const CLIENTS_OF_A_KIND = 2;
const NEIGHBOUR_ROUNDS = 3;
const NEIGHBOUR_SECONDS = 4;
/** The eight are there before the neighbour's time begins, and after it ends. */
const HEAD_START_MS = 1_000;
/** So many different ones in a circle: none is remembered, and a forged one costs what a new one costs. */
const BAD_CREDENTIALS = 500;

const HANDLER = `export async function handler(event) {
  return { statusCode: 200, body: { hello: event.body.name } };
}`;
const BODY = JSON.stringify({ name: 'World' });

interface Sent {
  readonly function: string;
  readonly credentials: readonly string[];
  readonly body: string;
}

interface Load {
  readonly rate: number;
  readonly p99: number;
  readonly ok: number;
  readonly failed: number;
}

const middle = (values: readonly number[]): number =>
  percentile(
    [...values].sort((a, b) => a - b),
    0.5,
  );

const functions = ['open', 'closed', 'neighbour', 'other'].map((name) => ({
  name,
  source: HANDLER,
  config: { auth: name === 'open' ? 'none' : 'required' },
}));
const postern = await startServer(...functions);

/** `threads`: how many threads send, so that many clients do not wait for one event loop of ours; 0 for this one. */
async function load(sent: Sent, connections: number, seconds: number, threads = 0): Promise<Load> {
  const { credentials, body } = sent;
  const result = await autocannon({
    url: `${postern.url}/functions/v1/${sent.function}`,
    connections,
    duration: seconds,
    ...(threads === 0 ? {} : { workers: threads }),
    requests: credentials.map((credential) => ({
      method: 'POST',
      body,
      headers: { 'content-type': 'application/json', authorization: `Bearer ${credential}` },
    })),
  });
  return {
    rate: result.requests.total / result.duration,
    p99: result.latency.p99,
    ok: result['2xx'],
    failed: result.errors + result.timeouts + result.non2xx,
  };
}

async function createKey(name: string, limit: number): Promise<string> {
  const response = await fetch(`${postern.url}/api-keys`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ name, rate: { limit, window_seconds: 86_400 } }),
  });
  if (response.status !== 201) throw new Error(`no key was made: ${response.status} ${await response.text()}`);
  return ((await response.json()) as { key: string }).key;
}

async function statusOf({ function: name, credentials, body }: Sent): Promise<number> {
  const response = await fetch(`${postern.url}/functions/v1/${name}`, {
    method: 'POST',
    body,
    headers: { 'content-type': 'application/json', authorization: `Bearer ${credentials[0]}` },
  });
  await response.arrayBuffer();
  return response.status;
}

async function compareAuth() {
  const { token } = postern;
  const ways = {
    none: { function: 'open', credentials: [token], body: BODY },
    token: { function: 'closed', credentials: [token], body: BODY },
    key: { function: 'closed', credentials: [await createKey('fast', 1_000_000)], body: BODY },
  } as const satisfies Record<string, Sent>;
  const names = Object.keys(ways) as (keyof typeof ways)[];
  const loads: Record<keyof typeof ways, Load[]> = { none: [], token: [], key: [] };
  for (const name of names) await load(ways[name], AUTH_CONNECTIONS, AUTH_SECONDS);
  for (let round = 0; round < AUTH_ROUNDS; round++) {
    for (let turn = 0; turn < names.length; turn++) {
      const name = names[(round + turn) % names.length]!;
      loads[name].push(await load(ways[name], AUTH_CONNECTIONS, AUTH_SECONDS));
    }
  }
  return {
    none: middle(loads.none.map(({ rate }) => rate)),
    // Within a round: what the machine does over minutes is no way's advantage.
    tokenToNone: middle(loads.token.map(({ rate }, round) => rate / loads.none[round]!.rate)),
    keyToNone: middle(loads.key.map(({ rate }, round) => rate / loads.none[round]!.rate)),
    failed: names.flatMap((name) => loads[name]).reduce((sum, { failed }) => sum + failed, 0),
  };
}

/** Four kinds of request, and the status that each is to have. */
async function badRequests(): Promise<readonly (readonly [Sent, number])[]> {
  const forged = await Promise.all(
    Array.from({ length: BAD_CREDENTIALS }, () => signToken(randomBytes(32).toString('hex'), 'authenticated')),
  );
  const unknown = Array.from({ length: BAD_CREDENTIALS }, () => `pstn_${randomBytes(32).toString('base64url')}`);
  const spent: Sent = { function: 'other', credentials: [await createKey('spent', 1)], body: BODY };
  await statusOf(spent);
  return [
    [{ function: 'other', credentials: forged, body: BODY }, 401],
    [{ function: 'other', credentials: unknown, body: BODY }, 401],
    [spent, 429],
    [{ function: 'other', credentials: [postern.token], body: '{"name":' }, 400],
  ];
}

async function compareNeighbours() {
  const bad = await badRequests();
  for (const [sent, expected] of bad) {
    const status = await statusOf(sent);
    if (status !== expected) throw new Error(`a bad request was answered ${status} in place of ${expected}`);
  }
  const good: Sent = { function: 'other', credentials: [postern.token], body: BODY };
  const beside = async (others: readonly Sent[]) => {
    const seconds = NEIGHBOUR_SECONDS + (2 * HEAD_START_MS) / 1_000;
    const running = others.map((sent) => load(sent, CLIENTS_OF_A_KIND * CLIENT_CONNECTIONS, seconds, 1));
    await sleep(HEAD_START_MS);
    const own = await load({ ...good, function: 'neighbour' }, CLIENT_CONNECTIONS, NEIGHBOUR_SECONDS);
    const loads = await Promise.all(running);
    return { own, loads, rate: loads.reduce((sum, one) => sum + one.rate, 0) };
  };
  await beside(bad.map(() => good));
  const share: Awaited<ReturnType<typeof beside>>[] = [];
  const disturbed: Awaited<ReturnType<typeof beside>>[] = [];
  for (let round = 0; round < NEIGHBOUR_ROUNDS; round++) {
    share.push(await beside(bad.map(() => good)));
    disturbed.push(await beside(bad.map(([sent]) => sent)));
  }
  const letIn = disturbed.flatMap(({ loads }) => loads).reduce((sum, { ok }) => sum + ok, 0);
  if (letIn > 0) throw new Error(`${letIn} bad requests were answered as good ones`);
  return {
    share: middle(share.map(({ own }) => own.rate)),
    disturbed: middle(disturbed.map(({ own }) => own.rate)),
    sharedWith: middle(share.map(({ rate }) => rate)),
    disturbedBy: middle(disturbed.map(({ rate }) => rate)),
    p99Share: middle(share.map(({ own }) => own.p99)),
    p99Disturbed: middle(disturbed.map(({ own }) => own.p99)),
    failed: [...share, ...disturbed].reduce((sum, { own }) => sum + own.failed, 0),
  };
}

try {
  const auth = await compareAuth();
  const neighbours = await compareNeighbours();
  publish({
    bench: 'callers',
    question: `callers that are known, ${AUTH_CONNECTIONS} connections; and a client of ${CLIENT_CONNECTIONS} connections beside 8 bad ones`,
    figures: [
      {
        name: 'token seen before / auth none',
        value: auth.tokenToNone,
        unit: '×',
        target: { op: '>=', value: 0.9 },
      },
      { name: 'API key / auth none', value: auth.keyToNone, unit: '×' },
      { name: 'auth none', value: auth.none, unit: 'requests/s' },
      {
        name: 'beside 8 bad clients / beside 8 good ones',
        value: neighbours.disturbed / neighbours.share,
        unit: '×',
        target: { op: '>=', value: 0.5 },
      },
      { name: 'beside 8 good clients', value: neighbours.share, unit: 'requests/s' },
      { name: 'those 8', value: neighbours.sharedWith, unit: 'requests/s' },
      { name: 'p99 beside them', value: neighbours.p99Share, unit: 'ms' },
      { name: 'beside 8 bad clients', value: neighbours.disturbed, unit: 'requests/s' },
      { name: 'those 8, refused', value: neighbours.disturbedBy, unit: 'requests/s' },
      { name: 'p99 beside those', value: neighbours.p99Disturbed, unit: 'ms' },
      { name: 'errors', value: auth.failed + neighbours.failed, unit: '', target: { op: '<=', value: 0 } },
    ],
    notes: [
      `medians of ${AUTH_ROUNDS} rounds (of the ratios within each) of ${AUTH_SECONDS} s and ${NEIGHBOUR_ROUNDS} of ${NEIGHBOUR_SECONDS} s in turns, after one each to warm up; load generators, Postgres and the node on the same cores`,
    ],
  });
} finally {
  await postern.stop();
}
