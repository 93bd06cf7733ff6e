import * as polyfill from 'web-streams-polyfill';
import type { Constructor } from '../define.ts';
import { finishInterface } from '../define.ts';

type Bytes = Uint8Array<ArrayBuffer>;
type ByteStream = ReadableStream<Uint8Array>;

/** https://encoding.spec.whatwg.org/#interface-textencoderstream: a surrogate pair may be split between two chunks. */
class TextEncoderStream {
  #transform: TransformStream<string, Uint8Array>;
  constructor() {
    const encoder = new TextEncoder();
    let high = '';
    this.#transform = new polyfill.TransformStream({
      transform(chunk, controller) {
        let text = `${high}${chunk}`;
        high = '';
        const last = text.charCodeAt(text.length - 1);
        if (last >= 0xd800 && last <= 0xdbff) {
          high = text.slice(-1);
          text = text.slice(0, -1);
        }
        if (text !== '') controller.enqueue(encoder.encode(text));
      },
      flush(controller) {
        if (high !== '') controller.enqueue(encoder.encode(high));
      },
    }) as TransformStream<string, Uint8Array>;
  }
  get encoding(): string {
    return 'utf-8';
  }
  get readable(): ReadableStream<Uint8Array> {
    return this.#transform.readable;
  }
  get writable(): WritableStream<string> {
    return this.#transform.writable;
  }
}

class TextDecoderStream {
  #decoder: TextDecoder;
  #transform: TransformStream<Uint8Array, string>;
  constructor(label?: string, options?: TextDecoderOptions) {
    const decoder = new TextDecoder(label, options);
    this.#decoder = decoder;
    this.#transform = new polyfill.TransformStream({
      transform(chunk, controller) {
        const text = decoder.decode(chunk as Uint8Array, { stream: true });
        if (text !== '') controller.enqueue(text);
      },
      flush(controller) {
        const text = decoder.decode();
        if (text !== '') controller.enqueue(text);
      },
    }) as TransformStream<Uint8Array, string>;
  }
  get encoding(): string {
    return this.#decoder.encoding;
  }
  get fatal(): boolean {
    return this.#decoder.fatal;
  }
  get ignoreBOM(): boolean {
    return this.#decoder.ignoreBOM;
  }
  get readable(): ReadableStream<string> {
    return this.#transform.readable;
  }
  get writable(): WritableStream<Uint8Array> {
    return this.#transform.writable as WritableStream<Uint8Array>;
  }
}

finishInterface(TextEncoderStream, 'TextEncoderStream');
finishInterface(TextDecoderStream, 'TextDecoderStream');

const classes = { ...polyfill, TextEncoderStream, TextDecoderStream } as unknown as Record<string, Constructor>;
const { ReadableStream: Readable } = polyfill;

export interface StreamsPart {
  readonly classes: Readonly<Record<string, Constructor>>;
  isReadableStream(value: unknown): value is ReadableStream;
  isDisturbed(stream: unknown): boolean;
  fromBytes(bytes: Bytes, consumed: boolean): ByteStream;
  fromIterable(iterable: AsyncIterable<Uint8Array>): ByteStream;
  readAll(stream: ByteStream): Promise<Bytes>;
}

const CHUNK_BYTES = 65_536;

const streams: StreamsPart = {
  classes,
  isReadableStream: (value): value is ReadableStream => value instanceof Readable,
  // A field of the polyfill's; it is mangled together with the polyfill.
  isDisturbed: (stream) => (stream as { _disturbed: boolean })._disturbed,
  fromBytes(bytes, consumed) {
    let at = 0;
    const stream = new Readable({
      type: 'bytes',
      pull(controller) {
        if (at < bytes.length) controller.enqueue(bytes.slice(at, at + CHUNK_BYTES));
        at += CHUNK_BYTES;
        if (at >= bytes.length) {
          controller.close();
          controller.byobRequest?.respond(0);
        }
      },
    }) as unknown as ByteStream;
    if (consumed) void stream.cancel();
    return stream;
  },
  fromIterable: (iterable) =>
    (Readable as unknown as { from(it: AsyncIterable<Uint8Array>): ByteStream }).from(iterable),
  async readAll(stream) {
    const reader = stream.getReader();
    const chunks: Uint8Array[] = [];
    let length = 0;
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      if (!(value instanceof Uint8Array)) {
        const error = new TypeError('Received non-Uint8Array chunk');
        void reader.cancel(error).catch(() => {});
        throw error;
      }
      chunks.push(value);
      length += value.byteLength;
    }
    const only = chunks[0];
    if (chunks.length === 1 && only !== undefined && only.byteLength === only.buffer.byteLength) return only as Bytes;
    const all = new Uint8Array(length);
    let at = 0;
    for (const chunk of chunks) {
      all.set(chunk, at);
      at += chunk.byteLength;
    }
    return all;
  },
};

export default (): StreamsPart => streams;
