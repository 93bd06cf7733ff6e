import {
  Z_BUF_ERROR,
  Z_DEFAULT_STRATEGY,
  Z_FINISH,
  Z_NO_FLUSH,
  Z_OK,
  Z_STREAM_END,
  ZStream,
  zlibDeflate,
  zlibDeflateInit2,
  zlibInflate,
  zlibInflateInit2,
} from 'pako';
import type { Constructor } from '../define.ts';
import { finishInterface } from '../define.ts';
import type { part } from '../parts.ts';

/** https://compression.spec.whatwg.org, over pako's zlib. */

const CHUNK_BYTES = 65_536;
/** Of deflateInit2. Level 1: half the work of zlib's usual 6, and a quarter more bytes (measured on source code). */
const [LEVEL, DEFLATED, MEMORY_LEVEL] = [1, 8, 8];
/** zlib's way to say which wrapper is around the deflated bytes: raw is negative, gzip adds 16. */
const WINDOW_BITS: Readonly<Record<string, number>> = { deflate: 15, 'deflate-raw': -15, gzip: 31 };

type Bytes = Uint8Array<ArrayBuffer>;

/** Takes one input at a time, and gives its output in chunks as they are asked for. */
interface Codec {
  take(input: Uint8Array): void;
  /** undefined: there is no more without another input. Throws TypeError for what can't be decoded. */
  next(): Bytes | undefined;
  /** All that is left after the last input. Throws TypeError where the input ended too early. */
  finish(): Bytes[];
}

function wrapperOf(format: unknown): number {
  const name = `${format as string}`;
  if (!Object.hasOwn(WINDOW_BITS, name))
    throw new TypeError(
      `The compression format '${name.slice(0, 80)}' is none of ${Object.keys(WINDOW_BITS).join(', ')}`,
    );
  return WINDOW_BITS[name] as number;
}

const EMPTY = new Uint8Array(0);

/** zlib's stream with one buffer for its output, which is copied out whenever it is full or there is no more. */
function zlibStream(): { stream: ZStream; take(input: Uint8Array): void; room(): void; output(): Bytes | undefined } {
  const stream = new ZStream();
  const buffer = new Uint8Array(CHUNK_BYTES);
  return {
    stream,
    take(input) {
      stream.input = input;
      stream.next_in = 0;
      stream.avail_in = input.length;
    },
    room() {
      stream.output = buffer;
      stream.next_out = 0;
      stream.avail_out = CHUNK_BYTES;
    },
    output: () => (stream.next_out === 0 ? undefined : buffer.slice(0, stream.next_out)),
  };
}

function deflater(windowBits: number): Codec {
  const { stream, take, room, output } = zlibStream();
  zlibDeflateInit2(stream, LEVEL, DEFLATED, windowBits, MEMORY_LEVEL, Z_DEFAULT_STRATEGY);
  const step = (flush: typeof Z_NO_FLUSH | typeof Z_FINISH): Bytes | undefined => {
    room();
    zlibDeflate(stream, flush);
    return output();
  };
  return {
    take,
    // Full output is what says that there may be more of it.
    next: () => (stream.avail_in === 0 && stream.avail_out !== 0 ? undefined : step(Z_NO_FLUSH)),
    finish() {
      take(EMPTY);
      const rest: Bytes[] = [];
      for (let chunk = step(Z_FINISH); chunk !== undefined; chunk = step(Z_FINISH)) {
        rest.push(chunk);
        if (stream.avail_out !== 0) break;
      }
      return rest;
    },
  };
}

function inflater(windowBits: number): Codec {
  const { stream, take, room, output } = zlibStream();
  zlibInflateInit2(stream, windowBits);
  stream.avail_out = 1;
  let ended = false;
  return {
    take,
    next() {
      if (ended) {
        if (stream.avail_in > 0) throw new TypeError('There are more bytes after the end of the compressed data');
        return undefined;
      }
      if (stream.avail_in === 0 && stream.avail_out !== 0) return undefined;
      room();
      const status = zlibInflate(stream, Z_NO_FLUSH);
      if (status !== Z_OK && status !== Z_STREAM_END && status !== Z_BUF_ERROR)
        throw new TypeError(`The compressed data was not valid: ${stream.msg || 'it needs a dictionary'}`);
      ended = status === Z_STREAM_END;
      return output() ?? this.next();
    },
    finish() {
      if (!ended) throw new TypeError('The compressed data ended too early');
      return [];
    },
  };
}

/** A copy: what is written is read in several turns, and its owner may go on writing to it. */
function bytesOf(chunk: unknown): Bytes {
  if (ArrayBuffer.isView(chunk))
    return new Uint8Array(chunk.buffer as ArrayBuffer, chunk.byteOffset, chunk.byteLength).slice();
  if (chunk instanceof ArrayBuffer) return new Uint8Array(chunk).slice();
  throw new TypeError('What is written to a compression stream must be an ArrayBuffer or a view of one');
}

interface Pair {
  readonly readable: ReadableStream<Bytes>;
  readonly writable: WritableStream<BufferSource>;
}

/**
 * Two ends as a TransformStream has them, but for one thing: a chunk is read and its output made only as it is asked for. So a
 * small input that is endless once it is inflated takes no more memory than its reader does.
 */
function pairOf(codec: Codec, { ReadableStream, WritableStream }: typeof globalThis): Pair {
  let source!: ReadableStreamDefaultController<Bytes>;
  let sink!: WritableStreamDefaultController;
  let over = false;
  /** The write under way; it is done when all its output was asked for. */
  let write: PromiseWithResolvers<void> | undefined;
  /** The pull that waits for a write. */
  let pull: PromiseWithResolvers<void> | undefined;
  const wake = (): void => {
    pull?.resolve();
    pull = undefined;
  };
  const end = (): void => {
    over = true;
    write?.resolve();
    write = undefined;
    wake();
  };
  const stop = (reason: unknown): void => {
    sink.error(reason);
    write?.reject(reason);
    end();
  };
  const fail = (error: unknown): void => {
    if (over) return;
    source.error(error);
    stop(error);
  };
  const attempt = <T>(work: () => T): T => {
    try {
      return work();
    } catch (error) {
      fail(error);
      throw error;
    }
  };
  const readable = new ReadableStream<Bytes>(
    {
      start(controller) {
        source = controller;
      },
      async pull(controller) {
        while (!over) {
          const chunk = write === undefined ? undefined : attempt(() => codec.next());
          if (chunk !== undefined) {
            controller.enqueue(chunk);
            return;
          }
          write?.resolve();
          write = undefined;
          pull = Promise.withResolvers();
          await pull.promise;
        }
      },
      cancel: stop,
    },
    { highWaterMark: 0 },
  );
  const writable = new WritableStream<BufferSource>({
    start(controller) {
      sink = controller;
    },
    write(chunk) {
      codec.take(attempt(() => bytesOf(chunk)));
      write = Promise.withResolvers();
      wake();
      return write.promise;
    },
    close() {
      for (const chunk of attempt(() => codec.finish())) source.enqueue(chunk);
      source.close();
      end();
    },
    abort(reason) {
      source.error(reason);
      end();
    },
  });
  return { readable, writable };
}

export interface CompressionPart {
  readonly classes: Readonly<Record<string, Constructor>>;
}

export default (shared: { part: typeof part }): CompressionPart => {
  const streams = shared.part('streams').classes as unknown as typeof globalThis;
  class CompressionStream {
    readonly #pair: Pair;
    constructor(format: string) {
      this.#pair = pairOf(deflater(wrapperOf(format)), streams);
    }
    get readable(): ReadableStream<Bytes> {
      return this.#pair.readable;
    }
    get writable(): WritableStream<BufferSource> {
      return this.#pair.writable;
    }
  }
  class DecompressionStream {
    readonly #pair: Pair;
    constructor(format: string) {
      this.#pair = pairOf(inflater(wrapperOf(format)), streams);
    }
    get readable(): ReadableStream<Bytes> {
      return this.#pair.readable;
    }
    get writable(): WritableStream<BufferSource> {
      return this.#pair.writable;
    }
  }
  finishInterface(CompressionStream, 'CompressionStream');
  finishInterface(DecompressionStream, 'DecompressionStream');
  return { classes: { CompressionStream, DecompressionStream } as unknown as Record<string, Constructor> };
};
