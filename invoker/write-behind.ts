/** When what waits in memory is written: some time after it came, one write after the other. */
export class WriteBehind {
  readonly #write: () => Promise<void>;
  #timer: NodeJS.Timeout | undefined;
  #dueAt = Number.POSITIVE_INFINITY;
  #writing: Promise<void> = Promise.resolve();

  /** write: writes all that waits; does not reject. */
  constructor(write: () => Promise<void>) {
    this.#write = write;
  }

  /** At the latest after so long; what is due earlier stays so. */
  soon(delayMs: number): void {
    const dueAt = performance.now() + delayMs;
    if (dueAt >= this.#dueAt) return;
    clearTimeout(this.#timer);
    this.#dueAt = dueAt;
    this.#timer = setTimeout(() => void this.flush(), delayMs);
  }

  /** Now; resolves when it is done. */
  flush(): Promise<void> {
    clearTimeout(this.#timer);
    this.#dueAt = Number.POSITIVE_INFINITY;
    this.#writing = this.#writing.then(this.#write);
    return this.#writing;
  }
}
