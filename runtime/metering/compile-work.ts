/**
 * What V8 has to do to compile a function beyond what its bytes cost. At each place where control divides or meets, both its
 * compilers copy what they know of every local and every value on the stack: with 40,000 locals and 250,000 blocks a
 * function of 5 MB took more than 23 GB, when it was first called, on the thread of all guests. So the sum of those copies
 * is bounded; a million is about 10 ms and 10 MB.
 */

import { ModuleRefusedError } from '../wasm/errors.ts';
import type { FunctionType } from '../wasm/module-parser.ts';
import { STACK_EFFECT } from '../wasm/opcodes.ts';

export interface CompiledTypes {
  readonly types: readonly FunctionType[];
  /** Type of each function, by its index. */
  readonly functionTypes: readonly number[];
}

/** Of one function; the most that LLVM, esbuild, CPython and QuickJS have in one is 1.5 million. */
const MAX_WORK = 10_000_000;
/** Of a module: what is compiled at its first call is not metered, and one call may reach all of it. */
const MAX_MODULE_WORK = 100_000_000;
const UNTYPED: FunctionType = { params: [], results: [] };
const ONE_RESULT: FunctionType = { params: [], results: ['i32'] };
const EMPTY_BLOCK = 0x40;
const FIRST_VALUE_TYPE = 0x41;
const LAST_ONE_BYTE = 0x7f;

/** Follows one function after the other, an instruction at a time. The heights are those of a valid module, or above. */
export class CompileWork {
  readonly #types: readonly FunctionType[];
  readonly #functionTypes: readonly number[];
  /** A handler finds what its exception carries; which type that is stands elsewhere. */
  readonly #mostParams: number;
  /** By open block: the height outside of it, and what it leaves. */
  readonly #outside: number[] = [];
  readonly #results: number[] = [];
  #depth = -1;
  #functionIndex = 0;
  #locals = 0;
  #height = 0;
  #work = 0;
  #moduleWork = 0;

  constructor({ types, functionTypes }: CompiledTypes) {
    this.#types = types;
    this.#functionTypes = functionTypes;
    this.#mostParams = types.reduce((most, { params }) => Math.max(most, params.length), 0);
  }

  begin(functionIndex: number, locals: number): void {
    this.#functionIndex = functionIndex;
    this.#locals = locals;
    this.#height = 0;
    this.#work = 0;
    this.#depth = -1;
    this.#open(UNTYPED);
  }

  /** An instruction whose effect on the stack is always the same. */
  step(opcode: number): void {
    this.#height += STACK_EFFECT[opcode] as number;
  }

  /** Values on the stack beyond what `step` knows. */
  leave(values: number): void {
    this.#height += values;
  }

  call(callee: number): void {
    this.callOf(this.#functionTypes[callee] as number);
  }

  callOf(type: number): void {
    const { params, results } = this.#types[type] ?? UNTYPED;
    this.#height += results.length - params.length;
    this.fork(1);
  }

  /** block, loop, if, try and try_table; `type` as it stands there, as an unsigned number. */
  block(type: number): void {
    this.fork(1);
    if (type === EMPTY_BLOCK) this.#open(UNTYPED);
    else if (type >= FIRST_VALUE_TYPE && type <= LAST_ONE_BYTE) this.#open(ONE_RESULT);
    else this.#open(this.#types[type] ?? UNTYPED);
  }

  /** else, catch and catch_all: the stack is what it was before, and what the block takes or the exception brings. */
  handler(): void {
    this.#height = (this.#outside[this.#depth] as number) + this.#mostParams;
    this.fork(1);
  }

  end(): void {
    this.#height = (this.#outside[this.#depth] as number) + (this.#results[this.#depth] as number);
    this.#depth--;
  }

  /** What follows, up to the end of the block, is not reached. */
  stop(): void {
    this.#height = this.#outside[this.#depth] as number;
  }

  fork(ways: number): void {
    const work = ways * (this.#locals + Math.max(0, this.#height));
    this.#work += work;
    this.#moduleWork += work;
    if (this.#work > MAX_WORK)
      throw new ModuleRefusedError(
        'function too complex',
        `function ${this.#functionIndex} has too many blocks and branches for its ${this.#locals} locals; optimize or split it`,
      );
    if (this.#moduleWork > MAX_MODULE_WORK)
      throw new ModuleRefusedError(
        'module too complex',
        'its functions have too many blocks and branches for their locals',
      );
  }

  #open({ params, results }: FunctionType): void {
    this.#depth++;
    this.#outside[this.#depth] = this.#height - params.length;
    this.#results[this.#depth] = results.length;
  }
}
