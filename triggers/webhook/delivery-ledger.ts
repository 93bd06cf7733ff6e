/** The statements over `postern.webhook_deliveries` (database/migrations/0012_create_webhooks.sql, 0018_accept_webhooks.sql). */

import type { Pool } from 'pg';
import type { WireResponse } from '../http/response.ts';
import type { SignedDelivery } from './verify.ts';

/** A delivery and whom it is for. */
export interface Delivery extends SignedDelivery {
  readonly functionId: number;
}

/** A delivery that this caller, and nobody else, is to run. */
export interface Claimed {
  readonly triggerId: string;
  readonly eventId: string;
  readonly attempt: number;
}

/** A lease on a delivery. `id` fences: an answer of a holder that lost it is not written. */
export interface DeliveryLease {
  readonly id: string;
  readonly ms: number;
}

export interface KnownDelivery {
  readonly eventId: string;
  /** It came with the same content. */
  readonly same: boolean;
  /** Null while it runs. */
  readonly status: number | null;
  /** Undefined where the sender was told no more than that it was accepted. */
  readonly response: WireResponse | undefined;
}

const ACCEPT = 'select postern.accept_webhook($1, $2, $3, $4, $5) as id';

/**
 * Puts the event of a delivery into the outbox and answers for it, if it was not seen before or its last run failed, and
 * gives the event's id. Null where it is somebody else's, done, or no trigger is there for it. `json`: as `FiredEvent` has it.
 */
export async function acceptDelivery(
  pool: Pool,
  { functionId, id, fingerprint }: Delivery,
  json: string,
  depth: number,
): Promise<string | null> {
  // As a writer's session has it: one less than what the event's own invocation gets.
  const led = depth === 0 ? null : String(depth - 1);
  const { rows } = await pool.query<{ id: string | null }>(ACCEPT, [functionId, id, fingerprint, json, led]);
  return rows[0]?.id ?? null;
}

const CLAIM = `
  select claimed_trigger_id as "triggerId", claimed_event_id as "eventId", claimed_attempt as attempt
  from postern.claim_webhook($1, $2, $3, $4, $5)`;

/** Takes a delivery as `acceptDelivery` does, to be run under this lease. */
export async function claimDelivery(
  pool: Pool,
  { functionId, id, fingerprint }: Delivery,
  lease: DeliveryLease,
): Promise<Claimed | null> {
  const { rows } = await pool.query<Claimed>(CLAIM, [functionId, id, fingerprint, lease.id, lease.ms]);
  return rows[0] ?? null;
}

const FIND = `
  select event_id as "eventId", fingerprint = $3 as same, status, headers, body
  from postern.webhook_deliveries where function_id = $1 and delivery_id = $2`;

interface FoundRow extends Omit<KnownDelivery, 'response'> {
  readonly headers: [string, string | string[]][] | null;
  readonly body: Buffer | null;
}

export async function findDelivery(
  pool: Pool,
  { functionId, id, fingerprint }: Delivery,
): Promise<KnownDelivery | null> {
  const { rows } = await pool.query<FoundRow>(FIND, [functionId, id, fingerprint]);
  const row = rows[0];
  if (row === undefined) return null;
  const { eventId, same, status, headers, body } = row;
  const response =
    status === null || headers === null ? undefined : { status, headers: new Map(headers), body: body ?? undefined };
  return { eventId, same, status, response };
}

const OURS = 'function_id = $1 and delivery_id = $2 and lease_id = $3';

const ANSWER = `
  update postern.webhook_deliveries set status = $4, headers = $5, body = $6, lease_id = null, lease_expires_at = null
  where ${OURS}`;

/** False where the lease was lost. */
export async function answerDelivery(
  pool: Pool,
  { functionId, id }: Delivery,
  lease: DeliveryLease,
  { status, headers, body }: WireResponse,
): Promise<boolean> {
  const bytes = typeof body === 'string' ? Buffer.from(body) : (body ?? null);
  const values = [functionId, id, lease.id, status, JSON.stringify([...headers]), bytes];
  const { rowCount } = await pool.query(ANSWER, values);
  return rowCount === 1;
}

/** The sender's next try runs it again at once. */
export async function releaseDelivery(pool: Pool, { functionId, id }: Delivery, lease: DeliveryLease): Promise<void> {
  await pool.query(`update postern.webhook_deliveries set lease_expires_at = '-infinity' where ${OURS}`, [
    functionId,
    id,
    lease.id,
  ]);
}

const DELETE_OLD = `
  delete from postern.webhook_deliveries d
  using (
    select function_id, delivery_id from postern.webhook_deliveries
    where received_at < clock_timestamp() - $1 * interval '1 ms'
    order by received_at limit $2 for update skip locked) old
  where d.function_id = old.function_id and d.delivery_id = old.delivery_id`;

/** Returns how many went. */
export async function deleteOldDeliveries(pool: Pool, olderThanMs: number, limit: number): Promise<number> {
  const { rowCount } = await pool.query(DELETE_OLD, [olderThanMs, limit]);
  return rowCount ?? 0;
}
