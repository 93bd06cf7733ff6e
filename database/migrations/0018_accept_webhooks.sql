-- A function for each of the two ways in which a delivery is taken (triggers/webhook/delivery-ledger.ts), in place of one with
-- both: a quarter of what accepting cost was returning a set of rows that nobody read, and a sender waits for it. What they
-- have in common: a delivery is taken that was not seen before, or whose last run failed or lost its lease.
-- Nothing is returned where it is somebody else's, done, or of another body, and where the function has no webhook trigger any
-- more. A second call for one id waits until the transaction of the first has ended.
-- The one with both stays for nodes of the release before, which run beside newer ones while those replace them.

-- Answers 202 for it: its event goes into the outbox, with the doorbell of 0003_create_capture.sql. Returns the event's id.
create function postern.accept_webhook(
  the_function bigint,
  the_delivery text,
  the_fingerprint bytea,
  the_event json,
  -- As postern.events has it.
  the_depth text
) returns uuid
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  accepted_trigger_id uuid;
  accepted_event_id uuid;
begin
  insert into postern.webhook_deliveries as d (function_id, delivery_id, trigger_id, fingerprint, event_id, status)
  select the_function, the_delivery, t.id, the_fingerprint, gen_random_uuid(), 202
  from postern.triggers t where t.function_id = the_function and t.kind = 'webhook'
  on conflict (function_id, delivery_id) do update
  set trigger_id = excluded.trigger_id, attempt = d.attempt + 1, status = 202, lease_id = null, lease_expires_at = null
  where d.status is null and d.lease_expires_at < clock_timestamp() and d.fingerprint = excluded.fingerprint
  returning d.trigger_id, d.event_id into accepted_trigger_id, accepted_event_id;
  if not found then
    return null;
  end if;
  insert into postern.events (id, function_id, trigger_id, new_row, depth, occurred_at)
  values (accepted_event_id, the_function, accepted_trigger_id, the_event, the_depth, clock_timestamp());
  if not pg_try_advisory_xact_lock_shared(1886548846, 1)
     and current_setting('max_prepared_transactions') = '0' then
    perform pg_notify('postern_events', '');
  end if;
  return accepted_event_id;
end $$;
revoke all on function postern.accept_webhook(bigint, text, bytea, json, text) from public;

-- Takes it under a lease; whoever called runs it.
create function postern.claim_webhook(
  the_function bigint,
  the_delivery text,
  the_fingerprint bytea,
  the_lease uuid,
  lease_ms integer
) returns table (claimed_trigger_id uuid, claimed_event_id uuid, claimed_attempt integer)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  return query
  insert into postern.webhook_deliveries as d
    (function_id, delivery_id, trigger_id, fingerprint, event_id, lease_id, lease_expires_at)
  select the_function, the_delivery, t.id, the_fingerprint, gen_random_uuid(),
    the_lease, clock_timestamp() + lease_ms * interval '1 ms'
  from postern.triggers t where t.function_id = the_function and t.kind = 'webhook'
  on conflict (function_id, delivery_id) do update
  set trigger_id = excluded.trigger_id, attempt = d.attempt + 1,
    lease_id = excluded.lease_id, lease_expires_at = excluded.lease_expires_at
  where d.status is null and d.lease_expires_at < clock_timestamp() and d.fingerprint = excluded.fingerprint
  returning d.trigger_id, d.event_id, d.attempt;
end $$;
revoke all on function postern.claim_webhook(bigint, text, bytea, uuid, integer) from public;
