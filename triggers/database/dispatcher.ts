import { randomUUID } from 'node:crypto';
import type { InvocationResult } from '../../invoker/index.ts';
import { PosternError } from '../../runtime/index.ts';
import type { DispatcherMetrics, DispatcherOptions } from './dispatcher-options.ts';
import { Doorbell } from './doorbell.ts';
import { deleteOrphans, leaseEvents, renewLeases } from './event-store.ts';
import { Janitor } from './janitor.ts';
import { depthOf, eventJson, kindOf, type LeasedEvent } from './leased-event.ts';
import { DEFAULT_POLICY, type DeliveryPolicy, handBack, refuseToRun, setbackOf } from './retry-policy.ts';
import { Settler } from './settler.ts';
import { Shares } from './share.ts';
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
/** With few places free, how long to wait for more of them before leasing for those few. */
const GATHER_MS = 4;
/** How often a full dispatcher rings for others to help. */
const CALL_FOR_HELP_MS = 200;
const ERROR_DELAY_MIN_MS = 50;
const ERROR_DELAY_MAX_MS = 5_000;
/** After the budget of `stop`: for cancelled invocations to end, and for the last acknowledgements. */
const CANCEL_MS = 1_000;
const DRAIN_MS = 5_000;

interface InFlight {
  readonly event: LeasedEvent;
  readonly controller: AbortController;
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
  readonly #concurrency: number;
  readonly #leaseMs: number;
  readonly #pollMs: number;
  readonly #log: (message: string, error?: unknown) => void;
  readonly #metrics: DispatcherMetrics;
  readonly #doorbell: Doorbell;
  readonly #settler: Settler;
  readonly #claims: WriterClaims;
  readonly #shares: Shares;
  readonly #janitor: Janitor;
  readonly #inFlight = new Map<string, InFlight>();

  #loop: Promise<void> | undefined;
  #renewals: NodeJS.Timeout | undefined;
  #renewing = false;
  #stopping: Promise<void> | undefined;
  #stopped = false;

  /** Ends the current wait, or the next one. */
  #rung = false;
  #wake: (() => void) | undefined;
  #gather: NodeJS.Timeout | undefined;
  #foundAt = 0;
  /** The doorbell was armed before the last look. */
  #armed = false;
  #writersPollMs = WRITERS_POLL_MIN_MS;
  #calledForHelpAt = Number.NEGATIVE_INFINITY;
  /** When the earliest of our own retries is due; others are found by the slow poll. */
  #nextRetryAt = Number.POSITIVE_INFINITY;

  constructor(options: DispatcherOptions) {
    this.#options = options;
    this.#concurrency = options.concurrency ?? CONCURRENCY;
    this.#leaseMs = options.leaseMs ?? LEASE_MS;
    this.#pollMs = options.pollMs ?? POLL_MS;
    this.#log = options.log ?? (() => undefined);
    this.#metrics = options.metrics ?? {};
    const { pool, nodeId, connection } = options;
    this.#shares = new Shares(this.#concurrency);
    this.#claims = new WriterClaims(pool, this.#log);
    this.#doorbell = new Doorbell({ connection, log: this.#log, onRing: () => this.#ring() });
    this.#janitor = new Janitor(pool, this.#log);
    this.#settler = new Settler({
      pool,
      nodeId,
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
    this.#loop = this.#run();
    this.#renewals = setInterval(() => void this.#renew(), this.#leaseMs / 3);
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
    clearTimeout(this.#gather);
  }

  /** Resolves when nothing is in flight, or after `budgetMs`. */
  async #emptied(budgetMs: number): Promise<void> {
    const giveUpAt = performance.now() + budgetMs;
    while (this.#inFlight.size > 0 && performance.now() < giveUpAt) await this.#wait(giveUpAt - performance.now());
  }

  async #run(): Promise<void> {
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
    const limit = this.#concurrency - this.#inFlight.size;
    // A database that takes leases and no acknowledgements must not fill our memory.
    if (limit <= 0 || this.#settler.backlog > 4 * this.#concurrency) return this.#wait(this.#pollMs);
    const found = await this.#lease(limit);
    if (found === 0) return this.#rest();
    this.#foundAt = performance.now();
    this.#armed = false;
    this.#doorbell.disarm();
    if (this.#inFlight.size >= this.#concurrency) this.#callForHelp();
  }

  async #lease(limit: number): Promise<number> {
    const leaseUntil = performance.now() + this.#leaseMs;
    const events = await leaseEvents(this.#options.pool, {
      nodeId: this.#options.nodeId,
      limit,
      leaseMs: this.#leaseMs,
      ...this.#shares.quotas(),
    });
    for (const event of events) {
      if (this.#stopped) this.#settler.setBack(handBack(event));
      else void this.#handle({ event, controller: new AbortController(), leaseUntil, lost: false });
    }
    if (events.length > 0) this.#metrics.leased?.(events.length);
    return events.length;
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

  /** One event, from the lease to the acknowledgement. Never rejects. */
  async #handle(entry: InFlight): Promise<void> {
    const { event } = entry;
    const key = `${event.seq}:${event.leaseNumber}`;
    this.#inFlight.set(key, entry);
    this.#shares.started(event.functionId);
    this.#metrics.inFlight?.(this.#inFlight.size);
    try {
      await this.#attempt(entry);
    } catch (error) {
      // A lookup of claims failed with the database. The lease is still ours; another try costs nothing.
      this.#log(`event ${event.id} of function ${event.functionName} could not be started`, error);
      this.#acknowledge(entry, { ...handBack(event), delayMs: ERROR_DELAY_MAX_MS * Math.random() });
    } finally {
      this.#inFlight.delete(key);
      this.#shares.ended(event.functionId);
      this.#metrics.inFlight?.(this.#inFlight.size);
      this.#placeFreed();
    }
  }

  async #attempt(entry: InFlight): Promise<void> {
    const { event } = entry;
    const policy = await this.#policyOf(event.functionName);
    this.#shares.limit(event.functionId, policy.concurrency);
    const refused = refuseToRun(event, policy);
    if (refused !== null) {
      this.#log(`event ${event.id} of function ${event.functionName} is dead: ${refused.error?.message}`);
      return this.#acknowledge(entry, refused);
    }
    const identity = await this.#claims.identityOf(event);
    if (entry.lost) return;
    this.#metrics.startLagMs?.(Date.now() - Date.parse(event.occurredAt));
    const result = await this.#options.invoker.invoke({
      functionName: event.functionName,
      trigger: kindOf(event),
      triggerId: event.triggerId,
      eventJson: eventJson(event),
      requestId: randomUUID(),
      identity,
      eventId: event.id,
      attempt: Number(event.attempt),
      depth: depthOf(event),
      signal: entry.controller.signal,
    });
    this.#metrics.attempted?.(event.functionName, result.outcome);
    this.#conclude(entry, result, policy);
  }

  #conclude(entry: InFlight, result: InvocationResult, policy: DeliveryPolicy): void {
    if (result.outcome === 'ok') {
      if (!entry.lost) this.#settler.finish(entry.event);
      return;
    }
    const setback = setbackOf(entry.event, result, policy);
    if (result.outcome === 'overloaded') this.#shares.pause(entry.event.functionId, setback.delayMs ?? 0);
    this.#acknowledge(entry, setback);
  }

  #acknowledge(entry: InFlight, setback: Parameters<Settler['setBack']>[0]): void {
    if (entry.lost) return;
    if (setback.delayMs !== null) {
      this.#nextRetryAt = Math.min(this.#nextRetryAt, performance.now() + setback.delayMs + 1);
    }
    this.#settler.setBack(setback);
  }

  async #policyOf(functionName: string): Promise<DeliveryPolicy> {
    try {
      return await this.#options.policy(functionName);
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
          else if (this.#inFlight.has(`${entry.event.seq}:${entry.event.leaseNumber}`)) this.#lose(entry);
        }
      } catch (error) {
        this.#log(`${held.length} leases could not be renewed`, error);
      } finally {
        this.#renewing = false;
      }
    }
    for (const entry of this.#inFlight.values()) if (entry.leaseUntil <= performance.now()) this.#lose(entry);
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
    this.#options.pool.query(`select pg_notify('postern_events', '')`).catch(() => undefined);
  }

  /** Leasing for each place by itself would cost a query an event; a quarter of the places free makes a batch. */
  #placeFreed(): void {
    if (this.#concurrency - this.#inFlight.size >= this.#concurrency / 4) {
      clearTimeout(this.#gather);
      this.#gather = undefined;
      this.#ring();
      return;
    }
    this.#gather ??= setTimeout(() => {
      this.#gather = undefined;
      this.#ring();
    }, GATHER_MS);
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
