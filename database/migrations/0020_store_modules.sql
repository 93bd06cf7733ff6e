-- What a version of a language other than JavaScript is built from again: the WebAssembly module as it was uploaded. `bundle` is
-- empty then.
alter table postern.versions add column module bytea;
alter table postern.versions alter column module set storage external;
