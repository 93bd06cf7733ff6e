/**
 * The core opcodes that the planner has to name. The others differ only in their immediates (`IMMEDIATE`) and in what
 * they cost (`COST`). Source: WebAssembly core specification 3.0, section 5.4; legacy exceptions: its proposal.
 */
export const Op = {
  unreachable: 0x00,
  block: 0x02,
  loop: 0x03,
  if: 0x04,
  else: 0x05,
  try: 0x06,
  catch: 0x07,
  throw: 0x08,
  rethrow: 0x09,
  throwRef: 0x0a,
  end: 0x0b,
  br: 0x0c,
  brIf: 0x0d,
  brTable: 0x0e,
  return: 0x0f,
  call: 0x10,
  callIndirect: 0x11,
  returnCall: 0x12,
  returnCallIndirect: 0x13,
  delegate: 0x18,
  catchAll: 0x19,
  tryTable: 0x1f,
  localGet: 0x20,
  localTee: 0x22,
  globalGet: 0x23,
  globalSet: 0x24,
  memorySize: 0x3f,
  memoryGrow: 0x40,
  i32Const: 0x41,
  refNull: 0xd0,
  refIsNull: 0xd1,
  refFunc: 0xd2,
  bulk: 0xfc,
  simd: 0xfd,
} as const;

export const BulkOp = {
  memoryInit: 8,
  dataDrop: 9,
  memoryCopy: 10,
  memoryFill: 11,
  tableInit: 12,
  elemDrop: 13,
  tableCopy: 14,
  tableGrow: 15,
  tableSize: 16,
  tableFill: 17,
} as const;

/** How an opcode's immediates are stepped over. */
export const Immediate = {
  unknown: 0,
  none: 1,
  leb: 2,
  twoLebs: 3,
  memory: 4,
  blockType: 5,
  f32: 6,
  f64: 7,
  brTable: 8,
  selectTypes: 9,
  tryTable: 10,
  bulk: 11,
  simd: 12,
} as const;

export const IMMEDIATE: Uint8Array = immediates();

function immediates(): Uint8Array {
  const kinds = new Uint8Array(256);
  const set = (kind: number, ...opcodes: number[]) => {
    for (const opcode of opcodes) kinds[opcode] = kind;
  };
  const range = (kind: number, first: number, last: number) => kinds.fill(kind, first, last + 1);
  set(Immediate.none, 0x00, 0x01, 0x05, 0x0a, 0x0b, 0x0f, 0x19, 0x1a, 0x1b, 0xd1);
  set(Immediate.blockType, 0x02, 0x03, 0x04, 0x06);
  set(Immediate.leb, 0x07, 0x08, 0x09, 0x0c, 0x0d, 0x10, 0x12, 0x18, 0x3f, 0x40, 0x41, 0x42, 0xd0, 0xd2);
  range(Immediate.leb, 0x20, 0x26);
  set(Immediate.twoLebs, 0x11, 0x13);
  set(Immediate.brTable, 0x0e);
  set(Immediate.selectTypes, 0x1c);
  set(Immediate.tryTable, 0x1f);
  range(Immediate.memory, 0x28, 0x3e);
  set(Immediate.f32, 0x43);
  set(Immediate.f64, 0x44);
  range(Immediate.none, 0x45, 0xc4);
  set(Immediate.bulk, 0xfc);
  set(Immediate.simd, 0xfd);
  return kinds;
}

/**
 * What a call pays for a callee that is not known: through a table, or an import (another instance's export, or the
 * host). A function that can be called so may do up to so much without a charge of its own (call-folding.ts).
 */
export const UNKNOWN_CALLEE_COST = 32;
/**
 * Fuel units of an instruction. One unit is one instruction; these are the ones that take longer than about eight
 * plain ones, so that no mix of instructions makes a slice last much longer than its fuel says.
 */
export const COST: Uint16Array = costs();
/** The fixed part of a bulk memory or table instruction: it leaves the compiled code. */
export const BULK_COST = 20;

function costs(): Uint16Array {
  const units = new Uint16Array(256).fill(1);
  const set = (cost: number, ...opcodes: number[]) => {
    for (const opcode of opcodes) units[opcode] = cost;
  };
  set(2, Op.call, Op.returnCall);
  set(2 + UNKNOWN_CALLEE_COST, Op.callIndirect, Op.returnCallIndirect);
  // Integer and float division, remainder, square root.
  set(8, 0x6d, 0x6e, 0x6f, 0x70, 0x7f, 0x80, 0x81, 0x82, 0x91, 0x95, 0x9f, 0xa3);
  // A throw unwinds through the engine's C++; memory.grow talks to the kernel.
  set(2000, Op.throw, Op.rethrow, Op.throwRef, Op.memoryGrow);
  return units;
}

/**
 * What an opcode adds to the values on the stack, where that is always the same. 0 for the others; those whose name begins with a
 * prefix byte leave as many as they find at most, but for `v128.const` and `table.size`.
 */
export const STACK_EFFECT: Int8Array = stackEffects();

function stackEffects(): Int8Array {
  const effects = new Int8Array(256);
  const range = (effect: number, first: number, last = first) => effects.fill(effect, first, last + 1);
  // local.get, global.get, memory.size, constants, references.
  for (const opcode of [0x20, 0x23, 0x3f, 0x41, 0x42, 0x43, 0x44, 0xd0, 0xd2]) range(1, opcode);
  // if, br_if, br_table, call_indirect (its index), drop, local.set, global.set.
  for (const opcode of [0x04, 0x0d, 0x0e, 0x11, 0x13, 0x1a, 0x21, 0x24]) range(-1, opcode);
  // select, table.set, stores.
  range(-2, 0x1b, 0x1c);
  range(-2, 0x26);
  range(-2, 0x36, 0x3e);
  // Comparisons, then arithmetic, of two.
  range(-1, 0x46, 0x4f);
  range(-1, 0x51, 0x66);
  range(-1, 0x6a, 0x78);
  range(-1, 0x7c, 0x8a);
  range(-1, 0x92, 0x98);
  range(-1, 0xa0, 0xa6);
  return effects;
}

/** The proposal that an opcode which we do not meter belongs to, to refuse it by name. */
export function unsupportedFeature(opcode: number): string {
  if (opcode === 0xfe) return 'atomics';
  if (opcode === 0xfb || opcode === 0xd3) return 'gc types';
  if (opcode === 0x14 || opcode === 0x15 || (opcode >= 0xd4 && opcode <= 0xd6)) return 'function references';
  if (opcode >= 0xe0 && opcode <= 0xe6) return 'stack switching';
  return `opcode 0x${opcode.toString(16).padStart(2, '0')}`;
}
