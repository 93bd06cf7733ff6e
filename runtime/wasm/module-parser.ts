import { ByteReader } from './byte-reader.ts';
import { type FunctionIndexVisitor, readConstantExpression, visitFunctionIndex } from './constant-expression.ts';
import { ModuleRefusedError } from './errors.ts';
import {
  EXTERNAL_KINDS,
  type ExternalKind,
  type Limits,
  readGlobalType,
  readLimits,
  readValueType,
  type ValueType,
} from './wasm-types.ts';

/** Section ids in the order in which a module has them; 0 is a custom section and may stand anywhere. */
export const SECTION = {
  custom: 0,
  type: 1,
  import: 2,
  function: 3,
  table: 4,
  memory: 5,
  tag: 13,
  global: 6,
  export: 7,
  start: 8,
  element: 9,
  dataCount: 12,
  code: 10,
  data: 11,
} as const;
export const SECTION_ORDER = [1, 2, 3, 4, 5, 13, 6, 7, 8, 9, 12, 10, 11] as const;

export interface FunctionType {
  readonly params: readonly ValueType[];
  readonly results: readonly ValueType[];
}
export interface ModuleImport {
  readonly module: string;
  readonly name: string;
  readonly kind: ExternalKind;
  /** Of a function. */
  readonly type?: FunctionType;
}
export interface ModuleExport {
  readonly name: string;
  readonly kind: ExternalKind;
  readonly index: number;
}
export interface ModuleGlobal {
  readonly type: ValueType;
  readonly mutable: boolean;
}
export interface ModuleTable {
  readonly limits: Limits;
  /** The bytes from the element type to the limits, and the initializer behind them (empty without one). */
  readonly head: Uint8Array;
  readonly tail: Uint8Array;
}
export interface Section {
  readonly id: number;
  readonly start: number;
  readonly end: number;
}
export interface CustomSection extends Section {
  readonly name: string;
  /** Whether a section with a known id stood before it. */
  readonly afterSections: boolean;
}

/** What the rewriter has to know of a module. Indices count imports first, as wasm does. */
export interface ParsedModule {
  readonly bytes: Uint8Array;
  readonly sections: ReadonlyMap<number, Section>;
  readonly customSections: readonly CustomSection[];
  readonly types: readonly FunctionType[];
  readonly imports: readonly ModuleImport[];
  readonly exports: readonly ModuleExport[];
  /** Type index of each function, imported ones first. */
  readonly functionTypes: readonly number[];
  readonly importedFunctions: number;
  readonly importedTables: number;
  readonly importedGlobals: number;
  readonly importedMemory: Limits | undefined;
  readonly tables: readonly ModuleTable[];
  readonly memory: Limits | undefined;
  readonly globals: readonly ModuleGlobal[];
  /** Functions that an element segment or an initializer names: those that call_indirect may reach. */
  readonly referencedFunctions: ReadonlySet<number>;
  readonly hasStart: boolean;
}

/** V8's own limits, checked here because the appended parts must still fit. */
const MAX_FUNCTIONS = 1_000_000 - 100;
const MAX_TYPES = 1_000_000 - 100;
const MAX_GLOBALS = 1_000_000 - 100;
const MAX_EXPORTS = 1_000_000 - 100;
const MAX_TABLES = 100_000 - 1;
/** Ours: each costs us an object, and a compiler writes a dozen. */
const MAX_CUSTOM_SECTIONS = 10_000;

/** Reads all sections but code and data, whose bytes only the planner looks at. Throws ModuleRefusedError. */
export function parseModule(bytes: Uint8Array): ParsedModule {
  return new ModuleParser(bytes).parse();
}

class ModuleParser {
  readonly #bytes: Uint8Array;
  readonly #sections = new Map<number, Section>();
  readonly #customSections: CustomSection[] = [];
  readonly #types: FunctionType[] = [];
  readonly #imports: ModuleImport[] = [];
  readonly #exports: ModuleExport[] = [];
  readonly #functionTypes: number[] = [];
  readonly #tables: ModuleTable[] = [];
  readonly #globals: ModuleGlobal[] = [];
  readonly #memories: Limits[] = [];
  readonly #importedMemories: Limits[] = [];
  readonly #referenced = new Set<number>();
  #importedFunctions = 0;
  #importedTables = 0;
  #importedGlobals = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  parse(): ParsedModule {
    this.#readHeader();
    this.#splitSections();
    this.#each(SECTION.type, MAX_TYPES, (reader) => this.#readType(reader));
    this.#each(SECTION.import, Number.POSITIVE_INFINITY, (reader) => this.#readImport(reader));
    this.#each(SECTION.function, MAX_FUNCTIONS, (reader) => this.#functionTypes.push(reader.u32()));
    this.#each(SECTION.table, MAX_TABLES, (reader) => this.#readTable(reader));
    this.#each(SECTION.memory, Number.POSITIVE_INFINITY, (reader) => this.#memories.push(readLimits(reader, 'memory')));
    this.#each(SECTION.global, MAX_GLOBALS, (reader) => this.#readGlobal(reader));
    this.#each(SECTION.export, MAX_EXPORTS, (reader) => this.#readExport(reader));
    this.#each(SECTION.element, Number.POSITIVE_INFINITY, (reader) =>
      readElementSegment(reader, (index) => this.#referenced.add(index)),
    );
    return this.#result();
  }

  #result(): ParsedModule {
    if (this.#memories.length + this.#importedMemories.length > 1) throw new ModuleRefusedError('multi-memory');
    if (this.#functionTypes.length > MAX_FUNCTIONS) throw new ModuleRefusedError('too many functions');
    return {
      bytes: this.#bytes,
      sections: this.#sections,
      customSections: this.#customSections,
      types: this.#types,
      imports: this.#imports,
      exports: this.#exports,
      functionTypes: this.#functionTypes,
      importedFunctions: this.#importedFunctions,
      importedTables: this.#importedTables,
      importedGlobals: this.#importedGlobals,
      importedMemory: this.#importedMemories[0],
      tables: this.#tables,
      memory: this.#memories[0],
      globals: this.#globals,
      referencedFunctions: this.#referenced,
      hasStart: this.#sections.has(SECTION.start),
    };
  }

  #readHeader(): void {
    const b = this.#bytes;
    if (b.length < 8 || b[0] !== 0 || b[1] !== 0x61 || b[2] !== 0x73 || b[3] !== 0x6d) {
      throw new ModuleRefusedError('invalid module', 'not WebAssembly');
    }
    if (b[6] === 1) throw new ModuleRefusedError('component', 'a core module is wanted');
    if (b[4] !== 1 || b[5] !== 0 || b[6] !== 0 || b[7] !== 0) throw new ModuleRefusedError('unknown version');
  }

  #splitSections(): void {
    const reader = new ByteReader(this.#bytes, 8);
    while (!reader.done) {
      const id = reader.u8();
      const length = reader.u32();
      const start = reader.offset;
      reader.skip(length);
      const section = { id, start, end: reader.offset };
      if (id === SECTION.custom) {
        if (this.#customSections.length >= MAX_CUSTOM_SECTIONS)
          throw new ModuleRefusedError('too many custom sections');
        const name = new ByteReader(this.#bytes, start, section.end).name();
        this.#customSections.push({ ...section, name, afterSections: this.#sections.size > 0 });
        continue;
      }
      if (!SECTION_ORDER.includes(id as (typeof SECTION_ORDER)[number])) {
        throw new ModuleRefusedError('unknown section', `id ${id}`);
      }
      if (this.#sections.has(id)) throw new ModuleRefusedError('invalid module', `section ${id} twice`);
      this.#sections.set(id, section);
    }
  }

  #each(id: number, max: number, read: (reader: ByteReader) => void): void {
    const section = this.#sections.get(id);
    if (section === undefined) return;
    const reader = new ByteReader(this.#bytes, section.start, section.end);
    const count = reader.count();
    if (count > max) throw new ModuleRefusedError('too many definitions', `${count} in section ${id}`);
    for (let i = 0; i < count; i++) read(reader);
    if (!reader.done) throw new ModuleRefusedError('invalid module', `section ${id} is too long`);
  }

  #readType(reader: ByteReader): void {
    const form = reader.u8();
    if (form === 0x5d) throw new ModuleRefusedError('stack switching');
    if (form !== 0x60) throw new ModuleRefusedError('gc types', `type form 0x${form.toString(16)}`);
    const params = Array.from({ length: reader.count() }, () => readValueType(reader));
    const results = Array.from({ length: reader.count() }, () => readValueType(reader));
    this.#types.push({ params, results });
  }

  #readImport(reader: ByteReader): void {
    const module = reader.name();
    const name = reader.name();
    const kind = EXTERNAL_KINDS[reader.u8()];
    switch (kind) {
      case 'function': {
        const index = reader.u32();
        this.#functionTypes.push(index);
        this.#importedFunctions++;
        this.#imports.push({ module, name, kind, type: this.#type(index) });
        return;
      }
      case 'table':
        readValueType(reader);
        readLimits(reader, 'table');
        this.#importedTables++;
        break;
      case 'memory':
        this.#importedMemories.push(readLimits(reader, 'memory'));
        break;
      case 'global':
        readGlobalType(reader);
        this.#importedGlobals++;
        break;
      case 'tag':
        reader.skip(1);
        reader.u32();
        break;
      case undefined:
        throw new ModuleRefusedError('unknown import kind');
    }
    this.#imports.push({ module, name, kind });
  }

  #type(index: number): FunctionType {
    const type = this.#types[index];
    if (type === undefined) throw new ModuleRefusedError('invalid module', `no type ${index}`);
    return type;
  }

  #readTable(reader: ByteReader): void {
    let start = reader.offset;
    const hasInitializer = reader.peek() === 0x40;
    if (hasInitializer) {
      reader.skip(2);
      start = reader.offset;
    }
    readValueType(reader);
    const head = this.#bytes.subarray(hasInitializer ? start - 2 : start, reader.offset);
    const limits = readLimits(reader, 'table');
    const tailStart = reader.offset;
    if (hasInitializer) readConstantExpression(reader, (index) => this.#referenced.add(index));
    this.#tables.push({ limits, head, tail: this.#bytes.subarray(tailStart, reader.offset) });
  }

  #readGlobal(reader: ByteReader): void {
    this.#globals.push(readGlobalType(reader));
    readConstantExpression(reader, (index) => this.#referenced.add(index));
  }

  #readExport(reader: ByteReader): void {
    const name = reader.name();
    const kind = EXTERNAL_KINDS[reader.u8()];
    if (kind === undefined) throw new ModuleRefusedError('invalid module', 'unknown export kind');
    this.#exports.push({ name, kind, index: reader.u32() });
  }
}

/**
 * Steps over an element segment. `onFunction` sees each function that it names, and where the index stands.
 * Source: core specification, section 5.5.12: bit 0 passive or declarative, bit 1 explicit table, bit 2 expressions.
 */
export function readElementSegment(reader: ByteReader, onFunction: FunctionIndexVisitor): void {
  const flags = reader.u32();
  if (flags > 7) throw new ModuleRefusedError('invalid module', `element segment flags ${flags}`);
  if ((flags & 1) === 0) {
    if ((flags & 2) !== 0) reader.u32();
    readConstantExpression(reader, () => {});
  }
  const usesExpressions = (flags & 4) !== 0;
  if ((flags & 3) !== 0) {
    if (usesExpressions) readValueType(reader);
    else reader.skip(1);
  }
  const count = reader.count();
  for (let i = 0; i < count; i++) {
    if (usesExpressions) readConstantExpression(reader, onFunction);
    else visitFunctionIndex(reader, onFunction);
  }
}
