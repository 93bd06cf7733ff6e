-- Ordering keys, groups, paused triggers.

-- Events of one function with one key run one at a time, in the order of seq. The first character says what a dead event
-- does to those behind it: b blocks, s is skipped, p parks them (they die too), t is the key of a transaction, whose events
-- run together. The rest is a hash, so that no value is too long for the index. Null, for most: no order.
--
-- The order is that of the changes: where a transaction could see what another one had committed, its events come after. Of
-- two that ran at the same time, those come first that were written first.
alter table postern.events add column ordering_key text;
create index events_by_key on postern.events (function_id, ordering_key, seq) where ordering_key is not null;

-- Read with every lease, and nearly always empty.
create index triggers_paused on postern.triggers (id) where not enabled;

drop function postern.lease_events(uuid, integer, integer, integer, bigint[], integer[]);

-- As in 0004, and: nothing of a paused trigger, and of each key the first event only.
create function postern.lease_events(
  node uuid,
  max_events integer,
  lease_ms integer,
  -- Most events of one function; and of those named in quota_functions.
  usual_quota integer,
  quota_functions bigint[],
  quotas integer[]
) returns table (
  event_seq bigint, event_id uuid, event_function_id bigint, function_name text, event_trigger_id uuid,
  -- Null: as in the trigger's configuration.
  event_schema text, event_table text, event_old_row json, event_new_row json,
  event_claims text, event_writer text, event_depth text, event_occurred_at text, event_run_at timestamptz,
  event_attempt integer, event_lease_number integer, event_ordering_key text,
  -- Behind a dead event of its key, whose policy is to park.
  event_parked boolean,
  -- Since the change, by this clock.
  event_age_ms float8
)
language plpgsql
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set datestyle = 'ISO'
set enable_seqscan = off
set enable_bitmapscan = off
set enable_sort = off
set enable_hashjoin = off
set enable_mergejoin = off
set plan_cache_mode = force_generic_plan
set jit = off
as $$
begin
  return query
  with recursive waiting (function_id) as (
    (select e.function_id from postern.events e order by e.function_id limit 1)
    union all
    select (select e.function_id from postern.events e where e.function_id > w.function_id order by e.function_id limit 1)
    from waiting w where w.function_id is not null
  ), paused as materialized (
    select t.id, t.function_id from postern.triggers t where not t.enabled
  ), allowed as materialized (
    select f.id as function_id, f.name, coalesce(q.quota, usual_quota) as quota
    from waiting w
      join postern.functions f on f.id = w.function_id
      left join unnest(quota_functions, quotas) as q (function_id, quota) on q.function_id = w.function_id
    where coalesce(q.quota, usual_quota) > 0
      -- Left out as a whole where it can be: its events would be stepped over with every lease.
      and (not exists (select from paused p where p.function_id = f.id)
        or exists (select from postern.triggers t where t.function_id = f.id and t.enabled and t.kind <> 'http'))
  ), due as (
    select a.name, e.*
    from allowed a cross join lateral (
      select e.function_id, e.run_at, e.seq
      from postern.events e
      where e.function_id = a.function_id
        and e.run_at <= (select clock_timestamp())
        and e.dead_at is null
        and (e.leased_by is null or e.lease_expires_at < (select clock_timestamp()))
        and e.trigger_id <> all (array(select p.id from paused p))
        and (e.ordering_key is null or not exists (
          select from postern.events p
          where p.function_id = e.function_id and p.ordering_key = e.ordering_key and p.seq < e.seq
            and (p.dead_at is null or e.ordering_key like 'b%')))
      order by e.run_at, e.seq
      limit least(a.quota, ceil(max_events::numeric / (select count(*) from allowed))::integer)
      for update skip locked
    ) e
  ), chosen as (
    select p.name, p.function_id, p.run_at, p.seq
    from (select d.*, row_number() over (partition by d.function_id order by d.run_at, d.seq) as place from due d) p
    order by p.place
    limit max_events
  )
  update postern.events e
  set id = coalesce(e.id, gen_random_uuid()), attempt = e.attempt + 1, lease_number = e.lease_number + 1,
      leased_by = node, lease_expires_at = clock_timestamp() + lease_ms * interval '1 ms'
  from chosen c
  where e.function_id = c.function_id and e.run_at = c.run_at and e.seq = c.seq
  returning e.seq, e.id, e.function_id, c.name, e.trigger_id, e.table_schema, e.table_name, e.old_row, e.new_row,
    e.claims, e.writer, e.depth, to_char(coalesce(e.occurred_at, e.run_at), 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
    e.run_at, e.attempt, e.lease_number, e.ordering_key,
    e.ordering_key like 'p%' and exists (
      select from postern.events p
      where p.function_id = e.function_id and p.ordering_key = e.ordering_key and p.seq < e.seq and p.dead_at is not null),
    (extract(epoch from clock_timestamp() - coalesce(e.occurred_at, e.run_at)) * 1000)::float8;
end $$;
revoke all on function postern.lease_events(uuid, integer, integer, integer, bigint[], integer[]) from public;

-- Leases what follows an event that the node holds, of the same key and in its order: up to the first one that is not due,
-- dead, or another's. While the node holds the first nobody else leases these.
create function postern.lease_group(
  node uuid, max_events integer, lease_ms integer, of_function bigint, of_key text, after_seq bigint
) returns table (
  event_seq bigint, event_id uuid, event_function_id bigint, function_name text, event_trigger_id uuid,
  event_schema text, event_table text, event_old_row json, event_new_row json,
  event_claims text, event_writer text, event_depth text, event_occurred_at text, event_run_at timestamptz,
  event_attempt integer, event_lease_number integer, event_ordering_key text, event_parked boolean, event_age_ms float8
)
language sql
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set datestyle = 'ISO'
as $$
  with following as (
    select e.function_id, e.run_at, e.seq,
      bool_and(
        e.run_at <= clock_timestamp() and e.dead_at is null
        and (e.leased_by is null or e.lease_expires_at < clock_timestamp())
        and not exists (select from postern.triggers t where t.id = e.trigger_id and not t.enabled)
      ) over (order by e.seq) as due
    from (
      select * from postern.events e
      where e.function_id = of_function and e.ordering_key = of_key and e.seq > after_seq
      order by e.seq limit max_events) e
  )
  update postern.events e
  set id = coalesce(e.id, gen_random_uuid()), attempt = e.attempt + 1, lease_number = e.lease_number + 1,
      leased_by = node, lease_expires_at = clock_timestamp() + lease_ms * interval '1 ms'
  from following f, postern.functions n
  where f.due and e.function_id = f.function_id and e.run_at = f.run_at and e.seq = f.seq and n.id = e.function_id
    and (e.leased_by is null or e.lease_expires_at < clock_timestamp()) and e.dead_at is null
  returning e.seq, e.id, e.function_id, n.name, e.trigger_id, e.table_schema, e.table_name, e.old_row, e.new_row,
    e.claims, e.writer, e.depth, to_char(coalesce(e.occurred_at, e.run_at), 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
    e.run_at, e.attempt, e.lease_number, e.ordering_key, false,
    (extract(epoch from clock_timestamp() - coalesce(e.occurred_at, e.run_at)) * 1000)::float8;
$$;
revoke all on function postern.lease_group(uuid, integer, integer, bigint, text, bigint) from public;
