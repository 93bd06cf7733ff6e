/**
 * How many of the dispatcher's places a function may take. With k functions running, each may have 1/(k+1) of them: however
 * slow those are, there is room for one more, and with it the shares shrink. One function alone gets half; a place is cheap,
 * it is the executors that are busy.
 */
export class Shares {
  readonly #places: number;
  readonly #running = new Map<string, number>();
  readonly #ownLimit = new Map<string, number>();
  readonly #pausedUntil = new Map<string, number>();

  constructor(places: number) {
    this.#places = places;
  }

  started(functionId: string): void {
    this.#running.set(functionId, (this.#running.get(functionId) ?? 0) + 1);
  }

  /** The function's own `concurrency`; null for none. */
  limit(functionId: string, ownLimit: number | null): void {
    if (ownLimit === null) this.#ownLimit.delete(functionId);
    else this.#ownLimit.set(functionId, ownLimit);
  }

  ended(functionId: string): void {
    const left = (this.#running.get(functionId) ?? 1) - 1;
    if (left > 0) this.#running.set(functionId, left);
    else this.#running.delete(functionId);
  }

  /** Nothing of it is leased for so long: it was refused for lack of room. */
  pause(functionId: string, forMs: number): void {
    this.#pausedUntil.set(functionId, performance.now() + forMs);
  }

  /** What may be leased now; functions that are not in the map may have `otherwise`. */
  quotas(): { readonly quotas: ReadonlyMap<string, number>; readonly otherwise: number } {
    const now = performance.now();
    const quotas = new Map<string, number>();
    const share = Math.max(1, Math.floor(this.#places / (this.#running.size + 1)));
    for (const [functionId, limit] of this.#ownLimit) quotas.set(functionId, Math.min(share, limit));
    for (const [functionId, running] of this.#running) {
      const limit = this.#ownLimit.get(functionId) ?? Number.POSITIVE_INFINITY;
      quotas.set(functionId, Math.max(0, Math.min(share, limit) - running));
    }
    for (const [functionId, until] of this.#pausedUntil) {
      if (until > now) quotas.set(functionId, 0);
      else this.#pausedUntil.delete(functionId);
    }
    return { quotas, otherwise: Math.max(1, Math.floor(this.#places / (this.#running.size + 2))) };
  }
}
