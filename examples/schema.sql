-- The tables of the examples. `postern dev` applies this file each time it starts, so every statement may run twice.

create table if not exists users (
  id uuid primary key default gen_random_uuid(),
  email text not null unique,
  created_at timestamptz not null default now()
);

create table if not exists profiles (
  user_id uuid primary key references users on delete cascade,
  display_name text not null,
  created_at timestamptz not null default now()
);
grant select, insert on profiles to service_role;

create table if not exists orders (
  id bigint generated always as identity primary key,
  item text not null,
  address text not null default '',
  status text not null default 'paid' check (status in ('new', 'paid', 'shipped')),
  tracking text
);
grant select, update on orders to service_role;

create table if not exists todos (
  id bigint generated always as identity primary key,
  owner uuid not null default (current_setting('request.jwt.claims', true)::json ->> 'sub')::uuid,
  title text not null,
  done boolean not null default false
);
alter table todos enable row level security;
drop policy if exists own_todos on todos;
create policy own_todos on todos to authenticated
  using (owner = (current_setting('request.jwt.claims', true)::json ->> 'sub')::uuid);
grant select, insert, update on todos to authenticated;
