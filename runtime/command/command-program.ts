/** A module that is to run as a WASI command: what it must be, made ready to be instantiated. */

import { PosternError } from '../errors.ts';
import { MAX_MEMORY_PAGES } from '../javascript/engine.ts';
import { type MeteredModule, type ModuleImport, ModuleRefusedError, meter } from '../metering/index.ts';
import { type FunctionType, parseModule } from '../wasm/module-parser.ts';
import { tableBytes, tooCostly } from './instance-limits.ts';
import { PREVIEW1_SIGNATURES, type Preview1Name } from './preview1-signatures.ts';

export const PREVIEW1_MODULE = 'wasi_snapshot_preview1';
/** Host functions for languages that can import functions of their own choice. */
export const HOST_MODULE = 'postern';
/** As `ii->i`, by name. */
const HOST_SIGNATURES: ReadonlyMap<string, string> = new Map([
  ['call', 'ii->i'],
  ['take', 'i->'],
]);
const OFFERED: ReadonlyMap<string, ReadonlyMap<string, string>> = new Map([
  [PREVIEW1_MODULE, PREVIEW1_SIGNATURES],
  [HOST_MODULE, HOST_SIGNATURES],
]);
/** A start function can't be suspended: 3 ms. What languages do there is to set their variables. */
export const START_FUEL = 10_000_000;
const WASM_PAGE_BYTES = 65_536;
const PAGES_PER_MB = 16;
const MAX_NAME = 100;
const KEPT_EXPORTS: ReadonlySet<string> = new Set(['_start', 'memory']);

/** Before the metered module in the stored form. */
const MAGIC = Buffer.from('PSTNCMD1');
/** Bytes of memory that a module's code takes once it is compiled, for one of its own (Go and C, measured: 3 to 5). */
const COMPILED_FACTOR = 4;
const SHORT_TYPES: Readonly<Record<string, string>> = { i32: 'i', i64: 'I' };

export interface CommandProgram {
  readonly module: WebAssembly.Module;
  /** What it takes while nobody runs it. */
  readonly residentBytes: number;
  /** Of its memory, and of its tables, when an instance begins. */
  readonly memoryBytes: number;
  readonly tableBytes: number;
  /** Whether code of its own runs while an instance is made. */
  readonly hasStart: boolean;
  /** What it imports of preview 1. */
  readonly preview1Names: readonly Preview1Name[];
}

export function isStoredCommand(stored: Uint8Array): boolean {
  return MAGIC.equals(stored.subarray(0, MAGIC.length));
}

/**
 * Checks an uploaded module, meters it, and gives the stored form. Throws INVALID_FUNCTION with what is wrong and what would be
 * right.
 */
export function buildCommand(bytes: Uint8Array, maxPages: number): Uint8Array {
  const { memory, imports, exports, bytes: built } = meterUploaded(bytes);
  const costly = tooCostly(parseModule(bytes));
  if (costly !== undefined) throw refuse(costly);
  if (!exports.some(({ name, kind }) => name === '_start' && kind === 'function')) {
    throw refuse(
      exports.some(({ name }) => name === '_initialize')
        ? 'the module is a WASI reactor (it exports _initialize); build a command, which exports _start, or make a component of it'
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
    const offered = OFFERED.get(one.module)?.get(one.name);
    if (one.type === undefined || offered === undefined) throw refuse(problemOf(one));
    const given = signatureOf(one.type);
    // What a call converts from another type may be no integer any more.
    if (given !== offered) throw refuse(`${whatIsImported(one)} as (${given}); it is (${offered})`);
  }
  return Buffer.concat([MAGIC, built]);
}

/** Compiles what `buildCommand` made, beside the event loop. */
export async function loadCommand(stored: Uint8Array): Promise<CommandProgram> {
  // A copy: the compiler reads while the frame that these came in is given back.
  const bytes = Uint8Array.from(stored.subarray(MAGIC.length));
  const parsed = parseModule(bytes);
  const { hasStart, imports } = parsed;
  const names = imports.filter(({ module }) => module === PREVIEW1_MODULE).map(({ name }) => name as Preview1Name);
  return {
    module: await WebAssembly.compile(bytes),
    residentBytes: bytes.length * COMPILED_FACTOR,
    memoryBytes: (parsed.memory?.min ?? 0) * WASM_PAGE_BYTES,
    tableBytes: tableBytes(parsed),
    hasStart,
    preview1Names: [...new Set(names)],
  };
}

function signatureOf({ params, results }: FunctionType): string {
  const short = (types: FunctionType['params']): string => types.map((type) => SHORT_TYPES[type] ?? type).join('');
  return `${short(params)}->${short(results)}`;
}

/** A name may be of any length. */
function quoted(name: string): string {
  return JSON.stringify(name.length > MAX_NAME ? `${name.slice(0, MAX_NAME)}…` : name);
}

function whatIsImported({ module, name, kind }: ModuleImport): string {
  return `the module imports ${kind} ${quoted(name)} from ${quoted(module)}`;
}

function meterUploaded(bytes: Uint8Array): MeteredModule {
  try {
    return meter(bytes, { maxMemoryPages: MAX_MEMORY_PAGES, keepExports: KEPT_EXPORTS, startFuel: START_FUEL });
  } catch (error) {
    if (error instanceof ModuleRefusedError) throw refuse(`the module can not run here: ${error.message}`);
    throw error;
  }
}

function problemOf(one: ModuleImport): string {
  const { module } = one;
  const what = whatIsImported(one);
  if (module.startsWith('javy')) {
    return `${what}: it was linked dynamically; build it statically (javy build without -C dynamic)`;
  }
  if (module === 'wasi_unstable') return `${what}, of a WASI before preview 1; build it for wasm32-wasi`;
  return `${what}, which is not offered; there are ${PREVIEW1_MODULE}, and ${[...HOST_SIGNATURES.keys()].join(' and ')} of ${HOST_MODULE}`;
}

function refuse(message: string): PosternError {
  return new PosternError('INVALID_FUNCTION', message);
}
