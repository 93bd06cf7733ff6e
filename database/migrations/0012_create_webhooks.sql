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

-- Takes a delivery that was not seen before, or whose last run failed or lost its lease (triggers/webhook/delivery-ledger.ts).
-- Without a lease it is answered 202, and its event goes into the outbox, with the doorbell of 0003_create_capture.sql. With a
-- lease it is running, and whoever called runs it. No row where it is somebody else's, done, or of another body, and where
-- the function has no webhook trigger any more. A second call for one id waits until the transaction of the first has ended.
--
-- A function because planning these statements anew took longer than running them: 0.7 ms a delivery against 0.3.
create function postern.claim_webhook(
  the_function bigint,
  the_delivery text,
  the_fingerprint bytea,
  the_lease uuid,
  lease_ms integer,
  the_event json,
  -- As postern.events has it.
  the_depth text
) returns table (claimed_trigger_id uuid, claimed_event_id uuid, claimed_attempt integer)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  insert into postern.webhook_deliveries as d
    (function_id, delivery_id, trigger_id, fingerprint, event_id, status, lease_id, lease_expires_at)
  select the_function, the_delivery, t.id, the_fingerprint, gen_random_uuid(),
    case when the_lease is null then 202 end, the_lease, clock_timestamp() + lease_ms * interval '1 ms'
  from postern.triggers t where t.function_id = the_function and t.kind = 'webhook'
  on conflict (function_id, delivery_id) do update
  set trigger_id = excluded.trigger_id, attempt = d.attempt + 1, status = excluded.status,
    lease_id = excluded.lease_id, lease_expires_at = excluded.lease_expires_at
  where d.status is null and d.lease_expires_at < clock_timestamp() and d.fingerprint = excluded.fingerprint
  returning d.trigger_id, d.event_id, d.attempt into claimed_trigger_id, claimed_event_id, claimed_attempt;
  if not found then
    return;
  end if;
  if the_lease is null then
    insert into postern.events (id, function_id, trigger_id, new_row, depth, occurred_at)
    values (claimed_event_id, the_function, claimed_trigger_id, the_event, the_depth, clock_timestamp());
    if not pg_try_advisory_xact_lock_shared(1886548846, 1)
       and current_setting('max_prepared_transactions') = '0' then
      perform pg_notify('postern_events', '');
    end if;
  end if;
  return next;
end $$;
revoke all on function postern.claim_webhook(bigint, text, bytea, uuid, integer, json, text) from public;
