/** How much of an executor's thread an invocation will take, by what the last ones of its version took. */

import type { FunctionVersion } from './catalog.ts';

/** Of a version that nothing is known of: not short, so that its first invocations are spread. */
const UNKNOWN_MS = 5;
/** The weight of the newest in the moving average. */
const NEWEST = 0.1;

export class WorkEstimate {
  readonly #averageMs = new WeakMap<FunctionVersion, number>();

  /** Milliseconds. */
  of(version: FunctionVersion): number {
    return this.#averageMs.get(version) ?? UNKNOWN_MS;
  }

  /** `cpuMs` is what an executor says; it can only mislead about where its own invocations go. */
  learn(version: FunctionVersion, cpuMs: number): void {
    const known = this.#averageMs.get(version);
    const taken = Math.min(cpuMs, version.config.timeoutMs);
    this.#averageMs.set(version, known === undefined ? taken : known + (taken - known) * NEWEST);
  }
}
