/**
 * Ends what was started, in the opposite order, each part once. A part that fails or hangs does not keep the others
 * from ending.
 */

export interface ShutdownStep {
  readonly name: string;
  readonly stop: () => Promise<unknown>;
  /** After that the next part's turn comes. */
  readonly withinMs: number;
}

const DEFAULT_WITHIN_MS = 10_000;

export class Shutdown {
  readonly #steps: ShutdownStep[] = [];
  readonly #onTrouble: (step: string, error: unknown) => void;
  #running: Promise<void> | undefined;

  constructor(onTrouble: (step: string, error: unknown) => void) {
    this.#onTrouble = onTrouble;
  }

  add(name: string, stop: () => Promise<unknown>, withinMs = DEFAULT_WITHIN_MS): void {
    this.#steps.push({ name, stop, withinMs });
  }

  get isRunning(): boolean {
    return this.#running !== undefined;
  }

  /** Safe twice; never rejects. */
  run(): Promise<void> {
    this.#running ??= this.#runAll();
    return this.#running;
  }

  async #runAll(): Promise<void> {
    for (const step of this.#steps.toReversed()) {
      const timer = Promise.withResolvers<never>();
      const timeout = setTimeout(() => timer.reject(new Error(`not done after ${step.withinMs} ms`)), step.withinMs);
      try {
        await Promise.race([step.stop(), timer.promise]);
      } catch (error) {
        this.#onTrouble(step.name, error);
      } finally {
        clearTimeout(timeout);
      }
    }
  }
}
