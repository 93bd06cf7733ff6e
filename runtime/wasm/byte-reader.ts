import { ModuleRefusedError } from './errors.ts';

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** A cursor over wasm bytes that never leaves [offset, end): what runs over is refused, not read as undefined. */
export class ByteReader {
  readonly bytes: Uint8Array;
  readonly end: number;
  offset: number;

  constructor(bytes: Uint8Array, offset = 0, end = bytes.length) {
    this.bytes = bytes;
    this.offset = offset;
    this.end = end;
  }

  get done(): boolean {
    return this.offset >= this.end;
  }

  u8(): number {
    if (this.offset >= this.end) throw truncated(this.offset);
    return this.bytes[this.offset++]!;
  }

  peek(): number {
    if (this.offset >= this.end) throw truncated(this.offset);
    return this.bytes[this.offset]!;
  }

  u32(): number {
    let value = 0;
    for (let shift = 0; shift < 35; shift += 7) {
      const byte = this.u8();
      if (shift === 28 && byte > 0x0f)
        throw new ModuleRefusedError('invalid module', `integer too large at ${this.offset}`);
      value |= (byte & 0x7f) << shift;
      if (byte < 0x80) return value >>> 0;
    }
    throw new ModuleRefusedError('invalid module', `integer too long at ${this.offset}`);
  }

  s32(): number {
    let value = 0;
    for (let shift = 0; shift < 35; shift += 7) {
      const byte = this.u8();
      value |= (byte & 0x7f) << shift;
      if (byte >= 0x80) continue;
      return shift < 25 && (byte & 0x40) !== 0 ? value | (-1 << (shift + 7)) : value;
    }
    throw new ModuleRefusedError('invalid module', `integer too long at ${this.offset}`);
  }

  /** A count of items of which each takes a byte at least: a forged count cannot make us allocate. */
  count(): number {
    const value = this.u32();
    if (value > this.end - this.offset) throw truncated(this.offset);
    return value;
  }

  /** Steps over a LEB128 integer of any width (at most 10 bytes). */
  skipInteger(): void {
    for (let i = 0; i < 10; i++) if (this.u8() < 0x80) return;
    throw new ModuleRefusedError('invalid module', `integer too long at ${this.offset}`);
  }

  skip(length: number): void {
    if (length > this.end - this.offset) throw truncated(this.offset);
    this.offset += length;
  }

  slice(length: number): Uint8Array {
    const start = this.offset;
    this.skip(length);
    return this.bytes.subarray(start, this.offset);
  }

  name(): string {
    const bytes = this.slice(this.u32());
    try {
      return utf8.decode(bytes);
    } catch {
      throw new ModuleRefusedError('invalid module', 'a name is not UTF-8');
    }
  }
}

function truncated(offset: number): ModuleRefusedError {
  return new ModuleRefusedError('invalid module', `ends too early at ${offset}`);
}
