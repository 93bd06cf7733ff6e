/** What a guest's stack holds: that hangs on the compiler, so executors run here as nodes start them. */

import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { TestNode } from './support/node.ts';

vi.unmock('../../invoker/executor/executor-command.ts');

const SOURCE = `export function handler({ do: what, depth }) {
  const nested = (depth) => '['.repeat(depth) + ']'.repeat(depth);
  if (what === 'recurse') { const f = () => f() + 1; return f(); }
  if (what === 'parse') return JSON.parse(nested(1e6));
  const list = JSON.parse(nested(depth));
  const names = [];
  for (const attempt of [() => JSON.parse('['.repeat(1e6)), () => { let a = []; for (let i = 0; i < 1e5; i++) a = [a]; JSON.stringify(a); }]) {
    try { attempt(); } catch (error) { names.push(error.name); }
  }
  return [JSON.stringify(list).length, ...names];
}`;

let node: TestNode;
beforeAll(async () => {
  node = await TestNode.start({ functions: { deep: { source: SOURCE, config: { timeoutMs: 25_000 } } } });
});
afterAll(() => node.stop());

test.each([
  ['MEM-03 that recurses', 'recurse'],
  ['MEM-05 that parses JSON nested a million deep', 'parse'],
])('an invocation %s ends as a panic, and its executor goes on', async (_name, what) => {
  const { pid } = node;
  expect(await node.invoke('deep', { do: what })).toMatchObject({
    outcome: 'panic',
    error: { code: 'FUNCTION_PANIC' },
  });
  expect([node.pid, node.lost.length]).toEqual([pid, 0]);
});

test('MEM-05 an invocation may catch that JSON is nested too deeply, and may nest it nine thousand deep', async () => {
  expect(await node.value('deep', { depth: 9_000 })).toEqual([18_000, 'RangeError', 'RangeError']);
});
