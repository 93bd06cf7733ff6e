import { runCompiler } from '../compiler/index.ts';
import { writePages } from './command-compiler.ts';

/** Reading and rewriting a module of 24 MB takes half a second. */
const TIMEOUT_MS = 30_000;

/** `buildCommand`, of a module that may be hostile to whoever reads it. */
export function buildCommandApart(module: Uint8Array, memoryPages: number): Promise<Uint8Array> {
  return runCompiler('command', [writePages(memoryPages), module], TIMEOUT_MS);
}
