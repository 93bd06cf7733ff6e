/** The second argument of a handler, and the third of `fetch`. */

export interface InvocationMeta {
  readonly functionName: string;
  readonly version: number;
  readonly invocationId: string;
  readonly requestId: string;
  readonly attempt: number;
  /** Milliseconds since the epoch. */
  readonly deadline: number;
  readonly userId: string | null;
  readonly role: string;
  /** The variables that the function may read. */
  readonly env: Record<string, string>;
  /** Where the JSON body stands in the event's text, up to the last brace; -1 where the body is not JSON. */
  readonly bodyAt: number;
}

/** Getters over the invocation's meta, which is parsed only when someone looks. */
export class Context {
  readonly #meta: () => InvocationMeta;
  readonly #hold: (work: unknown) => void;

  constructor(meta: () => InvocationMeta, hold: (work: unknown) => void) {
    this.#meta = meta;
    this.#hold = hold;
  }

  get functionName(): string {
    return this.#meta().functionName;
  }
  get functionVersion(): number {
    return this.#meta().version;
  }
  get invocationId(): string {
    return this.#meta().invocationId;
  }
  get requestId(): string {
    return this.#meta().requestId;
  }
  /** 1 for the first try of an event. */
  get attempt(): number {
    return this.#meta().attempt;
  }
  get userId(): string | null {
    return this.#meta().userId;
  }
  get role(): string {
    return this.#meta().role;
  }
  /** The variables and secrets that the function's `env` lists. */
  get env(): Record<string, string> {
    return this.#meta().env;
  }
  /** Milliseconds until the invocation is ended. */
  getRemainingTimeMs(): number {
    return Math.max(0, this.#meta().deadline - Date.now());
  }
  /** The answer goes out at once; the sandbox lives until `work` has settled, or the deadline. */
  waitUntil(work: unknown): void {
    this.#hold(work);
  }
  /** For code written for Workers; a Postern function has no origin behind it. */
  passThroughOnException(): void {}
}
