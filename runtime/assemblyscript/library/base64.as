/** RFC 4648, section 4. */

const LETTERS: string = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

export function encodeBase64(bytes: ArrayBuffer): string {
  const source = Uint8Array.wrap(bytes);
  const out: string[] = [];
  for (let i = 0; i < source.length; i += 3) {
    const left = source.length - i;
    const group = (<i32>source[i] << 16) | (left > 1 ? <i32>source[i + 1] << 8 : 0) | (left > 2 ? <i32>source[i + 2] : 0);
    out.push(LETTERS.charAt(group >> 18) + LETTERS.charAt((group >> 12) & 63));
    out.push(left > 1 ? LETTERS.charAt((group >> 6) & 63) : "=");
    out.push(left > 2 ? LETTERS.charAt(group & 63) : "=");
  }
  return out.join("");
}

/** Of what `encodeBase64` makes; what is no letter of its counts as the end. */
export function decodeBase64(text: string): ArrayBuffer {
  const out = new Uint8Array((text.length / 4) * 3 + 3);
  let length = 0;
  let group = 0;
  let bits = 0;
  for (let i = 0; i < text.length; i++) {
    const value = LETTERS.indexOf(text.charAt(i));
    if (value < 0) break;
    group = ((group << 6) | value) & 0xffffff;
    bits += 6;
    if (bits < 8) continue;
    bits -= 8;
    out[length++] = <u8>(group >> bits);
  }
  return out.buffer.slice(0, length);
}
