/**
 * Links position-independent side modules (dylink.0) into their main module: one module with one set of functions, one
 * table, one memory, in place of a linker that runs at each instantiation. An instance of the engine is then one
 * instance, not seven: measured with 1,000 alive, 0.4 ms and 0.1 MB of V8's heap each, against 2.5 ms and 0.17 MB.
 *
 * Data segments are loaded by a function, so that an instance whose memory will be an image's starts with untouched zeros.
 *
 * A side module's tables may be left out of the memory until they are needed: each function that others reach, through
 * the function table, first looks whether they are there, and else calls the host (`link.demand`), which copies them in
 * and sets `link.demanded`. The tables of URLs (internationalized names) are a third of an image, and few sandboxes look there.
 */

import { ByteReader } from '../wasm/byte-reader.ts';
import { ByteWriter, name, s32, u32 } from '../wasm/byte-writer.ts';
import { type ModuleImport, type ParsedModule, parseModule, SECTION } from '../wasm/module-parser.ts';
import { BulkOp, COST, Op, UNKNOWN_CALLEE_COST } from '../wasm/opcodes.ts';
import { EXTERNAL_KINDS, type ExternalKind } from '../wasm/wasm-types.ts';
import { readDylink } from './dylink.ts';
import { type LinkedGlobal, ModuleLinker, type Placement, refuseUnless } from './module-linker.ts';

export interface SideModule {
  /** Its exports are called `<name>.<export>` in the linked module. */
  readonly name: string;
  readonly bytes: Uint8Array;
  /** Start and end, in its data, of tables that only its own functions read: present on demand. One module may have them. */
  readonly tables?: readonly [number, number];
}

export interface LinkedModule {
  readonly bytes: Uint8Array;
  /** Start and end, in memory, of the tables that are present on demand. */
  readonly tables: readonly [number, number];
  /** Where the side modules' data ends. */
  readonly sideDataEnd: number;
}

/** A function without parameters: writes the data segments of all modules. To be called once, in a fresh memory. */
export const LOAD_DATA_EXPORT = 'link.load_data';
/** i32 global, 0 in a new instance: whether the tables are present. The host's to set. */
export const DEMANDED_EXPORT = 'link.demanded';
/** Imported function without parameters: the tables are needed. */
export const DEMAND_IMPORT = { module: 'link', name: 'demand' } as const;

const FUNCTION_TYPE = 0x60;
const PASSIVE = 1;
const VOID = 0x40;
const NOP = 0x01;
const I32_EQZ = 0x45;
const I32 = 0x7f;
const MUTABLE = 1;

/**
 * `sideDataAddress`: where in the main module's memory the data of the side modules goes; nothing else may use the bytes
 * from there to `sideDataEnd`. Functions that no module has become stubs that trap.
 */
export function linkModules(main: Uint8Array, sides: readonly SideModule[], sideDataAddress: number): LinkedModule {
  return new Linker(parseModule(main), sideDataAddress).link(sides);
}

/** Names that a module exports, by kind: index of each. */
function exportsOf(module: ParsedModule, kind: ExternalKind): Map<string, number> {
  return new Map(module.exports.filter((entry) => entry.kind === kind).map((entry) => [entry.name, entry.index]));
}

class Linker {
  readonly #main: ParsedModule;
  /** By index in the main module: the host's `demand` stands behind what it imports. */
  readonly #mainIndices: readonly number[];
  readonly #mainFunctions: ReadonlyMap<string, number>;
  readonly #mainGlobals: ReadonlyMap<string, number>;
  readonly #types = { count: 0, out: new ByteWriter(1024) };
  readonly #functionTypes: number[] = [];
  readonly #globals: number[][] = [];
  readonly #exports: number[][] = [];
  readonly #elements: number[][] = [];
  readonly #bodies = { count: 0, out: new ByteWriter(65_536) };
  readonly #data: { readonly address: number; readonly bytes: Uint8Array }[] = [];
  readonly #startFunctions: number[] = [];
  /** Function index -> its place in the table, for functions that are taken the address of by name. */
  readonly #slots = new Map<number, number>();
  readonly #demand: number;
  readonly #nothingType: number;
  readonly #demanded: number;
  #tables: readonly [number, number] = [0, 0];
  #pendingStubs = 0;
  #dataEnd: number;
  #tableEnd: number;

  constructor(main: ParsedModule, sideDataAddress: number) {
    refuseUnless(!main.hasStart, 'a main module with a start function');
    refuseUnless(main.tables.length === 1 && main.memory !== undefined, 'a main module without its table and memory');
    this.#main = main;
    this.#demand = main.importedFunctions;
    this.#mainIndices = main.functionTypes.map((_, index) => (index < this.#demand ? index : index + 1));
    const functions = [...exportsOf(main, 'function')];
    this.#mainFunctions = new Map(functions.map(([symbol, index]) => [symbol, this.#mainIndices[index]!]));
    this.#mainGlobals = exportsOf(main, 'global');
    this.#dataEnd = sideDataAddress;
    this.#tableEnd = main.tables[0]!.limits.min;
    this.#addTypes(main);
    this.#nothingType = this.#types.count++;
    this.#types.out.append([FUNCTION_TYPE, 0, 0]);
    this.#functionTypes.push(...main.functionTypes.slice(main.importedFunctions));
    const globals = main.globals.map((_, index) => ({ index }));
    this.#addDefinitions(main, { firstType: 0, functions: this.#mainIndices, globals, prologue: [] });
    this.#demanded = this.#globals.push([I32, MUTABLE, Op.i32Const, 0, Op.end]) - 1;
    for (const { name: exportName, kind, index } of main.exports) {
      this.#export(exportName, kind, kind === 'function' ? this.#mainIndices[index]! : index);
    }
    this.#export(DEMANDED_EXPORT, 'global', this.#demanded);
  }

  link(sides: readonly SideModule[]): LinkedModule {
    for (const side of sides) this.#side(side, parseModule(side.bytes));
    for (const [index, slot] of this.#slots) {
      this.#elements.push([0, Op.i32Const, ...s32(slot), Op.end, 1, ...u32(index)]);
    }
    const loadData = this.#addFunction(
      this.#data.flatMap(({ address, bytes }, index) => [
        ...[Op.i32Const, ...s32(address), Op.i32Const, 0, Op.i32Const, ...s32(bytes.length)],
        ...[Op.bulk, BulkOp.memoryInit, ...u32(index), 0],
      ]),
    );
    this.#export(LOAD_DATA_EXPORT, 'function', loadData);
    const start = this.#addFunction(this.#startFunctions.flatMap((index) => [Op.call, ...u32(index)]));
    return { bytes: this.#write(start), tables: this.#tables, sideDataEnd: this.#dataEnd };
  }

  #side({ name: sideName, tables }: SideModule, module: ParsedModule): void {
    refuseUnless(!module.sections.has(SECTION.tag), 'exceptions');
    const { memoryBytes, memoryAlignment, tableElements } = readDylink(module);
    const memoryBase = Math.ceil(this.#dataEnd / memoryAlignment) * memoryAlignment;
    const tableBase = this.#tableEnd;
    this.#dataEnd = memoryBase + memoryBytes;
    this.#tableEnd += tableElements;
    if (tables !== undefined) this.#tables = [memoryBase + tables[0], memoryBase + tables[1]];

    const firstType = this.#addTypes(module);
    const functions = this.#functions(module, firstType);
    const globals = this.#globalsOf(module, functions, { __memory_base: memoryBase, __table_base: tableBase });
    const prologue = tables === undefined ? [] : this.#demandPrologue();
    this.#addDefinitions(module, { firstType, functions, globals, prologue });
    this.#writeStubs();
    for (const { name: exportName, kind, index } of module.exports) {
      const global = kind === 'global' ? globals[index]! : undefined;
      if (kind === 'function') this.#export(`${sideName}.${exportName}`, kind, functions[index]!);
      if (global !== undefined && 'index' in global) this.#export(`${sideName}.${exportName}`, 'global', global.index);
    }
  }

  #addTypes(module: ParsedModule): number {
    const first = this.#types.count;
    const { count, bytes } = sectionItems(module, SECTION.type);
    this.#types.count += count;
    this.#types.out.append(bytes);
    return first;
  }

  /** What a module defines, but for its types, functions' types and exports. */
  #addDefinitions(module: ParsedModule, place: Omit<Placement, 'firstElement' | 'firstData'>): void {
    const counts = { firstElement: this.#elements.length, firstData: this.#data.length };
    const linker = new ModuleLinker(module, { ...place, ...counts });
    this.#globals.push(...linker.globals());
    this.#elements.push(...linker.elements());
    this.#data.push(...linker.data());
    linker.code(this.#bodies.out);
    this.#bodies.count += module.functionTypes.length - module.importedFunctions;
    if (linker.startFunction !== undefined) this.#startFunctions.push(linker.startFunction);
  }

  /**
   * Both ways cost the same fuel, so that what a guest uses does not tell whether an earlier one needed the tables: the
   * call of an import costs what as many `nop`s cost, which V8 drops.
   */
  #demandPrologue(): number[] {
    const call = [Op.call, ...u32(this.#demand)];
    const nops = new Array<number>(COST[Op.call]! + UNKNOWN_CALLEE_COST).fill(NOP);
    return [Op.globalGet, ...u32(this.#demanded), I32_EQZ, Op.if, VOID, ...call, Op.else, ...nops, Op.end];
  }

  /** Own functions keep their order; imported ones are found, in the module itself first, or become stubs. */
  #functions(module: ParsedModule, firstType: number): number[] {
    const own = exportsOf(module, 'function');
    const imported = module.imports.filter(({ kind }) => kind === 'function');
    const ownFrom = this.#functionCount;
    const ownTypes = module.functionTypes.slice(module.importedFunctions);
    this.#functionTypes.push(...ownTypes.map((type) => firstType + type));
    const functions = imported.map((entry, index) => {
      const inItself = entry.module === 'env' ? own.get(entry.name) : undefined;
      if (inItself !== undefined && inItself >= imported.length) return ownFrom + inItself - imported.length;
      return this.#mainFunction(entry) ?? this.#stub(firstType + module.functionTypes[index]!);
    });
    return [...functions, ...ownTypes.map((_, index) => ownFrom + index)];
  }

  /** What the main module exports, or imports itself. */
  #mainFunction(entry: ModuleImport): number | undefined {
    if (entry.module === 'env') return this.#mainFunctions.get(entry.name);
    const imports = this.#main.imports.filter(({ kind }) => kind === 'function');
    const index = imports.findIndex((other) => other.module === entry.module && other.name === entry.name);
    return index < 0 ? undefined : index;
  }

  /** For a symbol that nobody defines; C++ modules import some and never call them. Its body follows its module's. */
  #stub(type: number): number {
    this.#pendingStubs++;
    return this.#functionTypes.push(type) + this.#demand;
  }

  #writeStubs(): void {
    for (; this.#pendingStubs > 0; this.#pendingStubs--) this.#body([Op.unreachable]);
  }

  #globalsOf(
    module: ParsedModule,
    functions: readonly number[],
    bases: Readonly<Record<string, number>>,
  ): LinkedGlobal[] {
    const imported = module.imports.filter(({ kind }) => kind === 'global');
    const first = this.#globals.length;
    return [
      ...imported.map((entry): LinkedGlobal => {
        // Data symbols of the main module: none is exported, and what asks for one (errno) only writes it.
        if (entry.module === 'GOT.mem') return { value: 0 };
        if (entry.module === 'GOT.func') return { value: this.#slotOf(entry.name, module, functions) };
        const base = bases[entry.name];
        if (base !== undefined) return { value: base };
        const index = this.#mainGlobals.get(entry.name);
        if (index === undefined) throw new Error(`nobody has the global ${entry.name} that a side module imports`);
        return { index };
      }),
      ...module.globals.map((_, index) => ({ index: first + index })),
    ];
  }

  /** Where the table has a function that is taken the address of; 0, which is nothing, where nobody defines it. */
  #slotOf(symbol: string, module: ParsedModule, functions: readonly number[]): number {
    const own = exportsOf(module, 'function').get(symbol);
    const index = own === undefined ? this.#mainFunctions.get(symbol) : functions[own];
    if (index === undefined) return 0;
    const slot = this.#slots.get(index) ?? this.#tableEnd++;
    this.#slots.set(index, slot);
    return slot;
  }

  get #functionCount(): number {
    return this.#demand + 1 + this.#functionTypes.length;
  }

  #addFunction(code: readonly number[]): number {
    this.#body(code);
    return this.#functionTypes.push(this.#nothingType) + this.#demand;
  }

  #body(code: readonly number[]): void {
    const { out } = this.#bodies;
    out.u32(code.length + 2);
    out.append([0, ...code, Op.end]);
    this.#bodies.count++;
  }

  #export(exportName: string, kind: ExternalKind, index: number): void {
    this.#exports.push([...name(exportName), EXTERNAL_KINDS.indexOf(kind), ...u32(index)]);
  }

  #write(start: number): Uint8Array {
    const main = this.#main;
    const out = new ByteWriter(main.bytes.length * 2);
    const section = (id: number, count: number, content: Uint8Array | readonly number[]): void => {
      out.u8(id);
      const hole = out.hole();
      out.u32(count);
      out.append(content);
      out.fill(hole);
    };
    const vector = (id: number, items: readonly (readonly number[])[]): void => section(id, items.length, items.flat());
    const imports = sectionItems(main, SECTION.import);
    const demand = [...name(DEMAND_IMPORT.module), ...name(DEMAND_IMPORT.name), 0, ...u32(this.#nothingType)];
    const memory = sectionItems(main, SECTION.memory);
    const { limits, head } = main.tables[0]!;
    const max = limits.max === undefined ? [] : u32(limits.max + this.#tableEnd - limits.min);
    const tableLimits = [limits.max === undefined ? 0 : 1, ...u32(this.#tableEnd), ...max];
    const functionTypes = this.#functionTypes.map((type) => u32(type));
    const data = new ByteWriter(main.bytes.length);
    for (const { bytes } of this.#data) {
      data.append([PASSIVE, ...u32(bytes.length)]);
      data.append(bytes);
    }
    out.append(main.bytes.subarray(0, 8));
    section(SECTION.type, this.#types.count, this.#types.out.view());
    section(SECTION.import, imports.count + 1, [...imports.bytes, ...demand]);
    vector(SECTION.function, functionTypes);
    vector(SECTION.table, [[...head, ...tableLimits]]);
    section(SECTION.memory, memory.count, memory.bytes);
    vector(SECTION.global, this.#globals);
    vector(SECTION.export, this.#exports);
    section(SECTION.start, start, []);
    vector(SECTION.element, this.#elements);
    section(SECTION.dataCount, this.#data.length, []);
    section(SECTION.code, this.#bodies.count, this.#bodies.out.view());
    section(SECTION.data, this.#data.length, data.view());
    return out.view().slice();
  }
}

/** How many items a section has, and their bytes; none where there is no section. */
function sectionItems(module: ParsedModule, id: number): { readonly count: number; readonly bytes: Uint8Array } {
  const section = module.sections.get(id);
  if (section === undefined) return { count: 0, bytes: new Uint8Array() };
  const reader = new ByteReader(module.bytes, section.start, section.end);
  const count = reader.u32();
  return { count, bytes: module.bytes.subarray(reader.offset, section.end) };
}
