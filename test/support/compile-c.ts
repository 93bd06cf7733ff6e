/** C and C++ by clang, which is itself a WebAssembly module here: tests and benchmarks need no toolchain of the machine's. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { componentNew } from './component-new.ts';
import { kept } from './kept.ts';

const SDK = join(import.meta.dirname, '../../sdk/c');
const HEADERS = Object.fromEntries(
  ['postern.h', 'postern-component.h'].map((name) => [name, readFileSync(join(SDK, name), 'utf8')]),
);
const WIT = readFileSync(join(import.meta.dirname, '../../wit/function.wit'), 'utf8');
const CLANG = readFileSync(join(import.meta.dirname, '../../node_modules/@yowasp/clang/package.json'), 'utf8');
const COMPONENT_FLAGS = ['-mexec-model=reactor', '-mbulk-memory'];
const compiled = new Map<string, Promise<Uint8Array>>();

/** A module that clang makes of one source, with the headers of `sdk/c` beside it. Once for the same source. */
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

/** A component of the world `function`, from a source that includes `postern-component.h`. */
export async function compileComponent(source: string): Promise<Uint8Array> {
  return componentNew(await compileC(source, COMPONENT_FLAGS), WIT);
}

async function clang(source: string, flags: readonly string[], language: 'c' | 'cc'): Promise<Uint8Array> {
  const files = { [`main.${language}`]: source, ...HEADERS };
  const args = ['-O1', '-Wall', '-Wextra', '-Wno-unused-parameter', ...flags, `main.${language}`, '-o', 'main.wasm'];
  return kept([CLANG, JSON.stringify(files), ...args], async () => {
    // Three seconds of CPU, for who has something new.
    const { commands, runLLVM } = await import('@yowasp/clang');
    // Loads it without a word.
    await runLLVM(undefined, {}, { fetchProgress: () => {} });
    const built = await commands[language === 'c' ? 'clang' : 'clang++'](args, files);
    const module = built?.['main.wasm'];
    if (module === undefined) throw new Error('clang made no main.wasm');
    return module as Uint8Array;
  });
}
