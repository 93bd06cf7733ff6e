/**
 * The same as `shared-parts.ts`, for a node that a test starts as a process of its own (`spawnCli`), and for `npm run build`:
 * preloaded by `NODE_OPTIONS`, which executors do not inherit.
 */

import { registerHooks } from 'node:module';

const REPLACED: Readonly<Record<string, string>> = {
  '/invoker/engine-source.ts': `
    import { readFile } from 'node:fs/promises';
    import { deserialize } from 'node:v8';
    export const loadEngineSource = async () => deserialize(await readFile(process.env.POSTERN_TEST_ENGINE_FILE));`,
  '/runtime/python/build-apart.ts': `
    import { readFile } from 'node:fs/promises';
    export const buildInterpreterApart = async () => readFile(process.env.POSTERN_TEST_PYTHON_FILE);`,
  '/runtime/python/packed-interpreter.ts': `
    import { readFile } from 'node:fs/promises';
    export const packInterpreter = async () => readFile(process.env.POSTERN_TEST_PYTHON_FILE);`,
  '/invoker/executor/executor-command.ts': `
    import { executorCommand as real } from './executor-command.ts?real.ts';
    import { quickExecutor } from '${new URL('./quick-executor.ts', import.meta.url).href}';
    export { EXECUTOR_V8_FLAGS } from './executor-command.ts?real.ts';
    export const executorCommand = () => quickExecutor(real(), process.env.NODE_COMPILE_CACHE);`,
};

registerHooks({
  load(url, context, next) {
    const name = Object.keys(REPLACED).find((path) => url.endsWith(path));
    if (name === undefined) return next(url, context);
    const real = `export * from './${name.slice(name.lastIndexOf('/') + 1)}?real.ts';`;
    return { format: 'module', source: real + REPLACED[name], shortCircuit: true };
  },
});
