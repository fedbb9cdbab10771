-- What is due of one server is found without reading what waits for another: a long queue of one must not delay the others.
DROP INDEX push_due;
CREATE INDEX push_due ON push (platform, server_id, due) WHERE status = 'queued' AND due > 0;
