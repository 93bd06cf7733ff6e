/** A function's reserve: what it will have run within this time, at its pace. More than a lease takes, to its commit. */
const RESERVE_MS = 50;
/** Over which a pace is measured. */
const PACE_MS = 50;

interface Use<T> {
  running: number;
  readonly reserve: { readonly item: T; readonly since: number }[];
  /** Ended since `countedFrom`. */
  ended: number;
  countedFrom: number;
  perMs: number;
}

export interface Quotas {
  /** Most to lease, of all functions. */
  readonly room: number;
  readonly quotas: ReadonlyMap<string, number>;
  /** Of a function that is not in `quotas`. */
  readonly otherwise: number;
  /** A lease now is worth its commit: nothing runs, or a function could take half of what it may hold. */
  readonly worthwhile: boolean;
}

/**
 * The dispatcher's places, one for each invocation, and what waits for one.
 *
 * With k functions running, each may have 1/(k+1) of the places: however slow those are, there is room for one more, and with
 * it the shares shrink. One function alone gets half; a place is cheap, it is the executors that are busy.
 *
 * A lease is a commit, and takes milliseconds in which short functions would have nothing to do. So a function may hold, beyond
 * its places, what it runs within `RESERVE_MS`: hundreds of events where they take no time, none where they take long.
 */
export class Places<T> {
  readonly #places: number;
  readonly #start: (functionId: string, item: T) => void;
  readonly #functions = new Map<string, Use<T>>();
  readonly #ownLimit = new Map<string, number>();
  readonly #pausedUntil = new Map<string, number>();
  #running = 0;
  #waiting = 0;

  /** `start` is called when an item has its place; `leave` gives that back. */
  constructor(places: number, start: (functionId: string, item: T) => void) {
    this.#places = places;
    this.#start = start;
  }

  /** Every place is taken. */
  get full(): boolean {
    return this.#running >= this.#places;
  }

  /** Something waits for a place. */
  get hasReserve(): boolean {
    return this.#waiting > 0;
  }

  /** Starts it, now or when its function has a place. */
  enter(functionId: string, item: T): void {
    const use = this.#useOf(functionId);
    use.reserve.push({ item, since: performance.now() });
    this.#waiting += 1;
    this.#fill(functionId, use);
  }

  /** Returns whether a lease is worthwhile with this. */
  leave(functionId: string): boolean {
    const use = this.#useOf(functionId);
    use.running -= 1;
    use.ended += 1;
    this.#running -= 1;
    this.#fill(functionId, use);
    if (this.#waiting > 0) {
      for (const [other, its] of this.#functions) if (its.reserve.length > 0) this.#fill(other, its);
    }
    return this.#isHungry(functionId, use);
  }

  /** Takes out what has waited for so long. */
  giveUp(waitedMs: number): T[] {
    const before = performance.now() - waitedMs;
    const given: T[] = [];
    for (const { reserve } of this.#functions.values()) {
      const from = reserve.findIndex(({ since }) => since > before);
      given.push(...reserve.splice(0, from === -1 ? reserve.length : from).map(({ item }) => item));
    }
    this.#waiting -= given.length;
    return given;
  }

  /** The function's own `concurrency`; null for none. */
  limit(functionId: string, ownLimit: number | null): void {
    if (ownLimit === null) this.#ownLimit.delete(functionId);
    else this.#ownLimit.set(functionId, ownLimit);
  }

  /** Nothing of it is leased for so long: it was refused for lack of room. */
  pause(functionId: string, forMs: number): void {
    this.#pausedUntil.set(functionId, performance.now() + forMs);
  }

  quotas(): Quotas {
    const now = performance.now();
    const quotas = new Map<string, number>();
    let room = this.#places - this.#running - this.#waiting;
    const share = this.#share();
    for (const [functionId, limit] of this.#ownLimit) quotas.set(functionId, Math.min(share, limit));
    let worthwhile = this.#functions.size === 0;
    for (const [functionId, use] of this.#functions) {
      measurePace(use, now);
      const reserve = reserveOf(use);
      if (use.running === 0 && use.reserve.length === 0 && reserve === 0) this.#functions.delete(functionId);
      room += reserve;
      quotas.set(functionId, Math.max(0, this.#most(functionId) + reserve - held(use)));
      worthwhile ||= this.#isHungry(functionId, use);
    }
    for (const [functionId, until] of this.#pausedUntil) {
      if (until > now) quotas.set(functionId, 0);
      else this.#pausedUntil.delete(functionId);
    }
    return { room, quotas, otherwise: Math.max(1, Math.floor(this.#places / (this.#functions.size + 2))), worthwhile };
  }

  #fill(functionId: string, use: Use<T>): void {
    const most = this.#most(functionId);
    while (use.reserve.length > 0 && use.running < most && !this.full) {
      const { item } = use.reserve.shift()!;
      use.running += 1;
      this.#running += 1;
      this.#waiting -= 1;
      this.#start(functionId, item);
    }
  }

  #isHungry(functionId: string, use: Use<T>): boolean {
    return 2 * held(use) <= this.#most(functionId) + reserveOf(use);
  }

  #share(): number {
    return Math.max(1, Math.floor(this.#places / (this.#functions.size + 1)));
  }

  #most(functionId: string): number {
    return Math.min(this.#share(), this.#ownLimit.get(functionId) ?? Number.POSITIVE_INFINITY);
  }

  #useOf(functionId: string): Use<T> {
    let use = this.#functions.get(functionId);
    if (use === undefined) {
      use = { running: 0, reserve: [], ended: 0, countedFrom: performance.now(), perMs: 0 };
      this.#functions.set(functionId, use);
    }
    return use;
  }
}

function held<T>({ running, reserve }: Use<T>): number {
  return running + reserve.length;
}

/** How many it may hold beyond its places. */
function reserveOf<T>({ perMs }: Use<T>): number {
  return Math.floor(perMs * RESERVE_MS);
}

function measurePace<T>(use: Use<T>, now: number): void {
  const countedMs = now - use.countedFrom;
  if (countedMs < PACE_MS) return;
  use.perMs = use.ended / countedMs;
  use.ended = 0;
  use.countedFrom = now;
}
