/** Bytes cross the door as base64 text. Both ways are native in the engine; captured so that a guest can't break them. */

interface Uint8ArrayWithBase64 {
  toBase64(): string;
}
type FromBase64 = (text: string) => Uint8Array<ArrayBuffer>;

const apply = Reflect.apply;
const toBase64 = (Uint8Array.prototype as unknown as Uint8ArrayWithBase64).toBase64;
const fromBase64 = (Uint8Array as unknown as { fromBase64: FromBase64 }).fromBase64;

export function bytesToBase64(bytes: Uint8Array): string {
  return apply(toBase64, bytes, []) as string;
}

/** Throws a SyntaxError if the text is not base64. */
export function base64ToBytes(text: string): Uint8Array<ArrayBuffer> {
  return apply(fromBase64, Uint8Array, [text]) as Uint8Array<ArrayBuffer>;
}
