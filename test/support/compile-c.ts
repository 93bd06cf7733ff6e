/** C and C++ by clang, which is itself a WebAssembly module here: tests and benchmarks need no toolchain of the machine's. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { commands, runLLVM } from '@yowasp/clang';

const HEADER = readFileSync(join(import.meta.dirname, '../../sdk/c/postern.h'), 'utf8');
const compiled = new Map<string, Promise<Uint8Array>>();

/** A module that clang makes of one source, with `postern.h` beside it. Once a process for the same source. */
export function compileC(
  source: string,
  flags: readonly string[] = [],
  language: 'c' | 'cc' = 'c',
): Promise<Uint8Array> {
  const key = [language, ...flags, source].join('\0');
  const known = compiled.get(key) ?? clang(source, flags, language);
  compiled.set(key, known);
  return known;
}

async function clang(source: string, flags: readonly string[], language: 'c' | 'cc'): Promise<Uint8Array> {
  const files = { [`main.${language}`]: source, 'postern.h': HEADER };
  const compile = commands[language === 'c' ? 'clang' : 'clang++'];
  const args = ['-O1', '-Wall', '-Wextra', '-Wno-unused-parameter', ...flags, `main.${language}`, '-o', 'main.wasm'];
  // Loads it without a word.
  await runLLVM(undefined, {}, { fetchProgress: () => {} });
  const built = await compile(args, files);
  return built?.['main.wasm'] as Uint8Array;
}
