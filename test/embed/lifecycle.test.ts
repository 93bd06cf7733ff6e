/** How long a runtime's executors live, and what becomes of what runs. */

import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, test } from 'vitest';
import { createRuntime } from '../../embed/embedded-runtime.ts';
import { RuntimeClosedError } from '../../embed/index.ts';
import { Programs } from '../../embed/programs.ts';
import { checkRequest } from '../../embed/request.ts';
import { Folder, spawnCli } from '../cli/support.ts';

const HELLO = { source: 'export const handler = (event) => event;', event: 'hello' };

const isAlive = (pid: number): boolean => {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
};

test('close ends what runs with RuntimeClosedError, then its processes; safe twice, and nothing runs after', async () => {
  const runtime = await createRuntime({ executors: 1 });
  const [pid] = runtime.pids;
  const forever = [
    'export const handler = () => { for (;;) {} };',
    'export const handler = () => new Promise(() => setTimeout(() => {}, 60_000));',
    'for (;;) {} export const handler = () => 1;',
  ].map((source) => runtime.invoke({ source }));
  await runtime.invoke(HELLO);
  const ended = Promise.all(forever.map((one) => expect(one).rejects.toBeInstanceOf(RuntimeClosedError)));
  await Promise.all([runtime.close(), runtime.close()]);
  await ended;
  expect(isAlive(pid!)).toBe(false);
  await expect(runtime.invoke(HELLO)).rejects.toBeInstanceOf(RuntimeClosedError);
});

test('a block that declares it with `await using` ends it', async () => {
  let pids: readonly number[];
  {
    await using runtime = await createRuntime({ executors: 1 });
    pids = runtime.pids;
    expect((await runtime.invoke(HELLO)).value).toBe('hello');
  }
  expect(pids.map(isAlive)).toEqual([false]);
});

test('two runtimes share no process, and one goes on when the other is closed', async () => {
  const [first, second] = await Promise.all([createRuntime({ executors: 1 }), createRuntime({ executors: 1 })]);
  expect(new Set([...first.pids, ...second.pids]).size).toBe(2);
  expect((await first.invoke(HELLO)).value).toBe('hello');
  await first.close();
  expect((await second.invoke(HELLO)).value).toBe('hello');
  // Bundled after the other has gone.
  expect((await second.invoke({ source: 'export const handler = () => 2;' })).value).toBe(2);
  await second.close();
});

test('executors that were idle for long are ended, and the next invocation has others', async () => {
  const runtime = await createRuntime({ executors: 1 }, 50);
  const [before] = runtime.pids;
  await expect.poll(() => isAlive(before!), { timeout: 10_000 }).toBe(false);
  expect(runtime.pids).toEqual([]);
  expect((await runtime.invoke(HELLO)).value).toBe('hello');
  expect(runtime.pids).toHaveLength(1);
  expect(runtime.pids).not.toContain(before);
  await runtime.close();
});

test('an executor that dies fails what it ran, and is replaced', async () => {
  const asked = Promise.withResolvers<void>();
  const silent = createServer(() => asked.resolve());
  await new Promise<void>((listening) => silent.listen(0, '127.0.0.1', listening));
  const host = `127.0.0.1:${(silent.address() as AddressInfo).port}`;
  const runtime = await createRuntime({ executors: 1, http: { allow: [host] } });
  const source = 'export const handler = (url) => fetch(url);';
  const lost = expect(runtime.invoke({ source, event: `http://${host}/` })).rejects.toMatchObject({
    name: 'InvokeError',
    code: 'EXECUTOR_LOST',
  });
  await asked.promise;
  process.kill(runtime.pids[0]!, 'SIGKILL');
  await lost;
  expect((await runtime.invoke(HELLO)).value).toBe('hello');
  await runtime.close();
  silent.close();
});

test('a source is built once, by many at once too; one that failed is tried again; what is too much is dropped', async () => {
  let builds = 0;
  const builder = {
    async build() {
      if (++builds === 1) throw new Error('the first one fails');
      return { image: new Uint8Array(50 * 2 ** 20), configJson: null, form: 'handler' as const, exportNames: [] };
    },
    buildModule: () => Promise.reject(new Error('no module is asked for')),
  };
  const dropped: string[] = [];
  const programs = new Programs('engine', (id) => dropped.push(id));
  const request = (n: number) => checkRequest({ source: `export const handler = () => ${n};` });
  await expect(programs.get(request(0), builder)).rejects.toThrow('the first one fails');
  const [one, same] = await Promise.all([programs.get(request(0), builder), programs.get(request(0), builder)]);
  expect(same).toBe(one);
  expect(await programs.get(request(0), builder)).toBe(one);
  expect(builds).toBe(2);
  for (const n of [1, 2]) await programs.get(request(n), builder);
  expect([builds, dropped]).toEqual([4, [one.id]]);
});

test('a process that is done ends by itself, without close, and its executors with it', async () => {
  const folder = new Folder();
  const main = folder.write(
    'main.ts',
    `import { createRuntime } from ${JSON.stringify(new URL('../../embed/embedded-runtime.ts', import.meta.url).href)};
    const runtime = await createRuntime({ executors: 1 });
    const { value } = await runtime.invoke({ source: 'export const handler = () => process.version;' });
    console.log('done', typeof value, runtime.pids[0]);`,
  );
  const program = spawnCli([], { main });
  await program.prints(/done string \d+\n/);
  const doneAt = performance.now();
  expect(await program.ended).toEqual({ code: 0, signal: null });
  const pid = Number(/string (\d+)/.exec(program.text.stdout)![1]);
  await expect.poll(() => isAlive(pid), { timeout: 10_000 }).toBe(false);
  // They would be given up after 30 s without work.
  expect(performance.now() - doneAt).toBeLessThan(20_000);
  folder.remove();
});
