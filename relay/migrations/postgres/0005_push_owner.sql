-- The server's name for the requester of a push: its requesters share what a device holds.
ALTER TABLE push ADD COLUMN owner text NOT NULL DEFAULT '';
