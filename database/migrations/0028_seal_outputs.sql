-- Outputs and kept results of runs are sealed under the master key, as sessions and recordings are.

-- Nodes of the release before write and read `content`, in the clear; what they wrote is over.
alter table postern.outputs
  -- In chunks, each sealed by itself: a part is read without the rest. Null where it is an object of S3-compatible storage, by
  -- the name outputs/{id}.sealed.
  add column sealed bytea,
  -- Of the key that sealed it; null for what is in the clear.
  add column key_id text;
alter table postern.outputs alter column sealed set storage external;
update postern.outputs set expires_at = now() where expires_at > now();

-- A cache: nodes of the release before miss it.
truncate postern.execute_results;
alter table postern.execute_results
  drop column answer,
  add column sealed bytea not null,
  add column nonce bytea not null,
  add column key_id text not null;
