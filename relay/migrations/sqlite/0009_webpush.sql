-- The platform webpush. SQLite cannot change a CHECK, so the table is made again, with its indexes and triggers.
CREATE TABLE device_with_webpush (
    fingerprint   BLOB PRIMARY KEY CHECK (length(fingerprint) = 32),
    public_key    BLOB NOT NULL,
    platform      TEXT NOT NULL CHECK (platform IN ('apns', 'fcm', 'websocket', 'webpush')),
    token         BLOB NOT NULL,
    registered_at INTEGER NOT NULL,
    seen_at       INTEGER NOT NULL,
    failures      INTEGER NOT NULL,
    evicted       TEXT,
    evicted_at    INTEGER,
    used          INTEGER NOT NULL DEFAULT 1,
    CHECK ((evicted IS NULL) = (evicted_at IS NULL))
) STRICT;
INSERT INTO device_with_webpush
    SELECT fingerprint, public_key, platform, token, registered_at, seen_at, failures, evicted, evicted_at, used FROM device;
-- Its triggers do not run for this: the tally stays right.
DROP TABLE device;
ALTER TABLE device_with_webpush RENAME TO device;
CREATE INDEX device_silent ON device (seen_at) WHERE evicted IS NULL;
CREATE INDEX device_evicted ON device (evicted_at) WHERE evicted_at IS NOT NULL;
CREATE INDEX device_unused ON device (seen_at) WHERE NOT used;

INSERT INTO device_tally VALUES ('webpush', 0);
CREATE TRIGGER device_comes AFTER INSERT ON device BEGIN
    UPDATE device_tally SET n = n + 1 WHERE kind = iif(NEW.evicted IS NULL, NEW.platform, 'evicted');
END;
CREATE TRIGGER device_goes AFTER DELETE ON device BEGIN
    UPDATE device_tally SET n = n - 1 WHERE kind = iif(OLD.evicted IS NULL, OLD.platform, 'evicted');
END;
CREATE TRIGGER device_changes AFTER UPDATE OF platform, evicted ON device BEGIN
    UPDATE device_tally SET n = n - 1 WHERE kind = iif(OLD.evicted IS NULL, OLD.platform, 'evicted');
    UPDATE device_tally SET n = n + 1 WHERE kind = iif(NEW.evicted IS NULL, NEW.platform, 'evicted');
END;
