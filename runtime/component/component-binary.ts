/**
 * What is read of a component before anything else touches it: its core modules, wherever they are nested, and the names
 * that it imports and exports (github.com/WebAssembly/component-model, design/mvp/Binary.md). Types are not read; whether
 * the component is valid says the transpiler.
 */

import { ByteReader } from '../wasm/byte-reader.ts';
import { ModuleRefusedError } from '../wasm/errors.ts';

export interface ComponentBinary {
  readonly coreModules: readonly Uint8Array[];
  /** Of the component itself, not of those nested in it; with versions, as written. */
  readonly imports: readonly string[];
  readonly exports: readonly string[];
  /**
   * It, or a component in it, takes part in the asynchronous ABI. Core names say so where a compiler gave them; written by hand
   * they may be any.
   */
  readonly isAsynchronous: boolean;
}

const MAGIC = [0x00, 0x61, 0x73, 0x6d] as const;
const COMPONENT_VERSION = [0x0d, 0x00, 0x01, 0x00] as const;
const MODULE_VERSION = [0x01, 0x00, 0x00, 0x00] as const;
const SECTION = { coreModule: 1, component: 4, canonical: 8, import: 10, export: 11 } as const;
const CORE_SORT = 0x00;
/** Between them `resource.new` and `resource.drop`; behind them only what is asynchronous. */
const CANONICAL = { lift: 0x00, lower: 0x01, resourceRep: 0x04 } as const;
/** Three encodings; then a memory, `realloc` and post-return by their index; then `async`, its callback and what came later. */
const LAST_ENCODING = 0x02;
const LAST_SYNCHRONOUS_OPTION = 0x05;
const MAX_DEPTH = 16;
const MAX_CORE_MODULES = 64;

export function readComponent(bytes: Uint8Array): ComponentBinary {
  if (!startsWith(bytes, [...MAGIC, ...COMPONENT_VERSION])) {
    const isModule = startsWith(bytes, [...MAGIC, ...MODULE_VERSION]);
    throw invalid(isModule ? 'this is a core module, not a component' : 'this is no WebAssembly component');
  }
  const found: Found = { coreModules: [], imports: [], exports: [], isAsynchronous: false };
  readSections(bytes, 0, found);
  return found;
}

interface Found {
  readonly coreModules: Uint8Array[];
  readonly imports: string[];
  readonly exports: string[];
  isAsynchronous: boolean;
}

function readSections(bytes: Uint8Array, depth: number, found: Found): void {
  const { coreModules, imports, exports } = found;
  if (depth > MAX_DEPTH) throw invalid(`components are nested more than ${MAX_DEPTH} deep`);
  const reader = new ByteReader(bytes, MAGIC.length + COMPONENT_VERSION.length);
  while (!reader.done) {
    const id = reader.u8();
    const content = reader.slice(reader.u32());
    if (id === SECTION.coreModule) coreModules.push(content);
    else if (id === SECTION.component) readNested(content, depth + 1, found);
    else if (id === SECTION.canonical) found.isAsynchronous ||= !areSynchronous(content);
    else if (id === SECTION.import) imports.push(...readNames(content, skipExternType));
    else if (id === SECTION.export) exports.push(...readNames(content, skipExported));
    if (coreModules.length > MAX_CORE_MODULES) throw invalid(`it has more than ${MAX_CORE_MODULES} core modules`);
  }
}

/** Of a component within another, names are its own affair. */
function readNested(bytes: Uint8Array, depth: number, found: Found): void {
  const inner: Found = { ...found, imports: [], exports: [] };
  readSections(bytes, depth, inner);
  found.isAsynchronous = inner.isAsynchronous;
}

/** Only what there was before the asynchronous ABI: functions lifted and lowered without it, and handles. */
function areSynchronous(content: Uint8Array): boolean {
  const reader = new ByteReader(content);
  for (let left = reader.count(); left > 0; left--) {
    const kind = reader.u8();
    if (kind === CANONICAL.lift || kind === CANONICAL.lower) {
      reader.u8();
      reader.u32();
      for (let options = reader.count(); options > 0; options--) {
        const option = reader.u8();
        if (option > LAST_SYNCHRONOUS_OPTION) return false;
        if (option > LAST_ENCODING) reader.u32();
      }
      if (kind === CANONICAL.lift) reader.u32();
    } else if (kind <= CANONICAL.resourceRep) reader.u32();
    else return false;
  }
  return true;
}

function readNames(content: Uint8Array, skipRest: (reader: ByteReader) => void): string[] {
  const reader = new ByteReader(content);
  const names: string[] = [];
  for (let left = reader.count(); left > 0; left--) {
    const kind = reader.u8();
    if (kind > 1) throw invalid('a name is of a form that is not known here');
    names.push(reader.name());
    skipRest(reader);
  }
  return names;
}

/** An export's sort and index, and the type that it may be given. */
function skipExported(reader: ByteReader): void {
  if (reader.u8() === CORE_SORT) reader.u8();
  reader.u32();
  if (reader.u8() === 1) skipExternType(reader);
}

function skipExternType(reader: ByteReader): void {
  const sort = reader.u8();
  if (sort > 5) throw invalid('an import or export is of a sort that is not known here');
  if (sort === 0) reader.u8();
  // A value's or a type's bound: equal to an index, or for values a type, for types none (a resource).
  const bound = sort === 2 || sort === 3 ? reader.u8() : 0;
  if (sort === 3 && bound === 1) return;
  reader.skipInteger();
}

function startsWith(bytes: Uint8Array, start: readonly number[]): boolean {
  return start.every((byte, index) => bytes[index] === byte);
}

function invalid(what: string): ModuleRefusedError {
  return new ModuleRefusedError('invalid component', what);
}
