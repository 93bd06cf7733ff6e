import { LRUCache } from 'lru-cache';

export interface LogRate {
  /** What a function may log in the long run, over all its invocations on this node. */
  readonly bytesPerSecond: number;
  /** What it may log at once after a while of silence. */
  readonly burstBytes: number;
}

/** Forty invocations that log all they may, at once; then four a second. */
export const LOG_RATE: LogRate = { bytesPerSecond: 1024 * 1024, burstBytes: 10 * 1024 * 1024 };

/** Functions that are remembered; one that falls out begins anew. */
const MAX_FUNCTIONS = 10_000;

/** `first`: no room, for the first time since there was some. */
export type LogRoom = 'room' | 'first' | 'none';

/** One function's. A bucket of bytes, filled by time. */
export class LogBudget {
  readonly #rate: LogRate;
  readonly #now: () => number;
  #bytes: number;
  #atMs: number;
  #refusing = false;

  constructor(rate: LogRate, now: () => number) {
    this.#rate = rate;
    this.#now = now;
    this.#bytes = rate.burstBytes;
    this.#atMs = now();
  }

  get bytesPerSecond(): number {
    return this.#rate.bytesPerSecond;
  }

  take(bytes: number): LogRoom {
    const nowMs = this.#now();
    const { bytesPerSecond, burstBytes } = this.#rate;
    this.#bytes = Math.min(burstBytes, this.#bytes + ((nowMs - this.#atMs) / 1_000) * bytesPerSecond);
    this.#atMs = nowMs;
    if (bytes <= this.#bytes) {
      this.#bytes -= bytes;
      this.#refusing = false;
      return 'room';
    }
    const first = !this.#refusing;
    this.#refusing = true;
    return first ? 'first' : 'none';
  }
}

/**
 * What functions may log over their invocations: each is capped by itself, but a function that is called ten thousand times a
 * second would fill the operator's disk all the same, and `postern.function_invocations`.
 */
export class LogBudgets {
  readonly #budgets = new LRUCache<string, LogBudget>({ max: MAX_FUNCTIONS });
  readonly #rate: LogRate;
  readonly #now: () => number;

  constructor(rate: LogRate = LOG_RATE, now: () => number = () => performance.now()) {
    this.#rate = rate;
    this.#now = now;
  }

  of(functionName: string): LogBudget {
    let budget = this.#budgets.get(functionName);
    if (budget === undefined) {
      budget = new LogBudget(this.#rate, this.#now);
      this.#budgets.set(functionName, budget);
    }
    return budget;
  }
}
