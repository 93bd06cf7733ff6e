/** What one invocation gets and gives back, for one event or several. */

import type { InvocationResult } from '../../invoker/index.ts';
import type { Identity } from '../../runtime/index.ts';
import { batchJson, eventJson } from './event-format.ts';
import type { Setback } from './event-store.ts';
import type { LeasedEvent } from './leased-event.ts';
import type { DeliveryPolicy } from './retry-policy.ts';
import type { TriggerOptions } from './trigger-options.ts';

interface Held {
  readonly event: LeasedEvent;
}

/** The event; with `batch` or `transaction` an object with `events`, even of one. */
export function deliveryJson(
  held: readonly Held[],
  options: TriggerOptions,
  { retry }: DeliveryPolicy,
  identity: Identity,
): string {
  const context = { format: options.format ?? 'native', maxAttempts: retry.maxAttempts, identity };
  const events = held.map(({ event }) => eventJson(event, context));
  if (options.transaction === true) {
    return batchJson(events, `"transaction_id":${JSON.stringify(held[0]?.event.orderingKey?.slice(1) ?? '')},`);
  }
  return options.batch === undefined ? events[0]! : batchJson(events);
}

/** The part of a batch that the function says has failed. */
export const PARTLY_FAILED: Pick<InvocationResult, 'outcome' | 'error'> = {
  outcome: 'exception',
  error: { code: 'FUNCTION_ERROR', name: 'BatchItemFailure', message: 'the function reported this event as failed' },
};

const MAX_REPORT_CHARS = 1024 * 1024;

/**
 * Of a batch: the events whose ids stand in `{ failed: ['<event_id>', …] }`, or as AWS writes it, in
 * `{ batchItemFailures: [{ itemIdentifier: '<event_id>' }, …] }`. Under an ordering key all behind the first one too. A report
 * that names another id, or is too long to be read, fails them all.
 */
export function failedOf<T extends Held>(
  held: readonly T[],
  result: InvocationResult,
  options: TriggerOptions,
): Set<T> {
  const { response } = result;
  if (options.batch === undefined || response?.kind !== 'value') return new Set();
  const ids = reportedIds(response.json);
  if (ids === null) return new Set();
  const known = new Map(held.map((one) => [one.event.id, one]));
  if (ids === 'unreadable' || !ids.every((id) => known.has(id))) return new Set(held);
  const failed = new Set(ids.map((id) => known.get(id)!));
  if (held[0]?.event.orderingKey === null) return failed;
  const first = held.findIndex((one) => failed.has(one));
  return new Set(first === -1 ? [] : held.slice(first));
}

function reportedIds(json: string): readonly string[] | 'unreadable' | null {
  if (!/^\s*\{/.test(json)) return null;
  if (json.length > MAX_REPORT_CHARS) return 'unreadable';
  const { failed, batchItemFailures } = JSON.parse(json) as Record<string, unknown>;
  if (failed === undefined && batchItemFailures === undefined) return null;
  const list = failed ?? batchItemFailures;
  if (!Array.isArray(list)) return 'unreadable';
  const ids = list.map((one: unknown) => (typeof one === 'string' ? one : identifierOf(one)));
  return ids.every((id) => id !== undefined) ? ids : 'unreadable';
}

function identifierOf(item: unknown): string | undefined {
  const { itemIdentifier } = (item ?? {}) as { itemIdentifier?: unknown };
  return typeof itemIdentifier === 'string' ? itemIdentifier : undefined;
}

/**
 * Where the trigger names a function for dead letters, the event that it gets. That event is of no trigger, so it has none of
 * these options: what becomes of it is told to nobody.
 */
export function withDeadLetter(setback: Setback, { deadLetter }: TriggerOptions): Setback {
  const { event, error } = setback;
  if (!setback.dead || deadLetter === undefined) return setback;
  const json = `{"trigger":"dead_letter","function":${JSON.stringify(event.functionName)},"error":${JSON.stringify(error)},"event":${eventJson(event)}}`;
  return { ...setback, deadLetter: { functionName: deadLetter, json } };
}
