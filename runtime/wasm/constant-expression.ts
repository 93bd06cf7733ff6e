import type { ByteReader } from './byte-reader.ts';
import { ModuleRefusedError } from './errors.ts';
import { Op, unsupportedFeature } from './opcodes.ts';
import { readHeapType } from './wasm-types.ts';

const F32_CONST = 0x43;
const F64_CONST = 0x44;
const I64_CONST = 0x42;
const V128_CONST = 12;
/** Extended constant expressions: i32 and i64 add, sub, mul. */
const ARITHMETIC = new Set([0x6a, 0x6b, 0x6c, 0x7c, 0x7d, 0x7e]);

/** Told of a function index and of the bytes [start, end) that hold it. */
export type FunctionIndexVisitor = (index: number, start: number, end: number) => void;

/** Steps over an initializer, its `end` included, and reports the functions that it takes references to. */
export function readConstantExpression(reader: ByteReader, onFunction: FunctionIndexVisitor): void {
  for (;;) {
    const opcode = reader.u8();
    if (opcode === Op.end) return;
    if (opcode === Op.i32Const || opcode === I64_CONST || opcode === Op.globalGet) reader.skipInteger();
    else if (opcode === F32_CONST) reader.skip(4);
    else if (opcode === F64_CONST) reader.skip(8);
    else if (opcode === Op.refFunc) visitFunctionIndex(reader, onFunction);
    else if (opcode === Op.refNull) readHeapType(reader);
    else if (opcode === Op.simd && reader.u32() === V128_CONST) reader.skip(16);
    else if (!ARITHMETIC.has(opcode)) throw new ModuleRefusedError(unsupportedFeature(opcode), 'in an initializer');
  }
}

export function visitFunctionIndex(reader: ByteReader, onFunction: FunctionIndexVisitor): void {
  const start = reader.offset;
  onFunction(reader.u32(), start, reader.offset);
}
