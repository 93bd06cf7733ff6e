-- Capture of row changes: trigger functions that write postern.events in the writer's transaction.
--
-- They run inside other people's transactions, so they must be cheap, never wait, and give nothing away:
--   * SECURITY DEFINER, so that writers need no right in schema postern; owned by postern_capture, which can't log in and
--     may insert into postern.events and nothing else.
--   * A fixed search_path, so that no object of the writer's is called. EXECUTE is nobody's but the migrating user's, so
--     that nobody else attaches them to a table of their own and forges events.
--   * Every setting that changes how values are written as text is fixed, so that an event does not depend on the session.
--   * lock_timeout: whatever happens to postern.events, a writer gets 55P03 after 5 s and does not hang. The transaction
--     fails then; the other way, a change that nobody hears of, is worse.
--   * Nothing that the session can set makes them fail: claims are kept as text, an odd depth is none.
--
-- Arguments of all: function id, trigger id.
--
-- Cost: 40 microseconds of the server's time on top of the 33 of a single-row statement, 5 for each row of a large one on
-- top of 3 (Postgres 18, one client, a table of four columns; `bench/capture.ts`). What is not done here for that reason: ids, depth limits
-- and parsing, which the dispatcher does.
--
-- The doorbell (last statement of each). A dispatcher that is about to sleep takes this advisory lock exclusively, for
-- its session, on the connection that listens. A writer tries to take it shared, for its transaction:
--   * It can't: somebody sleeps. It rings (NOTIFY, no payload).
--   * It can: nobody sleeps, and nobody will before this transaction has ended, since no dispatcher can get the lock.
-- So no event is committed unheard, and nobody rings while a dispatcher is up: commits that notify queue up behind one
-- lock of the whole instance. Where prepared transactions are possible nobody rings at all, because a transaction that has
-- notified can't be prepared; dispatchers poll then. 1886548846 is 'pstn' in ASCII; also in triggers/database/doorbell.ts.

-- For each row, any operation.
create function postern.capture_row() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set intervalstyle = 'postgres'
set bytea_output = 'hex'
set extra_float_digits = '1'
set lock_timeout = '5s'
as $$
begin
  insert into postern.events (function_id, trigger_id, old_row, new_row, claims, writer, depth)
  values (
    tg_argv[0]::bigint, tg_argv[1]::uuid, row_to_json(old), row_to_json(new), current_setting('request.jwt.claims', true),
    case when current_setting('request.jwt.claims', true) <> '' then session_user end, current_setting('postern.depth', true));
  if not pg_try_advisory_xact_lock_shared(1886548846, 1)
     and current_setting('max_prepared_transactions') = '0' then
    perform pg_notify('postern_events', '');
  end if;
  return null;
end $$;

-- For each INSERT statement, where the table and the trigger allow it: as dear as a row trigger for one row, a fifth of
-- it for each of many.
create function postern.capture_inserts() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set intervalstyle = 'postgres'
set bytea_output = 'hex'
set extra_float_digits = '1'
set lock_timeout = '5s'
as $$
declare
  the_function constant bigint := tg_argv[0];
  the_trigger constant uuid := tg_argv[1];
  the_claims constant text := current_setting('request.jwt.claims', true);
  the_writer constant text := case when the_claims <> '' then session_user end;
  the_depth constant text := current_setting('postern.depth', true);
begin
  insert into postern.events (function_id, trigger_id, new_row, claims, writer, depth)
  select
    the_function, the_trigger, row_to_json(changed), the_claims, the_writer, the_depth
  from new_rows changed;
  if found and not pg_try_advisory_xact_lock_shared(1886548846, 1)
     and current_setting('max_prepared_transactions') = '0' then
    perform pg_notify('postern_events', '');
  end if;
  return null;
end $$;

-- For each DELETE statement, where the table and the trigger allow it: as dear as a row trigger for one row, a fifth of
-- it for each of many.
create function postern.capture_deletes() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set intervalstyle = 'postgres'
set bytea_output = 'hex'
set extra_float_digits = '1'
set lock_timeout = '5s'
as $$
declare
  the_function constant bigint := tg_argv[0];
  the_trigger constant uuid := tg_argv[1];
  the_claims constant text := current_setting('request.jwt.claims', true);
  the_writer constant text := case when the_claims <> '' then session_user end;
  the_depth constant text := current_setting('postern.depth', true);
begin
  insert into postern.events (function_id, trigger_id, old_row, claims, writer, depth)
  select
    the_function, the_trigger, row_to_json(changed), the_claims, the_writer, the_depth
  from old_rows changed;
  if found and not pg_try_advisory_xact_lock_shared(1886548846, 1)
     and current_setting('max_prepared_transactions') = '0' then
    perform pg_notify('postern_events', '');
  end if;
  return null;
end $$;

revoke all on function postern.capture_row(), postern.capture_inserts(), postern.capture_deletes() from public;

-- To the role that may do nothing else. Roles are the cluster's: another database may have made it, or be making it now.
-- Where the migrating user may not make roles the functions stay its own, which `captureOwner` reports.
do $$
declare
  me constant name := current_user;
begin
  begin
    create role postern_capture nologin noinherit;
  exception when duplicate_object or unique_violation then null;
  end;
  if not pg_has_role(me, 'postern_capture', 'member') then
    execute format('grant postern_capture to %I', me);
  end if;
  grant usage, create on schema postern to postern_capture;
  grant insert on postern.events to postern_capture;
  alter function postern.capture_row() owner to postern_capture;
  alter function postern.capture_inserts() owner to postern_capture;
  alter function postern.capture_deletes() owner to postern_capture;
  revoke create on schema postern from postern_capture;
  execute format('grant execute on function postern.capture_row(), postern.capture_inserts(), postern.capture_deletes() to %I', me);
exception when insufficient_privilege then
  raise notice 'postern: capture runs as %, because it may not make or use the role postern_capture', me;
end $$;
