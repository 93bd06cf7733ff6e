/** Lines of the log, somewhat more than its own caps (1,000 lines, 256 KB): beyond, they are dropped before they cost a frame. */
const MAX_CASTS = 1_100;
const MAX_CAST_BYTES = 512 * 1024;

/** What one invocation may say that nobody answers. Beyond it the node has said "truncated" already. */
export class CastBudget {
  #casts = 0;
  #bytes = 0;

  /** Whether there is room for another. */
  get isOpen(): boolean {
    return this.#casts < MAX_CASTS && this.#bytes < MAX_CAST_BYTES;
  }

  /** Counts one; false where it is one too many. */
  take(bytes: number): boolean {
    this.#casts++;
    this.#bytes += bytes;
    return this.#casts <= MAX_CASTS && this.#bytes <= MAX_CAST_BYTES;
  }
}
