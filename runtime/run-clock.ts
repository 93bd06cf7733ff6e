/** The time of one invocation: since its start, of its own on a core, and until its deadline. */
export class RunClock {
  readonly #startedAt = performance.now();
  readonly #deadline: number;
  readonly #timer: NodeJS.Timeout;
  #cpuMs = 0;
  #sliceStartedAt = 0;
  #isRunning = false;

  /** onDeadline: called once, unless the clock is stopped before. A guest that runs then has to ask `isOver`. */
  constructor(timeoutMs: number, onDeadline: () => void) {
    this.#deadline = this.#startedAt + timeoutMs;
    this.#timer = setTimeout(onDeadline, timeoutMs);
  }

  get isOver(): boolean {
    return performance.now() >= this.#deadline;
  }

  get sliceMs(): number {
    return performance.now() - this.#sliceStartedAt;
  }

  get durationMs(): number {
    return performance.now() - this.#startedAt;
  }

  get cpuMs(): number {
    return this.#cpuMs + (this.#isRunning ? this.sliceMs : 0);
  }

  /** The guest is on the core from now on. */
  beginSlice(): void {
    this.#isRunning = true;
    this.#sliceStartedAt = performance.now();
  }

  /** It is not; no harm where it was not before. */
  endSlice(): void {
    this.#cpuMs = this.cpuMs;
    this.#isRunning = false;
  }

  /** There is no deadline any more; time goes on. */
  stop(): void {
    clearTimeout(this.#timer);
  }
}
