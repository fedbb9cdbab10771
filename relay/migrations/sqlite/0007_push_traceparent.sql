-- The span that created the push at its server, 25 bytes, only when its trace is sampled: spans of the relay link to it.
ALTER TABLE push ADD COLUMN traceparent BLOB;
