-- How nodes agree on what is deployed. See invoker/functions/node-lease.ts for the protocol.

-- One row. Whoever changes what a cached function is made of (deploy, rollback, delete, a secret) adds one as the last thing in
-- its transaction; the row's lock gives the changes an order, so a generation that can be seen has all earlier ones before it.
create table postern.catalog_generation (
  id boolean primary key default true check (id),
  generation bigint not null,
  -- Of the last change: the functions that it concerned; null for all of them.
  names text[]
);
insert into postern.catalog_generation (generation) values (1);

create table postern.nodes (
  id uuid primary key,
  host text not null,
  pid integer not null,
  started_at timestamptz not null default clock_timestamp(),
  -- The node has dropped everything older than this from its caches.
  applied_generation bigint not null default 0,
  -- Until then (database's clock) the node may trust its caches. One that has gone leaves a row that expires.
  lease_expires_at timestamptz not null
);

-- The notification carries nothing, for anybody who may connect can send one: it says "look", and the table says what.
create function postern.bump_catalog(names text[]) returns bigint
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
  result bigint;
begin
  update postern.catalog_generation as g set generation = g.generation + 1, names = bump_catalog.names
    returning g.generation into result;
  perform pg_notify('postern_catalog', '');
  return result;
end $$;
revoke all on function postern.bump_catalog(text[]) from public;

-- A secret's value is part of what a cached function is made of, whoever writes the row.
create function postern.secret_changed() returns trigger
language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
  perform postern.bump_catalog(null);
  return null;
end $$;
revoke all on function postern.secret_changed() from public;

create trigger secrets_changed after insert or update or delete on postern.secrets
  for each statement execute function postern.secret_changed();
