-- Ranges are written with the session's DateStyle, so an event with a tstzrange or a daterange depended on it.
alter function postern.capture_row() set datestyle = 'ISO';
alter function postern.capture_inserts() set datestyle = 'ISO';
alter function postern.capture_deletes() set datestyle = 'ISO';
