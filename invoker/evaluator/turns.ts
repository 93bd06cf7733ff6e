/**
 * One at a time of each name, in the order in which they come: what is queued behind it holds at most one of a name, so
 * whoever sends much waits for himself. So many of a name may wait.
 */

import { overloaded } from '../admission.ts';

/** Each holds its request. */
const MAX_WAITING = 100;

interface Queue {
  last: Promise<unknown>;
  /** With the one that is under way. */
  length: number;
}

export class Turns {
  readonly #queues = new Map<string, Queue>();
  readonly #maxWaiting: number;

  constructor({ maxWaiting = MAX_WAITING }: { readonly maxWaiting?: number } = {}) {
    this.#maxWaiting = maxWaiting;
  }

  /** Rejects as the work does, or with OVERLOADED where too many of the name wait. */
  take<T>(name: string, work: () => Promise<T>): Promise<T> {
    const queue = this.#queues.get(name) ?? { last: Promise.resolve(), length: 0 };
    if (queue.length > this.#maxWaiting)
      return Promise.reject(overloaded('too much code of the API key waits to be prepared'));
    this.#queues.set(name, queue);
    const mine = queue.last.then(work);
    queue.length++;
    queue.last = mine.then(
      () => this.#leave(name, queue),
      () => this.#leave(name, queue),
    );
    return mine;
  }

  #leave(name: string, queue: Queue): void {
    queue.length--;
    if (queue.length === 0) this.#queues.delete(name);
  }
}
