import { fillRandom } from './random-pool.ts';

/**
 * What a guest gets of the world without calling a host function: time and randomness. One an invocation. A run that was
 * given neither, and called nobody, gives the same result for the same input, so both are counted.
 */
export class Ambient {
  clockReads = 0;
  randomBytes = 0;

  /** Milliseconds since the epoch. */
  realtimeMs(): number {
    this.clockReads++;
    return Date.now();
  }

  /** Whole milliseconds from some time before the invocation on. */
  monotonicMs(): number {
    this.clockReads++;
    return Math.floor(performance.now());
  }

  /** What tells a guest of time, or of others, without a clock: which of its timers comes first, that the process has no room. */
  noticed(): void {
    this.clockReads++;
  }

  /** False where there is no randomness. */
  fillRandom(target: Uint8Array, offset: number, length: number): boolean {
    this.randomBytes += length;
    fillRandom(target, offset, length);
    return true;
  }
}

/** Of a module's top level, which runs at the deploy: an image must not hold randomness. */
export class TopLevelAmbient extends Ambient {
  override fillRandom(): boolean {
    return false;
  }
}
