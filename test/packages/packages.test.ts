import { afterAll, beforeAll, expect, test } from 'vitest';
import { stopBundler } from '../../runtime/javascript/bundle/index.ts';
import { TestRuntime } from '../runtime/javascript/support/sandboxes.ts';
import { PACKAGES } from './packages.ts';
import { deployFile, FunctionFolder, runInNode } from './run.ts';

let folder: FunctionFolder;
let runtime: TestRuntime;
let inNode: Awaited<ReturnType<typeof runInNode>>;
const files = new Map<string, string>();

beforeAll(async () => {
  folder = await FunctionFolder.create();
  for (const { name, source } of PACKAGES) files.set(name, await folder.write(name, source));
  [runtime, inNode] = await Promise.all([TestRuntime.boot(), runInNode([...files.values()])]);
});
afterAll(async () => {
  await folder.remove();
  await stopBundler();
});

for (const { name, fails } of PACKAGES) {
  const file = () => files.get(name) as string;
  const sandboxed = async () => runtime.value(await deployFile(runtime, file()), { limits: { timeoutMs: 20_000 } });
  if (fails === undefined) {
    test(`a function that uses ${name} answers as in Node`, async () => {
      expect(inNode[file()]?.error).toBeUndefined();
      expect(await sandboxed()).toEqual(inNode[file()]?.value);
    });
  } else {
    test(`a function that uses ${name} fails as documented: ${fails.reason}`, async () => {
      await expect(sandboxed()).rejects.toThrow(fails.message);
    });
  }
}
