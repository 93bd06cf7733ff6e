import { LRUCache } from 'lru-cache';

export interface RateLimit {
  readonly requests: number;
  readonly windowMs: number;
}

interface Window {
  startMs: number;
  count: number;
  previous: number;
}

/** Functions that are remembered; one that falls out begins anew. */
const MAX_KEYS = 10_000;

/**
 * A sliding window per key, from two fixed ones weighted by time: constant memory, and at most `requests` in any window
 * for even traffic, at most a few per cent more for bursts. In this process; each node counts for itself.
 */
export class RateLimiter {
  readonly #windows = new LRUCache<string, Window>({ max: MAX_KEYS });
  readonly #now: () => number;

  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /** Counts one. Undefined if there was room, else the milliseconds until there may be. */
  take(key: string, limit: RateLimit): number | undefined {
    const nowMs = this.#now();
    const window = this.#window(key, limit, nowMs);
    const elapsed = (nowMs - window.startMs) / limit.windowMs;
    const used = window.previous * (1 - elapsed) + window.count;
    if (used + 1 > limit.requests) return Math.max(1, Math.ceil(waitMs(window, limit, elapsed)));
    window.count += 1;
    return undefined;
  }

  #window(key: string, limit: RateLimit, nowMs: number): Window {
    let window = this.#windows.get(key);
    if (window === undefined) {
      window = { startMs: nowMs, count: 0, previous: 0 };
      this.#windows.set(key, window);
    }
    const passed = Math.floor((nowMs - window.startMs) / limit.windowMs);
    if (passed > 0) {
      window.previous = passed === 1 ? window.count : 0;
      window.count = 0;
      window.startMs += passed * limit.windowMs;
    }
    return window;
  }
}

/** Until the previous window weighs little enough, or this one has ended. */
function waitMs(window: Window, limit: RateLimit, elapsed: number): number {
  const room = limit.requests - 1 - window.count;
  if (room < 0 || window.previous === 0) return (1 - elapsed) * limit.windowMs;
  return (1 - room / window.previous - elapsed) * limit.windowMs;
}
