/**
 * One instance of the engine. The memory, the stack pointer and the meter's globals are all that changes while a guest
 * runs: nothing writes the table, which is what makes a reset by copying memory complete (a test checks the code for it).
 */

import type { Ambient } from '../ambient.ts';
import { DEMAND_IMPORT, DEMANDED_EXPORT, LOAD_DATA_EXPORT } from '../linking/index.ts';
import { Meter, type MeterHooks, TRACKED_PAGES_EXPORT } from '../metering/index.ts';
import { noteWrite } from '../snapshot/index.ts';
import { type Engine, SIDE_MODULES, sideSetUp } from './engine.ts';
import { createPump, type Pump } from './pump.ts';

type Fn = (...args: number[]) => number;

/** What a guest's calls out of the engine reach. */
export interface EngineHooks extends MeterHooks {
  /**
   * The door: arguments are boxes in guest memory. The answer, a number for the guest or undefined, goes back through
   * `toBox`, which runs in the engine: a JavaScript frame is in between, so the guest can't be suspended there either.
   */
  onDoor(argc: number, argv: number, toBox: (answer: number | undefined) => number): number;
  /** Guest code is about to read the engine's tables, which are not in memory yet; see `Engine.tables`. */
  onDemand(): void;
  /**
   * A promise was rejected that nobody listens to, or (`handled`) somebody now listens to such a one. Both boxes are the
   * receiver's, to keep or to `free`; a JavaScript frame is in between here too.
   */
  onRejection(promise: number, reason: number, handled: boolean, free: (box: number) => void): void;
  readonly ambient: Ambient;
}

/** QuickJS refuses deeper recursion with a RangeError well before V8's own stack (`--stack-size`) would end. */
const MAX_STACK_BYTES = 256 * 1024;

const WASM_PAGE_BYTES = 65536;

const WASI_SUCCESS = 0;
const WASI_BADF = 8;
const WASI_NOSYS = 52;

export class EngineInstance {
  readonly memory: WebAssembly.Memory;
  readonly stackPointer: WebAssembly.Global<'i32'>;
  readonly meter: Meter;
  /** The memory's size in pages of 64 KiB, as the guest sees it. */
  readonly pages: WebAssembly.Global<'i32'>;
  readonly pump: Pump;
  /** 1 once the engine's tables are in memory: they stay there, being never written. */
  readonly hasTables: WebAssembly.Global<'i32'>;
  readonly #exports: WebAssembly.Exports;
  readonly #hooks: EngineHooks;
  /** A fresh VM's clock stands still: its image is to be the same wherever it is made. */
  readonly #isFresh: boolean;
  #view: DataView;
  #bytes: Uint8Array;

  /** With `memoryPages` its memory is that large and all zeros, for an image; without, it is a fresh VM. */
  constructor(engine: Engine, hooks: EngineHooks, memoryPages?: number) {
    this.#hooks = hooks;
    this.#isFresh = memoryPages === undefined;
    this.meter = new Meter(hooks);
    const instance = new WebAssembly.Instance(engine.module, this.#imports());
    const { exports } = instance;
    this.#exports = exports;
    this.memory = exports.memory as WebAssembly.Memory;
    this.stackPointer = exports.__stack_pointer as WebAssembly.Global<'i32'>;
    this.hasTables = exports[DEMANDED_EXPORT] as WebAssembly.Global<'i32'>;
    this.pages = exports[TRACKED_PAGES_EXPORT] as WebAssembly.Global<'i32'>;
    this.meter.attach(instance);
    this.pump = createPump(exports);
    this.#bytes = new Uint8Array(this.memory.buffer);
    this.#view = new DataView(this.memory.buffer);
    if (memoryPages === undefined) this.#initialize();
    else this.#enlarge(memoryPages);
  }

  #enlarge(memoryPages: number): void {
    const missing = memoryPages - this.memory.buffer.byteLength / WASM_PAGE_BYTES;
    if (missing > 0) this.memory.grow(missing);
    this.pages.value = memoryPages;
  }

  /** The guest's memory as it is now; `memory.grow` detaches older views, so never keep one across a guest call. */
  get bytes(): Uint8Array {
    if (this.#bytes.byteLength !== this.memory.buffer.byteLength) {
      this.#bytes = new Uint8Array(this.memory.buffer);
      this.#view = new DataView(this.memory.buffer);
    }
    return this.#bytes;
  }

  /** To read; what is written must be noted. */
  get view(): DataView {
    void this.bytes;
    return this.#view;
  }

  write(address: number, bytes: Uint8Array): void {
    this.bytes.set(bytes, address);
    noteWrite(this.bytes, address, bytes.length);
  }

  /** Calls an export that can't suspend: short engine work outside of user code. */
  call(name: string, ...args: number[]): number {
    return (this.#exports[name] as Fn)(...args);
  }

  export(name: string): Fn {
    return this.#exports[name] as Fn;
  }

  /** A fresh VM in a fresh instance. */
  #initialize(): void {
    this.call(LOAD_DATA_EXPORT);
    this.hasTables.value = 1;
    this.call('_initialize');
    if (this.call('qjs_init') !== 0) throw new Error('the JavaScript engine did not start');
    this.call('qjs_set_max_stack_size', MAX_STACK_BYTES);
    const [context, runtime] = [this.call('qjs_get_context_ptr'), this.call('qjs_get_runtime_ptr')];
    for (const name of SIDE_MODULES) {
      const { relocate, initialize } = sideSetUp(name);
      this.call(relocate);
      if (this.call(initialize, context, runtime) !== 0) throw new Error(`side module ${name} did not start`);
    }
  }

  #imports(): WebAssembly.Imports {
    const ignore = (): number => 0;
    const toBox = (answer: number | undefined): number =>
      answer === undefined ? this.call('qjs_get_undefined') : this.call('qjs_new_number', answer);
    const door = (_name: number, _nameLength: number, _self: number, argc: number, argv: number): number =>
      this.#hooks.onDoor(argc, argv, toBox);
    const free = (box: number): void => void this.call('qjs_free_value', box);
    const rejection = (promise: number, reason: number, handled: number): void =>
      this.#hooks.onRejection(promise, reason, handled !== 0, free);
    return {
      env: {
        host_call: door as never,
        host_interrupt: ignore as never,
        host_promise_rejection: rejection as never,
        host_module_normalize: ignore as never,
        host_module_load: ignore as never,
        host_get_timezone_offset: ignore as never,
      },
      wasi_snapshot_preview1: this.#wasi(),
      [DEMAND_IMPORT.module]: { [DEMAND_IMPORT.name]: (() => this.#hooks.onDemand()) as never },
    };
  }

  /** The six calls that the engine imports: a clock of one millisecond, randomness, and nowhere to write. */
  #wasi(): Record<string, WebAssembly.ImportValue> {
    const functions = {
      clock_time_get: (_clock: number, _precision: bigint, result: number): number => {
        const nowMs = this.#isFresh ? 0 : this.#hooks.ambient.realtimeMs();
        this.view.setBigUint64(result, BigInt(nowMs) * 1_000_000n, true);
        noteWrite(this.bytes, result >>> 0, 8);
        return WASI_SUCCESS;
      },
      random_get: (pointer: number, length: number): number => {
        if (!this.#hooks.ambient.fillRandom(this.bytes, pointer >>> 0, length >>> 0)) return WASI_NOSYS;
        noteWrite(this.bytes, pointer >>> 0, length >>> 0);
        return WASI_SUCCESS;
      },
      fd_write: (): number => WASI_BADF,
      fd_close: (): number => WASI_BADF,
      fd_seek: (): number => WASI_BADF,
      fd_fdstat_get: (): number => WASI_BADF,
    };
    return functions as unknown as Record<string, WebAssembly.ImportValue>;
  }
}
