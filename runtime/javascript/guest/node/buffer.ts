// feross' buffer, as unenv carries it; its index throws for half of what it lists, so only the class is taken.
import { Buffer as FerossBuffer, INSPECT_MAX_BYTES, kMaxLength, SlowBuffer } from 'unenv/runtime/node/buffer/_buffer';

interface WithBase64 {
  toBase64(options?: { alphabet?: string; omitPadding?: boolean }): string;
  toHex(): string;
}
type BufferLike = Uint8Array & { toString(encoding?: string, start?: number, end?: number): string };
interface BufferClass {
  new (size: number): BufferLike;
  from(value: unknown, encoding?: unknown, length?: number): BufferLike;
  alloc(size: number, fill?: unknown, encoding?: string): BufferLike;
  concat(list: readonly Uint8Array[], length?: number): BufferLike;
  isEncoding(encoding: unknown): boolean;
  isBuffer(value: unknown): boolean;
  byteLength(value: unknown, encoding?: string): number;
  prototype: BufferLike & Record<string, unknown>;
}

export const Buffer = FerossBuffer as unknown as BufferClass;

const { from, isEncoding, byteLength } = Buffer;
const { toString: slowText, write } = Buffer.prototype as unknown as {
  toString: BufferLike['toString'];
  write: (text: string, ...rest: unknown[]) => number;
};
const isBase64url = (encoding: unknown): boolean =>
  typeof encoding === 'string' && encoding.toLowerCase() === 'base64url';
/** What Node's lenient decoder does: either alphabet, padding or not, the rest ignored. */
const standardBase64 = (text: string): string => text.replaceAll('-', '+').replaceAll('_', '/');
const TEXT = new TextDecoder('utf-8', { ignoreBOM: true });
const ENCODE = new TextEncoder();

/** Bytes as text in the commonest encodings, by the engine's own code: ten times as fast as the class's loops. */
function nativeText(bytes: Uint8Array, encoding: string): string | undefined {
  switch (encoding.toLowerCase()) {
    case 'utf8':
    case 'utf-8':
      return TEXT.decode(bytes);
    case 'base64':
      return (bytes as unknown as WithBase64).toBase64();
    case 'base64url':
      return (bytes as unknown as WithBase64).toBase64({ alphabet: 'base64url', omitPadding: true });
    case 'hex':
      return (bytes as unknown as WithBase64).toHex();
    default:
      return undefined;
  }
}

Object.defineProperty(Buffer, 'name', { value: 'Buffer', configurable: true });
Object.assign(Buffer, {
  from(value: unknown, encoding?: unknown, length?: number): BufferLike {
    if (typeof value === 'string') {
      const name = encoding === undefined ? 'utf8' : `${encoding as string}`.toLowerCase();
      if (name === 'utf8' || name === 'utf-8') {
        const bytes = ENCODE.encode(value);
        return from.call(Buffer, bytes.buffer, 0, bytes.length);
      }
      if (name === 'base64url' || name === 'base64') return from.call(Buffer, standardBase64(value), 'base64');
    }
    return from.call(Buffer, value, encoding, length);
  },
  isEncoding: (encoding: unknown): boolean => isBase64url(encoding) || isEncoding.call(Buffer, encoding),
  byteLength(value: unknown, encoding?: string): number {
    if (typeof value === 'string' && isBase64url(encoding))
      return Math.floor((value.replace(/=+$/, '').length * 3) / 4);
    return byteLength.call(Buffer, value, encoding);
  },
});
Object.assign(Buffer.prototype, {
  toString(this: BufferLike, encoding: string = 'utf8', start = 0, end = this.length): string {
    const whole = start <= 0 && end >= this.length;
    const bytes = whole ? this : this.subarray(Math.max(0, start), Math.max(0, end));
    return nativeText(bytes, encoding) ?? slowText.call(bytes, encoding);
  },
  write(this: BufferLike, text: string, ...rest: unknown[]): number {
    const encoding = rest.at(-1);
    if (isBase64url(encoding)) return write.call(this, standardBase64(text), ...rest.slice(0, -1), 'base64');
    return write.call(this, text, ...rest);
  },
});
for (const name of ['toString', 'write', 'from', 'isEncoding', 'byteLength']) {
  const owner = name === 'toString' || name === 'write' ? Buffer.prototype : Buffer;
  Object.defineProperty(owner, name, { enumerable: false });
}
for (const kind of [
  'readBigUInt64',
  'readBigInt64',
  'writeBigUInt64',
  'writeBigInt64',
  'readUInt8',
  'readUInt16',
  'readUInt32',
  'writeUInt8',
  'writeUInt16',
  'writeUInt32',
]) {
  const prototype = Buffer.prototype as unknown as Record<string, unknown>;
  for (const end of ['', 'LE', 'BE']) {
    const method = prototype[kind + end];
    const alias = (kind + end).replace('UInt', 'Uint');
    if (method !== undefined)
      Object.defineProperty(prototype, alias, { value: method, writable: true, configurable: true });
  }
}

const { Blob, File, atob, btoa } = globalThis;

export { atob, Blob, btoa, File, INSPECT_MAX_BYTES, kMaxLength, SlowBuffer };
export const kStringMaxLength = 2 ** 29 - 24;
export const constants = { MAX_LENGTH: kMaxLength as number, MAX_STRING_LENGTH: kStringMaxLength };

const bytesOf = (input: ArrayBuffer | ArrayBufferView): Uint8Array =>
  ArrayBuffer.isView(input) ? new Uint8Array(input.buffer, input.byteOffset, input.byteLength) : new Uint8Array(input);

export function isUtf8(input: ArrayBuffer | ArrayBufferView): boolean {
  try {
    new TextDecoder('utf-8', { fatal: true }).decode(bytesOf(input));
    return true;
  } catch {
    return false;
  }
}

export const isAscii = (input: ArrayBuffer | ArrayBufferView): boolean => bytesOf(input).every((byte) => byte < 128);

export default {
  Buffer,
  SlowBuffer,
  kMaxLength,
  kStringMaxLength,
  constants,
  INSPECT_MAX_BYTES,
  Blob,
  File,
  atob,
  btoa,
  isUtf8,
  isAscii,
};
