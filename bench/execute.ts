/**
 * How long does a caller wait for code that it brings, over HTTP, one request after the other on one connection: code that
 * was never seen (its text is another each time), the same code again with another input, and the same run from the cache?
 * Run: `npm run bench -- execute`.
 */

import { Client } from 'undici';
import { type Figure, publish, summarize } from './support/report.ts';
import { startServer } from './support/server.ts';

const NEW_RUNS = 300;
const AGAIN_RUNS = 1_000;
const WARM_UP_RUNS = 50;

/** What an assistant writes for a question about a table; `seed` makes it another program. */
const PROGRAMS = {
  javascript: (seed: number) => `// question ${seed}
const rows = Array.from({ length: 50 }, (_, i) => ({ city: ['Ulm', 'Bern', 'Graz'][i % 3], sales: (i * ${seed + 7}) % 101 }));
const byCity = {};
for (const { city, sales } of rows) {
  byCity[city] ??= { sum: 0, count: 0 };
  byCity[city].sum += sales;
  byCity[city].count++;
}
const means = Object.entries(byCity).map(([city, { sum, count }]) => [city, sum / count + (input ?? 0)]);
console.log('cities', means.length);
Object.fromEntries(means.sort(([, a], [, b]) => b - a))`,
  typescript: (seed: number) => `// question ${seed}
interface Row { readonly city: string; readonly sales: number }
declare const input: number | null;
const rows: Row[] = Array.from({ length: 50 }, (_, i) => ({ city: ['Ulm', 'Bern', 'Graz'][i % 3]!, sales: (i * ${seed + 7}) % 101 }));
const byCity: Record<string, { sum: number; count: number }> = {};
for (const { city, sales } of rows) {
  byCity[city] ??= { sum: 0, count: 0 };
  byCity[city].sum += sales;
  byCity[city].count++;
}
const means = Object.entries(byCity).map(([city, { sum, count }]) => [city, sum / count + (input ?? 0)] as const);
Object.fromEntries(means.toSorted(([, a], [, b]) => b - a))`,
  python: (seed: number) => `# question ${seed}
from collections import defaultdict
rows = [{"city": ["Ulm", "Bern", "Graz"][i % 3], "sales": (i * ${seed + 7}) % 101} for i in range(50)]
by_city = defaultdict(list)
for row in rows:
    by_city[row["city"]].append(row["sales"])
print("cities", len(by_city))
means = {city: sum(sales) / len(sales) + (input or 0) for city, sales in by_city.items()}
dict(sorted(means.items(), key=lambda item: -item[1]))`,
} as const;
type Language = keyof typeof PROGRAMS;

const postern = await startServer();
const client = new Client(postern.url);
let seed = 0;

async function post(path: string, body: unknown, key?: string): Promise<Record<string, unknown>> {
  const answer = await client.request({
    method: 'POST',
    path,
    headers: {
      'content-type': 'application/json',
      ...(key === undefined ? {} : { authorization: `Bearer ${key}` }),
    },
    body: JSON.stringify(body),
  });
  const text = await answer.body.text();
  if (answer.statusCode >= 300) throw new Error(`${path}: ${answer.statusCode} ${text.slice(0, 500)}`);
  return JSON.parse(text) as Record<string, unknown>;
}

const { key } = (await post('/api-keys', {
  name: 'bench',
  policy: 'default',
  rate: { limit: 1_000_000, window_seconds: 60 },
})) as { key: string };

async function timesOf(runs: number, next: () => object, cached?: string) {
  const samples: number[] = [];
  for (let run = -WARM_UP_RUNS; run < runs; run++) {
    const body = next();
    const from = performance.now();
    const answer = await post('/execute', body, key);
    const ms = performance.now() - from;
    if (run >= 0) samples.push(ms);
    if (run >= 0 && cached !== undefined && answer.cache !== cached) throw new Error(`cache: ${answer.cache}`);
  }
  return summarize(samples);
}

async function figures(
  name: string,
  targetMs: number | undefined,
  runs: number,
  next: () => object,
  cached?: string,
): Promise<Figure[]> {
  const { p50, p99 } = await timesOf(runs, next, cached);
  const target = targetMs === undefined ? {} : { target: { op: '<=', value: targetMs } as const };
  return [
    { name: `${name}, p50`, value: p50, unit: 'ms', ...target },
    { name: `${name}, p99`, value: p99, unit: 'ms' },
  ];
}

const fresh = (language: Language) => () => ({ language, code: PROGRAMS[language](++seed) });
const again = (language: Language) => () => ({ language, code: PROGRAMS[language](0), input: ++seed });
const same = () => ({ code: PROGRAMS.javascript(0), cache: true });

try {
  const measured = [
    await figures('new JavaScript', 25, NEW_RUNS, fresh('javascript')),
    await figures('new TypeScript', undefined, NEW_RUNS, fresh('typescript')),
    await figures('new Python', 150, NEW_RUNS, fresh('python')),
    await figures('JavaScript again, not cached', 3, AGAIN_RUNS, again('javascript')),
    await figures('Python again, not cached', undefined, NEW_RUNS, again('python')),
    await figures('JavaScript again, cached', 2, AGAIN_RUNS, same, 'hit'),
  ];
  publish({
    bench: 'execute',
    question: 'POST /execute over HTTP, one request after the other, a program of ten lines',
    figures: measured.flat(),
    notes: [
      `${NEW_RUNS} new programs and ${AGAIN_RUNS} runs of one, after ${WARM_UP_RUNS} to warm up; all on the same cores`,
    ],
  });
} finally {
  await client.close();
  await postern.stop();
}
