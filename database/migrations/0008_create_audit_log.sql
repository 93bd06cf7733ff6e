-- Who changed what through the control API, and who was not let in. Written before a change is begun, so that none can
-- go without its row; kept for 90 days.
create table postern.audit_log (
  id bigint generated always as identity primary key,
  at timestamptz not null default clock_timestamp(),
  -- Name of the admin key or the first 8 hex digits of its SHA-256, or 'loopback' (`dev` without a key). Null for a
  -- request that was refused.
  actor text,
  -- Address that the request came from.
  source text not null,
  -- Method and route, e.g. 'DELETE /functions/:name'.
  action text not null,
  -- The function, secret or event that it was about.
  target text,
  -- HTTP status. Null while a change is under way, and for ever where its node died or its caller went away before.
  status integer,
  request_id uuid not null,
  -- Refusals of one source in one minute are one row.
  count integer not null default 1
);
create index audit_log_at on postern.audit_log (at desc, id desc);
