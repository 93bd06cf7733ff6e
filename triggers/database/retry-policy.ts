import { type FunctionConfig, type InvocationResult, MAX_EVENT_BYTES, type RetryConfig } from '../../invoker/index.ts';
import { ERROR_CODES } from '../../runtime/index.ts';
import type { Setback } from './event-store.ts';
import { depthOf, type LeasedEvent, MAX_DEPTH } from './leased-event.ts';

/** The part of a function's configuration that delivery obeys; `retry` is the trigger's own, where it has one. */
export interface DeliveryPolicy extends Pick<FunctionConfig, 'retry' | 'concurrency'> {
  /** Of the function: the active one. */
  readonly version: number;
}

/** Classes of errors that a policy can have rules for, beside the names of errors. */
const ERROR_CLASSES: Partial<Record<InvocationResult['outcome'], string>> = {
  exceeded_time: 'timeout',
  exceeded_memory: 'memory',
  exceeded_cpu: 'cpu',
  panic: 'panic',
};

/** For an event whose function can not be looked up just now. SPEC 2's defaults. */
export const DEFAULT_POLICY: DeliveryPolicy = {
  retry: { maxAttempts: 5, backoff: { initialMs: 1_000, factor: 2, maxMs: 300_000 } },
  concurrency: null,
  version: 0,
};

/** How long a full node leaves an event alone that it could not take, where it does not say. */
const OVERLOADED_DELAY_MS = 250;
const MAX_MESSAGE_LENGTH = 2_000;

/** Why this event must not run at all; null where it may. */
export function refuseToRun(event: LeasedEvent, policy: DeliveryPolicy): Setback | null {
  const depth = depthOf(event);
  if (depth > MAX_DEPTH) {
    const message = `${depth} invocations led to this change, and ${MAX_DEPTH} may: a function fires itself in a circle`;
    return dead(event, { code: 'FUNCTION_ERROR', message, outcome: 'exception' });
  }
  if (event.rowBytes > MAX_EVENT_BYTES) {
    const message = `the row has ${event.rowBytes} bytes as JSON, and an event may have ${MAX_EVENT_BYTES}`;
    return dead(event, { code: 'FUNCTION_OUT_OF_MEMORY', message, outcome: 'exceeded_memory' });
  }
  if (event.parked) {
    const message = 'an event before it, of the same ordering key, is dead';
    return { ...dead(event, { code: 'FUNCTION_ERROR', message, outcome: 'parked' }), givenBack: 1 };
  }
  const { maxAgeMs = Number.POSITIVE_INFINITY } = policy.retry;
  // The first attempt is never too late: nothing has failed yet.
  if (event.ageMs > maxAgeMs && Number(event.attempt) > 1) {
    // Its last error stays.
    return { ...dead(event, null), givenBack: 1 };
  }
  const beyond = Number(event.attempt) - policy.retry.maxAttempts;
  if (beyond > 0) {
    // Only a lease that ran out brings an event here: every failure that we saw has been acknowledged. More than one did if
    // a node was lost while it said what we say now.
    const message = `its node was lost in each of ${policy.retry.maxAttempts} attempts`;
    return { ...dead(event, { code: 'EXECUTOR_LOST', message, outcome: 'executor_lost' }), givenBack: beyond };
  }
  return null;
}

/** What becomes of an event whose attempt failed. `random` in [0, 1). */
export function setbackOf(
  event: LeasedEvent,
  result: InvocationResult,
  policy: DeliveryPolicy,
  random: () => number = Math.random,
): Setback {
  const details = result.error?.details ?? {};
  const asked = typeof details.retryAfterMs === 'number' && details.retryAfterMs >= 0 ? details.retryAfterMs : null;
  if (result.outcome === 'overloaded') {
    // No doing of the function's: mostly it never started. A jittered delay, so that what was refused together does not come back together.
    const delayMs = (asked ?? OVERLOADED_DELAY_MS) * (0.5 + random());
    return { event, delayMs, dead: false, givenBack: 1, error: null };
  }
  if (result.outcome === 'canceled') return handBack(event);
  const error = {
    code: result.error?.code ?? 'INTERNAL_ERROR',
    message: (result.error?.message ?? '').slice(0, MAX_MESSAGE_LENGTH),
    outcome: result.outcome,
  };
  const attempt = Number(event.attempt);
  const { maxAttempts, backoff } = ruleFor(result, policy.retry);
  // A function that is gone takes its events with it; "not found" is a cache that is behind, or a deploy half done.
  const hopeless =
    details.noRetry === true || (!ERROR_CODES[error.code].retryable && error.code !== 'FUNCTION_NOT_FOUND');
  const delayMs = asked ?? backoffMs(attempt, backoff) * random();
  const tooLate = event.ageMs + delayMs > (policy.retry.maxAgeMs ?? Number.POSITIVE_INFINITY);
  if (hopeless || attempt >= maxAttempts || tooLate) return dead(event, error);
  return { event, delayMs, dead: false, givenBack: 0, error };
}

function ruleFor(
  { outcome, error }: InvocationResult,
  { maxAttempts, backoff, on = {} }: RetryConfig,
): Pick<RetryConfig, 'maxAttempts' | 'backoff'> {
  const name = ERROR_CLASSES[outcome] ?? error?.name ?? '';
  const rule = Object.hasOwn(on, name) ? on[name] : undefined;
  return { maxAttempts: rule?.maxAttempts ?? maxAttempts, backoff: rule?.backoff ?? backoff };
}

/** Before the next try after `attempt` tries, without jitter. Full jitter spreads best what failed at the same moment. */
export function backoffMs(attempt: number, backoff: DeliveryPolicy['retry']['backoff']): number {
  return Math.min(backoff.maxMs, backoff.initialMs * backoff.factor ** (attempt - 1));
}

/** As if it had not been leased. */
export function handBack(event: LeasedEvent): Setback {
  return { event, delayMs: null, dead: false, givenBack: 1, error: null };
}

function dead(event: LeasedEvent, error: Setback['error']): Setback {
  return { event, delayMs: null, dead: true, givenBack: 0, error };
}
