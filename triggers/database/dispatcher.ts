import { failpoint } from '../../database/index.ts';
import { Batcher, MAX_BATCH_BYTES } from './batcher.ts';
import { DeliveryAttempts } from './delivery-attempt.ts';
import type { DispatcherMetrics, DispatcherOptions } from './dispatcher-options.ts';
import { Doorbell, ringDoorbell } from './doorbell.ts';
import { deleteOrphans, isLastOfKey, leaseEvents, leaseGroup, type Setback } from './event-store.ts';
import { type HeldEvent, HeldEvents } from './held-events.ts';
import { Janitor } from './janitor.ts';
import { Places, type Quotas } from './places.ts';
import { handBack } from './retry-policy.ts';
import { Settler } from './settler.ts';
import { type TriggerOptions, TriggerOptionsCache } from './trigger-options.ts';
import { Wake } from './wake.ts';
import { WriterClaims } from './writer-claims.ts';

const CONCURRENCY = 128;
const LEASE_MS = 30_000;
const POLL_MS = 1_000;

/** After events were found more may come at once: look this often, for so long, before going to sleep. */
const BUSY_POLL_MS = 4;
const BUSY_FOR_MS = 20;
/** While transactions are under way that will not ring: from, to, growing by half. Bounds what they add to an event's latency. */
const WRITERS_POLL_MIN_MS = 4;
const WRITERS_POLL_MAX_MS = 100;
/** While nobody can ring. */
const DEAF_POLL_MS = 25;
/** With room for few events, how long to wait for more of it before leasing those few; and with others in reserve. */
const GATHER_MS = 4;
const GATHER_WITH_RESERVE_MS = 20;
/** How often a full dispatcher rings for others to help. */
const CALL_FOR_HELP_MS = 200;
const ERROR_DELAY_MIN_MS = 50;
const ERROR_DELAY_MAX_MS = 5_000;
/** Of one transaction, in one invocation; a larger one comes in parts, in order. */
const MAX_TRANSACTION_EVENTS = 1_000;
/** A part of a transaction, while the leases of a node that died run out one after the other. */
const INCOMPLETE_RETRY_MS = 500;
/** Events in our memory, most of them in batches that are being gathered. */
const MAX_IN_FLIGHT = 10_000;
/** Atomic deliveries of one function at once: somewhat fewer than guests of one role have connections. */
const MAX_ATOMIC = 8;
const MAX_UNACKNOWLEDGED = 2_000;
/** After the budget of `stop`: for cancelled invocations to end, and for the last acknowledgements. */
const CANCEL_MS = 1_000;
const DRAIN_MS = 5_000;

interface Routed {
  readonly held: HeldEvent;
  readonly options: TriggerOptions;
}

/** One invocation that is to be. */
interface Delivery {
  readonly entries: readonly HeldEvent[];
  readonly options: TriggerOptions;
  /** How many of those that follow it under its key may join it. */
  readonly following: number;
}

/**
 * Runs the functions for committed row changes: leases events, hands them to the invoker, acknowledges.
 *
 * Delivery is at least once. An event runs again after a failure, or after this node was silent for longer than its lease
 * (crashed, cut off, stopped); while a lease is valid nobody else runs it. In order of what happens when a node dies:
 * before the lease commits: nothing; after it: the lease runs out, the attempt counts; after the function ran and
 * before the acknowledgement commits: the function runs again, with the same event id.
 */
export class Dispatcher {
  readonly #options: DispatcherOptions;
  readonly #leaseMs: number;
  readonly #pollMs: number;
  readonly #log: (message: string, error?: unknown) => void;
  readonly #metrics: DispatcherMetrics;
  readonly #doorbell: Doorbell;
  readonly #settler: Settler;
  readonly #attempts: DeliveryAttempts;
  readonly #places: Places<Delivery>;
  readonly #janitor: Janitor;
  readonly #triggers: TriggerOptionsCache;
  readonly #held: HeldEvents;
  readonly #batcher = new Batcher<Routed>((several) => {
    this.#deliver(
      several.map(({ held }) => held),
      several[0]!.options,
    );
  });
  readonly #wake = new Wake();

  #loop: Promise<void> | undefined;
  #reserve: NodeJS.Timeout | undefined;
  #stopping: Promise<void> | undefined;
  #stopped = false;

  #leasedAt = 0;
  #foundAt = 0;
  /** The doorbell was armed before the last look. */
  #armed = false;
  #writersPollMs = WRITERS_POLL_MIN_MS;
  #calledForHelpAt = Number.NEGATIVE_INFINITY;
  /** When the earliest of our own retries is due; others are found by the slow poll. */
  #nextRetryAt = Number.POSITIVE_INFINITY;

  constructor(options: DispatcherOptions) {
    this.#options = options;
    this.#leaseMs = options.leaseMs ?? LEASE_MS;
    this.#pollMs = options.pollMs ?? POLL_MS;
    this.#log = options.log ?? (() => undefined);
    this.#metrics = options.metrics ?? {};
    const { pool, nodeId, connection } = options;
    this.#places = new Places(options.concurrency ?? CONCURRENCY, (functionId, delivery) => {
      void this.#run(functionId, delivery);
    });
    this.#triggers = new TriggerOptionsCache(pool);
    this.#doorbell = new Doorbell({ connection, log: this.#log, onRing: () => this.#wake.ring() });
    this.#janitor = new Janitor(pool, this.#log);
    this.#settler = new Settler({
      pool,
      nodeId,
      timeoutMs: this.#leaseMs,
      log: this.#log,
      metrics: this.#metrics,
      onDelayed: (delayMs) => {
        this.#nextRetryAt = Math.min(this.#nextRetryAt, performance.now() + delayMs + 1);
      },
      onSettled: (count) => {
        this.#janitor.handled(count);
        this.#wake.ring();
      },
    });
    this.#held = new HeldEvents({ pool, nodeId, leaseMs: this.#leaseMs, log: this.#log, metrics: this.#metrics });
    this.#attempts = new DeliveryAttempts({
      invoker: options.invoker,
      policy: options.policy,
      nodeId,
      claims: new WriterClaims(pool, this.#log),
      held: this.#held,
      settler: this.#settler,
      metrics: this.#metrics,
      log: this.#log,
      setBack: (held, setback) => this.#setBack(held, setback),
      release: (several) => this.#release(several),
      onOverload: (functionId, forMs) => this.#places.pause(functionId, forMs),
    });
  }

  /** Whether it is woken by commits; else it polls, for want of a connection or a session. */
  get listens(): boolean {
    return this.#doorbell.hears;
  }

  /** Resolves when it listens. Not an error if the database is away: it goes on trying. */
  async start(): Promise<void> {
    if (this.#loop !== undefined || this.#stopped) return;
    this.#loop = this.#lookOut();
    this.#held.start();
    // What a function has in reserve while it became slow: others may have the time.
    const waitMs = this.#leaseMs / 3;
    this.#reserve = setInterval(() => this.#releaseReserve(waitMs), waitMs);
    await this.#doorbell.start();
  }

  /**
   * Leases nothing more, waits up to `budgetMs` for what runs, cancels the rest and hands it back: other nodes have it at
   * once, and the attempt does not count. Safe twice, and before `start`.
   */
  stop(budgetMs = 10_000): Promise<void> {
    this.#stopping ??= this.#stop(budgetMs);
    return this.#stopping;
  }

  async #stop(budgetMs: number): Promise<void> {
    this.#stopped = true;
    this.#wake.ring();
    await this.#loop;
    await this.#doorbell.stop();
    this.#batcher.flush();
    this.#releaseReserve(0);
    await this.#emptied(budgetMs);
    for (const { controller } of this.#held.all()) controller.abort();
    await this.#emptied(CANCEL_MS);
    for (const entry of this.#held.all()) {
      this.#log(`function ${entry.event.functionName} does not end; its event ${entry.event.id} is handed back`);
      this.#setBack(entry, handBack(entry.event));
      entry.lost = true;
    }
    await this.#settler.drain(DRAIN_MS);
    await this.#janitor.settled();
    clearInterval(this.#reserve);
    this.#held.stop();
    this.#wake.stop();
  }

  /** Resolves when nothing is in flight, or after `budgetMs`. */
  async #emptied(budgetMs: number): Promise<void> {
    const giveUpAt = performance.now() + budgetMs;
    while (this.#held.size > 0 && performance.now() < giveUpAt) await this.#wake.wait(giveUpAt - performance.now());
  }

  async #lookOut(): Promise<void> {
    let delayMs = ERROR_DELAY_MIN_MS;
    let tidied = false;
    while (!this.#stopped) {
      try {
        if (!tidied) await deleteOrphans(this.#options.pool);
        tidied = true;
        await this.#turn();
        delayMs = ERROR_DELAY_MIN_MS;
      } catch (error) {
        this.#log('events can not be leased; trying again', error);
        await this.#wake.wait(delayMs * (0.5 + Math.random()));
        delayMs = Math.min(delayMs * 2, ERROR_DELAY_MAX_MS);
      }
    }
  }

  /** Looks once; where it finds nothing, waits for what makes looking worthwhile. */
  async #turn(): Promise<void> {
    const quotas = this.#places.quotas();
    // A database that takes leases and no acknowledgements must not fill our memory.
    const full = this.#settler.backlog > MAX_UNACKNOWLEDGED || this.#held.size > MAX_IN_FLIGHT;
    if (quotas.room <= 0 || full) return this.#wake.wait(this.#pollMs);
    const gatherMs = this.#leasedAt + this.#gatherMs - performance.now();
    if (gatherMs > 0 && !quotas.worthwhile) return this.#wake.wait(gatherMs);
    const found = await this.#lease(quotas);
    this.#leasedAt = performance.now();
    if (found === 0) return this.#rest();
    this.#foundAt = performance.now();
    this.#armed = false;
    this.#doorbell.disarm();
    if (this.#places.full || this.#places.hasReserve) this.#callForHelp();
  }

  async #lease({ room, quotas, otherwise }: Quotas): Promise<number> {
    const leaseUntil = performance.now() + this.#leaseMs;
    failpoint('before_lease');
    const events = await leaseEvents(this.#options.pool, {
      nodeId: this.#options.nodeId,
      limit: room,
      leaseMs: this.#leaseMs,
      quotas,
      otherwise,
    });
    if (events.length > 0) failpoint('after_lease_commit');
    for (const event of events) {
      if (this.#stopped) this.#settler.setBack(handBack(event));
      else await this.#admit(this.#held.hold(event, leaseUntil));
    }
    if (events.length > 0) this.#metrics.leased?.(events.length);
    return events.length;
  }

  /** Waits only for a trigger that is seen for the first time: what is leased next depends on what has begun. */
  async #admit(entry: HeldEvent): Promise<void> {
    try {
      const { event } = entry;
      const { version, concurrency } = await this.#attempts.policyOf(event.functionName);
      const options = await this.#triggers.of(event.triggerId, version);
      this.#places.limit(event.functionId, options.delivery === 'atomic' ? atomicLimit(concurrency) : concurrency);
      this.#route(entry, options);
    } catch (error) {
      this.#giveUp([entry], error);
    }
  }

  /** Alone, with what follows it under its key, or with what comes within a moment. */
  #route(entry: HeldEvent, options: TriggerOptions): void {
    const { event } = entry;
    const { batch, transaction } = options;
    if (event.orderingKey !== null && (transaction === true || batch !== undefined)) {
      this.#deliver([entry], options, (batch?.maxSize ?? MAX_TRANSACTION_EVENTS) - 1);
    } else if (batch !== undefined && event.orderingKey === null) {
      // One invocation acts for one caller.
      const key = `${event.triggerId} ${event.writer ?? ''} ${event.claims ?? ''}`;
      this.#batcher.add(key, { held: entry, options }, event.rowBytes, batch);
    } else this.#deliver([entry], options);
  }

  /** Together with what follows it, as much as fits into one invocation. `whole`: rather not at all than in part. */
  async #withFollowing(first: HeldEvent, limit: number, whole: boolean): Promise<readonly HeldEvent[]> {
    if (first.event.parked || first.lost) return [first];
    const { pool, nodeId } = this.#options;
    const leaseUntil = performance.now() + this.#leaseMs;
    let entries: HeldEvent[] = [first];
    let complete = true;
    try {
      const events = await leaseGroup(pool, first.event, { nodeId, limit, leaseMs: this.#leaseMs });
      failpoint('after_group_lease_commit');
      entries = [first, ...events.map((event) => this.#held.hold(event, leaseUntil))];
      // All of it came by one commit, so only what was leased before can be in several hands.
      if (whole && Number(first.event.leaseNumber) > 1 && entries.length <= limit) {
        complete = await isLastOfKey(pool, entries.at(-1)!.event, this.#leaseMs);
      }
    } catch (error) {
      this.#log(`what follows event ${first.event.id} could not be leased`, error);
      complete = !whole;
    }
    if (!complete) {
      this.#release(entries, INCOMPLETE_RETRY_MS);
      return [];
    }
    const together = withinBytes(entries);
    this.#release(entries.slice(together));
    return entries.slice(0, together);
  }

  /** As if they had not been leased. */
  #release(several: readonly HeldEvent[], delayMs: number | null = null): void {
    this.#held.letGo(several);
    for (const held of several) this.#setBack(held, { ...handBack(held.event), delayMs });
  }

  /** What has waited for its place for so long. */
  #releaseReserve(waitedMs: number): void {
    for (const { entries } of this.#places.giveUp(waitedMs)) this.#release(entries);
  }

  /** From busy to asleep. After arming it returns, so that there is one more look before the sleep. */
  async #rest(): Promise<void> {
    const now = performance.now();
    if (now - this.#foundAt < BUSY_FOR_MS) return this.#wake.wait(BUSY_POLL_MS);
    if (this.#nextRetryAt <= now) this.#nextRetryAt = Number.POSITIVE_INFINITY;
    const sleepMs = Math.min(this.#pollMs, Math.max(1, this.#nextRetryAt - now));
    if (this.#armed) {
      await this.#wake.wait(sleepMs);
      this.#armed = false;
      return;
    }
    switch (await this.#doorbell.arm()) {
      case 'yes':
        this.#janitor.idle();
        this.#armed = true;
        this.#writersPollMs = WRITERS_POLL_MIN_MS;
        return;
      case 'writers':
        await this.#wake.wait(Math.min(sleepMs, this.#writersPollMs));
        this.#writersPollMs = Math.min(this.#writersPollMs * 1.5, WRITERS_POLL_MAX_MS);
        return;
      case 'no':
        return this.#wake.wait(Math.min(sleepMs, DEAF_POLL_MS));
    }
  }

  /** The events of one invocation, when there is a place for it. */
  #deliver(entries: readonly HeldEvent[], options: TriggerOptions, following = 0): void {
    this.#places.enter(entries[0]!.event.functionId, { entries, options, following });
  }

  /** To the acknowledgement. Never rejects. */
  async #run(functionId: string, { entries: given, options, following }: Delivery): Promise<void> {
    let entries = given;
    try {
      if (following > 0) entries = await this.#withFollowing(given[0]!, following, options.transaction === true);
      if (entries.length > 0) await this.#attempts.run(entries, options);
    } catch (error) {
      this.#giveUp(entries, error);
    } finally {
      this.#held.letGo(entries);
      if (this.#places.leave(functionId)) this.#wake.ring();
      else this.#wake.ringWithin(this.#gatherMs);
    }
  }

  /** A lookup failed with the database. The lease is still ours; another try costs nothing. */
  #giveUp(several: readonly HeldEvent[], error: unknown): void {
    const { id, functionName } = several[0]!.event;
    this.#log(`event ${id} of function ${functionName} could not be started`, error);
    this.#release(several, ERROR_DELAY_MAX_MS * Math.random());
  }

  #setBack(held: HeldEvent, setback: Setback): void {
    if (!held.lost) this.#settler.setBack(setback);
  }

  /** Other nodes may sleep, and writers do not ring while one is awake. */
  #callForHelp(): void {
    const now = performance.now();
    if (now - this.#calledForHelpAt < CALL_FOR_HELP_MS) return;
    this.#calledForHelpAt = now;
    ringDoorbell(this.#options.pool).catch(() => undefined);
  }

  /** Leasing for each place by itself would cost a query an event. */
  get #gatherMs(): number {
    return this.#places.hasReserve ? GATHER_WITH_RESERVE_MS : GATHER_MS;
  }
}

/** Each holds a connection of its role to the end, and those are few: the rest would wait for one, and fail. */
function atomicLimit(concurrency: number | null): number {
  return Math.min(concurrency ?? MAX_ATOMIC, MAX_ATOMIC);
}

/** How many of them, from the first, fit into one invocation; one at least. */
function withinBytes(entries: readonly HeldEvent[]): number {
  let bytes = 0;
  const over = entries.findIndex(({ event }) => {
    bytes += event.rowBytes;
    return bytes > MAX_BATCH_BYTES;
  });
  return over === -1 ? entries.length : Math.max(1, over);
}
