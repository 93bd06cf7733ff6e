-- A run in a session is two statements, and planning them took two thirds of their time: in a function a connection plans them once,
-- through a pooler too. See triggers/execute/sessions/.

-- Lets `this_holder` have the session, if nobody has it: for so long, and it lives for at least as long as it may be idle. Its image of
-- `wanted_run`, by default the last one; null where that is not there any more. No row where there is no such session, or it is held.
create function postern.claim_session(
  this_token_hash bytea, this_api_key_id uuid, this_policy text, this_language text, this_engine_id text, wanted_run integer,
  this_holder uuid, lease_seconds double precision, idle_seconds double precision
) returns table (
  id uuid, sealed_key bytea, key_nonce bytea, key_id text, last_run integer, run integer, nonce bytea, image bytea
) language plpgsql as $$
#variable_conflict use_column
begin
  -- Nobody waits for its commit to be on disk: where the server forgets a hold, who had it writes nothing.
  perform set_config('synchronous_commit', 'off', true);
  return query
    with mine as (
      update postern.sessions s
      set holder = this_holder, lease_expires_at = clock_timestamp() + make_interval(secs => lease_seconds),
          last_used_at = clock_timestamp(),
          expires_at = least(s.ends_at, clock_timestamp() + make_interval(secs => idle_seconds))
      where s.token_hash = this_token_hash and s.api_key_id = this_api_key_id and s.policy = this_policy
        and s.expires_at > clock_timestamp() and s.language = this_language and s.engine_id = this_engine_id
        and (s.holder is null or s.lease_expires_at <= clock_timestamp())
        and (wanted_run is null
             or exists (select from postern.session_images i where i.session_id = s.id and i.run = wanted_run))
      returning s.id, s.sealed_key, s.key_nonce, s.key_id, s.last_run, coalesce(wanted_run, s.last_run) as wanted)
    select m.id, m.sealed_key, m.key_nonce, m.key_id, m.last_run, i.run, i.nonce, i.image
    from mine m left join postern.session_images i on i.session_id = m.id and i.run = m.wanted;
end
$$;

-- Keeps the image that a run has left, and lets the session go. Of earlier images those stay that are few enough, and together with
-- the new one small enough. False, and nothing done, where the holder does not have the session any more.
create function postern.keep_session(
  this_id uuid, this_holder uuid, this_run integer, this_nonce bytea, this_image bytea, this_invocation_id uuid,
  idle_seconds double precision, max_runs integer, max_bytes bigint
) returns boolean language plpgsql as $$
begin
  update postern.sessions s
  set last_run = this_run, holder = null, lease_expires_at = null, last_used_at = clock_timestamp(),
      expires_at = least(s.ends_at, clock_timestamp() + make_interval(secs => idle_seconds))
  where s.id = this_id and s.holder = this_holder;
  if not found then
    return false;
  end if;
  delete from postern.session_images i
  using (
    select run, count(*) over newest as runs, sum(octet_length(image)) over newest as bytes
    from postern.session_images where session_id = this_id window newest as (order by run desc)) sized
  where i.session_id = this_id and i.run = sized.run
    and (sized.runs >= max_runs or sized.bytes + octet_length(this_image) > max_bytes);
  insert into postern.session_images (session_id, run, nonce, image, invocation_id)
  values (this_id, this_run, this_nonce, this_image, this_invocation_id);
  return true;
end
$$;

revoke all on function
  postern.claim_session(bytea, uuid, text, text, text, integer, uuid, double precision, double precision),
  postern.keep_session(uuid, uuid, integer, bytea, bytea, uuid, double precision, integer, bigint)
from public;
