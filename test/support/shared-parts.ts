/**
 * What every test file would make anew, on two cores. The engine is made once a run, by the same code (`global-setup.ts`); and
 * V8 compiles it with its baseline compiler only, which takes a third of an executor's start. Nodes that tests start as processes
 * of their own (`spawnCli`), and those of tests with `vi.unmock`, do all of it as users have it.
 */

import { readFile } from 'node:fs/promises';
import { deserialize } from 'node:v8';
import { inject, vi } from 'vitest';
import type { EngineSource } from '../../runtime/index.ts';

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
  const { executorCommand } = await importOriginal();
  return {
    executorCommand: () => {
      const [node, ...flags] = executorCommand();
      return [node, '--liftoff-only', ...flags];
    },
  };
});
