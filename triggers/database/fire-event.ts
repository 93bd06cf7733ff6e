import type { Pool, PoolClient } from 'pg';
import { DOORBELL_CHANNEL, DOORBELL_LOCK } from './doorbell.ts';

/** An event that no row change made. */
export interface FiredEvent {
  readonly functionId: number;
  readonly triggerId: string;
  /** The event of SPEC 3 without `event_id` and `attempt`: a JSON object that begins with `{"trigger":"<kind>",`. */
  readonly json: string;
  /** Not before; now where absent. What it waits until then is no part of its age. */
  readonly runAt?: Date;
}

const FIRE_EVENTS = `
  insert into postern.events (function_id, trigger_id, new_row, run_at, occurred_at)
  select e.function_id, e.trigger_id, e.json::json, coalesce(e.run_at, clock_timestamp()), coalesce(e.run_at, clock_timestamp())
  from unnest($1::bigint[], $2::uuid[], $3::text[], $4::timestamptz[]) as e (function_id, trigger_id, json, run_at)`;

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
  ]);
  await client.query(RING);
}
