-- Leases events to a dispatcher (triggers/database/event-store.ts).
--
-- A function and not a statement for its settings. The planner's idea of a queue is always wrong: analyzed while it was
-- empty, it collected and sorted the whole backlog for each lease (40 ms at 40,000 events; in order of the index, 1 ms). With
-- the alternatives off there is one plan, right for any number of events, and it is kept: planning took 2 ms each time.
--
-- Per function, and fairly between them: each gets an equal part of max_events, and what one leaves goes to the others with
-- the next call. The functions that have events are found by skipping through the index, so that an idle table costs one
-- probe. Takes what a dead node had leased, too. The clock is read once, in a subquery, because an index scan can be bounded
-- by that and not by clock_timestamp() itself.
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
  event_attempt integer, event_lease_number integer
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
  ), allowed as materialized (
    select f.id as function_id, f.name, coalesce(q.quota, usual_quota) as quota
    from waiting w
      join postern.functions f on f.id = w.function_id
      left join unnest(quota_functions, quotas) as q (function_id, quota) on q.function_id = w.function_id
    where coalesce(q.quota, usual_quota) > 0
  ), due as (
    select a.name, e.*
    from allowed a cross join lateral (
      select e.function_id, e.run_at, e.seq
      from postern.events e
      where e.function_id = a.function_id
        and e.run_at <= (select clock_timestamp())
        and e.dead_at is null
        and (e.leased_by is null or e.lease_expires_at < (select clock_timestamp()))
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
    e.run_at, e.attempt, e.lease_number;
end $$;
revoke all on function postern.lease_events(uuid, integer, integer, integer, bigint[], integer[]) from public;
