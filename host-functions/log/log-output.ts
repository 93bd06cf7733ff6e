import type { Writable } from 'node:stream';
import type { LogOutput } from './invocation-log.ts';

/** A reader that stops reading must not fill the node's memory. */
const MAX_BUFFERED_BYTES = 4 * 1024 * 1024;

/** Lines to a stream, standard output by default. What does not fit while the reader is slow is counted, not kept. */
export class StreamLogOutput implements LogOutput {
  readonly #stream: Writable;
  #dropped = 0;

  constructor(stream: Writable = process.stdout) {
    this.#stream = stream;
  }

  get dropped(): number {
    return this.#dropped;
  }

  write(line: string): void {
    if (this.#stream.writableLength > MAX_BUFFERED_BYTES || this.#stream.destroyed) this.#dropped += 1;
    else this.#stream.write(line);
  }
}
