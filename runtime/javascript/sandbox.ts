/**
 * An engine instance that holds one guest at a time. Between guests its memory is made what an image says; the meter's
 * globals and the stack pointer are set back with it. An instance that a guest left in the middle of something (a trap,
 * a suspended stack) is never reset: it is dropped.
 */

import type { Ambient } from '../ambient.ts';
import {
  captureImage,
  copyIn,
  fillFresh,
  noteWrite,
  PAGE_BYTES,
  pageOf,
  putSessionMemory,
  restoreImage,
  restoreWritten,
  type SessionMemory,
  sessionMemory,
  TRACKED_PAGE_BYTES,
  writtenPages,
} from '../snapshot/index.ts';
import type { Engine } from './engine.ts';
import { type EngineHooks, EngineInstance } from './engine-instance.ts';
import type { GuestEntries, Image } from './image.ts';
import type { Pump } from './pump.ts';

/** Boxes are the engine's handles: addresses in guest memory that hold a JavaScript value. */
export type Box = number;

const EVAL_MODULE = 1;
const STRIP_SOURCE = 1 << 4;
const STRIP_DEBUG = 1 << 5;
/** Of the C library's allocator; the last one is the smallest that it gives. */
const FREE_PIECES = [65_536, 16_384, 4_096, 1_024, 256, 64, 24, 12] as const;
/** QuickJS keeps what is smaller on shelves of its own, one for each size, and gives none of them back. */
const SHELVED_PIECES = Array.from({ length: 128 }, (_, index) => 1_024 - index * 8);
const PROMISE_PENDING = 0;
const PROMISE_FULFILLED = 1;
const ENTRY_NAMES = ['invoke', 'settle', 'fire', 'define', 'describe', 'warm', 'rejection', 'rest'] as const;
const SCRATCH_BYTES = 64;
/** What a guest may allocate before cycles are looked for; what is not in a cycle is freed at once by its count. */
const GC_HEADROOM_BYTES = 4 * 1024 * 1024;
/** Where `scratch` keeps the length that a string read writes. */
const LENGTH_OFFSET = 56;
const WASM_PAGE_BYTES = 65536;
export const RANDOM_STATE_BYTES = 8;

/** Whose guest a sandbox holds, and what that one decides. */
export interface SandboxHooks
  extends Omit<EngineHooks, 'onOutOfFuel' | 'onGrow' | 'onDoor' | 'onDemand' | 'onRejection'> {
  /** The door: arguments are boxes in guest memory; returns a number or a text for the guest, or undefined. */
  onDoor(argc: number, argv: number): number | string | undefined;
  /** The memory is about to grow within its own limit; false where the process has no room for it. */
  onGrow(deltaPages: number): boolean;
  /** As `EngineHooks` has it; true where the boxes are kept. */
  onRejection?(promise: Box, reason: Box, handled: boolean): boolean;
  /** The guest is out of fuel; 'yield' only if it may be suspended here. */
  onOutOfFuel(maySuspend: boolean): 'continue' | 'kill' | 'yield';
}

export class Sandbox {
  readonly instance: EngineInstance;
  readonly #engine: Engine;
  readonly #relay: HooksRelay;
  #entries: GuestEntries | undefined;
  /** What its memory was last made to be. */
  #image: Image | undefined;

  /** With a base image the sandbox is linked for images of its engine; without one it is a fresh VM to `boot`. */
  constructor(engine: Engine, hooks: SandboxHooks, base?: Image) {
    this.#relay = new HooksRelay(
      hooks,
      () => this.#loadTables(),
      (text) => this.newString(Buffer.from(text)),
    );
    this.#engine = engine;
    const pages = base === undefined ? undefined : base.memoryBytes / WASM_PAGE_BYTES;
    this.instance = new EngineInstance(engine, this.#relay, pages);
  }

  /** Whose guest it is now. */
  set hooks(hooks: SandboxHooks) {
    this.#relay.target = hooks;
  }

  /** What the guest sees as its memory. */
  get memoryBytes(): number {
    return this.instance.pages.value * WASM_PAGE_BYTES;
  }

  /** What the process holds for it: memory that an earlier guest grew stays. */
  get heldBytes(): number {
    return this.instance.memory.buffer.byteLength;
  }

  /** What the process holds for it beyond its image. */
  get grownBytes(): number {
    return this.#image === undefined ? 0 : this.heldBytes - this.#image.memoryBytes;
  }

  /** Makes this sandbox what the image says. */
  restore(image: Image): void {
    const { instance } = this;
    const missing = image.memoryBytes - instance.memory.buffer.byteLength;
    if (missing > 0) instance.memory.grow(missing / WASM_PAGE_BYTES);
    instance.pages.value = image.memoryBytes / WASM_PAGE_BYTES;
    if (this.#image === undefined) fillFresh(image, instance.bytes, this.#engine.tables);
    else if (this.#image === image) restoreWritten(image, instance.bytes);
    else restoreImage(image, instance.bytes);
    this.#image = image;
    instance.stackPointer.value = image.stackPointer;
    instance.pump.stop.value = 0;
    instance.meter.reset();
    this.#entries = image.entries;
  }

  /** Not noted as written: what is copied is what a reset would restore. */
  #loadTables(): void {
    const [start, end] = this.#engine.tables;
    if (this.#image !== undefined) copyIn(this.#image, this.instance.bytes, start, end);
    this.instance.hasTables.value = 1;
  }

  capture(entries: GuestEntries): Image {
    const { instance } = this;
    if (instance.hasTables.value === 0) this.#loadTables();
    this.#clear();
    const memory = instance.bytes.slice(0, this.memoryBytes);
    this.#clearStack(memory);
    return captureImage(memory, { stackPointer: instance.stackPointer.value, entries });
  }

  /** Makes a sandbox that is its image what a session left. The next `restore` of that image takes it out again. */
  async putSession(session: SessionMemory): Promise<void> {
    const { instance } = this;
    const missing = session.memoryBytes - this.heldBytes;
    if (missing > 0) instance.memory.grow(missing / WASM_PAGE_BYTES);
    instance.pages.value = session.memoryBytes / WASM_PAGE_BYTES;
    await putSessionMemory(session, instance.bytes);
  }

  /** What its guest leaves for a next one: nothing of it may be on a stack, and `rest` was called. */
  async captureSession(): Promise<SessionMemory> {
    const { instance } = this;
    const image = this.#image;
    const stackPointer = instance.stackPointer.value;
    if (image === undefined || image.stackPointer !== stackPointer) throw new Error('the guest is not at rest');
    this.#clear(writtenPages(instance.bytes));
    const [sideDataStart, sideDataEnd] = this.#engine.sideData;
    const stack = [[0, sideDataStart] as const, [sideDataEnd, stackPointer] as const];
    // What is not there yet is as in the image.
    const dead = instance.hasTables.value === 0 ? [...stack, this.#engine.tables] : stack;
    const { flat } = image;
    const imagePage = (page: number) => (page * PAGE_BYTES < flat.length ? pageOf(flat, page) : undefined);
    return sessionMemory(instance.bytes.subarray(0, this.memoryBytes), dead, imagePage);
  }

  /** Leaves of the heap what lives. Free memory is overwritten where it is on a page that `isDirty`. */
  #clear(isDirty: (page: number) => boolean = () => true): void {
    const { instance } = this;
    instance.call('qjs_run_gc');
    // Else the image is over the threshold, and the first object of every invocation pays for a collection of it all.
    instance.call('qjs_set_gc_threshold', this.memoryBytes + GC_HEADROOM_BYTES);
    this.#clearFreeMemory(isDirty);
  }

  /** Of a copy. The stack grows down from the stack pointer: what lies below is dead, but for the data of side modules. */
  #clearStack(memory: Uint8Array): void {
    const [sideDataStart, sideDataEnd] = this.#engine.sideData;
    memory.fill(0, 0, sideDataStart);
    memory.fill(0, sideDataEnd, this.instance.stackPointer.value);
  }

  get entries(): GuestEntries {
    if (this.#entries === undefined) throw new Error('the sandbox holds no guest');
    return this.#entries;
  }

  /** Calls a guest function with arguments in its own boxes; the job queue runs too. Resolves to the result's box. */
  callEntry(entry: Box, ...args: Box[]): Promise<Box> {
    const { scratch, undefinedBox } = this.entries;
    const { view } = this.instance;
    for (let index = 0; index < args.length; index++) view.setUint32(scratch + index * 4, args[index] as Box, true);
    noteWrite(this.instance.bytes, scratch, SCRATCH_BYTES);
    return this.#enterGuest(this.instance.pump.call, entry, undefinedBox, args.length, scratch);
  }

  /** Only while the pump runs may the guest be suspended: elsewhere a JavaScript frame of ours is in between. */
  #enterGuest(run: Pump['call'], ...args: [number, number, number, number]): Promise<Box> {
    const relay = this.#relay;
    relay.suspendable = true;
    return run(...args).then(
      (box) => {
        relay.suspendable = false;
        return box;
      },
      (error: unknown) => {
        relay.suspendable = false;
        throw error;
      },
    );
  }

  /** Evaluates an ES module: resolves to its namespace's box, or throws what its top level threw. */
  async evalModule(source: Uint8Array, fileName: string): Promise<Box> {
    const { instance } = this;
    const code = this.#copyIn(source);
    const name = this.#copyIn(Buffer.from(fileName));
    const promise = await this.#enterGuest(instance.pump.eval, code, source.length, name, EVAL_MODULE);
    this.#throwIfException(promise);
    const state = instance.call('qjs_promise_state', promise);
    if (state === PROMISE_PENDING) throw new TopLevelPendingError();
    const result = instance.call('qjs_promise_result', promise);
    if (state !== PROMISE_FULFILLED) throw new ThrownBox(result);
    return result;
  }

  async evalScript(source: string, fileName: string): Promise<Box> {
    const bytes = Buffer.from(source);
    const code = this.#copyIn(bytes);
    const name = this.#copyIn(Buffer.from(fileName));
    const result = await this.#enterGuest(this.instance.pump.eval, code, bytes.length, name, 0);
    this.#throwIfException(result);
    return result;
  }

  /** Of the part of the prelude that has this name; undefined where none has. */
  partSource(name: string): string | undefined {
    const { parts } = this.#engine;
    return Object.hasOwn(parts, name) ? parts[name] : undefined;
  }

  newString(bytes: Uint8Array): Box {
    const pointer = this.#copyIn(bytes);
    const box = this.instance.call('qjs_new_string', pointer, bytes.length);
    this.instance.call('wasm_free', pointer);
    return box;
  }

  newNumber(value: number): Box {
    return this.instance.call('qjs_new_number', value);
  }

  newBoolean(value: boolean): Box {
    return this.instance.call(value ? 'qjs_get_true' : 'qjs_get_false');
  }

  isException(box: Box): boolean {
    return this.instance.call('qjs_is_exception', box) !== 0;
  }

  isString(box: Box): boolean {
    return this.instance.call('qjs_is_string', box) !== 0;
  }

  isNumber(box: Box): boolean {
    return this.instance.call('qjs_is_number', box) !== 0;
  }

  readNumber(box: Box): number {
    return this.instance.export('qjs_get_float64')(box);
  }

  /**
   * A copy of a string's UTF-8 bytes. Only for boxes that are strings: anything else would run guest code. Over
   * `maxBytes` nothing is copied and null comes back.
   */
  readString(box: Box, maxBytes: number): Buffer | null {
    const { instance } = this;
    const lengthPointer = this.entries.scratch + LENGTH_OFFSET;
    const pointer = instance.call('qjs_get_string_len', box, lengthPointer);
    if (pointer === 0) return null;
    const length = instance.view.getUint32(lengthPointer, true);
    const copy = length > maxBytes ? null : Buffer.from(instance.bytes.subarray(pointer, pointer + length));
    instance.call('qjs_free_cstring', pointer);
    return copy;
  }

  free(box: Box): void {
    this.instance.call('qjs_free_value', box);
  }

  getProperty(object: Box, name: string): Box {
    const pointer = this.#copyIn(Buffer.from(name));
    const box = this.instance.call('qjs_get_prop_string', object, pointer);
    this.instance.call('wasm_free', pointer);
    return box;
  }

  /** What the engine holds as thrown. */
  takeException(): Box {
    return this.instance.call('qjs_get_exception');
  }

  /** Bytecode of a script, without its source and line numbers. For the prelude only, in a VM of its own. */
  compileScript(source: string, fileName: string): Uint8Array {
    const { instance } = this;
    const bytes = Buffer.from(source);
    const code = this.#copyIn(bytes);
    const name = this.#copyIn(Buffer.from(fileName));
    const lengthPointer = instance.call('wasm_malloc', 4);
    const pointer = instance.call(
      'qjs_compile',
      code,
      bytes.length,
      name,
      0,
      STRIP_SOURCE | STRIP_DEBUG,
      lengthPointer,
    );
    if (pointer === 0) throw new Error(`the engine can not compile ${fileName}`);
    return instance.bytes.slice(pointer, pointer + instance.view.getUint32(lengthPointer, true));
  }

  #evalBytecode(bytecode: Uint8Array): void {
    const pointer = this.#copyIn(bytecode);
    const result = this.instance.call('qjs_eval_bytecode', pointer, bytecode.length);
    this.instance.call('wasm_free', pointer);
    this.#throwIfException(result);
  }

  /**
   * Fills the allocator's free memory with zeros: what was freed keeps its contents, and would be in every image. Takes
   * all that can be had without the memory growing, largest pieces first, and gives it back.
   */
  #clearFreeMemory(isDirty: (page: number) => boolean): void {
    const { instance } = this;
    const { meter } = instance;
    const limit = meter.maxMemoryPages;
    meter.maxMemoryPages = 0;
    const taken = FREE_PIECES.flatMap((size) =>
      this.#takeAll(
        () => instance.call('wasm_malloc', size),
        (pointer) => this.#usableBytes(pointer, size),
        isDirty,
      ),
    );
    const runtime = instance.call('qjs_get_runtime_ptr');
    const shelved = SHELVED_PIECES.flatMap((size) =>
      this.#takeAll(
        () => instance.call('js_malloc_rt', runtime, size),
        () => size,
        isDirty,
      ),
    );
    // What was taken last is given back first: so free lists are as they were, and no page changes for their order.
    for (const pointer of shelved.reverse()) instance.call('js_free_rt', runtime, pointer);
    for (const pointer of taken.reverse()) instance.call('wasm_free', pointer);
    meter.maxMemoryPages = limit;
  }

  #takeAll(take: () => number, usableBytes: (pointer: number) => number, isDirty: (page: number) => boolean): number[] {
    const { bytes } = this.instance;
    const taken: number[] = [];
    for (let pointer = take(); pointer !== 0; pointer = take()) {
      const end = pointer + usableBytes(pointer);
      for (let start = pointer; start < end; ) {
        const page = Math.floor(start / TRACKED_PAGE_BYTES);
        const next = Math.min(end, (page + 1) * TRACKED_PAGE_BYTES);
        if (isDirty(page)) {
          bytes.fill(0, start, next);
          noteWrite(bytes, start, next - start);
        }
        start = next;
      }
      taken.push(pointer);
    }
    return taken;
  }

  /** A piece may be somewhat larger than was asked for: dlmalloc keeps its size, with its four bytes, in front of it. */
  #usableBytes(pointer: number, asked: number): number {
    const usable = (this.instance.view.getUint32(pointer - 4, true) & ~7) - 4;
    if (usable < asked || usable >= asked + 16) throw new Error('the allocator is not the one that is known');
    return usable;
  }

  /** Tells objects apart while they live: where the object is that a box holds. */
  addressOf(box: Box): number {
    return this.instance.view.getUint32(box, true);
  }

  /** A fresh engine VM gets the prelude; what it left on the global object becomes this sandbox's entries. */
  async boot(prelude: Uint8Array): Promise<GuestEntries> {
    const { instance } = this;
    instance.call('qjs_set_promise_rejection_handler', 1);
    const doorName = this.#copyIn(Buffer.from('door'));
    const door = instance.call('qjs_new_host_function', doorName, 4, 0);
    const global = instance.call('qjs_get_global');
    this.#setProperty(global, '__postern_host', door);
    const scratch = instance.call('wasm_malloc', SCRATCH_BYTES);
    const undefinedBox = instance.call('qjs_get_undefined');
    // Enough for the prelude's own evaluation; the real entries follow.
    const none = { invoke: 0, settle: 0, fire: 0, define: 0, describe: 0, warm: 0, rejection: 0, rest: 0 };
    this.#entries = { ...none, undefinedBox, scratch, randomState: 0 };
    const randomState = await this.#locateRandomState();
    this.#entries = { ...this.#entries, randomState };
    this.#evalBytecode(prelude);
    const guest = this.getProperty(global, '__postern_guest');
    const boxes = ENTRY_NAMES.map((name) => this.getProperty(guest, name));
    await this.evalScript('delete globalThis.__postern_guest', 'postern:boot');
    const names = Object.fromEntries(ENTRY_NAMES.map((name, at) => [name, boxes[at] as Box]));
    this.#entries = { ...(names as Record<(typeof ENTRY_NAMES)[number], Box>), undefinedBox, scratch, randomState };
    return this.#entries;
  }

  /** Sixty-four fresh bits for `Math.random`: a restored guest would repeat its sequence. */
  seedMathRandom(ambient: Ambient): void {
    const { bytes } = this.instance;
    const at = this.entries.randomState;
    do ambient.fillRandom(bytes, at, RANDOM_STATE_BYTES);
    while (isZero(bytes, at)); // xorshift never leaves zero
    noteWrite(bytes, at, RANDOM_STATE_BYTES);
  }

  /** What `Math.random` goes on from: xorshift never comes back to it. */
  get mathRandomState(): bigint {
    return this.instance.view.getBigUint64(this.entries.randomState, true);
  }

  /**
   * QuickJS keeps `Math.random`'s state (xorshift64*, eight bytes) in its context. Which bytes it is shows when
   * `Math.random` is called: they alone become the generator's next state.
   */
  async #locateRandomState(): Promise<number> {
    const { instance } = this;
    const context = instance.call('qjs_get_context_ptr');
    const window = 4096;
    const before = instance.bytes.slice(context, context + window);
    const result = await this.evalScript('Math.random()', 'postern:boot');
    const value = this.readNumber(result);
    const after = new DataView(instance.bytes.slice(context, context + window).buffer);
    const previous = new DataView(before.buffer);
    for (let offset = 0; offset + 8 <= window; offset += 4) {
      const next = xorshift64(previous.getBigUint64(offset, true));
      if (next === 0n || next !== after.getBigUint64(offset, true)) continue;
      if (randomFromState(next) === value) return context + offset;
    }
    throw new Error("the engine's random state was not found: this engine version needs another way to be seeded");
  }

  #throwIfException(box: Box): void {
    if (this.isException(box)) throw new ThrownBox(this.takeException());
  }

  #setProperty(object: Box, name: string, value: Box): void {
    const pointer = this.#copyIn(Buffer.from(name));
    this.instance.call('qjs_set_prop_string', object, pointer, value);
    this.instance.call('wasm_free', pointer);
  }

  /** Copies bytes into guest memory with a zero behind them. Throws OutOfGuestMemoryError when there is no room. */
  #copyIn(source: Uint8Array): number {
    const pointer = this.instance.call('wasm_malloc', source.length + 1);
    if (pointer === 0) throw new OutOfGuestMemoryError();
    const { bytes } = this.instance;
    bytes.set(source, pointer);
    bytes[pointer + source.length] = 0;
    noteWrite(bytes, pointer, source.length + 1);
    return pointer;
  }
}

/** An instance is linked once and serves many invocations, each with hooks of its own. */
class HooksRelay implements EngineHooks {
  target: SandboxHooks;
  readonly onDemand: () => void;
  readonly #newString: (text: string) => Box;
  suspendable = false;

  constructor(target: SandboxHooks, onDemand: () => void, newString: (text: string) => Box) {
    this.target = target;
    this.onDemand = onDemand;
    this.#newString = newString;
  }

  onOutOfFuel(): 'continue' | 'kill' | 'yield' {
    return this.target.onOutOfFuel(this.suspendable);
  }
  onYield(): Promise<'continue' | 'kill'> {
    return this.target.onYield();
  }
  onGrow(_currentPages: number, deltaPages: number): boolean {
    return this.target.onGrow(deltaPages);
  }
  onRejection(promise: Box, reason: Box, handled: boolean, free: (box: Box) => void): void {
    const { suspendable } = this;
    this.suspendable = false;
    try {
      if (this.target.onRejection?.(promise, reason, handled) === true) return;
      free(promise);
      free(reason);
    } finally {
      this.suspendable = suspendable;
    }
  }
  onDoor(argc: number, argv: number, toBox: (answer: number | undefined) => number): number {
    const { suspendable } = this;
    this.suspendable = false;
    try {
      const answer = this.target.onDoor(argc, argv);
      return typeof answer === 'string' ? this.#newString(answer) : toBox(answer);
    } finally {
      this.suspendable = suspendable;
    }
  }
  get ambient(): Ambient {
    return this.target.ambient;
  }
}

function isZero(bytes: Uint8Array, at: number): boolean {
  for (let index = at; index < at + 8; index++) if (bytes[index] !== 0) return false;
  return true;
}

const MASK64 = (1n << 64n) - 1n;

/** Vigna, "An experimental exploration of Marsaglia's xorshift generators, scrambled": the step of xorshift64*. */
function xorshift64(state: bigint): bigint {
  let x = state;
  x ^= x >> 12n;
  x ^= (x << 25n) & MASK64;
  x ^= x >> 27n;
  return x;
}

/** The number that QuickJS makes of a state: the top 52 bits as a double in [0, 1). */
function randomFromState(state: bigint): number {
  const bits = (state * 0x2545f4914f6cdd1dn) & MASK64;
  const view = new DataView(new ArrayBuffer(8));
  view.setBigUint64(0, (0x3ffn << 52n) | (bits >> 12n));
  return view.getFloat64(0) - 1;
}

/** The guest threw; `box` is what. */
export class ThrownBox extends Error {
  readonly box: Box;
  constructor(box: Box) {
    super('the guest threw');
    this.box = box;
  }
}

export class TopLevelPendingError extends Error {
  constructor() {
    super('the top-level await of the module never settled: no host function, timer or network is there at deploy');
  }
}

export class OutOfGuestMemoryError extends Error {
  constructor() {
    super('no room in the memory of the guest');
  }
}
