/**
 * How long does the first call of a function take whose image is in Postgres and in no cache? A node starts with the
 * functions deployed by another one before; each is called once. Run: `npm run bench -- first-call`.
 */

import { publish, summarize } from './support/report.ts';
import { restartServer, startServer } from './support/server.ts';

const FUNCTIONS = 40;

const functions = Array.from({ length: FUNCTIONS }, (_, n) => ({
  name: `first-${n}`,
  source: `export const handler = (event) => ({ hello: event.body.name, n: ${n} });`,
}));
const first = await startServer(...functions);
const second = await restartServer(first);
const call = async (name: string): Promise<number> => {
  const start = performance.now();
  const response = await fetch(`${second.url}/functions/v1/invoke/${name}`, {
    method: 'POST',
    body: '{"name":"World"}',
    headers: { 'content-type': 'application/json', authorization: `Bearer ${second.token}` },
  });
  const text = await response.text();
  if (!text.includes('"hello":"World"')) throw new Error(`${name} answered ${response.status} ${text}`);
  return performance.now() - start;
};
// The connection, the token and the code of the node itself are not the question.
await call('first-0');
await call('first-1');
const samples: number[] = [];
for (const { name } of functions.slice(2)) samples.push(await call(name));
const warm = await call('first-2');
await second.stop();
const { p50, p99 } = summarize(samples);
publish({
  bench: 'first-call',
  question: 'first call of a function whose image is in Postgres and in no cache, over HTTP',
  figures: [
    { name: 'p50', value: p50, unit: 'ms', target: { op: '<=', value: 20 } },
    { name: 'p99', value: p99, unit: 'ms' },
    { name: 'a second call', value: warm, unit: 'ms' },
  ],
  notes: [`${samples.length} functions, one call each, one after the other, on a node that was just started`],
});
