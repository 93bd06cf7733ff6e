import { promisify } from 'node:util';
import { zstdCompress, zstdDecompress } from 'node:zlib';
import type { Code } from '../evaluator/evaluators.ts';
import type { InvocationRequest, Outcome } from '../invocation.ts';

/** Of one recording: event, meta, tape, and what goes beside them. */
export const MAX_RECORDING_BYTES = 4 * 1024 * 1024;

/** What an invocation was given, in the forms in which an executor takes it. */
export interface RecordedInput {
  readonly event: Buffer;
  readonly meta: Buffer;
  readonly tape: Buffer;
  /** Of code that was never deployed. */
  readonly code?: RecordedCode;
  /** Of a run in a session. */
  readonly session?: RecordedSession;
}

/** What a catalogue would know of it. */
export interface RecordedCode extends Code {
  /** Of code, modules and engine. */
  readonly id: string;
  /** Of the input's JSON text, which the event ends with, but for a brace around it. */
  readonly inputBytes: number;
  readonly timeoutMs: number;
  readonly memoryBytes: number;
  readonly cpu: number;
}

export interface RecordedSession {
  /** What it went on from, as the executor was given it; absent in the first run of one. */
  readonly image?: Uint8Array;
}

/** What goes beside event, meta and tape. */
export type Beside = Pick<RecordedInput, 'code' | 'session'>;

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

/** What stands before the bytes, with the lengths of all but the tape. */
interface Header {
  readonly event: number;
  readonly meta: number;
  readonly code?: RecordedCode;
  /** Bytes of the session's image; 0 where it had none. Absent where there was no session. */
  readonly image?: number;
}

const PREFIX_BYTES = 4;
/** Of a header without code. */
const MAX_LENGTHS_BYTES = 128;

export function besideOf({ inline, session }: Pick<InvocationRequest, 'inline' | 'session'>): Beside {
  const { image } = session ?? {};
  return {
    ...(inline === undefined ? {} : { code: recordedCode(inline) }),
    ...(session === undefined ? {} : { session: image === undefined ? {} : { image } }),
  };
}

function recordedCode({
  code,
  inputBytes,
  codeId: id,
  config,
}: NonNullable<InvocationRequest['inline']>): RecordedCode {
  const { timeoutMs, memoryBytes, cpu } = config;
  return { ...code, id, inputBytes, timeoutMs, memoryBytes, cpu };
}

/** What it takes of `MAX_RECORDING_BYTES`. */
export function bytesBeside({ code, session }: Beside): number {
  return (code === undefined ? 0 : Buffer.byteLength(JSON.stringify(code))) + (session?.image?.length ?? 0);
}

/** JSON text. */
export function inputIn(event: Buffer, { inputBytes }: RecordedCode): string {
  const end = event.length === inputBytes ? inputBytes : event.length - 1;
  return event.toString('utf8', end - inputBytes, end);
}

export async function packInput({ event, meta, tape, code, session }: RecordedInput): Promise<Buffer> {
  const image = session?.image ?? NOTHING;
  const header: Header = {
    event: event.length,
    meta: meta.length,
    ...(code === undefined ? {} : { code }),
    ...(session === undefined ? {} : { image: image.length }),
  };
  const json = Buffer.from(JSON.stringify(header));
  const prefix = Buffer.alloc(PREFIX_BYTES);
  prefix.writeUInt32LE(json.length);
  return compress(Buffer.concat([prefix, json, event, meta, image, tape]));
}

export async function unpackInput(packed: Buffer): Promise<RecordedInput> {
  const bytes = await decompress(packed, { maxOutputLength: MAX_RECORDING_BYTES + PREFIX_BYTES + MAX_LENGTHS_BYTES });
  let at = PREFIX_BYTES;
  const take = (length: number): Buffer => {
    if (!(Number.isInteger(length) && length >= 0 && at + length <= bytes.length)) throw new Error('bytes are missing');
    at += length;
    return bytes.subarray(at - length, at);
  };
  const { event, meta, image, code } = JSON.parse(take(bytes.readUInt32LE(0)).toString()) as Header;
  return {
    event: take(event),
    meta: take(meta),
    ...(code === undefined ? {} : { code }),
    ...(image === undefined ? {} : { session: image === 0 ? {} : { image: take(image) } }),
    tape: bytes.subarray(at),
  };
}

const NOTHING = Buffer.alloc(0);
