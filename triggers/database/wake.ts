/** Wakes one loop that waits. A ring while nobody waits ends the next wait. */
export class Wake {
  #rung = false;
  #wake: (() => void) | undefined;
  #soon: NodeJS.Timeout | undefined;

  ring(): void {
    this.#rung = true;
    this.#wake?.();
  }

  /** Within `ms`; a ring that is on its way already is not put off. */
  ringWithin(ms: number): void {
    this.#soon ??= setTimeout(() => {
      this.#soon = undefined;
      this.ring();
    }, ms);
  }

  stop(): void {
    clearTimeout(this.#soon);
  }

  /** Until it rings, or `forMs`. */
  async wait(forMs: number): Promise<void> {
    if (!this.#rung) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, Math.max(0, forMs));
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      this.#wake = undefined;
    }
    this.#rung = false;
  }
}
