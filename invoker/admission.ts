/**
 * How many invocations may be under way: so many in all, so many of one function, and a bounded number that wait for
 * their turn for a bounded time. Beyond that the node says 503 at once: a queue that only grows helps nobody. Where no place
 * to wait is left, a function that has fewer takes one of the function that has most: who sends much is refused first.
 */

import { PosternError } from '../runtime/index.ts';
import { Counts } from './counts.ts';

export interface AdmissionLimits {
  readonly maxConcurrent: number;
  readonly maxQueued: number;
  readonly maxQueueMs: number;
}

export const DEFAULT_ADMISSION: AdmissionLimits = { maxConcurrent: 1_000, maxQueued: 1_000, maxQueueMs: 10_000 };

interface Waiting {
  readonly name: string;
  readonly limit: number | null;
  readonly admit: () => void;
  readonly refuse: (error: PosternError) => void;
  /** Ends the waiting's own timer and listener; whoever takes it out of the queue calls it. */
  readonly release: () => void;
}

export class Admission {
  readonly #limits: AdmissionLimits;
  readonly #running = new Counts();
  readonly #queue: Waiting[] = [];
  /** Of the queue, by name. */
  readonly #waiting = new Counts();
  readonly #idle: (() => void)[] = [];
  #total = 0;
  #closed = false;

  constructor(limits: AdmissionLimits) {
    this.#limits = limits;
  }

  get running(): number {
    return this.#total;
  }

  get queued(): number {
    return this.#queue.length;
  }

  /**
   * Takes a place for an invocation of the function: at once (undefined), or when the promise resolves. Throws or rejects
   * with OVERLOADED, `details.retryAfterMs` set, or with CANCELED when `signal` aborts while it waits. Each place taken is
   * given back by `leave`.
   */
  enter(name: string, limit: number | null, signal?: AbortSignal): Promise<void> | undefined {
    if (this.#closed) throw overloaded('the node is shutting down');
    // Whoever waits while there is room in all is held back by its own function's limit, not by this one.
    if (this.#hasRoom(name, limit)) {
      this.#take(name);
      return undefined;
    }
    if (signal?.aborted === true) return Promise.reject(callerWent(name));
    if (this.#queue.length >= this.#limits.maxQueued) this.#makeRoom(name);
    return this.#wait(name, limit, signal);
  }

  leave(name: string): void {
    this.#running.remove(name);
    this.#total--;
    if (this.#queue.length > 0) this.#admitWaiting();
    if (this.#total === 0) for (const wake of this.#idle.splice(0)) wake();
  }

  /** Lets nothing more in; what waits is refused. */
  close(): void {
    this.#closed = true;
    while (this.#queue.length > 0) this.#refuse(0, overloaded('the node is shutting down'));
  }

  /** Resolves when nothing is under way. */
  whenIdle(): Promise<void> {
    if (this.#total === 0) return Promise.resolve();
    return new Promise((resolve) => this.#idle.push(resolve));
  }

  #hasRoom(name: string, limit: number | null): boolean {
    if (this.#total >= this.#limits.maxConcurrent) return false;
    return limit === null || this.#running.of(name) < limit;
  }

  #take(name: string): void {
    this.#total++;
    this.#running.add(name);
  }

  #wait(name: string, limit: number | null, signal: AbortSignal | undefined): Promise<void> {
    return new Promise((admit, refuse) => {
      const giveUp = (error: PosternError): void => this.#refuse(this.#queue.indexOf(waiting), error);
      const { maxQueueMs } = this.#limits;
      const timer = setTimeout(() => giveUp(overloaded(`waited ${maxQueueMs} ms for a place`)), maxQueueMs);
      const onAbort = (): void => giveUp(callerWent(name));
      signal?.addEventListener('abort', onAbort, { once: true });
      const release = (): void => {
        clearTimeout(timer);
        signal?.removeEventListener('abort', onAbort);
      };
      const waiting: Waiting = { name, limit, admit, refuse, release };
      this.#queue.push(waiting);
      this.#waiting.add(name);
    });
  }

  /** The last one of whoever has most waiting goes, if that leaves it no fewer than the one that comes then has. Else throws. */
  #makeRoom(name: string): void {
    const most = this.#waiting.most ?? name;
    const full = overloaded('the node is at its limit of waiting invocations');
    if (this.#waiting.of(most) < this.#waiting.of(name) + 2) throw full;
    const last = this.#queue.findLastIndex((waiting) => waiting.name === most);
    this.#refuse(last, full);
  }

  #refuse(index: number, error: PosternError): void {
    this.#leaveQueue(index).refuse(error);
  }

  #leaveQueue(index: number): Waiting {
    const [waiting] = this.#queue.splice(index, 1) as [Waiting];
    this.#waiting.remove(waiting.name);
    waiting.release();
    return waiting;
  }

  /** In order, but a function at its own limit does not hold up the others. */
  #admitWaiting(): void {
    for (let index = 0; index < this.#queue.length && this.#total < this.#limits.maxConcurrent; ) {
      const waiting = this.#queue[index] as Waiting;
      if (!this.#hasRoom(waiting.name, waiting.limit)) {
        index++;
        continue;
      }
      this.#leaveQueue(index);
      this.#take(waiting.name);
      waiting.admit();
    }
  }
}

function callerWent(name: string): PosternError {
  return new PosternError('CANCELED', `the caller of function "${name}" went away`);
}

const RETRY_AFTER_MS = 1_000;

export function overloaded(message: string): PosternError {
  return new PosternError('OVERLOADED', message, { details: { retryAfterMs: RETRY_AFTER_MS } });
}
