/** A program: writes the engine and Python's interpreter to the files that it is given. Vite's runner, where the global setup runs, can't. */

import { writeFile } from 'node:fs/promises';
import { serialize } from 'node:v8';
import { loadEngineSource } from '../../invoker/index.ts';
import { packPythonSource } from '../../runtime/index.ts';

const [engineFile, pythonFile] = process.argv.slice(2) as [string, string];
await writeFile(engineFile, serialize(await loadEngineSource()));
await writeFile(pythonFile, packPythonSource());
