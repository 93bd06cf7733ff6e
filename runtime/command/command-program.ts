/** A module that is to run as a WASI command: what it must be, made ready to be instantiated. */

import { PosternError } from '../errors.ts';
import { MAX_MEMORY_PAGES } from '../javascript/engine.ts';
import { type MeteredModule, type ModuleImport, ModuleRefusedError, meter } from '../metering/index.ts';
import { PREVIEW1_NAMES } from './preview1.ts';

export const PREVIEW1_MODULE = 'wasi_snapshot_preview1';
/** Host functions for languages that can import functions of their own choice. */
export const HOST_MODULE = 'postern';
const HOST_NAMES: ReadonlySet<string> = new Set(['call', 'take']);
const OFFERED: ReadonlyMap<string, ReadonlySet<string>> = new Map([
  [PREVIEW1_MODULE, PREVIEW1_NAMES],
  [HOST_MODULE, HOST_NAMES],
]);
const PAGES_PER_MB = 16;
const KEPT_EXPORTS: ReadonlySet<string> = new Set(['_start', 'memory']);

/** Before the metered module in the stored form. */
const MAGIC = Buffer.from('PSTNCMD1');
/** Bytes of memory that a module's code takes once it is compiled, for one of its own (Go and C, measured: 3 to 5). */
const COMPILED_FACTOR = 4;

export interface CommandProgram {
  readonly module: WebAssembly.Module;
  readonly residentBytes: number;
}

export function isStoredCommand(stored: Uint8Array): boolean {
  return MAGIC.equals(stored.subarray(0, MAGIC.length));
}

/** Compiles what `buildCommand` made, beside the event loop. */
export async function loadCommand(stored: Uint8Array): Promise<CommandProgram> {
  // The compiler reads while the frame that these came in is given back.
  const bytes = Uint8Array.from(stored.subarray(MAGIC.length));
  return { module: await WebAssembly.compile(bytes), residentBytes: bytes.length * COMPILED_FACTOR };
}

/**
 * Checks an uploaded module, meters it, and gives the stored form. Throws INVALID_FUNCTION with what is wrong and what would be
 * right.
 */
export function buildCommand(bytes: Uint8Array, maxPages: number): Uint8Array {
  const { memory, imports, exports, bytes: built } = meterUploaded(bytes);
  if (!exports.some(({ name, kind }) => name === '_start' && kind === 'function')) {
    throw refuse(
      exports.some(({ name }) => name === '_initialize')
        ? 'the module is a WASI reactor (it exports _initialize); build a command, which exports _start'
        : 'the module exports no function _start; build it as a WASI preview 1 command',
    );
  }
  if (memory === null || memory.imported || !exports.some(({ name, kind }) => name === 'memory' && kind === 'memory')) {
    throw refuse("the module has to define its memory and to export it as 'memory'");
  }
  if (memory.minPages > maxPages) {
    const [own, limit] = [memory.minPages, maxPages].map((pages) => Math.ceil(pages / PAGES_PER_MB));
    throw refuse(`the module starts with ${own} MB of memory; the function's limit is ${limit} MB`);
  }
  for (const one of imports) {
    if (one.kind !== 'function' || OFFERED.get(one.module)?.has(one.name) !== true) throw refuse(problemOf(one));
  }
  return Buffer.concat([MAGIC, built]);
}

function meterUploaded(bytes: Uint8Array): MeteredModule {
  try {
    return meter(bytes, { maxMemoryPages: MAX_MEMORY_PAGES, keepExports: KEPT_EXPORTS });
  } catch (error) {
    if (error instanceof ModuleRefusedError) throw refuse(`the module can not run here: ${error.message}`);
    throw error;
  }
}

function problemOf({ module, name, kind }: ModuleImport): string {
  const what = `the module imports ${kind} ${JSON.stringify(name)} from ${JSON.stringify(module)}`;
  if (module.startsWith('javy')) {
    return `${what}: it was linked dynamically; build it statically (javy build without -C dynamic)`;
  }
  if (module === 'wasi_unstable') return `${what}, of a WASI before preview 1; build it for wasm32-wasi`;
  return `${what}, which is not offered; there are ${PREVIEW1_MODULE}, and ${[...HOST_NAMES].join(' and ')} of ${HOST_MODULE}`;
}

function refuse(message: string): PosternError {
  return new PosternError('INVALID_FUNCTION', message);
}
