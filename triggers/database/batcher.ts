import type { BatchConfig } from '../../invoker/index.ts';

/** The rows of a batch, as text. An event alone may have more; it is a batch of its own then. */
export const MAX_BATCH_BYTES = 4 * 1024 * 1024;

interface Gathering<T> {
  readonly items: T[];
  bytes: number;
  readonly timer: NodeJS.Timeout;
}

/** Gathers what belongs together until there is enough of it, or the first has waited long enough. */
export class Batcher<T> {
  readonly #deliver: (items: readonly T[]) => void;
  readonly #gathering = new Map<string, Gathering<T>>();

  constructor(deliver: (items: readonly T[]) => void) {
    this.#deliver = deliver;
  }

  add(key: string, item: T, bytes: number, { maxSize, maxWaitMs }: BatchConfig): void {
    if ((this.#gathering.get(key)?.bytes ?? 0) + bytes > MAX_BATCH_BYTES) this.#flush(key);
    let gathering = this.#gathering.get(key);
    if (gathering === undefined) {
      gathering = { items: [], bytes: 0, timer: setTimeout(() => this.#flush(key), maxWaitMs) };
      this.#gathering.set(key, gathering);
    }
    gathering.items.push(item);
    gathering.bytes += bytes;
    if (gathering.items.length >= maxSize) this.#flush(key);
  }

  /** Delivers what has been gathered. */
  flush(): void {
    for (const key of [...this.#gathering.keys()]) this.#flush(key);
  }

  #flush(key: string): void {
    const gathering = this.#gathering.get(key);
    if (gathering === undefined) return;
    this.#gathering.delete(key);
    clearTimeout(gathering.timer);
    this.#deliver(gathering.items);
  }
}
