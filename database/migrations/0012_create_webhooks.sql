-- Deliveries of webhooks that were accepted: what makes one that comes again, on whatever node, the same delivery.
--
-- A delivery is in one of two states:
--
--   running   status is null. The function runs at once and its answer is awaited (`respond: 'result'`). Ended by the node
--             that holds lease_id: it writes the answer, or gives the lease back after a failure. If the node dies the
--             lease runs out by itself; the sender's next try runs the function again, then with the next attempt.
--   answered  status is not null, and is what the sender was told. With `respond: 'accepted'` a row is born so, in the
--             transaction that puts the event into postern.events: neither is ever there without the other.
--
-- No foreign key: checking one locks the function's row, for which a rollback or a delete would make senders wait. Rows of
-- a function that is gone go when they are old, as all others do (triggers/webhook/delivery-sweeper.ts).
create table postern.webhook_deliveries (
  function_id bigint not null,
  -- The sender's, or made from what he signed; see triggers/webhook/schemes.ts.
  delivery_id text not null,
  trigger_id uuid not null,
  -- SHA-256 of what has to be equal in two deliveries of one id.
  fingerprint bytea not null,
  -- The event's id, the same however often the function runs for it.
  event_id uuid not null,
  received_at timestamptz not null default clock_timestamp(),
  attempt integer not null default 1,
  lease_id uuid,
  lease_expires_at timestamptz,
  status smallint,
  -- The function's answer; null where there is none but the status. Pairs of name and value.
  headers jsonb,
  body bytea,
  primary key (function_id, delivery_id)
);
create index webhook_deliveries_by_time on postern.webhook_deliveries (received_at);
