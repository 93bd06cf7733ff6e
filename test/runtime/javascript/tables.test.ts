/** The tables of the URL module are in a sandbox only once something has asked for them; nobody can tell. */

import { beforeAll, describe, expect, it } from 'vitest';
import type { Sandbox } from '../../../runtime/javascript/sandbox.ts';
import { TestRuntime } from './support/sandboxes.ts';

let runtime: TestRuntime;
beforeAll(async () => {
  runtime = await TestRuntime.boot();
});

const HREF = `new URL(event, 'http://bücher.example/a/').href`;

/** Runs a body in a fresh sandbox and says whether the tables are there afterwards. */
async function run(body: string, top = ''): Promise<{ value: unknown; hasTables: boolean }> {
  const image = await runtime.handler(body, top);
  let used: Sandbox | undefined;
  const ran = await runtime.run(image, {
    event: '../ä?ß=ö#ü',
    onSandboxFree(sandbox) {
      used = sandbox;
    },
  });
  expect(ran.how).toBe('value');
  return { value: JSON.parse(ran.text), hasTables: used?.instance.hasTables.value === 1 };
}

describe('the tables of URLs', () => {
  it('are not in a sandbox that has parsed no URL', async () => {
    expect(await run('return 1')).toEqual({ value: 1, hasTables: false });
  });

  it('are there when a URL is parsed, also where the top level had parsed one', async () => {
    const value = 'http://xn--bcher-kva.example/%C3%A4?%C3%9F=%C3%B6#%C3%BC';
    expect(await run(`return ${HREF}`)).toEqual({ value, hasTables: true });
    expect(await run(`return ${HREF}`, `const event = 'x'; new URL(event, 'http://ß.example')`)).toEqual({
      value,
      hasTables: true,
    });
  });

  it('are not needed for the names and shapes of what the module defines', async () => {
    const body = `
      const shape = (target) => Reflect.ownKeys(target).map((key) => {
        const { value, get } = Object.getOwnPropertyDescriptor(target, key);
        const fn = typeof value === 'function' ? value : get;
        return [String(key), fn?.name, fn?.length];
      });
      if (event === 'warm') new URL('http://ä.example');
      return [URL, URL.prototype, URLSearchParams, URLSearchParams.prototype].map(shape)`;
    const image = await runtime.handler(body);
    const cold = await runtime.run(image, { event: 'cold' });
    const warm = await runtime.run(image, { event: 'warm' });
    expect(cold.text).toBe(warm.text);
    expect(cold.text).toContain('"get hostname"');
  });

  it('cost a guest the same fuel whether an earlier one has asked for them or not', async () => {
    const image = await runtime.handler(`return ${HREF}`);
    const first = await runtime.run(image, { event: '/p' });
    const second = await runtime.run(image, { event: '/p' });
    expect(second.text).toBe(first.text);
    expect(second.usage.fuel).toBe(first.usage.fuel);
  });

  it('are what the module has, byte for byte, in a program that was built on a sandbox without them', async () => {
    const [start, end] = runtime.engine.tables;
    const image = await runtime.handler('return 1');
    expect(end - start).toBeGreaterThan(200_000);
    expect(Buffer.compare(image.flat.subarray(start, end), runtime.base.flat.subarray(start, end))).toBe(0);
  });
});
