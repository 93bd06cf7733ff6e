/** For tests of what is about time. How fast a thing is, bench/ says: here a machine may be slow, and others use it. */

import { expect } from 'vitest';

/**
 * How much later than it should a thing may end, because the machine was elsewhere. Only for what a defect would end
 * far later than that, or never.
 */
export const MUCH_LATER_MS = 5_000;

/**
 * Options of a test that can say what it promises by a clock alone: another process takes the core now and then, a
 * defect takes it each time. Not for a test that leaves something behind when it fails.
 */
export const TIMED = { retry: 2 } as const;

/** What this thread has worked, in milliseconds, of which a kernel may count four at once. */
export function threadCpuMs(): number {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1_000;
}

/** Measures from when it is made. */
export class Stopwatch {
  readonly #fromCpuMs = threadCpuMs();
  readonly #fromMs = performance.now();

  /** What this thread has worked since: what other processes do adds nothing. */
  get cpuMs(): number {
    return threadCpuMs() - this.#fromCpuMs;
  }

  /** That this thread worked for less than `ms`; and by the clock, too, not much more has passed. */
  expectBelow(ms: number): void {
    const [cpuMs, wallMs] = [this.cpuMs, performance.now() - this.#fromMs];
    expect(cpuMs, `${Math.round(wallMs)} ms by the clock`).toBeLessThan(ms);
    expect(wallMs, 'by the clock').toBeLessThan(ms + MUCH_LATER_MS);
  }
}

/** The most work, in milliseconds of CPU, that this thread did meanwhile without a look at the event loop: other processes have no part in it. */
export async function longestStall(during: () => Promise<unknown>): Promise<number> {
  let longest = 0;
  let last = threadCpuMs();
  const look = (): void => {
    const now = threadCpuMs();
    longest = Math.max(longest, now - last);
    last = now;
  };
  const watch = setInterval(look, 1);
  await during();
  clearInterval(watch);
  look();
  return longest;
}
