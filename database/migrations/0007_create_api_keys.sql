-- Callers without tokens, what they may use, and what must not be done twice for anybody.

create table postern.api_keys (
  id uuid primary key default gen_random_uuid(),
  name text not null,
  -- SHA-256 of the key's text; the key itself is stored nowhere.
  key_hash bytea not null unique check (octet_length(key_hash) = 32),
  -- Its first characters, so that people can tell keys apart.
  display text not null,
  role text not null check (role in ('anon', 'authenticated', 'service_role')),
  -- Names of functions; null for all of them.
  functions text[],
  rate_limit integer not null check (rate_limit > 0),
  rate_window_seconds integer not null check (rate_window_seconds between 1 and 86400),
  created_at timestamptz not null default now(),
  expires_at timestamptz,
  -- Rows stay, so that a key that was given up and is still sent can be seen.
  revoked_at timestamptz,
  -- Written by the nodes about once a second (triggers/http/rate-limiter.ts).
  last_used_at timestamptz,
  refused_rate bigint not null default 0,
  refused_scope bigint not null default 0,
  refused_inactive bigint not null default 0
) with (fillfactor = 80);

-- Nodes hold the keys in memory: a change is one of the catalogue, of no function's name. Use and refusals are none.
create function postern.api_keys_changed() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  perform postern.bump_catalog('{}');
  return null;
end $$;
revoke all on function postern.api_keys_changed() from public;

create trigger api_keys_changed
  after insert or delete
     or update of key_hash, role, functions, rate_limit, rate_window_seconds, expires_at, revoked_at on postern.api_keys
  for each statement execute function postern.api_keys_changed();

-- What each node has let in of a window. A node writes its own rows only and writes whole counts, so that nothing is counted
-- twice when an answer is lost. Unlogged: after a crash of the server windows begin anew.
create unlogged table postern.api_key_windows (
  key_id uuid not null,
  starts_at timestamptz not null,
  node_id uuid not null,
  ends_at timestamptz not null,
  used integer not null,
  primary key (key_id, starts_at, node_id)
) with (fillfactor = 80);

-- See triggers/http/idempotency.ts for the protocol.
create table postern.idempotency_keys (
  -- SHA-256 of function, caller and Idempotency-Key.
  scope bytea primary key check (octet_length(scope) = 32),
  -- SHA-256 of method, path, query and body.
  request_hash bytea not null,
  -- The attempt that runs the function or ran it.
  holder uuid not null,
  -- Until then, while there is no answer, nobody else runs the function.
  lease_expires_at timestamptz not null,
  -- {status, headers} or {error}; null while the function runs. `json` keeps escapes of NUL, which `jsonb` refuses.
  answer json,
  body bytea,
  expires_at timestamptz not null
);
create index idempotency_keys_by_expiry on postern.idempotency_keys (expires_at);
