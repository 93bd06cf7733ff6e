/**
 * The other half of `packSource` (`bundle-lazy.ts`): ASCII text with back-references, a byte a character of `packed`.
 * 0..127 is that character; 10LLOOOO + 1 byte copies 3..6 characters from up to 4 KiB back; 11LLLLLL + 2 bytes copies
 * 4..67 from up to 64 KiB back. Copies never overlap what they write.
 */
export function unpackSource(packed: string, lengthBytes: number): string {
  const out = new Uint8Array(lengthBytes);
  let to = 0;
  for (let at = 0; at < packed.length; ) {
    const code = packed.charCodeAt(at);
    if (code < 128) {
      out[to] = code;
      to += 1;
      at += 1;
      continue;
    }
    const near = code < 192;
    const length = near ? ((code >> 4) & 3) + 3 : (code & 63) + 4;
    const back = near
      ? ((code & 15) << 8) | packed.charCodeAt(at + 1)
      : (packed.charCodeAt(at + 1) << 8) | packed.charCodeAt(at + 2);
    out.copyWithin(to, to - back, to - back + length);
    to += length;
    at += near ? 2 : 3;
  }
  return new TextDecoder().decode(out);
}
