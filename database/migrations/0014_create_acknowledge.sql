-- delivery: "atomic": an event is acknowledged in the transaction of its function's own statements, which a guest's login runs.
--
-- What that login may call is in a schema of its own: nobody but the owner has anything to do in schema postern. It takes a
-- proof, by the key and in the form of 0009, over the backend and the events, which a node sends as a parameter. A guest that
-- calls it without one gets nothing; a proof that is sent again finds no such lease any more.
create schema postern_guest;
revoke all on schema postern_guest from public;
grant usage on schema postern_guest to public;

-- events: [{"function_id":…,"run_at":…,"seq":…,"lease_number":…}, …]. Removes them if the node holds the leases of all of them,
-- and else raises 40001, with which the transaction and all that the function did in it is undone.
create function postern_guest.acknowledge(node uuid, events text, proof bytea) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  key postern.claims_key;
  removed integer;
begin
  select * into strict key from postern.claims_key;
  if proof is distinct from sha256(key.proof_outer || sha256(
    key.proof_inner || convert_to('postern acknowledge', 'UTF8') || int4send(pg_backend_pid())
    || uuid_send(node) || convert_to(events, 'UTF8'))) then
    raise exception 'not proven' using errcode = 'insufficient_privilege';
  end if;
  delete from postern.events e
  using json_to_recordset(events::json) as a (function_id bigint, run_at timestamptz, seq bigint, lease_number integer)
  where e.function_id = a.function_id and e.run_at = a.run_at and e.seq = a.seq
    and e.lease_number = a.lease_number and e.leased_by = node;
  get diagnostics removed = row_count;
  if removed <> json_array_length(events::json) then
    raise exception 'the lease was lost' using errcode = 'serialization_failure';
  end if;
end $$;

-- To a role that may do that and nothing else. Where the migrating user may not make roles it stays its own.
do $$
declare
  me constant name := current_user;
begin
  begin
    create role postern_acknowledge nologin noinherit;
  exception when duplicate_object or unique_violation then null;
  end;
  -- Who makes a role may administer it, and since Postgres 16 that is not yet to become it.
  if not (select rolsuper from pg_roles where rolname = me) then
    execute format('grant postern_acknowledge to %I', me);
  end if;
  grant usage on schema postern to postern_acknowledge;
  grant usage, create on schema postern_guest to postern_acknowledge;
  grant select on postern.claims_key to postern_acknowledge;
  grant select, delete on postern.events to postern_acknowledge;
  alter function postern_guest.acknowledge(uuid, text, bytea) owner to postern_acknowledge;
  revoke create on schema postern_guest from postern_acknowledge;
exception when insufficient_privilege then
  raise notice 'postern: events are acknowledged as %, because it may not make or use the role postern_acknowledge', me;
end $$;
