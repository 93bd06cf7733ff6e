-- The outbox: one row for each captured row change, written in the writer's transaction, removed when it has been handled.
--
-- An event is in one of three states:
--
--   pending  leased_by is null and dead_at is null. Put there by capture, by a retry and by a redrive. A dispatcher that
--            finds run_at in the past leases it.
--   leased   leased_by is a node. That node renews lease_expires_at while the invocation runs and ends the state: it
--            deletes the row (handled), makes it pending again (retry, hand-back) or dead. If the node dies the lease
--            runs out, and any dispatcher leases the event anew.
--   dead     dead_at is not null, and run_at is infinity. Out of attempts, told not to try again, or nested too deeply.
--            Stays, with last_error, until somebody redrives it or its function is deleted.
--
-- The state is not a column of its own, because a lease must touch no indexed column: then it is a HOT update, which
-- writes one new row version into the same page and no index entry.
--
-- No foreign keys: checking one locks the function's row in every writer's transaction. Uninstalling a trigger drops the
-- SQL trigger first, which waits for the writers under way, and deletes the events then.
create table postern.events (
  -- Tells rows of one instant apart; means nothing else. Numbers commit out of order, and some never.
  seq bigint not null generated always as identity,
  -- The event's name outside of this table, the same at every attempt. Given when it is first leased or listed: nobody has
  -- seen it before, and gen_random_uuid() would cost every writer 3 microseconds a row.
  id uuid,
  function_id bigint not null,
  trigger_id uuid not null,
  -- Null means as in the trigger's configuration; filled in when that trigger is removed while events wait.
  table_schema text,
  table_name text,
  -- INSERT has no old row, DELETE no new one, UPDATE has both.
  -- json and not jsonb: the text that row_to_json writes goes to the function as it is. jsonb would cost a conversion on
  -- each side, refuse \u0000 in a column of type json (and with it the user's write) and end at 256 MB.
  old_row json,
  new_row json,
  -- request.jwt.claims of the writer's session, as it was; parsed by the dispatcher, for it may be anything.
  claims text,
  -- Who was logged in, where there are claims: they may name only a role that this one could take.
  writer text,
  -- postern.depth of the session, as it was: how many invocations led to this change. Null for one that no function made.
  depth text,
  -- When the change was made, by the database's clock; null means run_at.
  occurred_at timestamptz,
  -- Not before.
  run_at timestamptz not null default clock_timestamp(),
  -- Tries that count towards maxAttempts, the running one included. Counted when leased, so that a try that kills its
  -- node counts; taken back when it never ran (node full, node stopping).
  attempt integer not null default 0,
  -- Counts every lease and never goes back: with leased_by it fences acknowledgements.
  lease_number integer not null default 0,
  leased_by uuid,
  lease_expires_at timestamptz,
  dead_at timestamptz,
  -- {code, message, outcome} of the last failed try.
  last_error jsonb,
  -- The only index, since each costs every writer 2 to 10 microseconds. For leasing: per function, so that the backlog of
  -- one is not in the way of another, oldest first, with the dead ones at the end. Whoever leased an event knows its key.
  primary key (function_id, run_at, seq)
)
with (
  -- Room in each page for the new row version of a lease.
  fillfactor = 60,
  -- A queue turns over all its rows in minutes; the default of a fifth of the table comes too late and too slowly.
  autovacuum_vacuum_scale_factor = 0.01,
  autovacuum_vacuum_threshold = 2000,
  autovacuum_vacuum_insert_scale_factor = 0.2,
  autovacuum_analyze_scale_factor = 0.2,
  autovacuum_vacuum_cost_delay = 0,
  -- Giving pages back to the system takes ACCESS EXCLUSIVE for a moment, and writers would wait.
  vacuum_truncate = false,
  toast.autovacuum_vacuum_scale_factor = 0.05,
  toast.autovacuum_vacuum_cost_delay = 0,
  toast.vacuum_truncate = false
);
