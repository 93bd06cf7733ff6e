/** C for tests: clang comes from npm, runs in this process, and takes some seconds for its first program. */

import { readFileSync } from 'node:fs';
import { commands } from '@yowasp/clang';

/** A WASI preview 1 command. `postern.h` of `sdk/c/` can be included. */
export async function compileC(source: string): Promise<Uint8Array> {
  const files = { 'main.c': source, ...(source.includes('"postern.h"') ? { 'postern.h': HEADER() } : {}) };
  const args = ['--target=wasm32-wasip1', '-O2', '-mbulk-memory', '-Wall', '-Werror', 'main.c', '-o', 'main.wasm'];
  const built = await commands.clang(args, files, { stdout: null, fetchProgress: () => undefined });
  return built?.['main.wasm'] as Uint8Array;
}

const HEADER = (): string => readFileSync('sdk/c/postern.h', 'utf8');
