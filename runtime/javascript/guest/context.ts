/** The second argument of a handler, and the third of `fetch`. */

export interface InvocationMeta {
  readonly functionName: string;
  readonly version: number;
  readonly invocationId: string;
  readonly requestId: string;
  readonly attempt: number;
  /** Milliseconds since the epoch; null where the invocation is told nothing that differs from run to run, until it asks. */
  deadline: number | null;
  /** There: milliseconds. */
  readonly timeoutMs?: number;
  readonly userId: string | null;
  readonly role: string;
  /** The variables that the function may read. */
  readonly env: Record<string, string>;
  /** Where the JSON body stands in the event's text, up to the last brace; -1 where the body is not JSON. */
  readonly bodyAt: number;
}

let metaJson = '{}';
let parsed: InvocationMeta | undefined;

/** The invocation's meta, parsed when someone looks. A sandbox has one invocation at a time, so it stands in the module. */
export function setMetaJson(json: string): void {
  metaJson = json;
  parsed = undefined;
}

export function readMeta(): InvocationMeta {
  parsed ??= JSON.parse(metaJson) as InvocationMeta;
  return parsed;
}

/** What a handler reads of its context. */
const FIELDS: Readonly<Record<string, () => unknown>> = {
  functionName: () => readMeta().functionName,
  functionVersion: () => readMeta().version,
  invocationId: () => readMeta().invocationId,
  requestId: () => readMeta().requestId,
  attempt: () => readMeta().attempt,
  userId: () => readMeta().userId,
  role: () => readMeta().role,
  env: () => readMeta().env,
};

const INSPECT = Symbol.for('nodejs.util.inspect.custom');

export class Context {
  readonly #hold: (work: unknown) => void;
  declare readonly functionName: string;
  declare readonly functionVersion: number;
  declare readonly invocationId: string;
  declare readonly requestId: string;
  /** 1 for the first try of an event. */
  declare readonly attempt: number;
  declare readonly userId: string | null;
  declare readonly role: string;
  /** The variables and secrets that the function's `env` lists. */
  declare readonly env: Record<string, string>;

  /**
   * Made once, before the capture. The fields are its own and enumerable, so that a copy or `JSON.stringify` has them, and
   * getters, so that an invocation that looks at none of them parses nothing.
   */
  constructor(hold: (work: unknown) => void) {
    this.#hold = hold;
    for (const [name, get] of Object.entries(FIELDS)) Object.defineProperty(this, name, { get, enumerable: true });
  }

  /** Milliseconds until the invocation is ended. */
  getRemainingTimeMs(): number {
    const meta = readMeta();
    // Whoever looks at the clock is not the same from run to run any more.
    meta.deadline ??= Date.now() + (meta.timeoutMs ?? 0);
    return Math.max(0, meta.deadline - Date.now());
  }
  /** The answer goes out at once; the sandbox lives until `work` has settled, or the deadline. */
  waitUntil(work: unknown): void {
    this.#hold(work);
  }
  /** `console.log` shows the values, and not that they are read through getters. */
  [INSPECT](): object {
    return { ...this };
  }
  /** For code written for Workers; a Postern function has no origin behind it. */
  passThroughOnException(): void {}
}
