-- What signs receipts: made by the first node, known by the thumbprint of its public part (RFC 7638). Keys are never removed, so that
-- what they signed can be checked.
create table postern.signing_keys (
  kid text primary key,
  public_key bytea not null,
  -- The private part, sealed as postern.secrets are.
  ciphertext bytea not null,
  nonce bytea not null,
  key_id text not null,
  created_at timestamptz not null default clock_timestamp()
);

-- Receipts of invocations, in segments of up to a thousand: a row for each would cost as much again as the invocation's record.
create table postern.receipt_segments (
  -- The node of one start, as function_invocations.node_id.
  chain uuid not null,
  -- Of its first and last receipt.
  first bigint not null,
  last bigint not null,
  at timestamptz not null default clock_timestamp(),
  -- The signed checkpoint, as an export has it.
  checkpoint text not null,
  -- Lines of JSON, compressed (zstd).
  receipts bytea not null,
  primary key (chain, first)
);
alter table postern.receipt_segments alter column receipts set storage external;
create index receipt_segments_by_age on postern.receipt_segments (at);

-- Where in its node's chain an invocation's receipt is; null where the node keeps none.
alter table postern.function_invocations add column receipt_seq bigint;
