import { ByteReader } from '../wasm/byte-reader.ts';
import { type ByteWriter, s32, u32 } from '../wasm/byte-writer.ts';
import { skipInstruction } from '../wasm/instructions.ts';
import { type ParsedModule, SECTION } from '../wasm/module-parser.ts';
import { BulkOp, Op } from '../wasm/opcodes.ts';
import { readValueType } from '../wasm/wasm-types.ts';

/** What an imported global is in the linked module: a global of its own, or a number that is known when linking. */
export type LinkedGlobal = { readonly index: number } | { readonly value: number };

/** Where the definitions of a module stand in the linked one. */
export interface Placement {
  readonly firstType: number;
  /** By index in the module, imports first. */
  readonly functions: readonly number[];
  readonly globals: readonly LinkedGlobal[];
  readonly firstElement: number;
  readonly firstData: number;
  /** Run first in each function that the table has; empty for nothing. */
  readonly prologue: readonly number[];
}

const WHERE = 'in a module that is linked';
const EMPTY_BLOCK = 0x40;
const I32_ADD = 0x6a;
const TABLE_GET = 0x25;
const TABLE_SET = 0x26;
const BLOCKS: readonly number[] = [Op.block, Op.loop, Op.if];
const EXCEPTIONS: readonly number[] = [Op.try, Op.catch, Op.throw, Op.rethrow, Op.throwRef, Op.delegate, Op.catchAll];

/** Rewrites what a module says by index, for the place that its definitions got. */
export class ModuleLinker {
  readonly #module: ParsedModule;
  readonly #placement: Placement;

  constructor(module: ParsedModule, placement: Placement) {
    this.#module = module;
    this.#placement = placement;
  }

  /** Bodies of the code section, each with its length. */
  code(out: ByteWriter): void {
    const { bytes } = this.#module;
    const { referencedFunctions, importedFunctions } = this.#module;
    const { prologue } = this.#placement;
    const reader = this.#section(SECTION.code);
    const count = reader.u32();
    for (let index = importedFunctions; index < importedFunctions + count; index++) {
      const length = reader.u32();
      const end = reader.offset + length;
      const hole = out.hole();
      const start = reader.offset;
      for (let groups = reader.u32(); groups > 0; groups--) {
        reader.u32();
        readValueType(reader);
      }
      out.copy(bytes, start, reader.offset);
      if (referencedFunctions.has(index)) out.append(prologue);
      const body = new ByteReader(bytes, reader.offset, end);
      while (!body.done) this.#instruction(body, out);
      out.fill(hole);
      reader.offset = end;
    }
  }

  /** Active segments of function indices, as compilers write them. */
  elements(): number[][] {
    const reader = this.#section(SECTION.element);
    return Array.from({ length: reader.u32() }, () => {
      refuseUnless(reader.u32() === 0, 'element segments that are not plain');
      const offset = this.#constant(reader);
      const functions = Array.from({ length: reader.u32() }, () => u32(this.#function(reader.u32())));
      return [0, Op.i32Const, ...s32(offset), Op.end, ...u32(functions.length), ...functions.flat()];
    });
  }

  /** Active data segments: where each goes, and its bytes. */
  data(): { readonly address: number; readonly bytes: Uint8Array }[] {
    const reader = this.#section(SECTION.data);
    return Array.from({ length: reader.u32() }, () => {
      refuseUnless(reader.u32() === 0, 'data segments that are not plain');
      const address = this.#constant(reader);
      return { address, bytes: reader.slice(reader.u32()) };
    });
  }

  /** Own globals: constants, or numbers that the start function sets. */
  globals(): number[][] {
    const { bytes } = this.#module;
    const reader = this.#section(SECTION.global);
    return Array.from({ length: reader.u32() }, () => {
      const start = reader.offset;
      reader.skip(2);
      refuseUnless(reader.u8() === Op.i32Const, 'globals that are not i32.const');
      reader.skipInteger();
      refuseUnless(reader.u8() === Op.end, 'globals that are not i32.const');
      return [...bytes.subarray(start, reader.offset)];
    });
  }

  get startFunction(): number | undefined {
    return this.#module.hasStart ? this.#function(this.#section(SECTION.start).u32()) : undefined;
  }

  #section(id: number): ByteReader {
    const section = this.#module.sections.get(id);
    // A section that is not there has no items.
    return section === undefined
      ? new ByteReader(new Uint8Array(1))
      : new ByteReader(this.#module.bytes, section.start, section.end);
  }

  #function(index: number): number {
    const linked = this.#placement.functions[index];
    if (linked === undefined) throw new Error(`a module has no function ${index}`);
    return linked;
  }

  #global(index: number): LinkedGlobal {
    const linked = this.#placement.globals[index];
    if (linked === undefined) throw new Error(`a module has no global ${index}`);
    return linked;
  }

  /** An i32 expression of constants, sums, and globals that are known. */
  #constant(reader: ByteReader): number {
    const stack: number[] = [];
    for (;;) {
      const opcode = reader.u8();
      if (opcode === Op.end) return stack.pop() ?? 0;
      if (opcode === Op.i32Const) stack.push(reader.s32());
      else if (opcode === I32_ADD) stack.push((stack.pop() ?? 0) + (stack.pop() ?? 0));
      else {
        refuseUnless(opcode === Op.globalGet, 'constant expressions other than sums');
        const global = this.#global(reader.u32());
        refuseUnless('value' in global, 'addresses that are not known when linking');
        stack.push((global as { value: number }).value);
      }
    }
  }

  #instruction(reader: ByteReader, out: ByteWriter): void {
    const start = reader.offset;
    const opcode = skipInstruction(reader, WHERE);
    refuseUnless(!EXCEPTIONS.includes(opcode), 'exceptions');
    const immediates = new ByteReader(reader.bytes, start + 1, reader.offset);
    if (opcode === Op.call || opcode === Op.returnCall || opcode === Op.refFunc) {
      out.u8(opcode);
      out.u32(this.#function(immediates.u32()));
    } else if (opcode === Op.callIndirect || opcode === Op.returnCallIndirect) {
      out.u8(opcode);
      out.u32(this.#placement.firstType + immediates.u32());
      out.u32(onlyTable(immediates.u32()));
    } else if (opcode === Op.globalGet || opcode === Op.globalSet) {
      this.#globalAccess(opcode, this.#global(immediates.u32()), out);
    } else if (BLOCKS.includes(opcode) && isTypeIndex(immediates.peek())) {
      out.u8(opcode);
      out.s32(this.#placement.firstType + immediates.s32());
    } else if (opcode === Op.bulk) {
      this.#bulk(immediates, out);
      out.copy(reader.bytes, immediates.offset, reader.offset);
    } else {
      if (opcode === TABLE_GET || opcode === TABLE_SET) onlyTable(immediates.u32());
      out.copy(reader.bytes, start, reader.offset);
    }
  }

  #globalAccess(opcode: number, global: LinkedGlobal, out: ByteWriter): void {
    if ('index' in global) {
      out.u8(opcode);
      out.u32(global.index);
      return;
    }
    refuseUnless(opcode === Op.globalGet, 'writes to addresses of the linker');
    out.u8(Op.i32Const);
    out.s32(global.value);
  }

  /** Up to the first index; what follows (a memory or a table, of which there is one) is copied. */
  #bulk(immediates: ByteReader, out: ByteWriter): void {
    const op = immediates.u32();
    out.u8(Op.bulk);
    out.u32(op);
    if (op === BulkOp.memoryInit || op === BulkOp.dataDrop) out.u32(this.#placement.firstData + immediates.u32());
    if (op === BulkOp.tableInit || op === BulkOp.elemDrop) out.u32(this.#placement.firstElement + immediates.u32());
  }
}

function isTypeIndex(blockType: number): boolean {
  return blockType !== EMPTY_BLOCK && (blockType >= 0x80 || blockType < 0x40);
}

function onlyTable(index: number): number {
  refuseUnless(index === 0, 'more than one table');
  return index;
}

/** The modules are ours: what the linker does not know is a defect of the release, not of an upload. */
export function refuseUnless(known: boolean, what: string): void {
  if (!known) throw new Error(`${what} can not be linked`);
}
