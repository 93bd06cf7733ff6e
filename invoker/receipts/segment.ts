import { constants, type ZstdOptions, zstdCompressSync } from 'node:zlib';
import { merkleRoot } from './merkle.ts';

/** What of a segment is work, and needs no key. */
export interface Segment {
  /** Of the Merkle tree over the hashes of its receipts. */
  readonly root: string;
  /** Their lines, compressed. */
  readonly receipts: Uint8Array;
}

/** Half of the default's time, and a tenth more bytes. */
const COMPRESSION: ZstdOptions = { params: { [constants.ZSTD_c_compressionLevel]: 1 } };
/** Each chunk of output is a call: two do where a segment shrinks to a tenth. */
const MIN_CHUNK_BYTES = 4_096;

/** hashes: in hex. */
export function makeSegment(hashes: readonly string[], lines: Uint8Array): Segment {
  const chunkSize = Math.max(MIN_CHUNK_BYTES, lines.length >> 2);
  return { root: merkleRoot(hashes), receipts: zstdCompressSync(lines, { ...COMPRESSION, chunkSize }) };
}
