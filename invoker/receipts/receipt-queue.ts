/**
 * Receipts that wait to be written, oldest first, bounded by number and by length: one with a hundred host calls has 25 KB. They
 * wait as bytes, as they will be written: as texts they were the half of what lived long enough to be garbage of the expensive
 * sort.
 */

export interface Room {
  readonly receipts: number;
  readonly bytes: number;
}

/** Receipts in a row, one at least. */
export interface ReceiptRun {
  readonly first: number;
  readonly last: number;
  /** Hash of the receipt before. */
  readonly prev: string;
  /** Of each, in hex. */
  readonly hashes: readonly string[];
  /** Their texts, each with a line break. */
  readonly lines: Uint8Array;
}

const LINE_BREAK = 0x0a;
const FIRST_BYTES = 64 * 1024;
/** More than that is left from a time when the database was away. */
const KEPT_BYTES = 8 * 1024 * 1024;
/** Of UTF-16. */
const MAX_BYTES_PER_CHARACTER = 3;

export class ReceiptQueue {
  #bytes = Buffer.allocUnsafeSlow(FIRST_BYTES);
  /** Where each ends, in `#bytes`. */
  #ends: number[] = [];
  #hashes: string[] = [];
  /** Of the oldest. */
  #first = 0;
  #prev: string;

  /** prev: what the first receipt has as the one before. */
  constructor(prev: string) {
    this.#prev = prev;
  }

  /** The next one; seq follows. */
  push(text: string, hash: string): void {
    const at = this.#length;
    this.#makeRoom(at + text.length * MAX_BYTES_PER_CHARACTER + 1);
    const end = at + this.#bytes.write(text, at);
    this.#bytes[end] = LINE_BREAK;
    this.#ends.push(end + 1);
    this.#hashes.push(hash);
  }

  /** Place in the chain of the oldest, or of the next one to come. */
  get first(): number {
    return this.#first;
  }

  /** Whether it has as much as there is room for. */
  fills({ receipts, bytes }: Room): boolean {
    return this.#ends.length >= receipts || this.#length >= bytes;
  }

  /** As many as there is room for, but one at least; undefined where there is none. */
  take(room: Room): ReceiptRun | undefined {
    if (this.#ends.length === 0) return undefined;
    let count = 1;
    while (count < room.receipts && (this.#ends[count] ?? Number.POSITIVE_INFINITY) <= room.bytes) count++;
    const [first, prev] = [this.#first, this.#prev];
    const lines = Buffer.from(this.#bytes.subarray(0, this.#ends[count - 1]));
    const hashes = this.#shift(count);
    return { first, last: first + count - 1, prev, hashes, lines };
  }

  /** Removes the oldest, until what is left has room. Says how many. */
  shrink(room: Room): number {
    const count = this.#ends.length;
    let dropped = Math.max(0, count - room.receipts);
    while (dropped < count && this.#length - this.#endOf(dropped) > room.bytes) dropped++;
    this.#shift(dropped);
    return dropped;
  }

  get #length(): number {
    return this.#ends.at(-1) ?? 0;
  }

  /** Of so many. */
  #endOf(count: number): number {
    return count === 0 ? 0 : (this.#ends[count - 1] as number);
  }

  /** Returns the hashes of what goes. */
  #shift(count: number): string[] {
    const end = this.#endOf(count);
    const hashes = this.#hashes.splice(0, count);
    if (end < this.#length) this.#bytes.copyWithin(0, end, this.#length);
    else if (this.#bytes.length > KEPT_BYTES) this.#bytes = Buffer.allocUnsafeSlow(FIRST_BYTES);
    this.#ends = this.#ends.slice(count).map((at) => at - end);
    this.#first += count;
    this.#prev = hashes.at(-1) ?? this.#prev;
    return hashes;
  }

  #makeRoom(bytes: number): void {
    if (bytes <= this.#bytes.length) return;
    const larger = Buffer.allocUnsafeSlow(Math.max(bytes, 2 * this.#bytes.length));
    this.#bytes.copy(larger, 0, 0, this.#length);
    this.#bytes = larger;
  }
}
