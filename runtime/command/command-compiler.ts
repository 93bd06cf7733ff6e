/** The check and the rewriting of an uploaded module, in a process that is thrown away (`runtime/compiler/`). */

import { deserialize } from 'node:v8';
import { buildCommand } from './command-program.ts';

/** What the process is given, in V8's own format. */
export interface CommandBuild {
  readonly module: Uint8Array;
  readonly memoryPages: number;
}

export async function compileCommand(input: Uint8Array): Promise<Uint8Array> {
  const { module, memoryPages } = deserialize(input) as CommandBuild;
  return buildCommand(module, memoryPages);
}
