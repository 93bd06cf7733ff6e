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

let metaJson = '{}';
let parsed: InvocationMeta | undefined;

/** The invocation's meta, parsed when someone looks. A sandbox has one invocation, so it stands in the module. */
export function setMetaJson(json: string): void {
  metaJson = json;
}

export function readMeta(): InvocationMeta {
  parsed ??= JSON.parse(metaJson) as InvocationMeta;
  return parsed;
}

export class Context {
  readonly #hold: (work: unknown) => void;

  constructor(hold: (work: unknown) => void) {
    this.#hold = hold;
  }

  get functionName(): string {
    return readMeta().functionName;
  }
  get functionVersion(): number {
    return readMeta().version;
  }
  get invocationId(): string {
    return readMeta().invocationId;
  }
  get requestId(): string {
    return readMeta().requestId;
  }
  /** 1 for the first try of an event. */
  get attempt(): number {
    return readMeta().attempt;
  }
  get userId(): string | null {
    return readMeta().userId;
  }
  get role(): string {
    return readMeta().role;
  }
  /** The variables and secrets that the function's `env` lists. */
  get env(): Record<string, string> {
    return readMeta().env;
  }
  /** Milliseconds until the invocation is ended. */
  getRemainingTimeMs(): number {
    return Math.max(0, readMeta().deadline - Date.now());
  }
  /** The answer goes out at once; the sandbox lives until `work` has settled, or the deadline. */
  waitUntil(work: unknown): void {
    this.#hold(work);
  }
  /** For code written for Workers; a Postern function has no origin behind it. */
  passThroughOnException(): void {}
}
