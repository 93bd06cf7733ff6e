-- Large results and output of code that callers bring, kept for GET /outputs/{id}.

create table postern.outputs (
  id uuid primary key,
  -- Whose code gave it; nobody else reads it.
  api_key_id uuid not null,
  content_type text not null,
  bytes integer not null check (bytes >= 0),
  -- Null where it is an object of S3-compatible storage, by the name outputs/{id}.
  content bytea check (octet_length(content) = bytes),
  expires_at timestamptz not null
);
-- Not compressed: a part of it is read without the rest.
alter table postern.outputs alter column content set storage external;
create index outputs_by_expiry on postern.outputs (expires_at);
create index outputs_by_api_key on postern.outputs (api_key_id, expires_at);
