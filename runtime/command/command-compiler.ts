/** The check and the rewriting of an uploaded module, for a process that is thrown away (`runtime/compiler/`). */

import { deserialize, serialize } from 'node:v8';
import { runCompiler } from '../compiler/index.ts';
import { buildCommand } from './command-program.ts';

/** Reading and rewriting a module of 24 MB takes half a second. */
const TIMEOUT_MS = 30_000;

interface CommandBuild {
  readonly module: Uint8Array;
  readonly memoryPages: number;
}

/** In that process. */
export async function compileCommand(input: Uint8Array): Promise<Uint8Array> {
  const { module, memoryPages } = deserialize(input) as CommandBuild;
  return buildCommand(module, memoryPages);
}

/** `buildCommand`, of a module that may be hostile to whoever reads it. */
export function buildCommandApart(module: Uint8Array, memoryPages: number): Promise<Uint8Array> {
  return runCompiler('command', serialize({ module, memoryPages } satisfies CommandBuild), TIMEOUT_MS);
}
