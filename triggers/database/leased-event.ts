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
  /** Events of one key run one at a time; null for no order. */
  readonly orderingKey: string | null;
  /** Behind a dead event of its key, and to share its fate. */
  readonly parked: boolean;
  /** Between the change and the lease, by the database's clock. */
  readonly ageMs: number;
}

/** Invocations that may lead to one another through row changes. One more is a function that fires itself in a circle. */
export const MAX_DEPTH = 16;

/** How many invocations led to this change; anything that the host has not written counts as none. */
export function depthOf(event: LeasedEvent): number {
  return event.depth !== null && /^\d{1,6}$/.test(event.depth) ? Number(event.depth) + 1 : 0;
}
