/**
 * An instance of the interpreter that holds one guest at a time. The memory, the stack pointer and the meter's globals are
 * all that changes while a guest runs (a test checks the code for it); between guests they are made what an image says. An
 * instance that a guest left in the middle of something (a trap, an exit) is never reset: it is dropped.
 */

import type { Ambient } from '../ambient.ts';
import {
  BadAddressError,
  GuestMemory,
  PREVIEW1_MODULE,
  PREVIEW1_NAMES,
  type Process,
  preview1Imports,
  Streams,
} from '../command/index.ts';
import { Meter, type MeterHooks, TRACKED_PAGES_EXPORT } from '../metering/index.ts';
import {
  captureImage,
  type MemoryImage,
  noteWrite,
  putSessionMemory,
  type SessionMemory,
  sessionMemory,
} from '../snapshot/index.ts';
import type { PythonEntries, PythonImage } from './python-image.ts';
import { PYTHON_EXPORTS } from './python-module.ts';

/** Whose guest a sandbox holds, and what that one decides. */
export interface PythonHooks extends Required<MeterHooks> {
  /** Of `given`; read by place, not as a stream. */
  readonly input: Uint8Array;
  onOutput(stream: 'stdout' | 'stderr', bytes: Uint8Array): void;
  /** What is written to the channel; false where there is no room for more. */
  onRequest(bytes: Uint8Array): boolean;
  /** Channel, sleep and exit as `Process` has them. */
  readChannel: Process['readChannel'];
  sleep: Process['sleep'];
  pay: Process['pay'];
  exit: Process['exit'];
  readonly ambient: Ambient;
}

/** What all sandboxes of an interpreter are made of. */
export interface PythonCode {
  readonly module: WebAssembly.Module;
  /** The standard library: a third of the memory, if it lay there. Guests read of it what they import. */
  readonly archive: Uint8Array;
}

const WASM_PAGE_BYTES = 65_536;
const ERRNO_FAULT = 21;
const MAX_VECTORS = 1_024;
/** Where `fd_pread` finds the archive, behind any input. `bootstrap.py` has the same number. */
const ARCHIVE_AT = 2 ** 40;
const CALL_FUEL = 250;
const COPY_BYTES_PER_FUEL = 8;
/** PyBytesObject on 32 bits: reference count, type, size, hash, then the bytes. */
const BYTES_SIZE_AT = 8;
const BYTES_AT = 16;

/** How CPython calls a callable, under JSPI. */
type Vectorcall = (callable: number, args: number, count: number, names: number) => Promise<number>;
type Imports = Record<string, WebAssembly.ImportValue>;

export class PythonSandbox {
  hooks: PythonHooks;
  readonly meter: Meter;
  readonly exports: WebAssembly.Exports;
  readonly #archive: Uint8Array;
  readonly #memory: WebAssembly.Memory;
  readonly #stackPointer: WebAssembly.Global<'i32'>;
  /** The memory's size in pages of 64 KiB, as the guest sees it. */
  readonly #pages: WebAssembly.Global<'i32'>;
  readonly #guestMemory: GuestMemory;
  readonly #streams = new Streams(0);
  #vectorcall: Vectorcall | undefined;
  #image: PythonImage | undefined;

  /** Its memory is all zeros. `overrides`: calls of preview 1 that are other ones in this instance. */
  constructor(
    { module, archive }: PythonCode,
    hooks: PythonHooks,
    args: readonly Uint8Array[] = [],
    overrides: Readonly<Record<string, unknown>> = {},
  ) {
    this.hooks = hooks;
    this.#archive = archive;
    this.meter = new Meter({
      onOutOfFuel: () => this.hooks.onOutOfFuel(),
      onYield: () => this.hooks.onYield(),
      onGrow: (current, delta) => this.hooks.onGrow(current, delta),
    });
    this.#guestMemory = new NotingMemory(() => this.#memory);
    const calls = { ...this.#preview1(args), ...(overrides as Imports) };
    const instance = new WebAssembly.Instance(module, { [PREVIEW1_MODULE]: calls });
    this.exports = instance.exports;
    this.#memory = instance.exports[PYTHON_EXPORTS.memory] as WebAssembly.Memory;
    this.#stackPointer = instance.exports[PYTHON_EXPORTS.stackPointer] as WebAssembly.Global<'i32'>;
    this.#pages = instance.exports[TRACKED_PAGES_EXPORT] as WebAssembly.Global<'i32'>;
    this.meter.attach(instance);
  }

  /** As it is now; `memory.grow` detaches older views. */
  get bytes(): Uint8Array {
    return new Uint8Array(this.#memory.buffer);
  }

  /** What the guest sees as its memory. */
  get memoryBytes(): number {
    return this.#pages.value * WASM_PAGE_BYTES;
  }

  /** What the process holds for it: memory that an earlier guest grew stays. */
  get heldBytes(): number {
    return this.#memory.buffer.byteLength;
  }

  /** Of `heldBytes`, what is beyond its image. */
  get grownBytes(): number {
    return this.#image === undefined ? 0 : this.heldBytes - this.#image.memoryBytes;
  }

  /** Makes this sandbox what the image says: the same one each time. */
  restore(image: PythonImage): void {
    if (this.#image === undefined) {
      const missing = image.memoryBytes - this.heldBytes;
      if (missing > 0) this.#memory.grow(missing / WASM_PAGE_BYTES);
      image.fillFresh(this.bytes);
      this.#image = image;
    } else if (this.#image === image) image.restoreWritten(this.bytes);
    else throw new Error('the sandbox is of another image');
    this.#pages.value = image.memoryBytes / WASM_PAGE_BYTES;
    // Where the host calls to is the interpreter's to say, and not what was stored of a function.
    this.#stackPointer.value = image.base.stackPointer;
    this.#streams.reset();
    this.meter.reset();
  }

  capture(entries: PythonEntries): MemoryImage<PythonEntries> {
    const memory = this.bytes.slice(0, this.memoryBytes);
    const stackPointer = this.#stackPointer.value;
    // The stack grows down from the stack pointer, and starts at address zero: what lies below is dead.
    memory.fill(0, 0, stackPointer);
    return captureImage(memory, { stackPointer, entries });
  }

  /** Makes a sandbox that is its image what a session left. The next `restore` takes it out again. */
  async putSession(session: SessionMemory): Promise<void> {
    const missing = session.memoryBytes - this.heldBytes;
    if (missing > 0) this.#memory.grow(missing / WASM_PAGE_BYTES);
    this.#pages.value = session.memoryBytes / WASM_PAGE_BYTES;
    await putSessionMemory(session, this.bytes);
  }

  /** What its guest leaves for a next one: nothing of it may be on a stack, and `rest` was called. */
  async captureSession(): Promise<SessionMemory> {
    const image = this.#image;
    const stackPointer = this.#stackPointer.value;
    if (image === undefined || image.base.stackPointer !== stackPointer) throw new Error('the guest is not at rest');
    // The stack, as in `capture`.
    return sessionMemory(this.bytes.subarray(0, this.memoryBytes), [[0, stackPointer]], (page) => image.page(page));
  }

  /** Gives up the reference that the host got by a call. What the guest holds itself lives on. */
  release(address: number): void {
    const references = this.#guestMemory.u32(address);
    if (references > 1) this.#guestMemory.setU32(address, references - 1);
  }

  /** Calls a Python function without arguments; resolves to the address of the `bytes` that it returns, 0 where it threw. */
  call(entry: number): Promise<number> {
    if (this.#image === undefined) throw new Error('the sandbox holds no guest');
    this.#vectorcall ??= this.#vectorcallAt(this.#image.base.entries.vectorcall);
    return this.#vectorcall(entry, 0, 0, 0);
  }

  /** A copy of a `bytes` object's content; null where it is longer than `maxBytes`. */
  readBytes(address: number, maxBytes: number): Buffer | null {
    const length = this.#guestMemory.u32(address + BYTES_SIZE_AT);
    return length > maxBytes ? null : Buffer.from(this.#guestMemory.bytes(address + BYTES_AT, length));
  }

  u32(address: number): number {
    return this.#guestMemory.u32(address);
  }

  #vectorcallAt(slot: number): Vectorcall {
    const table = this.exports[PYTHON_EXPORTS.table] as WebAssembly.Table;
    return WebAssembly.promising(table.get(slot) as never) as unknown as Vectorcall;
  }

  #preview1(args: readonly Uint8Array[]): Imports {
    const currentAmbient = (): Ambient => this.hooks.ambient;
    const process: Process = {
      get ambient() {
        return currentAmbient();
      },
      args,
      environ: [],
      stdin: NOTHING,
      streams: this.#streams,
      memory: this.#guestMemory,
      onStdout: (bytes) => {
        this.hooks.onOutput('stdout', bytes);
        return true;
      },
      onStderr: (bytes) => this.hooks.onOutput('stderr', bytes),
      onChannel: (bytes) => this.hooks.onRequest(bytes),
      readChannel: (length, then) => this.hooks.readChannel(length, then),
      sleep: (ms, then) => this.hooks.sleep(ms, then),
      pay: (fuel) => this.hooks.pay(fuel),
      exit: (code) => this.hooks.exit(code),
    };
    const calls = preview1Imports(process, PREVIEW1_NAMES);
    return {
      ...calls,
      fd_pread: ((...args: PreadArguments) => this.#pread(...args)) as never,
    };
  }

  /** Of the input or the archive, whatever the descriptor; no other call reads them, so that nobody is suspended for it. */
  #pread(_fd: number, vectors: number, count: number, offset: bigint, result: number): number {
    const memory = this.#guestMemory;
    const place = Number(BigInt.asUintN(64, offset));
    const [source, start] = place < ARCHIVE_AT ? [this.hooks.input, 0] : [this.#archive, ARCHIVE_AT];
    let at = place - start;
    let total = 0;
    try {
      for (let index = 0; index < Math.min(count >>> 0, MAX_VECTORS); index++) {
        const vector = (vectors >>> 0) + index * 8;
        const part = source.subarray(at, at + memory.u32(vector + 4));
        this.hooks.pay(CALL_FUEL + part.length / COPY_BYTES_PER_FUEL);
        memory.bytes(memory.u32(vector), part.length).set(part);
        at += part.length;
        total += part.length;
      }
      memory.setU32(result, total);
      return 0;
    } catch (error) {
      if (error instanceof BadAddressError) return ERRNO_FAULT;
      throw error;
    }
  }
}

type PreadArguments = [fd: number, vectors: number, count: number, offset: bigint, result: number];

const NOTHING = new Uint8Array(0);

/** Notes what the host writes, as the guest's own code notes its stores. What the host only reads may be noted too. */
class NotingMemory extends GuestMemory {
  override bytes(address: number, length: number): Uint8Array {
    const bytes = super.bytes(address, length);
    noteWrite(new Uint8Array(bytes.buffer), bytes.byteOffset, bytes.length);
    return bytes;
  }

  override setU8(address: number, value: number): void {
    this.bytes(address, 1);
    super.setU8(address, value);
  }

  override setU16(address: number, value: number): void {
    this.bytes(address, 2);
    super.setU16(address, value);
  }

  override setU32(address: number, value: number): void {
    this.bytes(address, 4);
    super.setU32(address, value);
  }

  override setU64(address: number, value: bigint): void {
    this.bytes(address, 8);
    super.setU64(address, value);
  }
}
