import type { LogOutput } from '../host-functions/index.ts';
import { BUNDLE_FILE_NAME } from '../runtime/index.ts';

/** Of an invocation's lines, and of one line: as with its record. */
const MAX_MAPPED_LINES = 50;
const MAX_MAPPED_CHARS = 16_384;

/**
 * One invocation's lines on their way out, with the author's positions in stacks in place of the bundle's. In the order in
 * which they were logged: a line with a stack waits for the source map, and lines after it for that line; all others go
 * through at once.
 */
export class MappedOutput implements LogOutput {
  readonly #output: LogOutput;
  /** Rejects where the map can't be read just now; the line goes out as it is then. */
  readonly #map: (line: string) => Promise<string>;
  #last: Promise<void> | undefined;
  #mapped = 0;

  constructor(output: LogOutput, map: (line: string) => Promise<string>) {
    this.#output = output;
    this.#map = map;
  }

  write(line: string): void {
    const hasStack = line.includes(BUNDLE_FILE_NAME) && this.#mapped < MAX_MAPPED_LINES;
    if (!hasStack && this.#last === undefined) this.#output.write(line);
    else this.#queue(hasStack ? this.#mappedLine(line) : line);
  }

  #queue(line: string | Promise<string>): void {
    const before = this.#last;
    const written = Promise.all([line, before]).then(([text]) => {
      if (this.#last === written) this.#last = undefined;
      this.#output.write(text);
    });
    this.#last = written;
  }

  async #mappedLine(line: string): Promise<string> {
    this.#mapped += 1;
    const mapped = await this.#map(line).catch(() => line);
    return mapped.length <= MAX_MAPPED_CHARS ? mapped : line;
  }
}
