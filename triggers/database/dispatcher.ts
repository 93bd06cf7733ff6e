import { randomUUID } from 'node:crypto';
import { failpoint } from '../../database/index.ts';
import type { InvocationRequest, InvocationResult } from '../../invoker/index.ts';
import { type Identity, PosternError } from '../../runtime/index.ts';
import { Batcher, MAX_BATCH_BYTES } from './batcher.ts';
import { deliveryJson, failedOf, PARTLY_FAILED, withDeadLetter } from './delivery.ts';
import type { DispatcherMetrics, DispatcherOptions } from './dispatcher-options.ts';
import { Doorbell, ringDoorbell } from './doorbell.ts';
import { kindOf } from './event-format.ts';
import { deleteOrphans, leaseEvents, leaseGroup, renewLeases } from './event-store.ts';
import { Janitor } from './janitor.ts';
import { depthOf, type LeasedEvent } from './leased-event.ts';
import { Places, type Quotas } from './places.ts';
import { DEFAULT_POLICY, type DeliveryPolicy, handBack, refuseToRun, setbackOf } from './retry-policy.ts';
import { Settler } from './settler.ts';
import { type TriggerOptions, TriggerOptionsCache } from './trigger-options.ts';
import { ANONYMOUS, WriterClaims } from './writer-claims.ts';

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
/** Events in our memory, most of them in batches that are being gathered. */
const MAX_IN_FLIGHT = 10_000;
const MAX_UNACKNOWLEDGED = 2_000;
/** After the budget of `stop`: for cancelled invocations to end, and for the last acknowledgements. */
const CANCEL_MS = 1_000;
const DRAIN_MS = 5_000;

/** One invocation that is to be. */
interface Delivery {
  readonly entries: readonly InFlight[];
  /** How many of those that follow it under its key may join it. */
  readonly following: number;
}

interface InFlight {
  readonly event: LeasedEvent;
  /** Of the invocation that it is part of. */
  controller: AbortController;
  /** By our own monotonic clock, from before the lease was asked for: it never ends later than Postgres thinks. */
  leaseUntil: number;
  /** Somebody else may have the event by now. It is stopped, and what it says is not sent. */
  lost: boolean;
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
  readonly #claims: WriterClaims;
  readonly #places: Places<Delivery>;
  readonly #janitor: Janitor;
  readonly #triggers: TriggerOptionsCache;
  /** Leased, and not acknowledged. */
  readonly #inFlight = new Map<string, InFlight>();
  readonly #batcher = new Batcher<InFlight>((entries) => this.#deliver(entries));

  #loop: Promise<void> | undefined;
  #renewals: NodeJS.Timeout | undefined;
  #expiry: NodeJS.Timeout | undefined;
  #renewing = false;
  #stopping: Promise<void> | undefined;
  #stopped = false;

  /** Ends the current wait, or the next one. */
  #rung = false;
  #wake: (() => void) | undefined;
  #gather: NodeJS.Timeout | undefined;
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
    this.#claims = new WriterClaims(pool, this.#log);
    this.#triggers = new TriggerOptionsCache(pool);
    this.#doorbell = new Doorbell({ connection, log: this.#log, onRing: () => this.#ring() });
    this.#janitor = new Janitor(pool, this.#log);
    this.#settler = new Settler({
      pool,
      nodeId,
      timeoutMs: this.#leaseMs,
      log: this.#log,
      metrics: this.#metrics,
      onSettled: (count) => {
        this.#janitor.handled(count);
        this.#ring();
      },
    });
  }

  /** Resolves when it listens. Not an error if the database is away: it goes on trying. */
  async start(): Promise<void> {
    if (this.#loop !== undefined || this.#stopped) return;
    this.#loop = this.#lookOut();
    this.#renewals = setInterval(() => {
      this.#watchExpiry();
      // Its function has become slow: others may have the time.
      for (const { entries } of this.#places.giveUp(this.#leaseMs / 3)) this.#release(entries);
      void this.#renew();
    }, this.#leaseMs / 3);
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
    this.#ring();
    await this.#loop;
    await this.#doorbell.stop();
    this.#batcher.flush();
    for (const { entries } of this.#places.giveUp(0)) this.#release(entries);
    await this.#emptied(budgetMs);
    for (const { controller } of this.#inFlight.values()) controller.abort();
    await this.#emptied(CANCEL_MS);
    for (const entry of this.#inFlight.values()) {
      this.#log(`function ${entry.event.functionName} does not end; its event ${entry.event.id} is handed back`);
      if (!entry.lost) this.#settler.setBack(handBack(entry.event));
      entry.lost = true;
    }
    await this.#settler.drain(DRAIN_MS);
    await this.#janitor.settled();
    clearInterval(this.#renewals);
    clearTimeout(this.#expiry);
    clearTimeout(this.#gather);
  }

  /** Resolves when nothing is in flight, or after `budgetMs`. */
  async #emptied(budgetMs: number): Promise<void> {
    const giveUpAt = performance.now() + budgetMs;
    while (this.#inFlight.size > 0 && performance.now() < giveUpAt) await this.#wait(giveUpAt - performance.now());
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
        await this.#wait(delayMs * (0.5 + Math.random()));
        delayMs = Math.min(delayMs * 2, ERROR_DELAY_MAX_MS);
      }
    }
  }

  /** Looks once; where it finds nothing, waits for what makes looking worthwhile. */
  async #turn(): Promise<void> {
    const quotas = this.#places.quotas();
    // A database that takes leases and no acknowledgements must not fill our memory.
    const full = this.#settler.backlog > MAX_UNACKNOWLEDGED || this.#inFlight.size > MAX_IN_FLIGHT;
    if (quotas.room <= 0 || full) return this.#wait(this.#pollMs);
    const gatherMs = this.#leasedAt + this.#gatherMs - performance.now();
    if (gatherMs > 0 && !quotas.worthwhile) return this.#wait(gatherMs);
    const found = await this.#lease(quotas);
    this.#leasedAt = performance.now();
    if (found === 0) return this.#rest();
    this.#foundAt = performance.now();
    this.#armed = false;
    this.#doorbell.disarm();
    if (this.#places.full) this.#callForHelp();
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
      else await this.#admit(this.#hold(event, leaseUntil));
    }
    if (events.length > 0) this.#metrics.leased?.(events.length);
    return events.length;
  }

  /** From now on its lease is renewed. */
  #hold(event: LeasedEvent, leaseUntil: number): InFlight {
    const entry = { event, controller: new AbortController(), leaseUntil, lost: false };
    this.#inFlight.set(keyOf(event), entry);
    this.#metrics.inFlight?.(this.#inFlight.size);
    return entry;
  }

  /** Waits only for a trigger that is seen for the first time: what is leased next depends on what has begun. */
  async #admit(entry: InFlight): Promise<void> {
    try {
      this.#route(entry, await this.#triggers.of(entry.event.triggerId));
    } catch (error) {
      this.#giveUp([entry], error);
    }
  }

  /** Alone, with what follows it under its key, or with what comes within a moment. */
  #route(entry: InFlight, { batch, transaction }: TriggerOptions): void {
    const { event } = entry;
    if (event.orderingKey !== null && (transaction === true || batch !== undefined)) {
      this.#deliver([entry], (batch?.maxSize ?? MAX_TRANSACTION_EVENTS) - 1);
    } else if (batch !== undefined && event.orderingKey === null) {
      // One invocation acts for one caller.
      const key = `${event.triggerId} ${event.writer ?? ''} ${event.claims ?? ''}`;
      this.#batcher.add(key, entry, event.rowBytes, batch);
    } else this.#deliver([entry]);
  }

  /** Together with what follows it, as much as fits into one invocation. */
  async #withFollowing(first: InFlight, limit: number): Promise<readonly InFlight[]> {
    if (first.event.parked || first.lost) return [first];
    const { pool, nodeId } = this.#options;
    const leaseUntil = performance.now() + this.#leaseMs;
    let entries: InFlight[] = [first];
    try {
      const events = await leaseGroup(pool, first.event, { nodeId, limit, leaseMs: this.#leaseMs });
      entries = [first, ...events.map((event) => this.#hold(event, leaseUntil))];
    } catch (error) {
      this.#log(`what follows event ${first.event.id} could not be leased`, error);
    }
    const together = withinBytes(entries);
    this.#release(entries.slice(together));
    return entries.slice(0, together);
  }

  /** As if they had not been leased. */
  #release(entries: readonly InFlight[]): void {
    for (const entry of entries) {
      this.#inFlight.delete(keyOf(entry.event));
      this.#acknowledge(entry, handBack(entry.event));
    }
  }

  /** From busy to asleep. After arming it returns, so that there is one more look before the sleep. */
  async #rest(): Promise<void> {
    const now = performance.now();
    if (now - this.#foundAt < BUSY_FOR_MS) return this.#wait(BUSY_POLL_MS);
    if (this.#nextRetryAt <= now) this.#nextRetryAt = Number.POSITIVE_INFINITY;
    const sleepMs = Math.min(this.#pollMs, Math.max(1, this.#nextRetryAt - now));
    if (this.#armed) {
      await this.#wait(sleepMs);
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
        await this.#wait(Math.min(sleepMs, this.#writersPollMs));
        this.#writersPollMs = Math.min(this.#writersPollMs * 1.5, WRITERS_POLL_MAX_MS);
        return;
      case 'no':
        return this.#wait(Math.min(sleepMs, DEAF_POLL_MS));
    }
  }

  /** The events of one invocation, when there is a place for it. */
  #deliver(entries: readonly InFlight[], following = 0): void {
    this.#places.enter(entries[0]!.event.functionId, { entries, following });
  }

  /** To the acknowledgement. Never rejects. */
  async #run(functionId: string, { entries: given, following }: Delivery): Promise<void> {
    let entries = given;
    try {
      if (following > 0) entries = await this.#withFollowing(given[0]!, following);
      await this.#attempt(entries);
    } catch (error) {
      this.#giveUp(entries, error);
    } finally {
      for (const { event } of entries) this.#inFlight.delete(keyOf(event));
      if (this.#places.leave(functionId)) this.#ring();
      else this.#ringSoon();
      this.#metrics.inFlight?.(this.#inFlight.size);
    }
  }

  /** A lookup failed with the database. The lease is still ours; another try costs nothing. */
  #giveUp(entries: readonly InFlight[], error: unknown): void {
    const { id, functionName } = entries[0]!.event;
    this.#log(`event ${id} of function ${functionName} could not be started`, error);
    const delayMs = ERROR_DELAY_MAX_MS * Math.random();
    for (const entry of entries) {
      this.#inFlight.delete(keyOf(entry.event));
      this.#acknowledge(entry, { ...handBack(entry.event), delayMs });
    }
  }

  async #attempt(held: readonly InFlight[]): Promise<void> {
    const { event: first } = held[0]!;
    const options = await this.#triggers.of(first.triggerId);
    const policy = await this.#policyOf(first.functionName, options);
    this.#places.limit(first.functionId, policy.concurrency);
    const entries = held.filter((entry) => !this.#refused(entry, policy, options));
    const identity = await this.#identityOf(entries);
    // The lookups took their time, with a database that is away all of it.
    this.#loseExpired(entries);
    const running = entries.filter((entry) => !entry.lost);
    const [leader] = running;
    if (leader === undefined) return;
    for (const { event } of running) this.#metrics.startLagMs?.(Date.now() - Date.parse(event.occurredAt));
    for (const entry of running) entry.controller = leader.controller;
    const { event } = leader;
    failpoint('before_dispatch');
    const result = await this.#options.invoker.invoke({
      functionName: event.functionName,
      trigger: kindOf(event),
      triggerId: event.triggerId,
      eventJson: deliveryJson(running, options, policy),
      requestId: randomUUID(),
      identity,
      eventId: event.id,
      attempt: Number(event.attempt),
      depth: Math.max(...running.map((entry) => depthOf(entry.event))),
      signal: leader.controller.signal,
      ...(options.delivery === 'atomic' ? { atomic: this.#atomic(running, options) } : {}),
    });
    failpoint('after_result');
    this.#metrics.attempted?.(event.functionName, result.outcome);
    this.#conclude(running, result, policy, options);
  }

  /** Acknowledges an event that must not run. */
  #refused(entry: InFlight, policy: DeliveryPolicy, options: TriggerOptions): boolean {
    const { event } = entry;
    const refused = refuseToRun(event, policy);
    if (refused === null) return false;
    this.#log(`event ${event.id} of function ${event.functionName} is dead: ${refused.error?.message ?? 'too old'}`);
    this.#acknowledge(entry, withDeadLetter(refused, options));
    return true;
  }

  /** Of several that do not act for the same caller: nobody's. */
  #identityOf(entries: readonly InFlight[]): Identity | Promise<Identity> {
    const [first] = entries;
    const same = entries.every(
      ({ event }) => event.claims === first?.event.claims && event.writer === first.event.writer,
    );
    return first !== undefined && same ? this.#claims.identityOf(first.event) : ANONYMOUS;
  }

  #atomic(running: readonly InFlight[], options: TriggerOptions): NonNullable<InvocationRequest['atomic']> {
    return {
      nodeId: this.#options.nodeId,
      events: running.map(({ event }) => event),
      // What one event of a batch changed can't be told from what the others did.
      mayCommit: (result) => failedOf(running, result, options).size === 0,
    };
  }

  #conclude(
    entries: readonly InFlight[],
    result: InvocationResult,
    policy: DeliveryPolicy,
    options: TriggerOptions,
  ): void {
    if (result.acknowledged === true) {
      this.#settler.acknowledged(entries.length);
      return;
    }
    const reported = result.outcome === 'ok' ? failedOf(entries, result, options) : new Set(entries);
    // Atomic ones fail together: nothing of them was committed.
    const failed = reported.size > 0 && options.delivery === 'atomic' ? new Set(entries) : reported;
    const failure: InvocationResult = result.outcome === 'ok' ? { ...result, ...PARTLY_FAILED } : result;
    for (const entry of entries) {
      if (!failed.has(entry)) {
        if (!entry.lost) this.#settler.finish(entry.event);
        continue;
      }
      const setback = setbackOf(entry.event, failure, policy);
      if (result.outcome === 'overloaded') this.#places.pause(entry.event.functionId, setback.delayMs ?? 0);
      this.#acknowledge(entry, withDeadLetter(setback, options));
    }
  }

  #acknowledge(entry: InFlight, setback: Parameters<Settler['setBack']>[0]): void {
    if (entry.lost) return;
    if (setback.delayMs !== null) {
      this.#nextRetryAt = Math.min(this.#nextRetryAt, performance.now() + setback.delayMs + 1);
    }
    this.#settler.setBack(setback);
  }

  async #policyOf(functionName: string, { retry }: TriggerOptions): Promise<DeliveryPolicy> {
    try {
      const policy = await this.#options.policy(functionName);
      return retry === undefined ? policy : { ...policy, retry };
    } catch (error) {
      if (PosternError.from(error).code !== 'FUNCTION_NOT_FOUND') {
        this.#log(
          `the configuration of function ${functionName} can not be read; defaults apply to its retries`,
          error,
        );
      }
      return DEFAULT_POLICY;
    }
  }

  /** Every third of a lease. Leases that could not be renewed in time are given up before others may take them. */
  async #renew(): Promise<void> {
    const held = [...this.#inFlight.values()].filter((entry) => !entry.lost);
    if (held.length > 0 && !this.#renewing) {
      this.#renewing = true;
      const sentAt = performance.now();
      const events = held.map((entry) => entry.event);
      try {
        const ours = await renewLeases(this.#options.pool, this.#options.nodeId, events, this.#leaseMs);
        for (const entry of held) {
          if (ours.has(entry.event.seq)) entry.leaseUntil = sentAt + this.#leaseMs;
          else if (this.#inFlight.has(keyOf(entry.event))) this.#lose(entry);
        }
      } catch (error) {
        this.#log(`${held.length} leases could not be renewed`, error);
      } finally {
        this.#renewing = false;
      }
    }
  }

  /** Each lease is given up when it ends, and not with the next renewal after that: others may run its event from then on. */
  #watchExpiry(): void {
    this.#loseExpired(this.#inFlight.values());
    const ends = [...this.#inFlight.values()].filter((entry) => !entry.lost).map((entry) => entry.leaseUntil);
    const inMs = Math.min(...ends) - performance.now();
    // Renewed leases end later than that, so mostly there is nothing to wait for.
    if (inMs > this.#leaseMs / 2) return;
    clearTimeout(this.#expiry);
    this.#expiry = setTimeout(() => this.#watchExpiry(), inMs);
  }

  #loseExpired(entries: Iterable<InFlight>): void {
    const now = performance.now();
    for (const entry of entries) if (entry.leaseUntil <= now) this.#lose(entry);
  }

  #lose(entry: InFlight): void {
    if (entry.lost) return;
    entry.lost = true;
    this.#log(`the lease of event ${entry.event.id} was lost; function ${entry.event.functionName} is stopped`);
    this.#metrics.settled?.('lost', 1);
    entry.controller.abort();
  }

  /** Other nodes may sleep, and writers do not ring while one is awake. */
  #callForHelp(): void {
    const now = performance.now();
    if (now - this.#calledForHelpAt < CALL_FOR_HELP_MS) return;
    this.#calledForHelpAt = now;
    ringDoorbell(this.#options.pool).catch(() => undefined);
  }

  /** Leasing for each place by itself would cost a query an event. */
  #ringSoon(): void {
    this.#gather ??= setTimeout(() => {
      this.#gather = undefined;
      this.#ring();
    }, this.#gatherMs);
  }

  get #gatherMs(): number {
    return this.#places.hasReserve ? GATHER_WITH_RESERVE_MS : GATHER_MS;
  }

  #ring(): void {
    this.#rung = true;
    this.#wake?.();
  }

  /** Until the doorbell, a place that became free, an acknowledgement, or `forMs`. */
  async #wait(forMs: number): Promise<void> {
    if (!this.#rung) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, forMs);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      this.#wake = undefined;
    }
    this.#rung = false;
  }
}

function keyOf({ seq, leaseNumber }: LeasedEvent): string {
  return `${seq}:${leaseNumber}`;
}

/** How many of them, from the first, fit into one invocation; one at least. */
function withinBytes(entries: readonly InFlight[]): number {
  let bytes = 0;
  const over = entries.findIndex(({ event }) => {
    bytes += event.rowBytes;
    return bytes > MAX_BATCH_BYTES;
  });
  return over === -1 ? entries.length : Math.max(1, over);
}
