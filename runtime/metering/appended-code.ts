import { s32, u32 } from '../wasm/byte-writer.ts';
import { BulkOp, Op } from '../wasm/opcodes.ts';

/**
 * The functions that the rewriter appends to a module, as bytes. Which of them are there depends on what the module's
 * own code needs, so each gets its index when it is first asked for.
 */
export const HELPERS = ['outOfFuel', 'grow', 'fill', 'copy', 'chargeBytes', 'chargeElements', 'noteTableGrow'] as const;
export type Helper = (typeof HELPERS)[number];

/** Slots of the appended table. */
export const ASK_SLOT = 0;
export const YIELD_SLOT = 1;
export const GROW_SLOT = 2;
export const HOOK_SLOTS = 3;

/** What the host answers when asked at the end of the fuel; see `$out_of_fuel`. */
export const ANSWER = { continue: 0, kill: 1, yield: 2 } as const;

/**
 * A byte of memory.fill, memory.copy, memory.init costs a unit. They run at 10 GB/s on warm pages, where that is about
 * what other code uses (4,000 to 50,000 units a microsecond); but pages touched for the first time took 20 times as
 * long (measured: 38 ms for 8 MiB copied), and a slice is not to last that long.
 */
const MAX_CHARGED_BYTES = 1 << 28;
/** Units for an element of a table instruction (a shift): V8 writes them one by one, 45 ns each (measured). */
const UNITS_PER_ELEMENT_SHIFT = 6;
/** More than any table has elements (or module has bytes, above): what asks for more traps, and must not overflow the fuel. */
const MAX_CHARGED_ELEMENTS = 1 << 24;
/** A bigger fill or copy is done in pieces, each paid for before it runs. */
const PIECE_BYTES = 1 << 20;
const PAGE_BYTES_SHIFT = 16;

// Types, relative to the first appended one.
const TYPE_NOTHING = 0;
const TYPE_HOOK = 1;
const TYPE_GROW_HOOK = 2;
const TYPE_I32_TO_I32 = 3;
const TYPE_BULK = 4;
const I32 = 0x7f;
const EXTERNREF = 0x6f;
const FUNCTION_TYPE = 0x60;

export const APPENDED_TYPES: readonly (readonly number[])[] = [
  [FUNCTION_TYPE, 0, 0],
  [FUNCTION_TYPE, 1, EXTERNREF, 1, I32],
  [FUNCTION_TYPE, 3, EXTERNREF, I32, I32, 1, I32],
  [FUNCTION_TYPE, 1, I32, 1, I32],
  [FUNCTION_TYPE, 3, I32, I32, I32, 0],
];

const HELPER_TYPE: Readonly<Record<Helper, number>> = {
  outOfFuel: TYPE_NOTHING,
  grow: TYPE_I32_TO_I32,
  fill: TYPE_BULK,
  copy: TYPE_BULK,
  chargeBytes: TYPE_I32_TO_I32,
  chargeElements: TYPE_I32_TO_I32,
  noteTableGrow: TYPE_I32_TO_I32,
};

/** Where the appended definitions stand in the module's index spaces. */
export interface AppendedIndices {
  readonly firstType: number;
  readonly firstFunction: number;
  readonly fuelGlobal: number;
  readonly meterGlobal: number;
  readonly growFailedGlobal: number;
  readonly hooksTable: number;
}

// Opcodes that only the helpers use.
const VOID = 0x40;
const IF = Op.if;
const END = Op.end;
const I32_EQZ = 0x45;
const I32_EQ = 0x46;
const I32_NE = 0x47;
const I32_LT_S = 0x48;
const I32_GT_U = 0x4b;
const I32_LE_U = 0x4d;
const I64_GT_U = 0x56;
const I32_ADD = 0x6a;
const I32_SUB = 0x6b;
const I32_SHL = 0x74;
const I64_ADD = 0x7c;
const I64_SHL = 0x86;
const I64_EXTEND_I32_U = 0xad;
const I64_CONST = 0x42;
const LOCAL_SET = 0x21;
const SELECT = 0x1b;
const REF_NULL = Op.refNull;

export class AppendedCode {
  readonly #indices: AppendedIndices;
  readonly #growsAtStart: boolean;
  readonly #helpers: Helper[] = [];
  readonly #position = new Map<Helper, number>();

  constructor(indices: AppendedIndices, growsAtStart: boolean) {
    this.#indices = indices;
    this.#growsAtStart = growsAtStart;
  }

  get count(): number {
    return this.#helpers.length;
  }

  /** The function's index; asking for it is what makes it part of the module. */
  index(helper: Helper): number {
    let position = this.#position.get(helper);
    if (position === undefined) {
      position = this.#helpers.push(helper) - 1;
      this.#position.set(helper, position);
    }
    return this.#indices.firstFunction + position;
  }

  /** Type indices and bodies of the helpers asked for, and of those that they ask for. */
  build(): { readonly types: number[]; readonly bodies: number[][] } {
    const types: number[] = [];
    const bodies: number[][] = [];
    // The list may grow while it is walked.
    for (let i = 0; i < this.#helpers.length; i++) {
      const helper = this.#helpers[i]!;
      types.push(this.#indices.firstType + HELPER_TYPE[helper]);
      bodies.push(this.#body(helper));
    }
    return { types, bodies };
  }

  #body(helper: Helper): number[] {
    switch (helper) {
      case 'outOfFuel':
        return this.#outOfFuel();
      case 'grow':
        return this.#grow();
      case 'fill':
        return this.#fill();
      case 'copy':
        return this.#copy();
      case 'chargeBytes':
        return withLocals(1, [...this.#chargeBytes([Op.localGet, 0], 1), Op.localGet, 0]);
      case 'chargeElements':
        return withLocals(1, [...this.#chargeElements(), Op.localGet, 0]);
      case 'noteTableGrow':
        return withLocals(0, [...this.#noteFailure([Op.localGet, 0]), Op.localGet, 0]);
    }
    helper satisfies never;
  }

  /** Takes the units on the stack; calls out when none are left. `scratch` is an i32 local. */
  #charge(units: readonly number[], scratch: number): number[] {
    const fuel = u32(this.#indices.fuelGlobal);
    return [
      ...[Op.globalGet, ...fuel, ...units, I32_SUB, Op.localTee, scratch, Op.globalSet, ...fuel],
      ...[Op.localGet, scratch, Op.i32Const, 0, I32_LT_S, IF, VOID, Op.call, ...u32(this.index('outOfFuel')), END],
    ];
  }

  #chargeBytes(bytes: readonly number[], scratch: number): number[] {
    const max = [Op.i32Const, ...s32(MAX_CHARGED_BYTES)];
    return this.#charge([...bytes, ...max, ...bytes, ...max, I32_LE_U, SELECT], scratch);
  }

  #chargeElements(): number[] {
    const max = [Op.i32Const, ...s32(MAX_CHARGED_ELEMENTS)];
    const clamped = [...max, Op.localGet, 0, Op.localGet, 0, ...max, I32_GT_U, SELECT];
    return this.#charge([...clamped, Op.i32Const, UNITS_PER_ELEMENT_SHIFT, I32_SHL], 1);
  }

  /**
   * Traps until a meter is attached: a start function that uses up its first fuel ends here. Then asks the host:
   * to go on, to end the guest by a trap (which no `catch_all` catches), or to suspend it and ask again.
   */
  #outOfFuel(): number[] {
    const meter = [Op.globalGet, ...u32(this.#indices.meterGlobal)];
    const trapIf = (condition: readonly number[]) => [...condition, IF, VOID, Op.unreachable, END];
    const answerIsNot = (answer: number) => [Op.localGet, 0, Op.i32Const, answer, I32_NE];
    return withLocals(1, [
      ...trapIf([...meter, Op.refIsNull]),
      ...[...meter, ...this.#callHook(ASK_SLOT, TYPE_HOOK), Op.localTee, 0, IF, VOID],
      ...trapIf(answerIsNot(ANSWER.yield)),
      ...trapIf([...meter, ...this.#callHook(YIELD_SLOT, TYPE_HOOK)]),
      END,
    ]);
  }

  #callHook(slot: number, type: number): number[] {
    const { firstType, hooksTable } = this.#indices;
    return [Op.i32Const, slot, Op.callIndirect, ...u32(firstType + type), ...u32(hooksTable)];
  }

  /** memory.grow, which the host may refuse; before a meter is attached only the memory's maximum holds, or nothing grows. */
  #grow(): number[] {
    const meter = [Op.globalGet, ...u32(this.#indices.meterGlobal)];
    const failed = [Op.globalSet, ...u32(this.#indices.growFailedGlobal)];
    const refuse = [Op.i32Const, 1, ...failed, Op.i32Const, ...s32(-1), Op.return];
    return withLocals(1, [
      ...[...meter, Op.refIsNull, I32_EQZ, IF, VOID],
      ...[...meter, Op.memorySize, 0, Op.localGet, 0, ...this.#callHook(GROW_SLOT, TYPE_GROW_HOOK), I32_EQZ, IF, VOID],
      ...[...refuse, END],
      ...(this.#growsAtStart ? [] : [Op.else, ...refuse]),
      END,
      ...[Op.localGet, 0, Op.memoryGrow, 0, LOCAL_SET, 1],
      ...this.#noteFailure([Op.localGet, 1]),
      ...[Op.localGet, 1],
    ]);
  }

  #noteFailure(outcome: readonly number[]): number[] {
    const failed = [Op.globalSet, ...u32(this.#indices.growFailedGlobal)];
    return [...outcome, Op.i32Const, ...s32(-1), I32_EQ, IF, VOID, Op.i32Const, 1, ...failed, END];
  }

  /** Whether address local + local 2 lies beyond the memory: then the instruction itself has to trap, having written nothing. */
  #isOutOfBounds(address: number): number[] {
    const wide = (local: number) => [Op.localGet, local, I64_EXTEND_I32_U];
    const memoryBytes = [Op.memorySize, 0, I64_EXTEND_I32_U, I64_CONST, PAGE_BYTES_SHIFT, I64_SHL];
    return [...wide(address), ...wide(2), I64_ADD, ...memoryBytes, I64_GT_U];
  }

  #isOnePiece(): number[] {
    return [Op.localGet, 2, Op.i32Const, ...s32(PIECE_BYTES), I32_LE_U];
  }

  /** memory.fill(0: address, 1: value, 2: length); local 3 is scratch. */
  #fill(): number[] {
    const piece = [Op.i32Const, ...s32(PIECE_BYTES)];
    const instruction = (length: readonly number[]) => [
      ...[Op.localGet, 0, Op.localGet, 1, ...length, Op.bulk, BulkOp.memoryFill, 0],
    ];
    return withLocals(1, [
      ...[Op.block, VOID, ...this.#isOnePiece(), Op.brIf, 0, ...this.#isOutOfBounds(0), Op.brIf, 0, Op.loop, VOID],
      ...this.#chargeBytes(piece, 3),
      ...instruction(piece),
      ...[Op.localGet, 0, ...piece, I32_ADD, LOCAL_SET, 0],
      ...[Op.localGet, 2, ...piece, I32_SUB, Op.localTee, 2, ...piece, I32_GT_U, Op.brIf, 0, END, END],
      ...this.#chargeBytes([Op.localGet, 2], 3),
      ...instruction([Op.localGet, 2]),
    ]);
  }

  /** memory.copy(0: to, 1: from, 2: length); local 3 is scratch. Pieces go up or down, as memmove does, for what overlaps. */
  #copy(): number[] {
    const piece = [Op.i32Const, ...s32(PIECE_BYTES)];
    const rest = [Op.localGet, 2];
    const advance = (local: number) => [Op.localGet, local, ...piece, I32_ADD, LOCAL_SET, local];
    const atEnd = (local: number) => [Op.localGet, local, ...rest, I32_ADD];
    const instruction = [Op.bulk, BulkOp.memoryCopy, 0, 0];
    const isMore = [...rest, ...piece, I32_GT_U, Op.brIf, 0, END];
    const shorten = [...rest, ...piece, I32_SUB, LOCAL_SET, 2];
    return withLocals(1, [
      ...[Op.block, VOID, ...this.#isOnePiece(), Op.brIf, 0],
      ...[...this.#isOutOfBounds(0), Op.brIf, 0, ...this.#isOutOfBounds(1), Op.brIf, 0],
      ...[Op.localGet, 0, Op.localGet, 1, I32_LE_U, IF, VOID, Op.loop, VOID],
      ...this.#chargeBytes(piece, 3),
      ...[Op.localGet, 0, Op.localGet, 1, ...piece, ...instruction],
      ...[...advance(0), ...advance(1), ...shorten, ...isMore],
      ...[Op.else, Op.loop, VOID],
      ...this.#chargeBytes(piece, 3),
      ...[...shorten, ...atEnd(0), ...atEnd(1), ...piece, ...instruction, ...isMore],
      ...[END, END],
      ...this.#chargeBytes(rest, 3),
      ...[Op.localGet, 0, Op.localGet, 1, ...rest, ...instruction],
    ]);
  }
}

/** A body with so many i32 locals of its own. */
function withLocals(count: number, code: readonly number[]): number[] {
  return [...(count === 0 ? [0] : [1, count, I32]), ...code, END];
}

/** Initializers of the appended globals: fuel, meter, grow-failed. */
export function appendedGlobals(startFuel: number): number[][] {
  return [
    [I32, 1, Op.i32Const, ...s32(startFuel), END],
    [EXTERNREF, 1, REF_NULL, EXTERNREF, END],
    [I32, 1, Op.i32Const, 0, END],
  ];
}

export const FUNCREF = 0x70;
