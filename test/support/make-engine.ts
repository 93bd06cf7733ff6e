/** A program: writes the engine, serialized, to the file that it is given. Vite's runner, where the global setup runs, can't. */

import { writeFile } from 'node:fs/promises';
import { serialize } from 'node:v8';
import { loadEngineSource } from '../../invoker/index.ts';

await writeFile(process.argv[2] as string, serialize(await loadEngineSource()));
