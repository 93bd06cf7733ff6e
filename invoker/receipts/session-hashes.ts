import { webcrypto } from 'node:crypto';
import { sha256 } from './text.ts';

/** More than this takes the node's thread for a millisecond where the processor has no instructions for it; 16 MB 80 of them. */
const MAX_BYTES_HERE = 256 * 1024;

/** Of a run in a session: SHA-256 of the memory that it went on from, and of what it left. Large ones are hashed on another thread. */
export class SessionHashes {
  #from: string | null = null;
  #to: string | null = null;
  #pending: Promise<void> | undefined;

  /** image: absent in a new session. */
  constructor(image: Uint8Array | undefined) {
    if (image !== undefined) this.#take(image, (hash) => (this.#from = hash));
  }

  left(image: Uint8Array): void {
    this.#take(image, (hash) => (this.#to = hash));
  }

  /** Until it resolves the hashes are not all there; undefined where they are. */
  get pending(): Promise<void> | undefined {
    return this.#pending;
  }

  /** As a receipt has it. isKept: whether there is what the run left, which goes with its end. */
  text(isKept: boolean): string {
    return JSON.stringify({ from: this.#from, to: isKept ? this.#to : null });
  }

  #take(image: Uint8Array, keep: (hash: string) => void): void {
    if (image.length <= MAX_BYTES_HERE) return void keep(sha256(image));
    const before = this.#pending;
    const hashed = webcrypto.subtle.digest('SHA-256', image as Uint8Array<ArrayBuffer>);
    this.#pending = hashed
      .then(
        (hash) => Buffer.from(hash).toString('hex'),
        // No thread or no memory for it: the run waits for its receipt, and its caller for the run.
        () => sha256(image),
      )
      .then(keep)
      .then(() => before);
  }
}
