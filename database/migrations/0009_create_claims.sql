-- Claims that hold against a guest: postern.claims() and postern.uid() for row-level policies. They believe nothing that a
-- guest's SQL can write, unlike request.jwt.claims, which whoever may call set_config sets to anything.
--
-- A node knows the key below. For each transaction of a guest it makes a proof, NMAC with SHA-256 (HMAC's two-key form:
-- sha256(outer || sha256(inner || message))) over backend, time and claims, and sends it as a parameter of a statement that
-- puts sha256(proof || start of the transaction), time and claims into the setting postern.claims. The proof itself is kept
-- nowhere. postern.claims() makes the proof again from the key, and compares. So:
--   * Other claims in the setting need a proof, which takes the key.
--   * A setting that was read and set again in another transaction or backend is worth nothing: what it needs there takes the
--     proof, which it does not show.
--   * A proof that somebody finds all the same (a server that logs parameters writes it to its log) is good for its claims, on
--     its backend, for five minutes.
-- That calls nothing but built-in functions; it costs a transaction of a guest some 65 to 110 microseconds of the server's CPU,
-- most of it for parsing. A function that checks the proof at once and seals the claims with a key of its own was tried: as
-- strong, and 120 to 240 microseconds more than nothing.

create table postern.claims_key (
  id boolean primary key default true check (id),
  proof_inner bytea not null,
  proof_outer bytea not null
);
-- A SHA-256 block each, of 366 random bits. Not from the master key: nodes with different ones have to agree, and who reads
-- this table could do all the same.
insert into postern.claims_key (proof_inner, proof_outer)
select key[1], key[2] from (
  select array_agg(sha512(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()))) as key
  from generate_series(1, 2)
) made;

-- The claims of the invocation whose statement this is; null for whoever is no guest of Postern, and where the setting is not
-- what a node made in this transaction. Never an error for that: a policy sees no row then.
--
-- The setting: 64 hex digits, the time of the proof in milliseconds, a blank, the claims.
-- Parallel restricted, for a parallel worker is another backend. 15 microseconds a call, so write `(select postern.claims())`
-- in a policy: once a statement, and not once a row.
create function postern.claims() returns jsonb
language plpgsql stable security definer parallel restricted
set search_path = pg_catalog, pg_temp
as $$
declare
  parts constant text[] := regexp_match(current_setting('postern.claims', true), '^([0-9a-f]{64})([0-9]{1,15}) (.*)$');
  key postern.claims_key;
  proof bytea;
begin
  -- An hour of another transaction, too: no proof is made ahead.
  if parts is null
     or abs(extract(epoch from transaction_timestamp()) * 1000 - parts[2]::bigint) > 300000 then
    return null;
  end if;
  select * into strict key from postern.claims_key;
  proof := sha256(key.proof_outer || sha256(
    key.proof_inner || int4send(pg_backend_pid()) || int8send(parts[2]::bigint) || convert_to(parts[3], 'UTF8')));
  if parts[1] = encode(sha256(proof || timestamptz_send(transaction_timestamp())), 'hex') then
    return parts[3]::jsonb;
  end if;
  return null;
end $$;

-- The claim `sub`, as Supabase's auth.uid(); null where it is no UUID. A `sub` of another form: postern.claims() ->> 'sub'.
-- Bound to postern.claims() when made, so it needs no search_path, and the planner can put it into the policy.
create function postern.uid() returns uuid
language sql stable parallel restricted
return ((pg_catalog.regexp_match(
  postern.claims() operator(pg_catalog.->>) 'sub',
  '^[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$'
))[1])::pg_catalog.uuid;

-- Policies call them by oid, as whoever runs the statement. Writing such a policy takes USAGE on schema postern, too.
grant execute on function postern.claims(), postern.uid() to public;

-- To a role that may read the key and nothing else, as capture has one. Where the migrating user may not make roles they stay
-- its own.
do $$
declare
  me constant name := current_user;
begin
  begin
    create role postern_claims nologin noinherit;
  exception when duplicate_object or unique_violation then null;
  end;
  -- Who makes a role may administer it, and since Postgres 16 that is not yet to become it.
  if not (select rolsuper from pg_roles where rolname = me) then
    execute format('grant postern_claims to %I', me);
  end if;
  grant usage, create on schema postern to postern_claims;
  grant select on postern.claims_key to postern_claims;
  alter function postern.claims() owner to postern_claims;
  revoke create on schema postern from postern_claims;
exception when insufficient_privilege then
  raise notice 'postern: claims are read as %, because it may not make or use the role postern_claims', me;
end $$;
