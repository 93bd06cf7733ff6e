import { ByteSink } from './byte-sink.ts';

const MAX_LINE_BYTES = 8_000;
const NEWLINE = 10;

/** Cuts a stream into lines for the log. What is over a line's length is left out, so the rest of a stream costs nothing. */
export class LogLines {
  readonly #onLine: (line: string) => boolean;
  readonly #line = new ByteSink();
  #isFull = false;

  /** Of `onLine` false says that no more lines are wanted. */
  constructor(onLine: (line: string) => boolean) {
    this.#onLine = onLine;
  }

  write(bytes: Uint8Array): void {
    let from = 0;
    while (from < bytes.length && !this.#isFull) {
      if (bytes[from] === NEWLINE) {
        this.flush();
        from++;
        continue;
      }
      const end = bytes.indexOf(NEWLINE, from);
      this.#keep(bytes.subarray(from, end === -1 ? bytes.length : end));
      if (end === -1) return;
      this.flush();
      from = end + 1;
    }
  }

  /** What has no newline yet. */
  flush(): void {
    if (this.#line.length > 0) this.#isFull = !this.#onLine(this.#line.take().toString());
  }

  #keep(bytes: Uint8Array): void {
    this.#line.append(bytes.subarray(0, MAX_LINE_BYTES - this.#line.length));
  }
}
