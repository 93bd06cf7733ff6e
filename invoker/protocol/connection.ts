/** One end of the pipe: frames in, messages out, several to a write. */

import type { Duplex } from 'node:stream';
import { FrameReader } from './frames.ts';
import { MAX_FRAME_BYTES } from './messages.ts';

/** A batch this large goes out without waiting for the end of the event loop's turn. */
const FLUSH_BYTES = 256 * 1024;

export interface ConnectionOptions<In, Out> {
  readonly encode: (message: Out) => Buffer;
  readonly decode: (type: number, body: Buffer) => In;
  readonly onMessage: (message: In) => void;
  /** The peer has taken all that was sent, after it had fallen behind. */
  readonly onDrain?: () => void;
  /** The peer closed, or broke the protocol (`error` says how). Called once. */
  readonly onClose: (error?: Error) => void;
}

export class Connection<In, Out> {
  readonly #stream: Duplex;
  readonly #encode: (message: Out) => Buffer;
  #batch: Buffer[] = [];
  #batchBytes = 0;
  #scheduled = false;
  #closed = false;

  constructor(stream: Duplex, options: ConnectionOptions<In, Out>) {
    this.#stream = stream;
    this.#encode = options.encode;
    const close = (error?: Error): void => {
      if (this.#closed) return;
      this.#closed = true;
      stream.destroy();
      options.onClose(error);
    };
    const reader = new FrameReader(MAX_FRAME_BYTES, (type, body) => options.onMessage(options.decode(type, body)));
    stream.on('data', (chunk: Buffer) => {
      try {
        if (!this.#closed) reader.push(chunk);
      } catch (error) {
        close(error as Error);
      }
    });
    if (options.onDrain !== undefined) stream.on('drain', options.onDrain);
    stream.on('error', close);
    stream.on('close', () => close());
    stream.on('end', () => close());
  }

  /** Bytes that the peer has not taken yet: how far behind it is. */
  get backlogBytes(): number {
    return this.#stream.writableLength + this.#batchBytes;
  }

  send(message: Out): void {
    if (this.#closed) return;
    const frame = this.#encode(message);
    this.#batch.push(frame);
    this.#batchBytes += frame.length;
    if (this.#batchBytes >= FLUSH_BYTES) this.flush();
    else if (!this.#scheduled) {
      this.#scheduled = true;
      setImmediate(this.#flushScheduled);
    }
  }

  flush(): void {
    if (this.#batch.length === 0 || this.#closed) return;
    const data = this.#batch.length === 1 ? (this.#batch[0] as Buffer) : Buffer.concat(this.#batch, this.#batchBytes);
    this.#batch = [];
    this.#batchBytes = 0;
    this.#stream.write(data);
  }

  readonly #flushScheduled = (): void => {
    this.#scheduled = false;
    this.flush();
  };
}
