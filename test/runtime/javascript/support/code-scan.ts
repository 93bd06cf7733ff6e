/** Reads the code of a module for what could outlive a reset of its memory: writes to tables, globals and segments. */

import { parseModule, SECTION } from '../../../../runtime/wasm/module-parser.ts';
import { IMMEDIATE, Immediate, Op } from '../../../../runtime/wasm/opcodes.ts';

export interface StateWrites {
  /** How often each instruction stands in the code that writes a table, or uses up a segment. */
  readonly instructions: Readonly<Record<string, number>>;
  /** By global: the functions in which a `global.set` writes it. Indices count imports first. */
  readonly globalWriters: ReadonlyMap<number, ReadonlySet<number>>;
  /** The functions that are called directly, and by which. */
  readonly callees: ReadonlyMap<number, ReadonlySet<number>>;
  /** The functions that read a data segment. */
  readonly dataReaders: ReadonlySet<number>;
  readonly start: number | undefined;
  readonly functions: number;
}

const TABLE_SET = 0x26;
const GLOBAL_SET = 0x24;
const BULK_NAMES: Readonly<Record<number, string>> = {
  8: 'memory.init',
  9: 'data.drop',
  12: 'table.init',
  13: 'elem.drop',
  14: 'table.copy',
  15: 'table.grow',
  17: 'table.fill',
};
/** Immediates of the instructions behind 0xfc, in LEBs. */
const BULK_LEBS = [0, 0, 0, 0, 0, 0, 0, 0, 2, 1, 2, 1, 2, 1, 2, 1, 1, 1] as const;

export function scanCode(bytes: Uint8Array): StateWrites {
  const { sections, importedFunctions } = parseModule(bytes);
  const section = sections.get(SECTION.code);
  if (section === undefined) throw new Error('a module without code');
  const instructions: Record<string, number> = {};
  const globalWriters = new Map<number, Set<number>>();
  const callees = new Map<number, Set<number>>();
  const dataReaders = new Set<number>();
  let current = importedFunctions;
  let at = section.start;
  const leb = (): number => {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = bytes[at++] as number;
      if (shift < 35) value |= (byte & 0x7f) << shift;
      if (byte < 0x80) return value >>> 0;
    }
  };
  const count = (name: string): void => {
    instructions[name] = (instructions[name] ?? 0) + 1;
  };
  const bulk = (): void => {
    const operation = leb();
    const lebs = BULK_LEBS[operation];
    if (lebs === undefined) throw new Error(`unknown instruction 0xfc ${operation}`);
    for (let index = 0; index < lebs; index++) leb();
    const name = BULK_NAMES[operation];
    if (name !== undefined) count(name);
    if (operation === 8) dataReaders.add(current);
  };
  const simd = (): void => {
    const operation = leb();
    const isMemory = operation <= 11 || (operation >= 84 && operation <= 93);
    if (isMemory) {
      leb();
      leb();
    }
    if (operation === 12 || operation === 13) at += 16;
    else if ((operation >= 21 && operation <= 34) || (operation >= 84 && operation <= 91)) at += 1;
  };
  const instruction = (): void => {
    const opcode = bytes[at++] as number;
    switch (IMMEDIATE[opcode]) {
      case Immediate.none:
        return;
      case Immediate.leb: {
        const value = leb();
        if (opcode === GLOBAL_SET) globalWriters.set(value, (globalWriters.get(value) ?? new Set()).add(current));
        if (opcode === TABLE_SET) count('table.set');
        if (opcode === Op.call || opcode === Op.returnCall || opcode === Op.refFunc) {
          callees.set(value, (callees.get(value) ?? new Set()).add(current));
        }
        return;
      }
      case Immediate.twoLebs:
      case Immediate.memory:
        leb();
        leb();
        return;
      case Immediate.blockType:
        leb();
        return;
      case Immediate.f32:
        at += 4;
        return;
      case Immediate.f64:
        at += 8;
        return;
      case Immediate.brTable:
        for (let left = leb(); left >= 0; left--) leb();
        return;
      case Immediate.selectTypes:
        for (let left = leb(); left > 0; left--) leb();
        return;
      case Immediate.bulk:
        bulk();
        return;
      case Immediate.simd:
        simd();
        return;
      default:
        throw new Error(`an instruction that the scan does not know: 0x${opcode.toString(16)} at ${at - 1}`);
    }
  };
  const functions = leb();
  for (let index = 0; index < functions; index++) {
    current = importedFunctions + index;
    const length = leb();
    const end = at + length;
    for (let groups = leb(); groups > 0; groups--) {
      leb();
      leb();
    }
    while (at < end) instruction();
    if (at !== end || bytes[end - 1] !== Op.end) throw new Error(`function ${index} was not read to its end`);
  }
  const startSection = sections.get(SECTION.start);
  if (startSection !== undefined) at = startSection.start;
  const start = startSection === undefined ? undefined : leb();
  return { instructions, globalWriters, callees, dataReaders, start, functions };
}
