/**
 * The JavaScript engine: QuickJS-NG and its side modules, metered and compiled once per process. An `Engine` holds no
 * guest state; `instance.ts` makes instances of it.
 */

import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { type MeteredModule, meter, TRACKED_PAGES_EXPORT, trackWrites } from '../metering/index.ts';
import { type Dylink, parseDylink } from './dylink.ts';
import { MAP_ADDRESS } from './write-map.ts';

/** Raised whenever the meaning of an image changes without any of the hashed inputs changing. */
const IMAGE_FORMAT = 2;

/** No memory of a guest ever exceeds this: 512 MiB in 64 KiB pages (SPEC 2). */
export const MAX_MEMORY_PAGES = 8192;

/** Loaded in this order; the order is part of the image format, since bases follow from it. */
const SIDE_MODULES = ['encoding', 'url', 'headers', 'crypto', 'structured-clone'] as const;

/** What the host calls; all else that the engine exports is dropped unless a side module imports it. */
const HOST_EXPORTS = [
  TRACKED_PAGES_EXPORT,
  'memory',
  '__stack_pointer',
  '__indirect_function_table',
  '_initialize',
  'malloc',
  'wasm_malloc',
  'wasm_free',
  'qjs_init',
  'qjs_eval',
  'qjs_compile',
  'qjs_eval_bytecode',
  'qjs_call',
  'qjs_execute_pending_job',
  'qjs_new_string',
  'qjs_new_number',
  'qjs_get_undefined',
  'qjs_get_true',
  'qjs_get_false',
  'qjs_get_global',
  'qjs_get_prop_string',
  'qjs_set_prop_string',
  'qjs_new_host_function',
  'qjs_is_exception',
  'qjs_is_string',
  'qjs_is_number',
  'qjs_is_promise',
  'qjs_get_float64',
  'qjs_get_string_len',
  'qjs_free_cstring',
  'qjs_free_value',
  'qjs_get_exception',
  'qjs_promise_state',
  'qjs_promise_result',
  'qjs_get_context_ptr',
  'qjs_get_runtime_ptr',
  'qjs_set_max_stack_size',
  'qjs_run_gc',
  'qjs_set_gc_threshold',
] as const;

export interface SideModule {
  readonly name: string;
  readonly initExport: string;
  readonly module: WebAssembly.Module;
  readonly dylink: Dylink;
}

export interface Engine {
  /** Hash over engine bytes, prelude and image format: an image is good for exactly this. */
  readonly id: string;
  readonly main: WebAssembly.Module;
  readonly sides: readonly SideModule[];
  /** Evaluated once in a fresh VM, before any user code. */
  readonly prelude: string;
}

function read(specifier: string): Uint8Array<ArrayBuffer> {
  return new Uint8Array(readFileSync(fileURLToPath(import.meta.resolve(specifier))));
}

/** The engine's identity without compiling anything: what the node compares images by. */
export function engineId(prelude: string): string {
  const hash = createHash('sha256');
  hash.update(`postern-image-${IMAGE_FORMAT}\n`);
  hash.update(read('quickjs-wasi/quickjs.wasm'));
  for (const name of SIDE_MODULES) hash.update(read(`quickjs-wasi/${name}.so`));
  hash.update(prelude);
  return hash.digest('hex');
}

/** Meters and compiles the engine: about 20 ms until usable, after which V8 goes on optimising in the background. */
export function createEngine(prelude: string, identity: string): Engine {
  const sides = SIDE_MODULES.map((name): SideModule & { imported: readonly string[] } => {
    const bytes = read(`quickjs-wasi/${name}.so`);
    const metered = meter(trackWrites(bytes, MAP_ADDRESS), {
      maxMemoryPages: MAX_MEMORY_PAGES,
      resolveOwnExports: true,
    });
    const module = compile(metered);
    return {
      name,
      initExport: `qjs_ext_${name.replaceAll('-', '_')}_init`,
      module,
      dylink: parseDylink(module),
      imported: WebAssembly.Module.imports(module).map((entry) => entry.name),
    };
  });
  const keepExports = new Set<string>(HOST_EXPORTS);
  for (const side of sides) for (const name of side.imported) keepExports.add(name);
  const main = meter(trackWrites(read('quickjs-wasi/quickjs.wasm'), MAP_ADDRESS), {
    maxMemoryPages: MAX_MEMORY_PAGES,
    keepExports,
    exportMutableGlobals: true,
  });
  return { id: identity, main: compile(main), sides, prelude };
}

function compile(metered: MeteredModule): WebAssembly.Module {
  return new WebAssembly.Module(metered.bytes as Uint8Array<ArrayBuffer>);
}
