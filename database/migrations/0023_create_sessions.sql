-- Sessions of code that is run (POST /execute): the memory that a run left for the next one. See triggers/execute/sessions/.

create table postern.sessions (
  id uuid primary key,
  -- SHA-256 of the token; the token itself is stored nowhere.
  token_hash bytea not null unique check (octet_length(token_hash) = 32),
  -- Whose it is, and by which policy it was begun: to all others it is not there.
  api_key_id uuid not null references postern.api_keys on delete cascade,
  policy text not null,
  language text not null,
  -- What its images are good for.
  engine_id text not null,
  -- The key of its images, sealed under the master key, as secrets are.
  sealed_key bytea not null,
  key_nonce bytea not null,
  key_id text not null,
  -- Number of the last run whose image was kept; from 1.
  last_run integer not null check (last_run > 0),
  created_at timestamptz not null default clock_timestamp(),
  last_used_at timestamptz not null default clock_timestamp(),
  -- When it is over if nobody uses it, and whether anybody does.
  expires_at timestamptz not null,
  ends_at timestamptz not null,
  -- The run that has it now. Free when the lease is over, whatever became of that run's node.
  holder uuid,
  lease_expires_at timestamptz
) with (fillfactor = 80);
create index sessions_by_expiry on postern.sessions (expires_at);
create index sessions_by_key on postern.sessions (api_key_id, created_at);

create table postern.session_images (
  session_id uuid not null references postern.sessions on delete cascade,
  run integer not null,
  -- AES-256-GCM under the session's key, bound to session and run; the 16-byte tag is at the end.
  nonce bytea not null,
  image bytea not null,
  invocation_id uuid not null,
  created_at timestamptz not null default clock_timestamp(),
  primary key (session_id, run)
);
-- It is random bytes: neither to be compressed nor to be read for the other columns.
alter table postern.session_images alter column image set storage external;
