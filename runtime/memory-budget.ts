/** What the guests of a process may hold together, of whatever kind they are; each kind has its limits beside it. */
export class MemoryBudget {
  readonly #maxBytes: number;
  #heldBytes = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  get heldBytes(): number {
    return this.#heldBytes;
  }

  fits(bytes: number): boolean {
    return this.#heldBytes + bytes <= this.#maxBytes;
  }

  /** Negative where something is given back. What does not fit is counted all the same: ask first. */
  add(bytes: number): void {
    this.#heldBytes += bytes;
  }
}
