-- Everything of Postern lives in schema postern. Nobody but its owner has rights in it; what others need (the capture
-- role) is granted by name.
revoke all on schema postern from public;

create table postern.functions (
  id bigint generated always as identity primary key,
  name text not null unique check (name ~ '^[a-z][a-z0-9_-]{0,62}$'),
  -- Null until the first version is complete.
  active_version integer,
  next_version integer not null default 1,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);

-- Immutable: a deploy adds a row and moves functions.active_version.
create table postern.versions (
  function_id bigint not null references postern.functions on delete cascade,
  version integer not null check (version > 0),
  -- Content hash of code, configuration and engine, 64 hex digits.
  version_id text not null,
  -- [{main, files}]
  source jsonb not null,
  bundle text not null,
  source_map text,
  config jsonb not null,
  form text not null,
  created_at timestamptz not null default now(),
  primary key (function_id, version),
  unique (function_id, version_id)
);

-- Memory images. Shared by functions with the same content; rebuilt when the engine changes.
create table postern.images (
  version_id text not null,
  engine_id text not null,
  image bytea not null,
  created_at timestamptz not null default now(),
  primary key (version_id, engine_id)
);
-- Compressed before they come here; trying again costs time and gains nothing.
alter table postern.images alter column image set storage external;

-- What fires a function: exactly the triggers of its active version.
create table postern.triggers (
  id uuid primary key default gen_random_uuid(),
  function_id bigint not null references postern.functions on delete cascade,
  kind text not null,
  config jsonb not null,
  enabled boolean not null default true,
  created_at timestamptz not null default now()
);
create index triggers_function_id on postern.triggers (function_id);

-- One row an attempt, written after it ended.
create table postern.function_invocations (
  id uuid primary key,
  -- No foreign key: the record outlives the function.
  function_id bigint,
  function_name text not null,
  version integer not null,
  trigger text not null,
  trigger_id uuid,
  event_id uuid,
  attempt integer,
  request_id text,
  status text not null check (status in ('ok', 'error')),
  outcome text not null,
  error_code text,
  error_message text,
  error_stack text,
  started_at timestamptz not null,
  duration_ms real not null,
  cpu_ms real,
  cpu_fuel bigint,
  peak_memory_bytes bigint,
  host_calls integer,
  -- Array of log line objects.
  logs jsonb,
  node_id uuid
);
create index function_invocations_by_function on postern.function_invocations (function_name, started_at desc);
create index function_invocations_by_time on postern.function_invocations (started_at desc);
create index function_invocations_by_event on postern.function_invocations (event_id) where event_id is not null;

-- AES-256-GCM under a key derived from POSTERN_MASTER_KEY; key_id tells which, for rotation.
create table postern.secrets (
  name text primary key,
  ciphertext bytea not null,
  nonce bytea not null,
  key_id text not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);

create table postern.settings (
  key text primary key,
  value jsonb not null
);
