import { ByteReader } from '../wasm/byte-reader.ts';
import { ModuleRefusedError } from '../wasm/errors.ts';
import {
  BULK_COST,
  BulkOp,
  COST,
  IMMEDIATE,
  Immediate,
  Op,
  UNKNOWN_CALLEE_COST,
  unsupportedFeature,
} from '../wasm/opcodes.ts';
import { readBlockType, readHeapType, readValueType } from '../wasm/wasm-types.ts';
import { type CompiledTypes, CompileWork } from './compile-work.ts';

/** What is to be changed at a place in a function's bytes. */
export const Edit = {
  /** Insert: take `argument` units, call out when none are left. */
  charge: 0,
  /** Nothing: the charge is paid by the callers (see call-folding.ts). */
  none: 1,
  memoryGrow: 3,
  memoryFill: 4,
  memoryCopy: 5,
  /** Insert before a bulk instruction whose count is on top of the stack. */
  chargeBytes: 6,
  chargeElements: 7,
  /** Insert after table.grow, whose outcome is on top of the stack. */
  noteTableGrow: 8,
} as const;

/** The edits of one function, by rising position; reused for the next one. Columns, not objects: there are millions. */
export class EditList {
  readonly position: number[] = [];
  /** How many of the original bytes the edit replaces. */
  readonly removed: number[] = [];
  readonly kind: number[] = [];
  readonly argument: number[] = [];
  length = 0;

  clear(): void {
    this.length = 0;
  }

  add(position: number, removed: number, kind: number, argument: number): number {
    const at = this.length++;
    this.position[at] = position;
    this.removed[at] = removed;
    this.kind[at] = kind;
    this.argument[at] = argument;
    return at;
  }
}

/** What planning a function needs to know about the functions that it calls. */
export interface CallCosts {
  readonly importedFunctions: number;
  /** By function index: what a call to a folded function costs beyond the call itself; -1 when it charges itself. */
  readonly foldedCost: Float64Array;
  /** By function index: 1 when folded and without loops, and calling nothing but the like. */
  readonly bounded: Uint8Array;
}

export interface FunctionPlan {
  /** Where the instructions begin: behind the declarations of locals. */
  readonly codeStart: number;
  readonly declarationsStart: number;
  readonly localGroups: number;
  readonly locals: number;
  /** Cost of the longest path from the entry to a loop or to the function's end. */
  readonly entryCost: number;
  /** Has no loops and calls only bounded functions: entryCost bounds all its work (but for bulk instructions, which charge). */
  readonly isBounded: boolean;
}

// Kinds of control frame.
const FUNCTION = 0;
const BLOCK = 1;
const LOOP = 2;
const IF = 3;
const ELSE = 4;
const TRY = 5;
const TRY_TABLE = 6;

const UNREACHABLE = -1;
/** A br_table in a loop with so many labels is taken for the switch of an interpreter (QuickJS: 258). */
const DISPATCH_LABELS = 64;
/** Units of a turn of such a loop. */
const DISPATCH_COST = 24;
/** A turn's charge is itself most of what the tightest loops do. */
const LOOP_COST = 4;
/** V8 allows 50,000 locals and the charge needs one of its own. */
const MAX_LOCALS = 50_000 - 1;
const V128_CONST = 12;

/**
 * Finds where a function must be charged, and how much: at its entry and at each loop header, the cost of the longest
 * path from there that takes no back edge. So every instruction that runs has been paid for before it runs.
 *
 * A region is what one charge pays for: from the entry, or from one loop header. `cost` is the longest path within the region from its head to the
 * current instruction. What follows a loop belongs to the region around it, at the cost it had before the loop: each
 * turn of the loop pays for the turn alone. An exception may leave a try at any instruction, so a handler
 * costs what precedes the try plus all instructions in it.
 */
export class ChargePlanner {
  readonly edits = new EditList();
  /** The defined functions that the planned one calls directly, with repeats. */
  readonly callees: number[] = [];
  /** Regions that contain an interpreter's switch. */
  readonly #dispatchers = new Set<number>();
  readonly #bytes: Uint8Array;
  readonly #reader: ByteReader;
  readonly #calls: CallCosts;
  readonly #work: CompileWork;
  // The control stack, in columns.
  readonly #kind: number[] = [];
  readonly #labelCost: number[] = [];
  readonly #entryCost: number[] = [];
  readonly #entryTotal: number[] = [];
  readonly #region: number[] = [];
  readonly #loopsOutside: number[] = [];
  readonly #handlers: (number[] | undefined)[] = [];
  #depth = 0;
  /** The frames that are loops, outermost first. */
  readonly #loops: number[] = [];
  #loopCount = 0;

  constructor(bytes: Uint8Array, calls: CallCosts, types: CompiledTypes) {
    this.#bytes = bytes;
    this.#work = new CompileWork(types);
    this.#reader = new ByteReader(bytes);
    this.#calls = calls;
  }

  /** Plans the body in [start, end), locals included; the edits are in `edits`. `functionIndex` is for messages. */
  plan(functionIndex: number, parameters: number, start: number, end: number): FunctionPlan {
    const reader = this.#reader;
    reader.offset = start;
    const localGroups = reader.u32();
    const declarationsStart = reader.offset;
    let locals = parameters;
    for (let i = 0; i < localGroups; i++) {
      locals += reader.u32();
      readValueType(reader);
    }
    if (locals > MAX_LOCALS) throw new ModuleRefusedError('too many locals', `function ${functionIndex}`);
    const codeStart = reader.offset;
    this.#work.begin(functionIndex, locals);
    const isBounded = this.#walk(functionIndex, codeStart, end);
    const entryCost = this.edits.argument[0]!;
    return { codeStart, declarationsStart, localGroups, locals, entryCost, isBounded };
  }

  #walk(functionIndex: number, codeStart: number, end: number): boolean {
    const b = this.#bytes;
    const edits = this.edits;
    const { importedFunctions, foldedCost, bounded } = this.#calls;
    const work = this.#work;
    edits.clear();
    this.callees.length = 0;
    let region = edits.add(codeStart, 0, Edit.charge, 1);
    let cost = 1;
    let total = 0;
    let isBounded = true;
    this.#depth = -1;
    this.#loopCount = 0;
    this.#dispatchers.clear();
    this.#push(FUNCTION, cost, total, region);
    let o = codeStart;
    while (o < end) {
      const at = o;
      const opcode = b[o++]!;
      let units = COST[opcode]!;
      work.step(opcode);
      switch (IMMEDIATE[opcode]) {
        case Immediate.none:
          break;
        case Immediate.leb: {
          if (opcode === Op.call || opcode === Op.returnCall || opcode === Op.refFunc) {
            let callee = b[o++]!;
            if (callee >= 0x80) {
              callee &= 0x7f;
              let shift = 7;
              for (;;) {
                const byte = b[o++]!;
                callee |= (byte & 0x7f) << shift;
                if (!(byte & 0x80)) break;
                shift += 7;
              }
            }
            if (opcode === Op.refFunc) break;
            work.call(callee);
            if (callee < importedFunctions) units += UNKNOWN_CALLEE_COST;
            else {
              this.callees.push(callee);
              if (foldedCost[callee]! >= 0) units += foldedCost[callee]!;
            }
            if (bounded[callee] === 0) isBounded = false;
            break;
          }
          while (b[o++]! & 0x80);
          if (opcode === Op.memoryGrow) edits.add(at, o - at, Edit.memoryGrow, 0);
          break;
        }
        case Immediate.memory: {
          const align = b[o]!;
          while (b[o++]! & 0x80);
          if (align & 0x40) while (b[o++]! & 0x80);
          while (b[o++]! & 0x80);
          break;
        }
        case Immediate.blockType: {
          const type = b[o]!;
          work.block(type < 0x80 ? type : this.#u32At(o));
          if (type === 0x40 || (type >= 0x7b && type <= 0x7f)) o++;
          else {
            this.#reader.offset = o;
            readBlockType(this.#reader);
            o = this.#reader.offset;
          }
          break;
        }
        case Immediate.f32:
          o += 4;
          break;
        case Immediate.f64:
          o += 8;
          break;
        case Immediate.twoLebs:
          isBounded = false;
          work.callOf(this.#u32At(o));
          while (b[o++]! & 0x80);
          while (b[o++]! & 0x80);
          break;
        case Immediate.brTable:
        case Immediate.tryTable:
          // Their labels are read below, where the cost at them is known.
          break;
        case Immediate.selectTypes: {
          const reader = this.#reader;
          reader.offset = o;
          for (let i = reader.u32(); i > 0; i--) readValueType(reader);
          o = reader.offset;
          break;
        }
        case Immediate.bulk:
          units = BULK_COST;
          o = this.#bulk(functionIndex, at);
          break;
        case Immediate.simd:
          o = this.#simd(functionIndex, o);
          break;
        default:
          throw new ModuleRefusedError(unsupportedFeature(opcode), `function ${functionIndex}, offset ${at}`);
      }
      if (opcode === Op.refNull) {
        this.#reader.offset = at + 1;
        readHeapType(this.#reader);
      }

      total += units;
      if (cost >= 0) cost += units;
      // Only control flow below.
      if (opcode > Op.tryTable || opcode < Op.unreachable) continue;
      switch (opcode) {
        case Op.unreachable:
        case Op.return:
        case Op.throw:
        case Op.rethrow:
        case Op.throwRef:
        case Op.returnCall:
        case Op.returnCallIndirect:
          this.#pathEnds(region, cost);
          cost = UNREACHABLE;
          work.stop();
          break;
        case Op.block:
          this.#push(BLOCK, cost, total, region);
          break;
        case Op.loop:
          this.#pathEnds(region, cost);
          this.#push(LOOP, cost, total, region);
          isBounded = false;
          region = edits.add(o, 0, Edit.charge, LOOP_COST);
          if (cost >= 0) cost = LOOP_COST;
          break;
        case Op.if:
          this.#push(IF, cost, total, region);
          break;
        case Op.else:
          work.handler();
          this.#reach(this.#depth, cost);
          cost = this.#entryCost[this.#depth]!;
          this.#kind[this.#depth] = ELSE;
          break;
        case Op.try:
          this.#push(TRY, cost, total, region);
          break;
        case Op.catch:
        case Op.catchAll:
          work.handler();
          this.#reach(this.#depth, cost);
          cost = this.#costAtHandler(this.#depth, total);
          break;
        case Op.tryTable:
          this.#push(TRY_TABLE, cost, total, region);
          work.block(b[o]! < 0x80 ? b[o]! : this.#u32At(o));
          o = this.#readHandlers(o);
          break;
        case Op.br:
        case Op.brIf: {
          let label = b[o - 1]!;
          if (o - at > 2) label = this.#u32At(at + 1);
          this.#pathEnds(region, cost);
          this.#branch(label, cost);
          work.fork(1);
          if (opcode === Op.brIf) break;
          cost = UNREACHABLE;
          work.stop();
          break;
        }
        case Op.brTable: {
          this.#pathEnds(region, cost);
          o = this.#branchTable(o, cost, region);
          cost = UNREACHABLE;
          work.stop();
          break;
        }
        case Op.delegate:
        case Op.end: {
          const depth = this.#depth;
          const kind = this.#kind[depth]!;
          work.end();
          if (kind === LOOP) {
            this.#pathEnds(region, cost);
            if (cost >= 0) cost = this.#entryCost[depth]!;
            region = this.#region[depth]!;
            this.#loopCount--;
          } else {
            if (this.#labelCost[depth]! > cost) cost = this.#labelCost[depth]!;
            if (kind === IF && this.#entryCost[depth]! > cost) cost = this.#entryCost[depth]!;
          }
          this.#depth--;
          if (kind === TRY_TABLE) this.#branchToHandlers(depth, total);
          if (kind === FUNCTION) {
            this.#pathEnds(region, cost);
            if (o !== end) throw new Error(`function ${functionIndex} ends at ${o}, not at ${end}`);
          }
          break;
        }
      }
    }
    if (this.#depth !== -1) throw new Error(`function ${functionIndex} has unclosed blocks`);
    this.#chargeDispatchers();
    return isBounded;
  }

  /** A path through the region, from its head, ends here: by leaving it, or by a branch that may. */
  #pathEnds(region: number, cost: number): void {
    const charges = this.edits.argument;
    if (cost > charges[region]!) charges[region] = cost;
  }

  /**
   * The loop around an interpreter's switch: its longest case is hundreds of times the usual one (QuickJS: 36 units a
   * nanosecond were counted, where other code has 3), and a CPU limit would mean nothing. A turn pays for a usual case.
   * Its work is still bounded by the longest, so that a slice of nothing but those lasts longer, but ends.
   */
  #chargeDispatchers(): void {
    const charges = this.edits.argument;
    for (const region of this.#dispatchers) charges[region] = Math.min(charges[region]!, DISPATCH_COST);
  }

  #push(kind: number, cost: number, total: number, region: number): void {
    const depth = ++this.#depth;
    this.#kind[depth] = kind;
    this.#labelCost[depth] = UNREACHABLE;
    this.#entryCost[depth] = cost;
    this.#entryTotal[depth] = total;
    this.#region[depth] = region;
    if (kind === LOOP) this.#loops[this.#loopCount++] = depth;
    this.#loopsOutside[depth] = this.#loopCount;
  }

  /** Control may arrive at the label of the frame with this cost. */
  #reach(frame: number, cost: number): void {
    if (cost > this.#labelCost[frame]!) this.#labelCost[frame] = cost;
  }

  /** A branch out of loops arrives with the cost at which the outermost of them was entered; a back edge ends its region. */
  #branch(label: number, cost: number): void {
    const frame = this.#depth - label;
    if (cost < 0 || this.#kind[frame] === LOOP) return;
    const loopsInside = this.#loopsOutside[frame]!;
    this.#reach(frame, this.#loopCount > loopsInside ? this.#entryCost[this.#loops[loopsInside]!]! : cost);
  }

  #branchTable(offset: number, cost: number, region: number): number {
    const reader = this.#reader;
    reader.offset = offset;
    const labels = reader.u32();
    this.#work.fork(labels + 1);
    if (labels >= DISPATCH_LABELS && this.#loopCount > 0) this.#dispatchers.add(region);
    for (let left = labels; left >= 0; left--) this.#branch(reader.u32(), cost);
    return reader.offset;
  }

  #costAtHandler(frame: number, total: number): number {
    const entry = this.#entryCost[frame]!;
    return entry < 0 ? UNREACHABLE : entry + total - this.#entryTotal[frame]!;
  }

  /** Reads a try_table's immediates behind its pushed frame; its catch labels count from outside it. */
  #readHandlers(offset: number): number {
    const reader = this.#reader;
    reader.offset = offset;
    readBlockType(reader);
    const labels: number[] = [];
    const handlers = reader.u32();
    this.#work.fork(handlers);
    for (let left = handlers; left > 0; left--) {
      const isCatchAll = reader.u8() >= 2;
      if (!isCatchAll) reader.u32();
      labels.push(reader.u32());
    }
    this.#handlers[this.#depth] = labels;
    return reader.offset;
  }

  #branchToHandlers(frame: number, total: number): void {
    const cost = this.#costAtHandler(frame, total);
    for (const label of this.#handlers[frame]!) this.#branch(label, cost);
  }

  #bulk(functionIndex: number, at: number): number {
    const reader = this.#reader;
    const edits = this.edits;
    reader.offset = at + 1;
    const sub = reader.u32();
    const skip = (lebs: number): number => {
      for (let i = 0; i < lebs; i++) reader.u32();
      return reader.offset;
    };
    switch (sub) {
      case BulkOp.memoryInit:
        edits.add(at, 0, Edit.chargeBytes, 0);
        return skip(2);
      case BulkOp.memoryCopy: {
        const end = skip(2);
        edits.add(at, end - at, Edit.memoryCopy, 0);
        return end;
      }
      case BulkOp.memoryFill: {
        const end = skip(1);
        edits.add(at, end - at, Edit.memoryFill, 0);
        return end;
      }
      case BulkOp.tableInit:
      case BulkOp.tableCopy:
        edits.add(at, 0, Edit.chargeElements, 0);
        return skip(2);
      case BulkOp.tableFill:
        edits.add(at, 0, Edit.chargeElements, 0);
        return skip(1);
      case BulkOp.tableGrow: {
        edits.add(at, 0, Edit.chargeElements, 0);
        const end = skip(1);
        edits.add(end, 0, Edit.noteTableGrow, 0);
        return end;
      }
      case BulkOp.tableSize:
        this.#work.leave(1);
        return skip(1);
      case BulkOp.dataDrop:
      case BulkOp.elemDrop:
        return skip(1);
      default:
        if (sub <= 7) return reader.offset;
        throw new ModuleRefusedError(sub === 18 ? 'memory control' : `opcode 0xfc ${sub}`, `function ${functionIndex}`);
    }
  }

  #simd(functionIndex: number, offset: number): number {
    const reader = this.#reader;
    reader.offset = offset;
    const sub = reader.u32();
    const isLane = sub >= 84 && sub <= 91;
    if (sub <= 11 || sub === 92 || sub === 93 || isLane) {
      if ((reader.u32() & 0x40) !== 0) reader.u32();
      reader.u32();
      if (isLane) reader.skip(1);
    } else if (sub === 12 || sub === 13) reader.skip(16);
    else if (sub >= 21 && sub <= 34) reader.skip(1);
    // 0x100 to 0x113 are the relaxed ones; what lies between is validated by the engine.
    else if (sub > 0x113) throw new ModuleRefusedError(`opcode 0xfd ${sub}`, `function ${functionIndex}`);
    if (sub === V128_CONST) this.#work.leave(1);
    return reader.offset;
  }

  #u32At(offset: number): number {
    this.#reader.offset = offset;
    return this.#reader.u32();
  }
}
