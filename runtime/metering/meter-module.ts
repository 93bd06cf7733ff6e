import { ByteReader } from '../wasm/byte-reader.ts';
import { ByteWriter, name, u32 } from '../wasm/byte-writer.ts';
import { ModuleRefusedError } from '../wasm/errors.ts';
import {
  type ModuleExport,
  type ModuleImport,
  type ParsedModule,
  parseModule,
  SECTION,
  SECTION_ORDER,
} from '../wasm/module-parser.ts';
import { EXTERNAL_KINDS, type Limits } from '../wasm/wasm-types.ts';
import {
  APPENDED_TYPES,
  AppendedCode,
  type AppendedIndices,
  appendedGlobals,
  FUNCREF,
  HOOK_SLOTS,
} from './appended-code.ts';
import { FOLD_LIMITS, type FunctionBodies, foldSmallFunctions } from './call-folding.ts';
import { type CallCosts, ChargePlanner, Edit, type EditList } from './charge-plan.ts';
import { CodeWriter } from './code-writer.ts';

/** Names of the appended exports. A module that exports a name with this prefix is refused. */
export const RESERVED_EXPORT_PREFIX = 'postern.';
export const METER_EXPORTS = {
  /** i32: units left in this slice; below zero at the next charge the host is asked. */
  fuel: 'postern.fuel',
  /** externref: the host's handle of the instance, null until it is attached. */
  meter: 'postern.meter',
  /** i32: 1 once a memory.grow or table.grow failed or was refused. */
  growFailed: 'postern.grow_failed',
  /** The table of host hooks. */
  hooks: 'postern.hooks',
  /** Followed by the global's index in the module. */
  mutableGlobal: 'postern.global.',
} as const;

/** Units that a start function may use at instantiation, before a meter is attached; then it traps. 10 to 100 ms. */
export const START_FUEL = 100_000_000;
const DEFAULT_MAX_TABLE_ELEMENTS = 100_000;
const DEFAULT_CUSTOM_SECTIONS: readonly string[] = ['dylink.0'];
const MAX_PAGES_WASM32 = 65_536;
/** V8's limit on one body; checked by the engine as well, but here by name. */
const MAX_BODY_BYTES = 7_654_321;
const BRANCH_HINTS = 'metadata.code.branch_hint';

export interface MeterOptions {
  /** Hard ceiling written into the memory section as its maximum: min(own, this). 64 KiB pages. */
  readonly maxMemoryPages: number;
  /** Cap on every table's maximum. Default 100,000 elements. An imported table's maximum is its provider's. */
  readonly maxTableElements?: number;
  /** How much each table may grow, for a host that holds all of that from the beginning. Default: up to its maximum. */
  readonly maxTableGrowth?: number;
  /**
   * When given, only these names stay exported (plus what is appended): V8 builds a function object for each export at
   * each instantiation.
   */
  readonly keepExports?: ReadonlySet<string>;
  /** Exports every mutable global the module defines as `postern.global.<index>`, so that a reset can restore it. */
  readonly exportMutableGlobals?: boolean;
  /** Custom sections to keep; others are stripped. Default: 'dylink.0'. */
  readonly keepCustomSections?: readonly string[];
  /** Functions to leave unmetered, by export name or decimal index. For experiments: they can run for ever. */
  readonly unmeteredExports?: ReadonlySet<string>;
  /** Units for the start function, before a meter is attached. Default START_FUEL. */
  readonly startFuel?: number;
  /**
   * Whether a memory may grow before a meter is attached, for a host that looks at its size then. Default true. Where it may
   * not, a start function finds that there is no more memory.
   */
  readonly growsAtStart?: boolean;
}

export type GlobalType = 'i32' | 'i64' | 'f32' | 'f64' | 'v128' | 'ref';

export interface MeteredModule {
  readonly bytes: Uint8Array;
  /** Of the memory that the module defines or imports; null without one. */
  readonly memory: { readonly minPages: number; readonly maxPages: number; readonly imported: boolean } | null;
  /** Those that exportMutableGlobals exported. A v128's value cannot be read or set from JavaScript. */
  readonly mutableGlobals: readonly { readonly name: string; readonly type: GlobalType }[];
  readonly imports: readonly ModuleImport[];
  /** Those that the module came with, dropped ones included; appended ones not. */
  readonly exports: readonly ModuleExport[];
  readonly hasStart: boolean;
  /** Places that charge, for statistics. */
  readonly meteredPoints: number;
}

/**
 * Rewrites a core module so that it can be stopped, time-sliced and counted; see DESIGN 4. It appends only, so
 * no index changes. Throws ModuleRefusedError for what is invalid or cannot be metered; an Error for our own defects.
 */
export function meter(bytes: Uint8Array, options: MeterOptions): MeteredModule {
  validateUploaded(bytes);
  const metered = new ModuleRewriter(parseModule(bytes), options).rewrite();
  if (!WebAssembly.validate(metered.bytes as Uint8Array<ArrayBuffer>)) {
    throw new Error('metering made a valid module invalid', { cause: compileError(metered.bytes) });
  }
  return metered;
}

/**
 * A module must be valid as it came, before anything is appended: one that names the fuel global's index is
 * invalid now and would be valid afterwards. What the engine does not know at all is refused by its name if we know it.
 */
function validateUploaded(bytes: Uint8Array): void {
  if (WebAssembly.validate(bytes as Uint8Array<ArrayBuffer>)) return;
  parseModule(bytes);
  const cause = compileError(bytes);
  throw new ModuleRefusedError('invalid module', cause instanceof Error ? cause.message : undefined);
}

function compileError(bytes: Uint8Array): unknown {
  try {
    new WebAssembly.Module(bytes as Uint8Array<ArrayBuffer>);
    return undefined;
  } catch (error) {
    return error;
  }
}

class ModuleRewriter {
  readonly #module: ParsedModule;
  readonly #options: MeterOptions;
  readonly #indices: AppendedIndices;
  readonly #appended: AppendedCode;
  readonly #out: ByteWriter;

  constructor(module: ParsedModule, options: MeterOptions) {
    this.#module = module;
    this.#options = options;
    const fuelGlobal = module.importedGlobals + module.globals.length;
    this.#indices = {
      firstType: module.types.length,
      firstFunction: module.functionTypes.length,
      fuelGlobal,
      meterGlobal: fuelGlobal + 1,
      growFailedGlobal: fuelGlobal + 2,
      hooksTable: module.importedTables + module.tables.length,
    };
    this.#appended = new AppendedCode(this.#indices, options.growsAtStart ?? true);
    this.#out = new ByteWriter(Math.ceil(module.bytes.length * 1.3) + 1024);
  }

  rewrite(): MeteredModule {
    const module = this.#module;
    this.#refuseReservedExports();
    const code = this.#rewriteCode();
    const mutableGlobals = this.#mutableGlobals();
    const out = this.#out;
    out.append(module.bytes.subarray(0, 8));
    this.#customSections(false);
    for (const id of SECTION_ORDER) {
      if (id === SECTION.code) this.#hints(code);
      this.#section(id, code, mutableGlobals);
    }
    this.#customSections(true);
    const memory = module.memory ?? module.importedMemory;
    return {
      bytes: out.view().slice(),
      memory: memory === undefined ? null : { ...this.#pages(memory), imported: module.memory === undefined },
      mutableGlobals: mutableGlobals.map(({ name, type }) => ({ name, type })),
      imports: module.imports,
      exports: module.exports,
      hasStart: module.hasStart,
      meteredPoints: code.points,
    };
  }

  #refuseReservedExports(): void {
    for (const { name } of this.#module.exports) {
      if (name.startsWith(RESERVED_EXPORT_PREFIX)) throw new ModuleRefusedError('reserved export name', name);
    }
  }

  /** The code section's content, with the appended helpers; their types in order of index. */
  #rewriteCode(): { content: Uint8Array; helperTypes: number[]; hints: Uint8Array | undefined; points: number } {
    const module = this.#module;
    const bodies = this.#bodies();
    const calls: CallCosts = {
      importedFunctions: module.importedFunctions,
      foldedCost: new Float64Array(module.functionTypes.length).fill(-1),
      bounded: new Uint8Array(module.functionTypes.length),
    };
    const planner = new ChargePlanner(module.bytes, calls, module);
    const exported = new Set<number>();
    for (const { name, kind, index } of module.exports) {
      if (kind === 'function' && (this.#options.keepExports?.has(name) ?? true)) exported.add(index);
    }
    const byReference = (index: number) => exported.has(index) || module.referencedFunctions.has(index);
    foldSmallFunctions(bodies, calls, planner, byReference, FOLD_LIMITS);

    const section = module.sections.get(SECTION.code);
    const capacity = section === undefined ? 0 : Math.ceil((section.end - section.start) * 1.25);
    const writer = new CodeWriter(module.bytes, capacity, this.#appended, this.#indices.fuelGlobal);
    const unmetered = this.#unmeteredFunctions();
    for (let body = 0; body < bodies.count; body++) {
      const index = body + module.importedFunctions;
      const end = bodies.end[body]!;
      const plan = planner.plan(index, bodies.parameters[body]!, bodies.start[body]!, end);
      const edits = planner.edits;
      if (calls.foldedCost[index]! >= 0) edits.kind[0] = Edit.none;
      if (unmetered.has(index)) dropCharges(edits);
      if (edits.length === 1 && edits.kind[0] === Edit.none) writer.copyBody(bodies.start[body]!, end);
      else writer.writeBody(index, plan, edits, end);
    }
    const { types, bodies: helpers } = this.#appended.build();
    for (const helper of helpers) writer.appendBody(helper);
    const content = new ByteWriter(writer.code.length + 5);
    content.u32(bodies.count + helpers.length);
    content.append(writer.code.view());
    return { content: content.view(), helperTypes: types, hints: writer.hints(), points: writer.chargePoints };
  }

  #bodies(): FunctionBodies {
    const module = this.#module;
    const count = module.functionTypes.length - module.importedFunctions;
    const start = new Int32Array(count);
    const end = new Int32Array(count);
    const parameters = new Int32Array(count);
    const section = module.sections.get(SECTION.code);
    if (section !== undefined) {
      const reader = new ByteReader(module.bytes, section.start, section.end);
      if (reader.u32() !== count) throw new ModuleRefusedError('invalid module', 'functions without a body');
      for (let i = 0; i < count; i++) {
        const length = reader.u32();
        if (length > MAX_BODY_BYTES) throw new ModuleRefusedError('function too large', `${length} bytes`);
        start[i] = reader.offset;
        reader.skip(length);
        end[i] = reader.offset;
        parameters[i] = module.types[module.functionTypes[i + module.importedFunctions]!]!.params.length;
      }
    }
    return { count, start, end, parameters };
  }

  #unmeteredFunctions(): ReadonlySet<number> {
    const wanted = this.#options.unmeteredExports;
    if (wanted === undefined) return new Set();
    const indices = [...wanted].filter((name) => /^\d+$/.test(name)).map(Number);
    const named = this.#module.exports.filter(({ kind, name }) => kind === 'function' && wanted.has(name));
    return new Set([...indices, ...named.map(({ index }) => index)]);
  }

  #mutableGlobals(): { name: string; type: GlobalType; index: number }[] {
    if (!this.#options.exportMutableGlobals) return [];
    const { globals, importedGlobals } = this.#module;
    return globals.flatMap(({ type, mutable }, i) => {
      if (!mutable) return [];
      const index = importedGlobals + i;
      const short: GlobalType = type.endsWith('ref') ? 'ref' : (type as Exclude<GlobalType, 'ref'>);
      return [{ name: `${METER_EXPORTS.mutableGlobal}${index}`, type: short, index }];
    });
  }

  #section(
    id: number,
    code: { content: Uint8Array; helperTypes: number[] },
    mutableGlobals: readonly { name: string; index: number }[],
  ): void {
    const section = this.#module.sections.get(id);
    if (id === SECTION.type) this.#extend(id, APPENDED_TYPES);
    else if (id === SECTION.function) this.#extend(id, code.helperTypes.map(u32));
    else if (id === SECTION.table) this.#tables();
    else if (id === SECTION.memory) this.#memory();
    else if (id === SECTION.global) this.#extend(id, appendedGlobals(this.#options.startFuel ?? START_FUEL));
    else if (id === SECTION.export) this.#exports(mutableGlobals);
    else if (id === SECTION.code) this.#emit(id, code.content);
    else if (section !== undefined) this.#emit(id, this.#module.bytes.subarray(section.start, section.end));
  }

  #emit(id: number, content: Uint8Array | readonly number[]): void {
    this.#out.u8(id);
    this.#out.u32(content.length);
    this.#out.append(content);
  }

  /** A section whose content is a vector, with items added at its end. */
  #extend(id: number, items: readonly (readonly number[])[]): void {
    const section = this.#module.sections.get(id);
    if (section === undefined && items.length === 0) return;
    const out = this.#out;
    out.u8(id);
    const length = out.hole();
    if (section === undefined) out.u32(items.length);
    else {
      const reader = new ByteReader(this.#module.bytes, section.start, section.end);
      out.u32(reader.u32() + items.length);
      out.copy(this.#module.bytes, reader.offset, section.end);
    }
    for (const item of items) out.append(item);
    out.fill(length);
  }

  #tables(): void {
    const cap = this.#options.maxTableElements ?? DEFAULT_MAX_TABLE_ELEMENTS;
    const growth = this.#options.maxTableGrowth ?? cap;
    const { tables } = this.#module;
    const out = this.#out;
    out.u8(SECTION.table);
    const length = out.hole();
    out.u32(tables.length + 1);
    for (const { limits, head, tail } of tables) {
      if (limits.min > cap) throw new ModuleRefusedError('table too large', `${limits.min} elements, ${cap} allowed`);
      out.append(head);
      out.u8(1);
      out.u32(limits.min);
      out.u32(Math.min(limits.max ?? cap, cap, limits.min + growth));
      out.append(tail);
    }
    out.append([FUNCREF, 1, HOOK_SLOTS, HOOK_SLOTS]);
    out.fill(length);
  }

  #pages(limits: Limits): { minPages: number; maxPages: number } {
    const cap = Math.min(this.#options.maxMemoryPages, MAX_PAGES_WASM32);
    if (limits.min > cap) throw new ModuleRefusedError('memory too large', `${limits.min} pages, ${cap} allowed`);
    return { minPages: limits.min, maxPages: Math.min(limits.max ?? cap, cap) };
  }

  #memory(): void {
    const { memory } = this.#module;
    if (memory === undefined) return;
    const { minPages, maxPages } = this.#pages(memory);
    this.#emit(SECTION.memory, [1, 1, ...u32(minPages), ...u32(maxPages)]);
  }

  #exports(mutableGlobals: readonly { name: string; index: number }[]): void {
    const { keepExports } = this.#options;
    const kinds = (kind: (typeof EXTERNAL_KINDS)[number]) => EXTERNAL_KINDS.indexOf(kind);
    const items: number[][] = [];
    for (const { name: exportName, kind, index } of this.#module.exports) {
      if (keepExports !== undefined && !keepExports.has(exportName)) continue;
      items.push([...name(exportName), kinds(kind), ...u32(index)]);
    }
    const append = (exportName: string, kind: (typeof EXTERNAL_KINDS)[number], index: number) =>
      items.push([...name(exportName), kinds(kind), ...u32(index)]);
    append(METER_EXPORTS.fuel, 'global', this.#indices.fuelGlobal);
    append(METER_EXPORTS.meter, 'global', this.#indices.meterGlobal);
    append(METER_EXPORTS.growFailed, 'global', this.#indices.growFailedGlobal);
    append(METER_EXPORTS.hooks, 'table', this.#indices.hooksTable);
    for (const { name: globalName, index } of mutableGlobals) append(globalName, 'global', index);
    const out = this.#out;
    out.u8(SECTION.export);
    const length = out.hole();
    out.u32(items.length);
    for (const item of items) out.append(item);
    out.fill(length);
  }

  /** dylink.0 must come first; what stood behind other sections stays behind them. */
  #customSections(afterSections: boolean): void {
    const kept = this.#options.keepCustomSections ?? DEFAULT_CUSTOM_SECTIONS;
    for (const section of this.#module.customSections) {
      // Our own hints replace the module's: its offsets no longer hold.
      if (section.afterSections !== afterSections || section.name === BRANCH_HINTS) continue;
      if (kept.includes(section.name)) {
        this.#emit(SECTION.custom, this.#module.bytes.subarray(section.start, section.end));
      }
    }
  }

  #hints(code: { hints: Uint8Array | undefined }): void {
    if (code.hints === undefined) return;
    const out = this.#out;
    out.u8(SECTION.custom);
    const length = out.hole();
    out.append(name(BRANCH_HINTS));
    out.append(code.hints);
    out.fill(length);
  }
}

function dropCharges(edits: EditList): void {
  for (let i = 0; i < edits.length; i++) if (edits.kind[i] === Edit.charge) edits.kind[i] = Edit.none;
}
