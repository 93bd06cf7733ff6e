/**
 * Makes a module note which pages of its memory it writes, so that a reset restores those and no others. Without it a
 * reset copies all of an image: 60 µs of a quiet machine for QuickJS, several times that when the caches are contended,
 * in an invocation that has 50 µs of work of its own.
 *
 * Each store sets a byte of a map that lies in the guest's own memory, a byte a page of 4 KiB, at a place that the
 * module itself has no use for. The map guards itself: the note follows the store, so a store that clears an entry is
 * followed by the note that the map was written, and no store can be the last one to touch that note unseen. A map that
 * was written by anything but notes makes the reset a full one.
 *
 * The same pass makes the memory's size virtual: what an earlier guest grew stays, but a later one sees the size that
 * the host has set in the global `tracked.pages`, and grows into what is there before it grows the memory itself.
 * (dlmalloc asks for the size to find its own end: it would leave the difference unused at every reset.)
 *
 * A note is by the page of the address without the store's offset where that is small, so that several stores through one
 * pointer share one note: what is noted as written is a page and the `SLACK_BYTES` behind it.
 */

import { ByteReader } from '../wasm/byte-reader.ts';
import { ByteWriter, name, s32, u32 } from '../wasm/byte-writer.ts';
import { ModuleRefusedError } from '../wasm/errors.ts';
import { skipInstruction } from '../wasm/instructions.ts';
import { type ParsedModule, parseModule, SECTION, SECTION_ORDER } from '../wasm/module-parser.ts';
import { BulkOp, Op } from '../wasm/opcodes.ts';
import { readValueType } from '../wasm/wasm-types.ts';

export const TRACKED_PAGE_SHIFT = 12;
/** A note of page p says: p may have been written, and as many bytes behind it. */
export const SLACK_BYTES = 256;
/** Offset and size of a store must stay within it. */
const SLACK_OFFSETS = SLACK_BYTES - 16;

const [I32, I64, F32, F64] = [0x7f, 0x7e, 0x7d, 0x7c];
const I32_ADD = 0x6a;
const I32_SUB = 0x6b;
const I32_SHR_U = 0x76;
const I32_STORE8 = 0x3a;
const I32_EQZ = 0x45;
const LOCAL_SET = 0x21;
const FIRST_STORE = 0x36;
const LAST_STORE = 0x3e;
const UNKNOWN = -1;

/** Value types of the opcodes 0x36 to 0x3e. */
const STORED_TYPES = [I32, I64, F32, F64, I32, I32, I64, I64, I64] as const;

/** Operands that an instruction takes, for those between 0x45 and 0xc4; each gives one. */
const OPERANDS = operandCounts();

function operandCounts(): Uint8Array {
  const counts = new Uint8Array(256).fill(1);
  for (const [first, last] of [
    [0x46, 0x4f],
    [0x51, 0x66],
    [0x6a, 0x78],
    [0x7c, 0x8a],
    [0x92, 0x98],
    [0xa0, 0xa6],
  ] as const) {
    counts.fill(2, first, last + 1);
  }
  return counts;
}

/** Exported by a module that owns its memory: i32, the pages of 64 KiB that the guest sees. */
export const TRACKED_PAGES_EXPORT = 'tracked.pages';

/** `mapAddress`: where the map starts; entry n is for the page n of 4 KiB. No index of the module changes. */
export function trackWrites(bytes: Uint8Array, mapAddress: number): Uint8Array {
  const module = parseModule(bytes);
  const out = new ByteWriter(Math.ceil(bytes.length * 1.4) + 1024);
  const tracker = new WriteTracker(module, mapAddress);
  const code = tracker.rewriteCode();
  const { added } = tracker;
  out.append(bytes.subarray(0, 8));
  const customs = (after: boolean): void => {
    for (const section of module.customSections) {
      // What names code by its offset no longer holds.
      if (section.name.startsWith('metadata.code') || section.afterSections !== after) continue;
      emit(out, SECTION.custom, bytes.subarray(section.start, section.end));
    }
  };
  customs(false);
  for (const id of SECTION_ORDER) {
    const section = module.sections.get(id);
    if (id === SECTION.code) emit(out, id, code);
    else if (id === SECTION.type)
      append(out, module, id, [
        [0x60, 2, I32, I32, 0],
        [0x60, 1, I32, 1, I32],
      ]);
    else if (id === SECTION.function)
      append(
        out,
        module,
        id,
        added.map(({ type }) => u32(module.types.length + type)),
      );
    else if (id === SECTION.global && module.memory !== undefined) append(out, module, id, [pagesGlobal(module)]);
    else if (id === SECTION.export && module.memory !== undefined) append(out, module, id, [pagesExport(module)]);
    else if (section !== undefined) emit(out, id, bytes.subarray(section.start, section.end));
  }
  customs(true);
  return out.view().slice();
}

function emit(out: ByteWriter, id: number, content: Uint8Array): void {
  out.u8(id);
  out.u32(content.length);
  out.append(content);
}

/** A section with more items. */
function append(out: ByteWriter, module: ParsedModule, id: number, items: readonly (readonly number[])[]): void {
  const section = module.sections.get(id);
  if (section === undefined) throw new Error(`a module without section ${id} writes no memory`);
  const reader = new ByteReader(module.bytes, section.start, section.end);
  const content = new ByteWriter(section.end - section.start + 64);
  content.u32(reader.u32() + items.length);
  content.append(module.bytes.subarray(reader.offset, section.end));
  for (const item of items) content.append(item);
  emit(out, id, content.view());
}

function pagesGlobal(module: ParsedModule): number[] {
  return [I32, 1, Op.i32Const, ...s32(module.memory?.min ?? 0), Op.end];
}

const GLOBAL_KIND = 3;

function pagesExport(module: ParsedModule): number[] {
  return [...name(TRACKED_PAGES_EXPORT), GLOBAL_KIND, ...u32(module.importedGlobals + module.globals.length)];
}

class WriteTracker {
  readonly #module: ParsedModule;
  readonly #map: number;
  readonly #noteRange: number;
  readonly #grow: number;
  readonly #pages: number;
  readonly #reader: ByteReader;
  readonly #body = new ByteWriter(65_536);
  /** What stands on the operand stack, as far as it is known: the local that an operand is the value of. */
  readonly #operands: number[] = [];
  /** Locals through which was stored and not yet noted. */
  readonly #unnoted: number[] = [];
  /** Value type -> index of the local that we added for it. */
  readonly #added = new Map<string, number>();
  #addedTypes: number[] = [];
  #locals = 0;

  constructor(module: ParsedModule, mapAddress: number) {
    this.#module = module;
    this.#map = mapAddress;
    this.#noteRange = module.functionTypes.length;
    this.#grow = this.#noteRange + 1;
    this.#pages = module.importedGlobals + module.globals.length;
    this.#reader = new ByteReader(module.bytes);
  }

  /** The functions that are added, with their types among those that are added. */
  get added(): readonly { readonly type: number; readonly body: Uint8Array }[] {
    const noteRange = { type: 0, body: this.#noteRangeBody() };
    return this.#module.memory === undefined ? [noteRange] : [noteRange, { type: 1, body: this.#growBody() }];
  }

  rewriteCode(): Uint8Array {
    const { added } = this;
    const { bytes, sections, functionTypes, importedFunctions, types } = this.#module;
    const section = sections.get(SECTION.code);
    if (section === undefined) throw new Error('a module without code writes no memory');
    const reader = new ByteReader(bytes, section.start, section.end);
    const count = reader.u32();
    const out = new ByteWriter(Math.ceil((section.end - section.start) * 1.4));
    out.u32(count + added.length);
    for (let index = 0; index < count; index++) {
      const length = reader.u32();
      const parameters = types[functionTypes[importedFunctions + index]!]!.params.length;
      this.#rewriteBody(out, reader.offset, reader.offset + length, parameters);
      reader.skip(length);
    }
    for (const { body } of added) {
      out.u32(body.length);
      out.append(body);
    }
    return out.view();
  }

  #rewriteBody(out: ByteWriter, start: number, end: number, parameters: number): void {
    const { bytes } = this.#module;
    const reader = this.#reader;
    reader.offset = start;
    const groups = reader.u32();
    const groupsStart = reader.offset;
    let locals = parameters;
    for (let group = 0; group < groups; group++) {
      locals += reader.u32();
      readValueType(reader);
    }
    const codeStart = reader.offset;
    this.#locals = locals;
    this.#added.clear();
    this.#addedTypes = [];
    this.#body.length = 0;
    this.#walk(codeStart, end);
    const header = new ByteWriter(64);
    header.u32(groups + this.#addedTypes.length);
    header.append(bytes.subarray(groupsStart, codeStart));
    for (const type of this.#addedTypes) header.append([1, type]);
    out.u32(header.length + this.#body.length);
    out.append(header.view());
    out.append(this.#body.view());
  }

  #walk(start: number, end: number): void {
    const { bytes } = this.#module;
    const operands = this.#operands;
    operands.length = 0;
    this.#unnoted.length = 0;
    const reader = this.#reader;
    let offset = start;
    while (offset < end) {
      const at = offset;
      const opcode = bytes[at]!;
      reader.offset = at;
      skipInstruction(reader, 'in a module whose writes are tracked');
      offset = reader.offset;
      if (opcode >= FIRST_STORE && opcode <= LAST_STORE) {
        this.#store(opcode, at, offset);
        continue;
      }
      if (opcode === Op.bulk) {
        this.#bulk(at, offset);
        continue;
      }
      if (opcode === Op.memorySize || opcode === Op.memoryGrow) {
        this.#size(opcode);
        continue;
      }
      if (isControl(opcode)) {
        this.#note();
        operands.length = 0;
      } else if (opcode === LOCAL_SET || opcode === Op.localTee) {
        this.#assign(this.#u32At(at + 1), opcode === Op.localTee);
      } else this.#track(opcode, at);
      this.#body.copy(bytes, at, offset);
    }
  }

  /** The operand stack after an instruction that neither stores, nor assigns a local, nor branches. */
  #track(opcode: number, at: number): void {
    const operands = this.#operands;
    if (opcode === Op.localGet) operands.push(this.#u32At(at + 1));
    else if (opcode >= 0x45 && opcode <= 0xc4) {
      for (let taken = OPERANDS[opcode]!; taken > 0; taken--) operands.pop();
      operands.push(UNKNOWN);
    } else if (opcode >= 0x28 && opcode <= 0x35) {
      operands.pop();
      operands.push(UNKNOWN);
    } else if ((opcode >= 0x41 && opcode <= 0x44) || opcode === Op.globalGet || opcode === Op.memorySize) {
      operands.push(UNKNOWN);
    } else if (opcode === Op.globalSet || opcode === 0x1a) operands.pop();
    else if (opcode !== 0x01) operands.length = 0;
  }

  #assign(local: number, tee: boolean): void {
    const operands = this.#operands;
    operands.pop();
    if (this.#unnoted.includes(local)) this.#note();
    for (let index = 0; index < operands.length; index++) if (operands[index] === local) operands[index] = UNKNOWN;
    if (tee) operands.push(local);
  }

  #store(opcode: number, at: number, end: number): void {
    const { bytes } = this.#module;
    const reader = this.#reader;
    reader.offset = at + 1;
    reader.u32();
    const offset = reader.u32();
    this.#operands.pop();
    const base = this.#operands.pop() ?? UNKNOWN;
    if (base !== UNKNOWN) {
      this.#body.copy(bytes, at, end);
      if (offset > SLACK_OFFSETS) this.#noteLocal(base, offset);
      else if (!this.#unnoted.includes(base)) this.#unnoted.push(base);
      return;
    }
    const value = this.#local('value', STORED_TYPES[opcode - FIRST_STORE]!);
    const address = this.#local('address', I32);
    this.#op(LOCAL_SET, value);
    this.#op(Op.localTee, address);
    this.#op(Op.localGet, value);
    this.#body.copy(bytes, at, end);
    this.#noteLocal(address, offset > SLACK_OFFSETS ? offset : 0);
  }

  #size(opcode: number): void {
    if (this.#module.memory === undefined) {
      throw new ModuleRefusedError('memory.grow', 'in a side module whose writes are tracked');
    }
    if (opcode === Op.memorySize) {
      this.#op(Op.globalGet, this.#pages);
      this.#operands.push(UNKNOWN);
    } else {
      this.#note();
      this.#operands.length = 0;
      this.#op(Op.call, this.#grow);
    }
  }

  #bulk(at: number, end: number): void {
    const { bytes } = this.#module;
    const op = this.#u32At(at + 1);
    const writes = op === BulkOp.memoryFill || op === BulkOp.memoryCopy || op === BulkOp.memoryInit;
    if (!writes) {
      if (op > 7) this.#operands.length = 0;
      this.#body.copy(bytes, at, end);
      return;
    }
    const [start, source, length] = ['start', 'source', 'length'].map((name) => this.#local(name, I32)) as [
      number,
      number,
      number,
    ];
    this.#op(LOCAL_SET, length);
    this.#op(LOCAL_SET, source);
    this.#op(Op.localTee, start);
    this.#op(Op.localGet, source);
    this.#op(Op.localGet, length);
    this.#body.copy(bytes, at, end);
    this.#op(Op.localGet, start);
    this.#op(Op.localGet, length);
    this.#op(Op.call, this.#noteRange);
    for (let taken = 0; taken < 3; taken++) this.#operands.pop();
  }

  /** Notes what was stored through locals since the last time: before control can go elsewhere, or a local changes. */
  #note(): void {
    for (const local of this.#unnoted) this.#noteLocal(local, 0);
    this.#unnoted.length = 0;
  }

  /** map[(local + offset) >> 12] = 1 */
  #noteLocal(local: number, offset: number): void {
    const body = this.#body;
    this.#op(Op.localGet, local);
    if (offset > 0) {
      body.u8(Op.i32Const);
      body.s32(offset);
      body.u8(I32_ADD);
    }
    body.append([Op.i32Const, TRACKED_PAGE_SHIFT, I32_SHR_U, Op.i32Const, 1, I32_STORE8, 0]);
    body.u32(this.#map);
  }

  /** (func (param $start i32) (param $length i32)): notes every page of the range. */
  #noteRangeBody(): Uint8Array {
    const body = new ByteWriter(64);
    const shift = [Op.i32Const, TRACKED_PAGE_SHIFT, I32_SHR_U];
    body.append([0, Op.localGet, 1, I32_EQZ, Op.if, 0x40, Op.return, Op.end]);
    body.append([Op.localGet, 0, ...shift, Op.i32Const]);
    body.s32(this.#map);
    body.append([I32_ADD, Op.i32Const, 1]);
    body.append([Op.localGet, 0, Op.localGet, 1, I32_ADD, Op.i32Const, 1, I32_SUB, ...shift]);
    body.append([Op.localGet, 0, ...shift, I32_SUB, Op.i32Const, 1, I32_ADD]);
    body.append([Op.bulk, BulkOp.memoryFill, 0, Op.end]);
    return body.view();
  }

  /**
   * (func (param $delta i32) (result i32) (local $missing i32)): memory.grow on the size that the guest sees.
   * missing = pages + delta - memory.size; if (missing > 0, unsigned and not wrapped) grow by it or answer -1.
   */
  #growBody(): Uint8Array {
    const body = new ByteWriter(64);
    const pages = [Op.globalGet, ...u32(this.#pages)];
    const setPages = [Op.globalSet, ...u32(this.#pages)];
    const [GT_U, GT_S, EQ] = [0x4b, 0x4a, 0x46];
    const minusOne = [Op.i32Const, 0x7f];
    body.append([1, 1, I32]);
    // A delta of more than 65,536 pages can't be had and could wrap.
    body.append([Op.localGet, 0, Op.i32Const, 0x80, 0x80, 0x04, GT_U, Op.if, 0x40, ...minusOne, Op.return, Op.end]);
    body.append([...pages, Op.localGet, 0, I32_ADD, Op.memorySize, 0, I32_SUB, Op.localTee, 1]);
    body.append([Op.i32Const, 0, GT_S, Op.if, 0x40]);
    body.append([Op.localGet, 1, Op.memoryGrow, 0, ...minusOne, EQ, Op.if, 0x40, ...minusOne, Op.return, Op.end]);
    body.append([Op.end]);
    body.append([...pages, ...pages, Op.localGet, 0, I32_ADD, ...setPages, Op.end]);
    return body.view();
  }

  #local(name: string, type: number): number {
    const key = `${name} ${type}`;
    let index = this.#added.get(key);
    if (index === undefined) {
      index = this.#locals + this.#addedTypes.length;
      this.#added.set(key, index);
      this.#addedTypes.push(type);
    }
    return index;
  }

  #op(opcode: number, index: number): void {
    this.#body.u8(opcode);
    this.#body.u32(index);
  }

  #u32At(offset: number): number {
    this.#reader.offset = offset;
    return this.#reader.u32();
  }
}

/** Where control may come from or go elsewhere. */
function isControl(opcode: number): boolean {
  return opcode <= 0x19 && opcode !== 0x01;
}
