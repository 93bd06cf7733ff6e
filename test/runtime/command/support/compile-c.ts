/** C and C++ by clang, which is itself a WebAssembly module here: the tests need no toolchain of the machine's. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { CommandProgram } from '../../../../runtime/command/command-program.ts';
import { programOf } from './commands.ts';

type Files = Record<string, string | Uint8Array>;
type RunClang = (args: string[], files: Files, options: { printProgress: () => void }) => Promise<Files>;

const HEADER = readFileSync(join(import.meta.dirname, '../../../../sdk/c/postern.h'), 'utf8');
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

/** As a program, with what most need included. */
export async function programOfC(source: string, flags: readonly string[] = []): Promise<CommandProgram> {
  return programOf(await compileC(`${INCLUDES}\n${source}`, flags));
}

/** Of `int main(int argc, char **argv)`. */
export function mainOfC(body: string, top = ''): Promise<CommandProgram> {
  return programOfC(`${top}\nint main(int argc, char **argv) {\n${body}\nreturn 0; }`);
}

const INCLUDES = `#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <errno.h>
#include <time.h>
#include "postern.h"`;

async function clang(source: string, flags: readonly string[], language: 'c' | 'cc'): Promise<Uint8Array> {
  const files = { [`main.${language}`]: source, 'postern.h': HEADER };
  const bundle = '@yowasp/clang';
  const { runClang } = (await import(bundle)) as { runClang: RunClang };
  const compiler = language === 'c' ? 'clang' : 'clang++';
  const args = [compiler, '-O1', '-Wall', '-Wextra', '-Wno-unused-parameter', ...flags];
  const out = await runClang([...args, `main.${language}`, '-o', 'main.wasm'], files, { printProgress: () => {} });
  return out['main.wasm'] as Uint8Array;
}
