/**
 * What does a run in a session cost over HTTP, from the restored memory to the saved one, one request after the other? And what
 * do 500 open sessions take of a node while nobody uses them: beside nodes that have had the same sessions, which are over, and that
 * have run the same code without?
 * Run: `npm run bench -- sessions`.
 */

import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client } from 'undici';
import { type Figure, publish, summarize } from './support/report.ts';
import { type BenchServer, startServer } from './support/server.ts';

const RUNS = 400;
const WARM_UP_RUNS = 50;
const OPEN_SESSIONS = 500;
const SETTLE_MS = 5_000;
const IN_ALL_PER_SESSION = 2;

/** Something to keep, a function that changes it, and what calls that. */
const PROGRAMS = {
  javascript: [
    'const rows = Array.from({ length: 200 }, (_, i) => ({ id: i, name: "row " + i })); let n = 0; function next() { rows[n % 200].seen = ++n; return n }',
    'next()',
  ],
  python: [
    'rows = [{"id": i, "name": f"row {i}"} for i in range(200)]\nn = 0\ndef after():\n    global n\n    n += 1\n    rows[n % 200]["seen"] = n\n    return n',
    'after()',
  ],
} as const;
type Language = keyof typeof PROGRAMS;

interface Answer {
  readonly result: unknown;
  readonly session?: { readonly token: string };
}

/** A key whose policy lets it have sessions. */
async function caller(server: BenchServer) {
  const client = new Client(server.url);
  const send = async (
    method: 'POST' | 'PUT' | 'GET' | 'DELETE',
    path: string,
    body: unknown,
    key?: string,
  ): Promise<unknown> => {
    const authorization = key === undefined ? {} : { authorization: `Bearer ${key}` };
    const type = body === undefined ? {} : { 'content-type': 'application/json' };
    const headers = { ...type, ...authorization };
    const answer = await client.request({
      method,
      path,
      headers,
      body: body === undefined ? null : JSON.stringify(body),
    });
    const text = await answer.body.text();
    if (answer.statusCode >= 300) throw new Error(`${path}: ${answer.statusCode} ${text.slice(0, 500)}`);
    return text === '' ? undefined : JSON.parse(text);
  };
  await send('PUT', '/policies/bench', { sessions: 10_000 });
  const rate = { limit: 1_000_000, window_seconds: 60 };
  const { key } = (await send('POST', '/api-keys', { name: 'bench', policy: 'bench', rate })) as { key: string };
  return {
    run: async (language: Language, code: string, session?: string) =>
      (await send('POST', '/execute', { language, code, session }, key)) as Answer,
    sessions: async () =>
      (
        (await send('GET', '/execute/sessions', undefined, key)) as {
          sessions: { id: string; bytes: number; runs: { first: number; last: number } }[];
        }
      ).sessions,
    end: (id: string) => send('DELETE', `/execute/sessions/${id}`, undefined, key),
    close: () => client.close(),
  };
}

async function runsOf(server: BenchServer, language: Language, targetMs: number): Promise<Figure[]> {
  const { run, sessions, close } = await caller(server);
  const [begin, code] = PROGRAMS[language];
  const token = (await run(language, begin, 'new')).session?.token;
  const samples: number[] = [];
  for (let n = 1; n <= WARM_UP_RUNS + RUNS; n++) {
    const from = performance.now();
    const { result } = await run(language, code, token);
    if (n > WARM_UP_RUNS) samples.push(performance.now() - from);
    if (result !== n) throw new Error(`run ${n} of the session gave ${JSON.stringify(result)}`);
  }
  const [session] = await sessions();
  await close();
  if (session === undefined) throw new Error('the session is gone');
  const { p50, p99 } = summarize(samples);
  const name = language === 'javascript' ? 'JavaScript' : 'Python';
  return [
    { name: `${name}, p50`, value: p50, unit: 'ms', target: { op: '<=', value: targetMs } },
    { name: `${name}, p99`, value: p99, unit: 'ms' },
    {
      name: `${name}, an image as stored`,
      value: session.bytes / (session.runs.last - session.runs.first + 1) / 1024,
      unit: 'KB',
    },
  ];
}

/** Of the node and its executors, after so many sessions, which are left open or over, or as many runs without. */
async function idleBytes(sessions: 'open' | 'over' | 'none'): Promise<number> {
  const server = await startServer();
  try {
    const { run, sessions: list, end, close } = await caller(server);
    const [begin, code] = PROGRAMS.javascript;
    const inSession = sessions !== 'none';
    for (let n = 0; n < OPEN_SESSIONS; n++) {
      const { session } = await run('javascript', begin, inSession ? 'new' : undefined);
      for (let more = 1; more < IN_ALL_PER_SESSION; more++)
        await run('javascript', inSession ? code : begin, session?.token);
    }
    if (sessions === 'over') for (const { id } of await list()) await end(id);
    await close();
    await sleep(SETTLE_MS);
    return residentBytes(server.pid);
  } finally {
    await server.stop();
  }
}

/** Of a node and the executors below it; the embedded Postgres is another's. */
function residentBytes(pid: number): number {
  const field = (of: string, name: string): string =>
    new RegExp(`^${name}:\\s+(\\S+)`, 'm').exec(readFileSync(`/proc/${of}/status`, 'utf8'))?.[1] ?? '';
  const processes = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  const own = processes.filter((name) => {
    try {
      return (
        name === String(pid) ||
        (field(name, 'PPid') === String(pid) && /executor/.test(readFileSync(`/proc/${name}/cmdline`, 'utf8')))
      );
    } catch {
      return false; // It has ended meanwhile.
    }
  });
  return own.reduce((sum, name) => sum + Number(field(name, 'VmRSS')) * 1024, 0);
}

const server = await startServer();
const javascript = await runsOf(server, 'javascript', 10);
const python = await runsOf(server, 'python', 60);
await server.stop();
const without = await idleBytes('none');
const over = await idleBytes('over');
const open = await idleBytes('open');

publish({
  bench: 'sessions',
  question: 'a run in a session over HTTP: restored, run, saved; and what 500 open sessions take of a node',
  figures: [
    ...javascript,
    ...python,
    { name: 'node and executors after 1,000 runs without', value: without / 2 ** 20, unit: 'MB' },
    { name: 'after as many in 500 sessions that are over', value: over / 2 ** 20, unit: 'MB' },
    {
      name: 'the same with 500 sessions open',
      value: open / 2 ** 20,
      unit: 'MB',
      target: { op: '<=', value: (over / 2 ** 20) * 1.05 },
    },
  ],
  notes: [
    `${RUNS} runs of one session, after ${WARM_UP_RUNS}, one after the other; node, executors, Postgres and client on the same cores`,
    `resident memory (VmRSS) of node and executors ${SETTLE_MS / 1_000} s after the last of ${OPEN_SESSIONS} × ${IN_ALL_PER_SESSION} runs; a twentieth more is the noise of garbage`,
  ],
});
