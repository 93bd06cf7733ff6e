select coalesce(ceil(extract(epoch from clock_timestamp() - min(waiting.run_at))), 0)::bigint
from postern.functions f
cross join lateral (
  select e.run_at
  from postern.events e
  where e.function_id = f.id
    and e.run_at <= (select clock_timestamp())
    and e.dead_at is null
    and (e.leased_by is null or e.lease_expires_at < (select clock_timestamp()))
    and e.trigger_id <> all (array(select t.id from postern.triggers t where not t.enabled))
    and (e.ordering_key is null or not exists (
      select from postern.events p
      where p.function_id = e.function_id and p.ordering_key = e.ordering_key and p.seq < e.seq
        and (p.dead_at is null or e.ordering_key like 'b%')))
  order by e.run_at
  limit 1
) waiting
-- As the lease has it: the events of a function that is paused as a whole would be stepped over one by one.
where not exists (select from postern.triggers t where t.function_id = f.id and not t.enabled)
  or exists (select from postern.triggers t where t.function_id = f.id and t.enabled and t.kind <> 'http')
