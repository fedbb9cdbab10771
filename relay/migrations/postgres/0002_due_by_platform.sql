-- What is due of one platform is found without reading what waits for another: that may be all of an outage.
DROP INDEX push_due;
CREATE INDEX push_due ON push (platform, due) WHERE status = 'queued' AND due > 0;
