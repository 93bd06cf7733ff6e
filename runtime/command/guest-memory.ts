/** A guest's memory as its host calls see it: addresses and lengths may be anything, and are checked by the views. */

/** An address or a length that does not lie in the memory. */
export class BadAddressError extends Error {
  constructor() {
    super('an address outside of the memory');
  }
}

/** One for all: a guest may cause some thousands in a slice, and to look at the stack for each takes 15 µs. */
const BAD_ADDRESS = new BadAddressError();
const NO_MEMORY = new ArrayBuffer(0);

export class GuestMemory {
  readonly #memoryOf: () => WebAssembly.Memory | undefined;
  #view = new DataView(new ArrayBuffer(0));

  /** The memory is there once the instance is; a start function finds none. */
  constructor(memoryOf: () => WebAssembly.Memory | undefined) {
    this.#memoryOf = memoryOf;
  }

  /** As it is now: `memory.grow` detaches what was there before. */
  get #buffer(): ArrayBuffer {
    return this.#memoryOf()?.buffer ?? NO_MEMORY;
  }

  /** A view; good until the guest runs again. */
  bytes(address: number, length: number): Uint8Array {
    const start = address >>> 0;
    const size = length >>> 0;
    const buffer = this.#buffer;
    if (start + size > buffer.byteLength) throw BAD_ADDRESS;
    return new Uint8Array(buffer, start, size);
  }

  u8(address: number): number {
    return this.#checked(address, 1).getUint8(address >>> 0);
  }

  u16(address: number): number {
    return this.#checked(address, 2).getUint16(address >>> 0, true);
  }

  u32(address: number): number {
    return this.#checked(address, 4).getUint32(address >>> 0, true);
  }

  u64(address: number): bigint {
    return this.#checked(address, 8).getBigUint64(address >>> 0, true);
  }

  setU8(address: number, value: number): void {
    this.#checked(address, 1).setUint8(address >>> 0, value);
  }

  setU16(address: number, value: number): void {
    this.#checked(address, 2).setUint16(address >>> 0, value, true);
  }

  setU32(address: number, value: number): void {
    this.#checked(address, 4).setUint32(address >>> 0, value, true);
  }

  setU64(address: number, value: bigint): void {
    this.#checked(address, 8).setBigUint64(address >>> 0, value, true);
  }

  #checked(address: number, size: number): DataView {
    const buffer = this.#buffer;
    if ((address >>> 0) + size > buffer.byteLength) throw BAD_ADDRESS;
    if (this.#view.buffer !== buffer) this.#view = new DataView(buffer);
    return this.#view;
  }
}
