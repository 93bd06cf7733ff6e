import { beforeAll, describe, expect, test } from 'vitest';
import { bundle } from '../../runtime/javascript/bundle/index.ts';
import { NODE_MODULES } from '../../runtime/javascript/guest/node/aliases.ts';
import { TestRuntime } from '../runtime/javascript/support/sandboxes.ts';
import { AREAS } from './areas.ts';
import { ABSENT, ALSO_ABSENT, PRESENT } from './globals.ts';
import { KNOWN_FAILURES } from './known-failures.ts';
import { MISSING_EXPORTS } from './node-modules.ts';
import { runInSandbox } from './run.ts';

let runtime: TestRuntime;

beforeAll(async () => {
  runtime = await TestRuntime.boot();
});

describe('the web’s interfaces', () => {
  for (const { name: area, cases } of AREAS) {
    const known = new Set(KNOWN_FAILURES.filter((one) => one.area === area).flatMap((one) => one.cases));
    test(`${area}: ${cases.length} cases answer as the standard says, but those that are known not to`, async () => {
      expect(new Set(cases.map(({ name }) => name)).size).toBe(cases.length);
      const answers = await runInSandbox(runtime, cases);
      const wrong = cases.flatMap(({ name, expected }, at) => (answers[at] === expected ? [] : [[name, answers[at]]]));
      expect(wrong.filter(([name]) => !known.has(name as string))).toEqual([]);
      expect([...known].filter((name) => !wrong.some(([one]) => one === name))).toEqual([]);
    });
  }

  test('every known failure belongs to a case', () => {
    const names = AREAS.flatMap(({ name, cases }) => cases.map((one) => `${name}: ${one.name}`));
    const known = KNOWN_FAILURES.flatMap(({ area, cases }) => cases.map((one) => `${area}: ${one}`));
    expect(known.filter((one) => !names.includes(one))).toEqual([]);
  });
});

describe('the minimum common API', () => {
  const present = async (names: readonly string[]): Promise<boolean[]> => {
    const code = (name: string): string =>
      `${JSON.stringify(name)}.split('.').reduce((from, key) => from?.[key], globalThis) !== undefined`;
    const answers = await runInSandbox(
      runtime,
      names.map((name) => ({ code: code(name) })),
    );
    return answers.map((answer) => answer === 'true');
  };

  test('has what the table says is there', async () => {
    const found = await present(PRESENT);
    expect(PRESENT.filter((_, at) => !found[at])).toEqual([]);
  });
  test('lacks what the table says is missing', async () => {
    const names = [...Object.keys(ABSENT), ...Object.keys(ALSO_ABSENT)];
    const found = await present(names);
    expect(names.filter((_, at) => found[at])).toEqual([]);
  });
});

/** `process` has these in a process that another forked, as the one that runs the tests is. */
const OF_A_FORK = new Set(['channel', 'connected', 'disconnect', 'send']);

describe('node: modules', () => {
  test('are those of the table, and lack what it says of Node’s exports, no more and no less', async () => {
    const names = Object.keys(NODE_MODULES);
    expect(Object.keys(MISSING_EXPORTS).sort()).toEqual([...names].sort());
    const source = `${names.map((name, at) => `import * as m${at} from 'node:${name}';`).join('\n')}
      export const handler = () => [${names.map((_, at) => `Object.keys(m${at})`)}];`;
    const input = { files: { 'f.js': source }, entry: 'f.js', language: 'javascript', handlerName: 'handler' } as const;
    const { code } = await bundle({ ...input, dependencies: {} });
    const exported = (await runtime.value(await runtime.program(code))) as string[][];
    const missing: Record<string, string> = {};
    for (const [at, name] of names.entries()) {
      const inNode = Object.keys(await import(/* @vite-ignore */ `node:${name}`));
      missing[name] = inNode
        .filter((key) => !OF_A_FORK.has(key) && key !== 'default' && key !== 'module.exports' && !key.startsWith('_'))
        .filter((key) => !exported[at]?.includes(key))
        .sort()
        .join(' ');
    }
    expect(missing).toEqual(MISSING_EXPORTS);
  });
});
