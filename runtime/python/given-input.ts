import type { Process } from '../command/index.ts';

const LENGTHS_BYTES = 8;

/** What a guest reads first from its channel: two messages behind their lengths, and then the end, or what `then` gives. */
export function given(
  first: Uint8Array,
  second: Uint8Array,
  andThen: Process['readChannel'] = (_length, then) => then(new Uint8Array(0)),
): Process['readChannel'] {
  const lengths = Buffer.alloc(LENGTHS_BYTES);
  lengths.writeUInt32LE(first.length, 0);
  lengths.writeUInt32LE(second.length, 4);
  const messages = Buffer.concat([lengths, first, second]);
  let at = 0;
  return (length, then) => {
    if (at === messages.length) return andThen(length, then);
    const bytes = messages.subarray(at, at + length);
    at += bytes.length;
    return then(bytes);
  };
}
