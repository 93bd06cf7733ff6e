/** What docs/python.md says, beyond what the other files hold. */

import { readFileSync } from 'node:fs';
import { beforeAll, expect, it } from 'vitest';
import { TestPython } from './support/python.ts';

const document = readFileSync(new URL('../../../docs/python.md', import.meta.url), 'utf8');
let python: TestPython;
beforeAll(async () => {
  python = await TestPython.boot();
});

async function value(body: string, top = ''): Promise<unknown> {
  const indented = body.replaceAll('\n', '\n    ');
  return python.value(await python.program(`${top}\ndef handler(event, context):\n    ${indented}\n`));
}

it('the example answers with what the database says', async () => {
  const example = /(?:^ {4}.*\n|^\n)+/m.exec(document.slice(document.indexOf('    from postern')))?.[0] as string;
  const image = await python.program(example.replaceAll(/^ {4}/gm, ''));
  const ran = await python.run(image, {
    event: { body: { id: 7 } },
    onHostCall: ({ answer }) => answer(true, '{"fields":[["name","text"]],"rows":[["Ada"]],"rowCount":1}'),
  });
  expect(ran).toMatchObject({ how: 'status', text: '{"statusCode":200,"body":[{"name":"Ada"}]}' });
  expect(ran.log).toEqual([{ level: 'info', message: 'found', fields: { count: 1 } }]);
});

it('each name of its tables is in the module postern', async () => {
  const names = [...document.matchAll(/`(?:raise )?([A-Z][A-Za-z]+Error)/g)].map(([, name]) => name as string);
  const own = names.filter((name) => !['MemoryError', 'RecursionError'].includes(name));
  expect(own.length).toBeGreaterThan(8);
  expect(
    await value(
      `import postern\nreturn [n for n in ${JSON.stringify(own)} if not issubclass(getattr(postern, n), Exception)]`,
    ),
  ).toEqual([]);
  expect(
    await value('return [e.__name__ for e in HostError.__subclasses__()]', 'from postern import HostError'),
  ).toEqual([
    ...['DatabaseError', 'SqlNotAllowedError', 'LimitError', 'HttpError', 'HttpNotAllowedError', 'RateLimitError'],
  ]);
});

it('sqlite3 works in memory', async () => {
  expect(
    await value('c = sqlite3.connect(":memory:")\nreturn c.execute("select 6 * 7").fetchone()', 'import sqlite3'),
  ).toEqual([42]);
});

it('ssl is not there; a module of the standard library can be imported within the handler too', async () => {
  expect(
    await value(
      'importlib.invalidate_caches()\ntry:\n    import ssl\nexcept ImportError:\n    import colorsys\n    return colorsys.rgb_to_hsv(0, 0, 0)',
      'import importlib',
    ),
  ).toEqual([0, 0, 0]);
});

it('hashes of texts are the same in all invocations of all functions', async () => {
  const images = await Promise.all(
    ['1', '2'].map((n) => python.program(`x = ${n}\ndef handler(event): return hash("text")`)),
  );
  const hashes = await Promise.all([...images, ...images].map((image) => python.value(image)));
  expect(new Set(hashes).size).toBe(1);
});

it('clocks tick in milliseconds, and integers of C have 32 bits', async () => {
  const body = 'import time, sys\nreturn [time.time_ns() % 10**6, time.perf_counter_ns() % 10**6, sys.maxsize]';
  expect(await value(body)).toEqual([0, 0, 2_147_483_647]);
});

it('time of the processor is in seconds', async () => {
  const body =
    'import os, time\nfor _ in range(10_000): pass\nreturn [time.process_time() - time.monotonic(), (time.process_time_ns() - time.monotonic_ns()) / 10**9, os.times().user - time.monotonic(), os.times().elapsed - time.monotonic(), os.times()[1]]';
  for (const apart of (await value(body)) as number[]) expect(Math.abs(apart)).toBeLessThan(5);
});

it('the interpreter takes 13 MB', () => {
  expect(Math.round(python.interpreter.base.memoryBytes / 1_000_000)).toBe(13);
});

it('a host function does not run beside another one of the same invocation', async () => {
  const image = await python.program(
    'import asyncio\nfrom postern import db\nasync def q(): return db.query("x")\nasync def handler(event):\n    await asyncio.gather(q(), q())\n    return "both"',
  );
  let open = 0;
  const ran = await python.run(image, {
    onHostCall: ({ answer }) => {
      expect(++open).toBe(1);
      open--;
      answer(true, '{"fields":[],"rows":[],"rowCount":0}');
    },
  });
  expect([ran.text, ran.calls.length]).toEqual(['"both"', 2]);
});
