/** A paid order goes to the shipping company, and is marked shipped with the number that it answers. */
import { type Config, type DatabaseEvent, NonRetryableError, RetryAfterError } from 'postern';

export const config: Config = {
  trigger: { type: 'database', table: 'orders', operations: ['INSERT', 'UPDATE'], when: "new.status = 'paid'" },
  http: { allow: ['http://localhost:9099'] },
  env: ['SHIPPING_API'],
  db: { role: 'service_role' },
};

export async function handler(event: DatabaseEvent<{ id: number; item: string; address: string }>) {
  const order = event.new!;
  const api = env('SHIPPING_API') ?? 'http://localhost:9099';
  const response = await http.fetch(`${api}/shipments`, {
    method: 'POST',
    // The event's id is the same in every attempt: the company ships once.
    headers: { 'content-type': 'application/json', 'idempotency-key': event.event_id },
    body: JSON.stringify({ reference: order.id, item: order.item, address: order.address }),
  });
  if (response.status === 429) throw new RetryAfterError('the shipping API is busy', 5_000);
  if (response.status === 422)
    throw new NonRetryableError(`order ${order.id} can't be shipped: ${await response.text()}`);
  if (!response.ok) throw new Error(`the shipping API answered ${response.status}`);
  const { tracking } = (await response.json()) as { tracking: string };
  await db.query("update orders set status = 'shipped', tracking = $2 where id = $1", [order.id, tracking]);
  log.info('shipped', { order: order.id, tracking });
}
