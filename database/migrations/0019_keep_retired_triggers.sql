-- Triggers that a later version of their function does not have any more, as long as events of theirs wait or are dead: how those
-- are to be delivered (exactly once, in order, in which format) was said when they happened.
create table postern.retired_triggers (
  id uuid primary key,
  function_id bigint not null references postern.functions on delete cascade,
  config jsonb not null,
  retired_at timestamptz not null default now()
);
create index retired_triggers_function_id on postern.retired_triggers (function_id);
