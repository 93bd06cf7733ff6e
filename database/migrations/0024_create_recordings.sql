-- What recorded invocations were given: sealed, since a function's event, its secrets and the rows it read are in it. Without
-- content it says why there is none. Kept as long as the invocation's own record, which may be written later.
create table postern.recordings (
  invocation_id uuid primary key,
  function_name text not null,
  version int not null,
  version_id text not null,
  engine_id text not null,
  -- As of the invocation's record.
  status text not null check (status in ('ok', 'error')),
  outcome text not null,
  started_at timestamptz not null,
  lost text,
  ciphertext bytea,
  nonce bytea,
  key_id text,
  check (lost is not null or (ciphertext is not null and nonce is not null and key_id is not null))
);
-- Sealed bytes have nothing left to compress.
alter table postern.recordings alter column ciphertext set storage external;
create index recordings_by_age on postern.recordings (status, started_at);
revoke all on postern.recordings from public;
