-- What schedules have fired, and runs that were asked for. See triggers/schedule/scheduler.ts.

-- One row a tick, whoever found it due: inserted together with the tick's event, so that there is one of that too.
create table postern.schedule_fires (
  trigger_id uuid not null references postern.triggers on delete cascade,
  -- The time that the schedule names.
  fire_at timestamptz not null,
  -- fired    its event is in the outbox, or has been handled
  -- skipped  an earlier one was waiting or running, and the trigger says to skip then
  -- queued   as above, and the trigger says to wait; becomes fired
  state text not null check (state in ('fired', 'skipped', 'queued')),
  created_at timestamptz not null default clock_timestamp(),
  primary key (trigger_id, fire_at)
);
create index schedule_fires_queued on postern.schedule_fires (trigger_id, fire_at) where state = 'queued';

-- Runs of a function that were asked for, at a time. Removed when their event is put into the outbox.
create table postern.scheduled_runs (
  id uuid primary key default gen_random_uuid(),
  function_id bigint not null references postern.functions on delete cascade,
  run_at timestamptz not null,
  -- As it was given; null for none. The JSON value null is not null here.
  event json,
  created_at timestamptz not null default clock_timestamp()
);
create index scheduled_runs_run_at on postern.scheduled_runs (run_at);
create index scheduled_runs_function_id on postern.scheduled_runs (function_id, run_at);
