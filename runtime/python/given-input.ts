const LENGTHS_BYTES = 8;

/** What a guest is given to begin with: two messages behind their lengths. */
export function given(first: Uint8Array, second: Uint8Array): Uint8Array {
  const lengths = Buffer.alloc(LENGTHS_BYTES);
  lengths.writeUInt32LE(first.length, 0);
  lengths.writeUInt32LE(second.length, 4);
  return Buffer.concat([lengths, first, second]);
}
