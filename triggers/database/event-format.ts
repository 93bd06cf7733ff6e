/** An event as JSON text: what the function gets. Rows go through as the text that was captured, with all their digits. */

import type { EventFormat } from '../../invoker/index.ts';
import { ANONYMOUS, type Identity } from '../../runtime/index.ts';
import { exactNumbers } from './exact-numbers.ts';
import type { LeasedEvent } from './leased-event.ts';

const FIRED_KINDS = ['schedule', 'webhook', 'dead_letter'] as const;
export type FiredKind = (typeof FIRED_KINDS)[number];

/**
 * An event that no row change made (a tick, a delivery, a dead letter) is kept as `new_row` alone: its JSON without id and
 * attempt, an object that begins with `{"trigger":"<kind>"` and has one key more at least. It names no table.
 */
const FIRED = new RegExp(`^\\{"trigger":"(${FIRED_KINDS.join('|')})",`);

/** What made it. */
export function kindOf({ table, newRow }: LeasedEvent): 'database' | FiredKind {
  const kind = table === '' ? FIRED.exec(newRow ?? '')?.[1] : undefined;
  return (kind as FiredKind | undefined) ?? 'database';
}

/** What a format tells beyond the event: for whom the invocation acts, and how often it may be tried. */
export interface FormatContext {
  readonly format: EventFormat;
  readonly maxAttempts: number;
  readonly identity: Identity;
}

const NATIVE: FormatContext = { format: 'native', maxAttempts: 1, identity: ANONYMOUS };

/** In the trigger's format; of the events that no row change made there is one. */
export function eventJson(event: LeasedEvent, context: FormatContext = NATIVE): string {
  const { newRow } = event;
  if (newRow !== null && kindOf(event) !== 'database') {
    return `${newRow.slice(0, newRow.lastIndexOf('}'))},"event_id":"${event.id}","attempt":${event.attempt}}`;
  }
  return WRITERS[context.format](event, context);
}

/** Several events for one invocation. `extra`: further members, each with a comma behind it. */
export function batchJson(events: readonly string[], extra = ''): string {
  return `{"trigger":"database",${extra}"events":[${events.join(',')}]}`;
}

const WRITERS: Readonly<Record<EventFormat, (event: LeasedEvent, context: FormatContext) => string>> = {
  native: (event) =>
    `{"trigger":"database",${tableJson(event)},"operation":"${operationOf(event)}",${rowsJson(event)},"timestamp":"${event.occurredAt}","event_id":"${event.id}","attempt":${event.attempt}}`,
  // https://supabase.com/docs/guides/database/webhooks#payload
  supabase: (event) =>
    `{"type":"${operationOf(event)}",${tableJson(event)},"record":${rowJson(event.newRow)},"old_record":${rowJson(event.oldRow)}}`,
  // https://hasura.io/docs/2.0/event-triggers/payload/
  hasura: (event, { maxAttempts, identity }) =>
    `{"id":"${event.id}","created_at":"${event.occurredAt}","delivery_info":{"max_retries":${maxAttempts - 1},"current_retry":${Number(event.attempt) - 1}},"trigger":{"name":${JSON.stringify(event.functionName)}},"table":{"schema":${JSON.stringify(event.schema)},"name":${JSON.stringify(event.table)}},"event":{"session_variables":${sessionVariables(identity)},"op":"${operationOf(event)}","data":{${rowsJson(event)}},"trace_context":null}}`,
  // CloudEvents 1.0, structured mode.
  cloudevents: (event) =>
    `{"specversion":"1.0","id":"${event.id}","source":${JSON.stringify(`/postern/${encodeURIComponent(event.schema)}/${encodeURIComponent(event.table)}`)},"type":"dev.postern.row.${operationOf(event).toLowerCase()}","time":"${event.occurredAt}","datacontenttype":"application/json","data":{${tableJson(event)},"operation":"${operationOf(event)}",${rowsJson(event)},"attempt":${event.attempt}}}`,
};

function operationOf({ oldRow, newRow }: LeasedEvent): 'INSERT' | 'UPDATE' | 'DELETE' {
  return oldRow === null ? 'INSERT' : newRow === null ? 'DELETE' : 'UPDATE';
}

function tableJson({ schema, table }: LeasedEvent): string {
  return `"schema":${JSON.stringify(schema)},"table":${JSON.stringify(table)}`;
}

function rowsJson({ oldRow, newRow }: LeasedEvent): string {
  return `"old":${rowJson(oldRow)},"new":${rowJson(newRow)}`;
}

function rowJson(row: string | null): string {
  return row === null ? 'null' : exactNumbers(row);
}

/**
 * Hasura names its variables with `x-hasura-`; role and user id are the two that everybody reads. Of claims that the invocation
 * acts for: any session can write others.
 */
function sessionVariables({ claims, userId }: Identity): string {
  if (claims === null) return 'null';
  return JSON.stringify({
    ...(typeof claims.role === 'string' ? { 'x-hasura-role': claims.role } : {}),
    ...(userId === null ? {} : { 'x-hasura-user-id': userId }),
  });
}
