const encoder = new TextEncoder();
/** Below this length a loop beats `subarray` + `set`, which allocates a view (measured: about 100 bytes). */
const SHORT_COPY_BYTES = 96;

export function u32(value: number): number[] {
  const out: number[] = [];
  let rest = value >>> 0;
  while (rest > 0x7f) {
    out.push((rest & 0x7f) | 0x80);
    rest >>>= 7;
  }
  out.push(rest);
  return out;
}

export function s32(value: number): number[] {
  const out: number[] = [];
  let rest = value | 0;
  for (;;) {
    const byte = rest & 0x7f;
    rest >>= 7;
    if ((rest === 0 && (byte & 0x40) === 0) || (rest === -1 && (byte & 0x40) !== 0)) {
      out.push(byte);
      return out;
    }
    out.push(byte | 0x80);
  }
}

export function name(text: string): number[] {
  const bytes = encoder.encode(text);
  return [...u32(bytes.length), ...bytes];
}

/** Growing output. Lengths that are known only afterwards take a five-byte hole (padded LEB128 is valid wasm). */
export class ByteWriter {
  #bytes: Uint8Array;
  length = 0;

  constructor(capacity: number) {
    this.#bytes = new Uint8Array(Math.max(capacity, 64));
  }

  u8(value: number): void {
    this.#reserve(1);
    this.#bytes[this.length++] = value;
  }

  u32(value: number): void {
    this.#reserve(5);
    let rest = value >>> 0;
    while (rest > 0x7f) {
      this.#bytes[this.length++] = (rest & 0x7f) | 0x80;
      rest >>>= 7;
    }
    this.#bytes[this.length++] = rest;
  }

  s32(value: number): void {
    this.#reserve(5);
    let rest = value | 0;
    for (;;) {
      const byte = rest & 0x7f;
      rest >>= 7;
      if ((rest === 0 && (byte & 0x40) === 0) || (rest === -1 && (byte & 0x40) !== 0)) {
        this.#bytes[this.length++] = byte;
        return;
      }
      this.#bytes[this.length++] = byte | 0x80;
    }
  }

  append(values: readonly number[] | Uint8Array): void {
    this.#reserve(values.length);
    this.#bytes.set(values, this.length);
    this.length += values.length;
  }

  copy(source: Uint8Array, start: number, end: number): void {
    this.#reserve(end - start);
    if (end - start > SHORT_COPY_BYTES) {
      this.#bytes.set(source.subarray(start, end), this.length);
      this.length += end - start;
      return;
    }
    const bytes = this.#bytes;
    let to = this.length;
    for (let from = start; from < end; from++) bytes[to++] = source[from]!;
    this.length = to;
  }

  /** Leaves room for a length and returns where. */
  hole(): number {
    this.#reserve(5);
    this.length += 5;
    return this.length - 5;
  }

  /** Fills a hole with the number of bytes written since. */
  fill(hole: number): void {
    let rest = this.length - hole - 5;
    for (let i = 0; i < 4; i++) {
      this.#bytes[hole + i] = (rest & 0x7f) | 0x80;
      rest >>>= 7;
    }
    this.#bytes[hole + 4] = rest;
  }

  view(): Uint8Array {
    return this.#bytes.subarray(0, this.length);
  }

  #reserve(count: number): void {
    if (this.length + count <= this.#bytes.length) return;
    const grown = new Uint8Array(Math.max(this.#bytes.length * 2, this.length + count));
    grown.set(this.#bytes.subarray(0, this.length));
    this.#bytes = grown;
  }
}
