/** As much of DER as the key formats SubjectPublicKeyInfo (RFC 5280), PrivateKeyInfo (RFC 5208) and RFC 5915 need. */

type Bytes = Uint8Array<ArrayBuffer>;

export const SEQUENCE = 0x30;
export const INTEGER = 2;
export const BIT_STRING = 3;
export const OCTET_STRING = 4;
export const OID = 6;

export interface DerNode {
  readonly tag: number;
  readonly content: Bytes;
}

export const concat = (...pieces: readonly Uint8Array[]): Bytes => {
  const all = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    all.set(piece, at);
    at += piece.length;
  }
  return all;
};

/** The nodes that stand one after the other in `bytes`. Throws a RangeError if they are cut short. */
export function readDer(bytes: Bytes): DerNode[] {
  const nodes: DerNode[] = [];
  for (let at = 0; at < bytes.length; ) {
    const tag = bytes[at] as number;
    let length = bytes[at + 1] ?? 0x80;
    at += 2;
    if (length >= 0x80) {
      const count = length & 0x7f;
      if (count === 0 || count > 4) throw new RangeError('DER length');
      length = 0;
      for (let i = 0; i < count; i += 1) length = length * 256 + (bytes[at + i] ?? 0);
      at += count;
    }
    if (at + length > bytes.length) throw new RangeError('DER is cut short');
    nodes.push({ tag, content: bytes.slice(at, at + length) });
    at += length;
  }
  return nodes;
}

export function der(tag: number, ...contents: readonly Uint8Array[]): Bytes {
  const content = concat(...contents);
  const { length } = content;
  if (length < 0x80) return concat(new Uint8Array([tag, length]), content);
  const bytes: number[] = [];
  for (let rest = length; rest > 0; rest = Math.floor(rest / 256)) bytes.unshift(rest & 255);
  return concat(new Uint8Array([tag, 0x80 | bytes.length, ...bytes]), content);
}

/** An unsigned integer; DER wants a leading zero if its first bit is set. */
export function derInteger(value: Uint8Array): Bytes {
  let start = 0;
  while (start < value.length - 1 && value[start] === 0) start += 1;
  const trimmed = value.subarray(start);
  return (trimmed[0] ?? 0) >= 0x80 ? der(INTEGER, new Uint8Array(1), trimmed) : der(INTEGER, trimmed);
}

export const unsigned = (bytes: Bytes): Bytes => (bytes.length > 1 && bytes[0] === 0 ? bytes.slice(1) : bytes);
