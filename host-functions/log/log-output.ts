import type { Writable } from 'node:stream';
import type { LogOutput } from './invocation-log.ts';

/** A reader that stops reading must not fill the node's memory. */
const MAX_BUFFERED_BYTES = 4 * 1024 * 1024;

/**
 * Lines to a stream, standard output by default. A reader that is slow, gone or has a full disk costs lines, which are
 * counted, and neither time nor memory (LOG-03): pipes are written to without waiting, and a failed write is no event that
 * would end the process.
 */
export class StreamLogOutput implements LogOutput {
  readonly #stream: Writable;
  #dropped = 0;
  readonly #written = (error?: Error | null): void => {
    if (error) this.#dropped += 1;
  };

  constructor(stream: Writable = process.stdout) {
    this.#stream = stream;
    stream.on('error', () => {});
  }

  get dropped(): number {
    return this.#dropped;
  }

  write(line: string): void {
    const { writableLength, destroyed, errored } = this.#stream;
    // The standard streams forget an error at once; what is written meanwhile would only be kept to fail with it.
    if (writableLength > MAX_BUFFERED_BYTES || destroyed || errored !== null) this.#dropped += 1;
    else this.#stream.write(line, this.#written);
  }
}
