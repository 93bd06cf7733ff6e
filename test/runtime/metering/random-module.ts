import {
  ADD,
  call,
  END,
  FUNCREF,
  type FunctionSource,
  get,
  I32,
  I64,
  i32,
  SUB,
  set,
  u32,
  VOID,
  wasm,
} from './wasm-builder.ts';

/** Globals of a generated module: steps left before it traps, and the instructions that it says it has executed. */
export const STEPS_GLOBAL = 0;
export const WORK_GLOBAL = 1;
const GUEST_GLOBAL = 2;
const MAX_STEPS = 600;
const PARAMS = [I32, I32];
const I64_LOCAL = 3;

/**
 * Writes a valid module from a seed. It ends by construction: each function entry and each turn of a loop takes a
 * step from a global, and traps when none are left; so calls may recurse and loops may nest as they like. Runs of `nop`
 * add their length to another global: a lower bound of what was executed, which the fuel must have covered.
 */
export function randomModule(seed: number): Uint8Array<ArrayBuffer> {
  return new RandomModule(seed).build();
}

class RandomModule {
  #state: number;
  readonly #functionCount: number;
  readonly #exceptions: 'legacy' | 'exnref' | 'none';
  #left = 0;
  /** The enclosing labels, innermost last: whether a branch to it needs a step (a loop). */
  readonly #labels: boolean[] = [];

  constructor(seed: number) {
    this.#state = seed >>> 0 || 1;
    this.#functionCount = 2 + this.#pick(5);
    this.#exceptions = (['legacy', 'exnref', 'none'] as const)[this.#pick(3)]!;
  }

  build(): Uint8Array<ArrayBuffer> {
    const functions = Array.from({ length: this.#functionCount }, (_, i) => this.#function(i));
    const elements = functions.map((_, i) => i).filter((i) => i % 2 === 0);
    return wasm({
      functions,
      memory: { min: 1, max: 4 },
      table: { min: 8, max: 20, elements },
      globals: [MAX_STEPS, 0, 7],
      tag: true,
    });
  }

  /** xorshift32 */
  #pick(below: number): number {
    this.#state ^= this.#state << 13;
    this.#state ^= this.#state >>> 17;
    this.#state ^= this.#state << 5;
    return (this.#state >>> 0) % below;
  }

  #function(index: number): FunctionSource {
    // Many small ones, so that folding has something to do, and few big ones.
    this.#left = this.#pick(3) === 0 ? 40 : 4;
    const isTiny = this.#pick(4) === 0;
    const code = isTiny ? this.#work() : [...this.#step(), ...this.#statements(3)];
    return {
      params: PARAMS,
      results: [I32],
      locals: [I32, I64],
      code: [...code, ...this.#expression(2)],
      ...(index < 3 ? { export: `f${index}` } : {}),
    };
  }

  #step(): number[] {
    const steps = [0x23, STEPS_GLOBAL];
    const take = [...steps, ...i32(1), SUB, 0x24, STEPS_GLOBAL];
    return [...take, ...steps, ...i32(0), 0x48, 0x04, VOID, 0x00, END];
  }

  #work(least = 0): number[] {
    const count = least + (this.#pick(3) === 0 ? this.#pick(300) : this.#pick(12));
    return [...new Array<number>(count).fill(0x01), 0x23, WORK_GLOBAL, ...i32(count), ADD, 0x24, WORK_GLOBAL];
  }

  #statements(depth: number): number[] {
    const code = this.#work();
    for (let i = 1 + this.#pick(4); i > 0 && this.#left > 0; i--) {
      this.#left--;
      code.push(...this.#statement(depth), ...this.#work());
    }
    return code;
  }

  #statement(depth: number): number[] {
    const nested = depth > 0 ? 26 : 12;
    switch (this.#pick(nested)) {
      case 0:
        return [...this.#expression(2), 0x24, GUEST_GLOBAL];
      case 1:
        return [...this.#address(), ...this.#expression(1), 0x36, 2, ...u32(this.#pick(64))];
      case 2:
        return [...this.#address(), ...this.#expression(1), ...i32(this.#pick(5000)), 0xfc, 11, 0];
      case 3:
        return [...this.#address(), ...this.#address(), ...i32(this.#pick(5000)), 0xfc, 10, 0, 0];
      case 4:
        return this.#call();
      case 5:
        return this.#branch();
      case 6:
        return [...this.#expression(1), ...i32(3), 0x71, 0x40, 0, 0x24, GUEST_GLOBAL];
      case 7:
        return [0xd0, FUNCREF, ...i32(this.#pick(4)), 0xfc, 15, 0, ...set(2)];
      case 8:
        return [...i32(this.#pick(9)), ...i32(this.#pick(9)), ...i32(this.#pick(3)), 0xfc, 14, 0, 0];
      case 9:
        return [...get(I64_LOCAL), 0x42, 5, 0x7c, ...set(I64_LOCAL)];
      case 10:
        return this.#pick(6) === 0 ? this.#tailCall() : this.#call();
      case 11:
        return this.#pick(6) === 0 && this.#exceptions !== 'none' ? [0x08, 0] : [...this.#expression(2), ...set(1)];
      case 12:
      case 13:
        return this.#if(depth);
      case 14:
      case 15:
        return [0x02, VOID, ...this.#labelled(false, depth), END];
      case 16:
      case 17:
      case 18:
        return [0x03, VOID, ...this.#step(), ...this.#labelled(true, depth), END];
      case 19:
        return [0x02, VOID, ...this.#labelled(false, depth, () => this.#branchTable()), END];
      case 20:
      case 21:
        return this.#loopLeftByBranches(depth);
      case 22:
      case 23:
        return this.#throwAndCatch();
      default:
        return this.#try(depth);
    }
  }

  /** What follows is reached only by a branch out of the loop, or out of two. */
  #loopLeftByBranches(depth: number): number[] {
    const before = this.#work(200);
    this.#labels.push(false, true);
    const body = [...this.#step(), ...this.#statements(depth - 1), ...this.#expression(1), 0x0d, 1];
    this.#labels.pop();
    this.#labels.pop();
    return [0x02, VOID, ...before, 0x03, VOID, ...body, 0x0c, 0, END, END, ...this.#work(100)];
  }

  /** The handler is reached only by the exception, late in the try. */
  #throwAndCatch(): number[] {
    const body = [...this.#work(200), 0x08, 0];
    if (this.#exceptions === 'none') return this.#work();
    if (this.#exceptions === 'legacy') return [0x06, VOID, ...body, 0x07, 0, ...this.#work(100), END];
    return [0x02, VOID, 0x1f, VOID, 1, 0, 0, 0, ...body, END, END, ...this.#work(100)];
  }

  #labelled(isLoop: boolean, depth: number, last: () => number[] = () => []): number[] {
    this.#labels.push(isLoop);
    const code = [...this.#statements(depth - 1), ...last()];
    this.#labels.pop();
    return code;
  }

  #if(depth: number): number[] {
    const condition = this.#expression(1);
    const then = this.#labelled(false, depth);
    if (this.#pick(2) === 0) return [...condition, 0x04, VOID, ...then, END];
    return [...condition, 0x04, VOID, ...then, 0x05, ...this.#labelled(false, depth), END];
  }

  #try(depth: number): number[] {
    if (this.#exceptions === 'none') return this.#if(depth);
    if (this.#exceptions === 'legacy') {
      const body = this.#labelled(false, depth);
      const kind = this.#pick(3);
      if (kind === 0) return [0x06, VOID, ...body, 0x07, 0, ...this.#labelled(false, depth), END];
      if (kind === 1) return [0x06, VOID, ...body, 0x19, ...this.#labelled(false, depth), END];
      return [0x06, VOID, 0x06, VOID, ...body, 0x18, 0, 0x19, ...this.#labelled(false, depth), END];
    }
    // block: try_table (catch_all to it) body; what follows the try is skipped by an exception.
    this.#labels.push(false);
    const body = this.#labelled(false, depth);
    const after = this.#statements(depth - 1);
    this.#labels.pop();
    const handler = this.#pick(2) === 0 ? [2, 0] : [0, 0, 0];
    return [0x02, VOID, 0x1f, VOID, 1, ...handler, ...body, END, ...after, END];
  }

  #branch(): number[] {
    if (this.#labels.length === 0) return [...this.#expression(1), 0x1a];
    const label = this.#pick(this.#labels.length);
    if (this.#pick(5) === 0) return [0x0c, label];
    return [...this.#expression(1), ...i32(1), 0x71, 0x0d, label];
  }

  #branchTable(): number[] {
    const labels = Array.from({ length: this.#pick(4) }, () => this.#pick(this.#labels.length));
    return [...this.#expression(1), 0x0e, labels.length, ...labels, this.#pick(this.#labels.length)];
  }

  #call(): number[] {
    const args = [...this.#expression(1), ...this.#expression(1)];
    if (this.#pick(3) > 0) return [...args, ...call(this.#pick(this.#functionCount)), ...set(2)];
    return [...args, ...i32(this.#pick(9)), 0x11, 0, 0, ...set(2)];
  }

  #tailCall(): number[] {
    const args = [...this.#expression(1), ...this.#expression(1)];
    // A branch needs a value of its own behind a tail call: what follows is unreachable and typed by the block.
    if (this.#pick(2) === 0) return [...args, 0x12, this.#pick(this.#functionCount)];
    return [...args, ...i32(this.#pick(8)), 0x13, 0, 0];
  }

  /** Mostly inside the first page, now and then far beyond the memory. */
  #address(): number[] {
    return this.#pick(25) === 0 ? i32(-1 - this.#pick(1000)) : [...this.#expression(1), ...i32(0x7fff), 0x71];
  }

  #expression(depth: number): number[] {
    if (depth === 0) return this.#pick(2) === 0 ? i32(this.#pick(100) - 20) : get(this.#pick(3));
    switch (this.#pick(6)) {
      case 0:
        return [0x23, GUEST_GLOBAL];
      case 1:
        return [...this.#address(), 0x28, 2, ...u32(this.#pick(64))];
      case 2: {
        const operators = [ADD, SUB, 0x6c, 0x71, 0x73, 0x48, 0x4f, 0x6f, 0x74];
        return [
          ...this.#expression(depth - 1),
          ...this.#expression(depth - 1),
          operators[this.#pick(operators.length)]!,
        ];
      }
      case 3:
        return [...get(I64_LOCAL), 0xa7];
      case 4:
        return [...this.#expression(depth - 1), ...this.#expression(depth - 1), ...get(0), 0x1b];
      default:
        return this.#expression(0);
    }
  }
}
