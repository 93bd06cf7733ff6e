import { exactNumbers } from './exact-numbers.ts';

/** An event as it was leased. All columns as text: rows go to the function without ever being parsed here. */
export interface LeasedEvent {
  readonly seq: string;
  readonly id: string;
  readonly functionId: string;
  readonly functionName: string;
  readonly triggerId: string;
  readonly schema: string;
  readonly table: string;
  /** Of both rows, as JSON text. More than an event may have are counted and left in the database. */
  readonly rowBytes: number;
  readonly oldRow: string | null;
  readonly newRow: string | null;
  readonly claims: string | null;
  readonly writer: string | null;
  readonly depth: string | null;
  /** ISO 8601, UTC, microseconds. */
  readonly occurredAt: string;
  /** Part of the row's key; good for nothing but to be sent back. */
  readonly runAt: string;
  readonly attempt: string;
  readonly leaseNumber: string;
}

/** Invocations that may lead to one another through row changes. One more is a function that fires itself in a circle. */
export const MAX_DEPTH = 16;

/** How many invocations led to this change; anything that the host has not written counts as none. */
export function depthOf(event: LeasedEvent): number {
  return event.depth !== null && /^\d{1,6}$/.test(event.depth) ? Number(event.depth) + 1 : 0;
}

/**
 * An event that no row change made, a tick or a delivery, is kept as `new_row` alone: the event of SPEC 3 without its id and
 * attempt, a JSON object that begins with `{"trigger":"<kind>"` and has one key more at least. It names no table.
 */
const FIRED = /^\{"trigger":"(schedule|webhook)",/;

/** What made it. */
export function kindOf({ table, newRow }: LeasedEvent): 'database' | 'schedule' | 'webhook' {
  const kind = table === '' ? FIRED.exec(newRow ?? '')?.[1] : undefined;
  return kind === 'schedule' || kind === 'webhook' ? kind : 'database';
}

/** The event of SPEC 3, as JSON text. */
export function eventJson(event: LeasedEvent): string {
  const { oldRow, newRow } = event;
  const end = `"event_id":"${event.id}","attempt":${event.attempt}}`;
  if (newRow !== null && kindOf(event) !== 'database') return `${newRow.slice(0, newRow.lastIndexOf('}'))},${end}`;
  const operation = oldRow === null ? 'INSERT' : newRow === null ? 'DELETE' : 'UPDATE';
  const head = `{"trigger":"database","schema":${JSON.stringify(event.schema)},"table":${JSON.stringify(event.table)}`;
  const rows = `"old":${rowJson(oldRow)},"new":${rowJson(newRow)}`;
  return `${head},"operation":"${operation}",${rows},"timestamp":"${event.occurredAt}",${end}`;
}

function rowJson(row: string | null): string {
  return row === null ? 'null' : exactNumbers(row);
}
