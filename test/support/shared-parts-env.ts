import { resolve } from 'node:path';
import { inject } from 'vitest';

/** The environment in which a node as a process of its own starts as tests do, in a third of the time (`shared-parts-preload.ts`). */
export function sharedPartsEnv(): Record<string, string> {
  return {
    NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE as string,
    NODE_OPTIONS: `--import=${resolve('test/support/shared-parts-preload.ts')}`,
    POSTERN_TEST_ENGINE_FILE: inject('engineFile'),
    POSTERN_TEST_PYTHON_FILE: inject('pythonFile'),
  };
}
