/**
 * The JavaScript engine: QuickJS-NG and its side modules, linked, metered and compiled once per process. An `Engine`
 * holds no guest state; `engine-instance.ts` makes instances of it.
 */

import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { DEMANDED_EXPORT, LOAD_DATA_EXPORT, linkModules } from '../linking/index.ts';
import { meter, TRACKED_PAGES_EXPORT, trackWrites } from '../metering/index.ts';
import { MAP_ADDRESS, MAP_BYTES, PAGE_BYTES } from '../snapshot/index.ts';
import { customSection } from '../wasm/custom-section.ts';
import { PUMP_EXPORTS, PUMP_MODULE } from './pump.ts';

/** Raised whenever the meaning of an image changes and neither engine module nor prelude do: how it is stored, say. */
const IMAGE_FORMAT = 4;

/** No memory of a guest ever exceeds this: 512 MiB in 64 KiB pages (SPEC 2). */
export const MAX_MEMORY_PAGES = 8192;

/** Linked in this order; the order is part of the image format, since addresses follow from it. */
export const SIDE_MODULES = ['encoding', 'url', 'headers', 'crypto', 'structured-clone'] as const;

/** A side module's functions that a fresh VM is set up with, in the order of the calls. */
export const sideSetUp = (name: string) =>
  ({
    relocate: `${name}.__wasm_apply_data_relocs`,
    initialize: `${name}.qjs_ext_${name.replaceAll('-', '_')}_init`,
  }) as const;

/** What the host calls; all else that the modules export is dropped. */
const HOST_EXPORTS: ReadonlySet<string> = new Set([
  TRACKED_PAGES_EXPORT,
  LOAD_DATA_EXPORT,
  DEMANDED_EXPORT,
  ...Object.values(PUMP_EXPORTS),
  ...SIDE_MODULES.flatMap((name) => Object.values(sideSetUp(name))),
  'memory',
  '__stack_pointer',
  '_initialize',
  'wasm_malloc',
  'wasm_free',
  'js_malloc_rt',
  'js_free_rt',
  'qjs_init',
  'qjs_compile',
  'qjs_eval_bytecode',
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
  'qjs_get_float64',
  'qjs_get_string_len',
  'qjs_free_cstring',
  'qjs_free_value',
  'qjs_get_exception',
  'qjs_promise_state',
  'qjs_promise_result',
  'qjs_set_promise_rejection_handler',
  'qjs_get_context_ptr',
  'qjs_get_runtime_ptr',
  'qjs_set_max_stack_size',
  'qjs_run_gc',
  'qjs_set_gc_threshold',
]);

/** What an engine is made of: plain data, to be handed to other processes. */
export interface EngineSource {
  readonly id: string;
  /** Of `buildEngineModule`. */
  readonly module: Uint8Array;
  readonly prelude: string;
  /** Source of each part of the prelude that a guest takes at its first use (`guest/web/parts.ts`), by name. */
  readonly parts: Readonly<Record<string, string>>;
}

export interface Engine extends Layout {
  /** Of `engineId`. */
  readonly id: string;
  readonly module: WebAssembly.Module;
  /** Evaluated once in a fresh VM, before any user code. */
  readonly prelude: string;
  readonly parts: EngineSource['parts'];
}

function read(specifier: string): Uint8Array<ArrayBuffer> {
  return new Uint8Array(readFileSync(fileURLToPath(import.meta.resolve(specifier))));
}

/**
 * An image is good for exactly this engine, and nodes of two releases keep theirs apart by it. Of the module as it runs: a
 * change of the linker moves what an image has the addresses of.
 */
export function engineId({ module, prelude, parts }: Omit<EngineSource, 'id'>): string {
  const hash = createHash('sha256');
  hash.update(`postern-image-${IMAGE_FORMAT} ${module.byteLength}\n`);
  hash.update(module);
  hash.update(prelude);
  hash.update(JSON.stringify(Object.entries(parts).sort()));
  return hash.digest('hex');
}

/**
 * The side modules' data lies in the stack's lower half, behind the map of written pages. QuickJS stops a guest after
 * 256 KiB of stack; what is left is twice that.
 */
const SIDE_DATA_ADDRESS = Math.ceil((MAP_ADDRESS + MAP_BYTES) / PAGE_BYTES) * PAGE_BYTES;
const MAX_SIDE_DATA_END = 0x80000;

/**
 * Of the URL module's data: behind the strings, which QuickJS may read as names of properties, up to the end of what is
 * never written. Its functions alone read what is there.
 */
const URL_TABLES = [4096, 264_448] as const;

/** Where things lie in the memory of an instance: what the host has to know of the linking. */
interface Layout {
  /** Start and end of the side modules' data. */
  readonly sideData: readonly [number, number];
  /** Start and end, on page bounds, of the part of it that a sandbox has on demand only. */
  readonly tables: readonly [number, number];
}

/** Custom section of the module: the layout, as JSON. */
const LAYOUT_SECTION = 'postern.layout';

/** The engine as one module, not metered yet. */
export function linkEngine(): Uint8Array {
  const sides = SIDE_MODULES.map((name) => {
    const module = { name, bytes: read(`quickjs-wasi/${name}.so`) };
    return name === 'url' ? { ...module, tables: URL_TABLES } : module;
  });
  const main = read('quickjs-wasi/quickjs.wasm');
  const linked = linkModules(main, [...sides, { name: 'pump', bytes: PUMP_MODULE }], SIDE_DATA_ADDRESS);
  const { bytes, sideDataEnd, tables } = linked;
  if (sideDataEnd > MAX_SIDE_DATA_END) throw new Error('the data of the side modules leaves too little stack');
  const layout: Layout = {
    sideData: [SIDE_DATA_ADDRESS, sideDataEnd],
    tables: [Math.ceil(tables[0] / PAGE_BYTES) * PAGE_BYTES, Math.floor(tables[1] / PAGE_BYTES) * PAGE_BYTES],
  };
  return Buffer.concat([bytes, customSection(LAYOUT_SECTION, Buffer.from(JSON.stringify(layout)))]);
}

/** Links and meters the engine: half a second of work, the same bytes each time. */
export function buildEngineModule(): Uint8Array {
  return meter(trackWrites(linkEngine(), MAP_ADDRESS), {
    maxMemoryPages: MAX_MEMORY_PAGES,
    keepExports: HOST_EXPORTS,
    keepCustomSections: [LAYOUT_SECTION],
  }).bytes;
}

/** Compiles the engine; V8 goes on optimising in the background. */
export function createEngine({ id, module: bytes, prelude, parts }: EngineSource): Engine {
  const module = new WebAssembly.Module(bytes as Uint8Array<ArrayBuffer>);
  const [section] = WebAssembly.Module.customSections(module, LAYOUT_SECTION);
  if (section === undefined) throw new Error('the module is not one that buildEngineModule has made');
  const layout = JSON.parse(Buffer.from(section).toString()) as Layout;
  return { id, module, ...layout, prelude, parts };
}
