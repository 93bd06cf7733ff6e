-- A lease that waits for a lock on postern.events (somebody alters it) is given up by its node, and was executed all the same when
-- the lock was free: events were leased to nobody, at the price of an attempt. Now the server gives up, and first.
alter function postern.lease_events(uuid, integer, integer, integer, bigint[], integer[]) set lock_timeout = '2s';
alter function postern.lease_group(uuid, integer, integer, bigint, text, bigint) set lock_timeout = '2s';
