const FIRST_BYTES = 1_024;
const MAX_IDLE_BYTES = 65_536;
const NEWLINE = 10;

/** A stream's bytes on their way: put in at the end in pieces of any size, taken from the front. One buffer, whatever is in it. */
export class ByteQueue {
  #bytes: Buffer<ArrayBuffer> = Buffer.alloc(0);
  #start = 0;
  #end = 0;
  /** No newline stands between the start and here. */
  #searchedTo = 0;

  get length(): number {
    return this.#end - this.#start;
  }

  append(bytes: Uint8Array): void {
    if (this.#end + bytes.length > this.#bytes.length) this.#makeRoom(this.length + bytes.length);
    this.#bytes.set(bytes, this.#end);
    this.#end += bytes.length;
  }

  /** At most `length`; a copy. */
  take(length: number): Buffer {
    const end = Math.min(this.#end, this.#start + length);
    const taken = Buffer.from(this.#bytes.subarray(this.#start, end));
    this.#advance(end);
    return taken;
  }

  /** Up to the first newline, which goes with it; undefined where there is none yet. */
  takeLine(): Buffer | undefined {
    const end = this.#bytes.subarray(0, this.#end).indexOf(NEWLINE, this.#searchedTo);
    if (end === -1) {
      this.#searchedTo = this.#end;
      return undefined;
    }
    const line = Buffer.from(this.#bytes.subarray(this.#start, end));
    this.#advance(end + 1);
    return line;
  }

  #advance(to: number): void {
    this.#start = to;
    this.#searchedTo = Math.max(this.#searchedTo, to);
    if (to < this.#end) return;
    this.#start = this.#end = this.#searchedTo = 0;
    if (this.#bytes.length > MAX_IDLE_BYTES) this.#bytes = Buffer.alloc(0);
  }

  #makeRoom(length: number): void {
    const live = this.#bytes.subarray(this.#start, this.#end);
    // Moved only where half of it is free then, so that each byte is moved a few times at most.
    const target =
      2 * length <= this.#bytes.length ? this.#bytes : Buffer.allocUnsafeSlow(Math.max(FIRST_BYTES, 2 * length));
    target.set(live);
    this.#searchedTo -= this.#start;
    this.#end -= this.#start;
    this.#start = 0;
    this.#bytes = target;
  }
}
