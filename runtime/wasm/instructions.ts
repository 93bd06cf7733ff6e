import type { ByteReader } from './byte-reader.ts';
import { ModuleRefusedError } from './errors.ts';
import { BulkOp, IMMEDIATE, Immediate, unsupportedFeature } from './opcodes.ts';
import { readBlockType, readValueType } from './wasm-types.ts';

/**
 * Steps over the instruction that the reader stands at and returns its opcode. For passes over modules that we ship:
 * vector instructions and `try_table` are refused. `where` ends the refusal's text.
 */
export function skipInstruction(reader: ByteReader, where: string): number {
  const opcode = reader.u8();
  switch (IMMEDIATE[opcode]) {
    case Immediate.none:
      break;
    case Immediate.leb:
      reader.skipInteger();
      break;
    case Immediate.twoLebs:
    case Immediate.memory:
      reader.skipInteger();
      reader.skipInteger();
      break;
    case Immediate.blockType:
      readBlockType(reader);
      break;
    case Immediate.f32:
      reader.skip(4);
      break;
    case Immediate.f64:
      reader.skip(8);
      break;
    case Immediate.brTable:
      for (let left = reader.u32(); left >= 0; left--) reader.skipInteger();
      break;
    case Immediate.selectTypes:
      for (let left = reader.u32(); left > 0; left--) readValueType(reader);
      break;
    case Immediate.bulk:
      skipBulk(reader);
      break;
    default:
      throw new ModuleRefusedError(unsupportedFeature(opcode), where);
  }
  return opcode;
}

const TWO_IMMEDIATES: readonly number[] = [
  BulkOp.memoryInit,
  BulkOp.memoryCopy,
  BulkOp.tableInit,
  BulkOp.tableCopy,
] satisfies number[];

function skipBulk(reader: ByteReader): void {
  const op = reader.u32();
  // The saturating conversions have no immediates.
  if (op < BulkOp.memoryInit) return;
  reader.skipInteger();
  if (TWO_IMMEDIATES.includes(op)) reader.skipInteger();
}
