import type { Pool, PoolClient } from 'pg';
import { DOORBELL_CHANNEL, DOORBELL_LOCK } from './doorbell.ts';

/** An event that no row change made. */
export interface FiredEvent {
  readonly functionId: number;
  readonly triggerId: string;
  /** The event of SPEC 3 without `event_id` and `attempt`: a JSON object that begins with `{"trigger":"<kind>",`. */
  readonly json: string;
  /** Its `event_id`, for who has to know it beforehand; given at the first lease where absent. */
  readonly id?: string;
  /** How many invocations led to it; none where absent. */
  readonly depth?: number;
  /** Not before; now where absent. */
  readonly runAt?: Date;
}

const FIRE_EVENTS = `
  insert into postern.events (function_id, trigger_id, new_row, run_at, occurred_at, id, depth)
  select e.function_id, e.trigger_id, e.json::json, coalesce(e.run_at, clock_timestamp()), clock_timestamp(), e.id, e.depth
  from unnest($1::bigint[], $2::uuid[], $3::text[], $4::timestamptz[], $5::uuid[], $6::text[])
    as e (function_id, trigger_id, json, run_at, id, depth)`;

/** As capture does: only where a dispatcher sleeps, since commits that notify queue up behind one lock of the instance. */
const RING = `
  select case when not pg_try_advisory_xact_lock_shared(${DOORBELL_LOCK.join(', ')})
    and current_setting('max_prepared_transactions') = '0' then pg_notify('${DOORBELL_CHANNEL}', '') end`;

/**
 * Puts events into the outbox, from where they are delivered as row changes are: leased, retried, kept as dead letters.
 * Within the transaction of `client`; with a pool, each of the two statements by itself.
 */
export async function fireEvents(client: Pool | PoolClient, events: readonly FiredEvent[]): Promise<void> {
  if (events.length === 0) return;
  await client.query(FIRE_EVENTS, [
    events.map(({ functionId }) => functionId),
    events.map(({ triggerId }) => triggerId),
    events.map(({ json }) => json),
    events.map(({ runAt }) => runAt ?? null),
    events.map(({ id }) => id ?? null),
    // As a writer's session has it: one less than what the event's own invocation gets.
    events.map(({ depth = 0 }) => (depth === 0 ? null : String(depth - 1))),
  ]);
  await client.query(RING);
}
