/** One attempt to deliver: the events of an invocation, from their place to what is acknowledged. */

import { randomUUID } from 'node:crypto';
import { failpoint } from '../../database/index.ts';
import type { InvocationRequest, InvocationResult } from '../../invoker/index.ts';
import { ANONYMOUS, type Identity, PosternError } from '../../runtime/index.ts';
import { deliveryJson, failedOf, PARTLY_FAILED, withDeadLetter } from './delivery.ts';
import type { DispatcherMetrics, DispatcherOptions } from './dispatcher-options.ts';
import { kindOf } from './event-format.ts';
import type { Setback } from './event-store.ts';
import type { HeldEvent, HeldEvents } from './held-events.ts';
import { depthOf } from './leased-event.ts';
import { DEFAULT_POLICY, type DeliveryPolicy, handBack, refuseToRun, setbackOf } from './retry-policy.ts';
import type { Settler } from './settler.ts';
import type { TriggerOptions } from './trigger-options.ts';
import type { WriterClaims } from './writer-claims.ts';

export interface AttemptOptions extends Pick<DispatcherOptions, 'invoker' | 'policy' | 'nodeId'> {
  readonly claims: WriterClaims;
  readonly held: HeldEvents;
  readonly settler: Settler;
  readonly metrics: DispatcherMetrics;
  readonly log: (message: string, error?: unknown) => void;
  readonly setBack: (held: HeldEvent, setback: Setback) => void;
  /** As if they had not been leased. */
  readonly release: (several: readonly HeldEvent[]) => void;
  /** There was no room for it. */
  readonly onOverload: (functionId: string, forMs: number) => void;
}

export class DeliveryAttempts {
  readonly #options: AttemptOptions;

  constructor(options: AttemptOptions) {
    this.#options = options;
  }

  /** Rejects where a lookup failed with the database, before anything ran. */
  async run(several: readonly HeldEvent[], options: TriggerOptions): Promise<void> {
    const { held, metrics, invoker } = this.#options;
    const { event: first } = several[0]!;
    const own = await this.policyOf(first.functionName);
    const policy = options.retry === undefined ? own : { ...own, retry: options.retry };
    const entries = this.#willing(several, policy, options);
    const identity = await this.#identityOf(entries);
    // The lookups took their time, with a database that is away all of it.
    held.loseExpired(entries);
    const running = this.#stillHeld(entries, options);
    const [leader] = running;
    if (leader === undefined) return;
    for (const { event } of running) metrics.startLagMs?.(Date.now() - Date.parse(event.occurredAt));
    for (const entry of running) entry.controller = leader.controller;
    const { event } = leader;
    failpoint('before_dispatch');
    const result = await invoker.invoke({
      functionName: event.functionName,
      trigger: kindOf(event),
      triggerId: event.triggerId,
      eventJson: deliveryJson(running, options, policy, identity),
      requestId: randomUUID(),
      identity,
      eventId: event.id,
      attempt: Number(event.attempt),
      depth: Math.max(...running.map((entry) => depthOf(entry.event))),
      signal: leader.controller.signal,
      ...(options.delivery === 'atomic' ? { atomic: this.#atomic(running, options) } : {}),
    });
    failpoint('after_result');
    metrics.attempted?.(event.functionName, result.outcome);
    this.#conclude(running, result, policy, options);
  }

  /** Without events that must not run, and under a key that these block, without what is behind them. */
  #willing(several: readonly HeldEvent[], policy: DeliveryPolicy, options: TriggerOptions): HeldEvent[] {
    const willing: HeldEvent[] = [];
    for (const [place, entry] of several.entries()) {
      if (!this.#refused(entry, policy, options)) willing.push(entry);
      else if (/^[bp]/.test(entry.event.orderingKey ?? '')) {
        this.#options.release(several.slice(place + 1));
        break;
      }
    }
    return willing;
  }

  /** Of a lost event others run what it is, and under its key they have not run what is behind it. Of a transaction all or none. */
  #stillHeld(entries: readonly HeldEvent[], { transaction }: TriggerOptions): readonly HeldEvent[] {
    const firstLost = entries.findIndex((entry) => entry.lost);
    if (firstLost === -1) return entries;
    if (entries[firstLost]!.event.orderingKey === null) return entries.filter((entry) => !entry.lost);
    const before = transaction === true ? 0 : firstLost;
    this.#options.release(entries.slice(before));
    return entries.slice(0, before);
  }

  /** Acknowledges an event that must not run. */
  #refused(entry: HeldEvent, policy: DeliveryPolicy, options: TriggerOptions): boolean {
    const { event } = entry;
    const refused = refuseToRun(event, policy);
    if (refused === null) return false;
    const why = refused.error?.message ?? 'too old';
    this.#options.log(`event ${event.id} of function ${event.functionName} is dead: ${why}`);
    this.#options.setBack(entry, withDeadLetter(refused, options));
    return true;
  }

  /** Of several that do not act for the same caller: nobody's. */
  #identityOf(entries: readonly HeldEvent[]): Identity | Promise<Identity> {
    const [first] = entries;
    const same = entries.every(
      ({ event }) => event.claims === first?.event.claims && event.writer === first.event.writer,
    );
    return first !== undefined && same ? this.#options.claims.identityOf(first.event) : ANONYMOUS;
  }

  #atomic(running: readonly HeldEvent[], options: TriggerOptions): NonNullable<InvocationRequest['atomic']> {
    return {
      nodeId: this.#options.nodeId,
      events: running.map(({ event }) => event),
      // What one event of a batch changed can't be told from what the others did.
      mayCommit: (result) => failedOf(running, result, options).size === 0,
    };
  }

  #conclude(
    entries: readonly HeldEvent[],
    result: InvocationResult,
    policy: DeliveryPolicy,
    options: TriggerOptions,
  ): void {
    const { settler, setBack, onOverload } = this.#options;
    if (result.acknowledged === true) {
      settler.acknowledged(entries.length);
      return;
    }
    const reported = result.outcome === 'ok' ? failedOf(entries, result, options) : new Set(entries);
    // Atomic ones fail together: nothing of them was committed.
    const failed = reported.size > 0 && options.delivery === 'atomic' ? new Set(entries) : reported;
    const failure: InvocationResult = result.outcome === 'ok' ? { ...result, ...PARTLY_FAILED } : result;
    // What has to come together again waits together, and dies together.
    const leader = options.transaction === true ? mostTried(entries) : undefined;
    const common = leader && setbackOf(leader.event, failure, policy);
    // Of a key one event has failed; what comes again with it must not die of that.
    const keyed = entries[0]!.event.orderingKey !== null && common === undefined;
    const culprit = result.outcome === 'ok' && keyed ? [...reported][0] : undefined;
    const stopped = result.outcome === 'canceled' && entries.some((entry) => entry.lost);
    if (options.transaction === true && failed.size === 0) {
      // Where one is lost the others' leases run out, and they come again with it.
      if (!entries.some((entry) => entry.lost)) settler.finishTogether(entries.map(({ event }) => event));
      return;
    }
    for (const entry of entries) {
      if (!failed.has(entry)) {
        if (!entry.lost) settler.finish(entry.event);
        continue;
      }
      if (culprit !== undefined && entry !== culprit) {
        setBack(entry, handBack(entry.event));
        continue;
      }
      const own = common === undefined ? setbackOf(entry.event, failure, policy) : { ...common, event: entry.event };
      // The function may have begun, and was stopped for another event's lease: its next run is another attempt.
      const setback = stopped ? { ...own, givenBack: 0 } : own;
      if (result.outcome === 'overloaded') onOverload(entry.event.functionId, setback.delayMs ?? 0);
      setBack(entry, withDeadLetter(setback, options));
    }
  }

  /** Of the function's active version; defaults where it can't be looked up. */
  async policyOf(functionName: string): Promise<DeliveryPolicy> {
    try {
      return await this.#options.policy(functionName);
    } catch (error) {
      if (PosternError.from(error).code !== 'FUNCTION_NOT_FOUND') {
        this.#options.log(
          `the configuration of function ${functionName} can not be read; defaults apply to its retries`,
          error,
        );
      }
      return DEFAULT_POLICY;
    }
  }
}

function mostTried(entries: readonly HeldEvent[]): HeldEvent {
  return entries.reduce((most, entry) => (Number(entry.event.attempt) > Number(most.event.attempt) ? entry : most));
}
