/**
 * A program: writes the engine and Python's interpreter to the files that it is given, and fills the cache that executors read.
 * Vite's runner, where the global setup runs, can't.
 */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { serialize } from 'node:v8';
import { executorCommand, loadEngineSource } from '../../invoker/index.ts';
import { packInterpreter } from '../../runtime/index.ts';
import { quickExecutor } from './quick-executor.ts';

const [engineFile, pythonFile] = process.argv.slice(2) as [string, string];
await writeFile(engineFile, serialize(await loadEngineSource()));
await writeFile(pythonFile, await packInterpreter());

// Nodes kill their executors, and a process that is killed writes no cache. This one ends when it has read its modules, since
// its pipe ends then.
const [program, ...flags] = quickExecutor(executorCommand(), process.env.NODE_COMPILE_CACHE as string);
const executor = spawn(program, flags, { stdio: ['ignore', 'ignore', 'inherit', 'pipe'], env: {} });
executor.stdio[3]?.destroy();
await once(executor, 'exit');
