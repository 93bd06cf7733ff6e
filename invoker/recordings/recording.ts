import { promisify } from 'node:util';
import { zstdCompress, zstdDecompress } from 'node:zlib';
import type { Outcome } from '../invocation.ts';

/** Of one recording: event, meta and tape. */
export const MAX_RECORDING_BYTES = 4 * 1024 * 1024;

/** What an invocation was given, in the forms in which an executor takes it. */
export interface RecordedInput {
  readonly event: Buffer;
  readonly meta: Buffer;
  readonly tape: Buffer;
}

export interface Recording {
  readonly invocationId: string;
  readonly functionName: string;
  readonly version: number;
  readonly versionId: string;
  /** Of the node that ran it. */
  readonly engineId: string;
  readonly outcome: Outcome;
  /** Milliseconds since the epoch. */
  readonly startedAtMs: number;
  /** Or why there is none. */
  readonly input: RecordedInput | { readonly lost: string };
}

const compress = promisify(zstdCompress);
const decompress = promisify(zstdDecompress);

export async function packInput({ event, meta, tape }: RecordedInput): Promise<Buffer> {
  const lengths = Buffer.alloc(8);
  lengths.writeUInt32LE(event.length, 0);
  lengths.writeUInt32LE(meta.length, 4);
  return compress(Buffer.concat([lengths, event, meta, tape]));
}

export async function unpackInput(packed: Buffer): Promise<RecordedInput> {
  const bytes = await decompress(packed, { maxOutputLength: MAX_RECORDING_BYTES + 8 });
  const [eventLength, metaLength] = [bytes.readUInt32LE(0), bytes.readUInt32LE(4)];
  const metaAt = 8 + eventLength;
  return {
    event: bytes.subarray(8, metaAt),
    meta: bytes.subarray(metaAt, metaAt + metaLength),
    tape: bytes.subarray(metaAt + metaLength),
  };
}
