/**
 * How messages travel over the pipe between node and executor: `u32 length, u8 type`, then the fields of the type in
 * order. Numbers are little-endian and fixed in size, text and bytes have a u32 length in front. Neither side trusts the
 * other's frames: an executor may be controlled by what it runs.
 */

export class ProtocolError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'ProtocolError';
  }
}

export type FieldType = 'u8' | 'u32' | 'f64' | 'text' | 'bytes';

/** What may be sent: text and bytes are the same on the wire, so that UTF-8 is neither decoded nor encoded on its way. */
export interface SentTypes {
  u8: number;
  u32: number;
  f64: number;
  text: string | Uint8Array;
  bytes: string | Uint8Array;
}

/** What is received. Bytes are views into the chunk that they came in: copy what is kept. */
export interface ReceivedTypes {
  u8: number;
  u32: number;
  f64: number;
  text: string;
  bytes: Buffer;
}

/** Field names with their types, in wire order. */
export type Layout = readonly (readonly [string, FieldType])[];

export type Fields<L extends Layout, Types extends SentTypes | ReceivedTypes> = {
  readonly [E in L[number] as E[0]]: Types[E[1]];
};

const LENGTH_BYTES = 4;
const HEADER_BYTES = LENGTH_BYTES + 1;

export function encodeFrame(type: number, layout: Layout, message: Readonly<Record<string, unknown>>): Buffer {
  let size = HEADER_BYTES;
  for (const [name, kind] of layout) size += fieldBytes(kind, message[name]);
  const frame = Buffer.allocUnsafe(size);
  frame.writeUInt32LE(size - LENGTH_BYTES, 0);
  frame[LENGTH_BYTES] = type;
  let offset = HEADER_BYTES;
  for (const [name, kind] of layout) offset = writeField(frame, offset, kind, message[name]);
  return frame;
}

function fieldBytes(kind: FieldType, value: unknown): number {
  switch (kind) {
    case 'u8':
      return 1;
    case 'u32':
      return 4;
    case 'f64':
      return 8;
    case 'text':
    case 'bytes':
      return 4 + (typeof value === 'string' ? Buffer.byteLength(value) : (value as Uint8Array).length);
  }
}

function writeField(frame: Buffer, offset: number, kind: FieldType, value: unknown): number {
  switch (kind) {
    case 'u8':
      return frame.writeUInt8(value as number, offset);
    case 'u32':
      return frame.writeUInt32LE(value as number, offset);
    case 'f64':
      return frame.writeDoubleLE(value as number, offset);
    case 'text':
    case 'bytes': {
      const start = offset + 4;
      let length: number;
      if (typeof value === 'string') length = frame.write(value, start);
      else {
        frame.set(value as Uint8Array, start);
        length = (value as Uint8Array).length;
      }
      frame.writeUInt32LE(length, offset);
      return start + length;
    }
  }
}

/** Reads the fields of a frame's body; throws ProtocolError unless they fill it exactly. */
export function decodeFields(body: Buffer, layout: Layout): Record<string, unknown> {
  const message: Record<string, unknown> = {};
  let offset = 0;
  for (const [name, kind] of layout) {
    const fixed = kind === 'u8' ? 1 : kind === 'f64' ? 8 : 4;
    if (offset + fixed > body.length) throw new ProtocolError(`a frame ends within ${name}`);
    if (kind === 'u8') message[name] = body.readUInt8(offset);
    else if (kind === 'f64') message[name] = body.readDoubleLE(offset);
    else {
      const value = body.readUInt32LE(offset);
      if (kind === 'u32') message[name] = value;
      else {
        const end = offset + fixed + value;
        if (end > body.length) throw new ProtocolError(`a frame ends within ${name}`);
        message[name] =
          kind === 'text' ? body.toString('utf8', offset + fixed, end) : body.subarray(offset + fixed, end);
        offset = end;
        continue;
      }
    }
    offset += fixed;
  }
  if (offset !== body.length) throw new ProtocolError('a frame is longer than its fields');
  return message;
}

/** Cuts a stream of chunks into frames. Never holds more than one frame and one chunk. */
export class FrameReader {
  readonly #maxFrameBytes: number;
  readonly #onFrame: (type: number, body: Buffer) => void;
  #parts: Buffer[] = [];
  #held = 0;
  #wanted = LENGTH_BYTES;

  constructor(maxFrameBytes: number, onFrame: (type: number, body: Buffer) => void) {
    this.#maxFrameBytes = maxFrameBytes;
    this.#onFrame = onFrame;
  }

  /** Throws ProtocolError for a frame that is empty or too long; what `onFrame` throws goes through. */
  push(chunk: Buffer): void {
    this.#parts.push(chunk);
    this.#held += chunk.length;
    if (this.#held < this.#wanted) return;
    const data = this.#parts.length === 1 ? chunk : Buffer.concat(this.#parts, this.#held);
    let offset = 0;
    this.#wanted = LENGTH_BYTES;
    while (data.length - offset >= LENGTH_BYTES) {
      const length = data.readUInt32LE(offset);
      if (length < 1 || length > this.#maxFrameBytes) throw new ProtocolError(`a frame of ${length} bytes`);
      const end = offset + LENGTH_BYTES + length;
      if (end > data.length) {
        this.#wanted = end - offset;
        break;
      }
      this.#onFrame(data[offset + LENGTH_BYTES] as number, data.subarray(offset + HEADER_BYTES, end));
      offset = end;
    }
    this.#parts = offset < data.length ? [data.subarray(offset)] : [];
    this.#held = data.length - offset;
  }
}
