/**
 * What every test file would make anew, on two cores. The engine is made once, by the same code (`global-setup.ts`), and
 * executors start quickly. Tests with `vi.unmock` do it as users have it; `shared-parts-preload.ts` is for nodes in processes
 * of their own.
 */

import { readFile } from 'node:fs/promises';
import { deserialize } from 'node:v8';
import { inject, vi } from 'vitest';
import type { EngineSource } from '../../runtime/index.ts';
import { quickExecutor } from './quick-executor.ts';

declare module 'vitest' {
  export interface ProvidedContext {
    /** Path of a serialized `EngineSource`. */
    readonly engineFile: string;
    /** Path of what Python functions run in, packed. */
    readonly pythonFile: string;
  }
}

vi.mock(import('../../invoker/engine-source.ts'), async (importOriginal) => ({
  ...(await importOriginal()),
  loadEngineSource: async (): Promise<EngineSource> => deserialize(await readFile(inject('engineFile'))),
}));

vi.mock(import('../../runtime/python/build-apart.ts'), async (importOriginal) => ({
  ...(await importOriginal()),
  buildInterpreterApart: async () => readFile(inject('pythonFile')),
}));

vi.mock(import('../../invoker/executor/executor-command.ts'), async (importOriginal) => {
  const original = await importOriginal();
  return {
    ...original,
    executorCommand: () => quickExecutor(original.executorCommand(), process.env.NODE_COMPILE_CACHE as string),
  };
});
