import type { Pool } from 'pg';
import type { DispatcherMetrics } from './dispatcher-options.ts';
import { renewLeases } from './event-store.ts';
import type { LeasedEvent } from './leased-event.ts';

export interface HeldEvent {
  readonly event: LeasedEvent;
  /** Of the invocation that it is part of. */
  controller: AbortController;
  /** By our own monotonic clock, from before the lease was asked for: it never ends later than Postgres thinks. */
  leaseUntil: number;
  /** Somebody else may have the event by now. It is stopped, and what it says is not sent. */
  lost: boolean;
}

export interface HeldEventsOptions {
  readonly pool: Pool;
  readonly nodeId: string;
  readonly leaseMs: number;
  readonly log: (message: string, error?: unknown) => void;
  readonly metrics: DispatcherMetrics;
}

/**
 * The part of a lease that is left when it is given up: a timer comes late by what holds up this process, and nobody else
 * waits for that.
 */
const GIVEN_UP_EARLY = 1 / 20;

/** The events that this node has leased and not acknowledged. Renews their leases, and gives up those that can't be. */
export class HeldEvents {
  readonly #options: HeldEventsOptions;
  readonly #held = new Map<string, HeldEvent>();
  #renewals: NodeJS.Timeout | undefined;
  #expiry: NodeJS.Timeout | undefined;
  #renewing = false;

  constructor(options: HeldEventsOptions) {
    this.#options = options;
  }

  start(): void {
    this.#renewals = setInterval(() => {
      this.#watchExpiry();
      void this.#renew();
    }, this.#options.leaseMs / 3);
  }

  stop(): void {
    clearInterval(this.#renewals);
    clearTimeout(this.#expiry);
  }

  get size(): number {
    return this.#held.size;
  }

  all(): HeldEvent[] {
    return [...this.#held.values()];
  }

  /** From now on its lease is renewed. */
  hold(event: LeasedEvent, leaseUntil: number): HeldEvent {
    const held = { event, controller: new AbortController(), leaseUntil, lost: false };
    this.#held.set(keyOf(event), held);
    this.#options.metrics.inFlight?.(this.#held.size);
    return held;
  }

  letGo(several: readonly HeldEvent[]): void {
    for (const { event } of several) this.#held.delete(keyOf(event));
    this.#options.metrics.inFlight?.(this.#held.size);
  }

  loseExpired(several: Iterable<HeldEvent>): void {
    const now = performance.now();
    for (const held of several) if (this.#givenUpAt(held) <= now) this.#lose(held);
  }

  #givenUpAt({ leaseUntil }: HeldEvent): number {
    return leaseUntil - this.#options.leaseMs * GIVEN_UP_EARLY;
  }

  /** Every third of a lease. Leases that could not be renewed in time are given up before others may take them. */
  async #renew(): Promise<void> {
    const several = this.all().filter((held) => !held.lost);
    if (several.length === 0 || this.#renewing) return;
    this.#renewing = true;
    const { pool, nodeId, leaseMs, log } = this.#options;
    const sentAt = performance.now();
    const events = several.map(({ event }) => event);
    try {
      const ours = await renewLeases(pool, nodeId, events, leaseMs);
      for (const held of several) {
        if (ours.has(held.event.seq)) held.leaseUntil = sentAt + leaseMs;
        else if (this.#held.has(keyOf(held.event))) this.#lose(held);
      }
    } catch (error) {
      log(`${several.length} leases could not be renewed`, error);
    } finally {
      this.#renewing = false;
    }
  }

  /** Each lease is given up when it is about to end, and not with the next renewal after that: others may run its event from then on. */
  #watchExpiry(): void {
    this.loseExpired(this.#held.values());
    const ends = this.all()
      .filter((held) => !held.lost)
      .map((held) => this.#givenUpAt(held));
    const inMs = Math.min(...ends) - performance.now();
    // Renewed leases end later than that, so mostly there is nothing to wait for.
    if (inMs > this.#options.leaseMs / 2) return;
    clearTimeout(this.#expiry);
    this.#expiry = setTimeout(() => this.#watchExpiry(), Math.max(0, inMs));
  }

  #lose(held: HeldEvent): void {
    if (held.lost) return;
    held.lost = true;
    const { id, functionName } = held.event;
    this.#options.log(`the lease of event ${id} was lost; function ${functionName} is stopped`);
    this.#options.metrics.settled?.('lost', 1);
    held.controller.abort();
  }
}

/** Of the lease: an event that was handed back may be leased anew before its old entry is gone. */
function keyOf({ seq, leaseNumber }: LeasedEvent): string {
  return `${seq}:${leaseNumber}`;
}
