-- Code that callers bring: who may run what (POST /execute).

-- What the code of an API key may use. `rules` has the fields that differ from the defaults (triggers/execute/policy.ts).
create table postern.policies (
  name text primary key,
  rules jsonb not null check (jsonb_typeof(rules) = 'object'),
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);
insert into postern.policies (name, rules) values ('default', '{}');

-- Null: the key calls functions and runs no code. A policy that keys have can't be deleted.
alter table postern.api_keys add policy text references postern.policies;

-- Nodes hold policies with the keys, in memory.
create trigger policies_changed
  after update of rules on postern.policies
  for each statement execute function postern.api_keys_changed();
create trigger api_key_policies_changed
  after update of policy on postern.api_keys
  for each statement execute function postern.api_keys_changed();

-- Results of runs that were seen to depend on nothing but their code and input. A cache: lost with the server's memory.
create unlogged table postern.execute_results (
  -- SHA-256 of API key, code, input, limits and engine.
  key bytea primary key check (octet_length(key) = 32),
  -- The answer, as it was given.
  answer text not null,
  expires_at timestamptz not null
);
create index execute_results_by_expiry on postern.execute_results (expires_at);
