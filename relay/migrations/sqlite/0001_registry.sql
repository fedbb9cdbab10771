-- What the relay remembers. Times are Unix seconds; tokens and payloads are sealed before they come here.

PRAGMA application_id = 1397181522; -- "SGLR": another program's file is not taken for ours

CREATE TABLE device (
    fingerprint   BLOB PRIMARY KEY CHECK (length(fingerprint) = 32),
    public_key    BLOB NOT NULL,
    platform      TEXT NOT NULL CHECK (platform IN ('apns', 'fcm', 'websocket')),
    token         BLOB NOT NULL,
    registered_at INTEGER NOT NULL,
    seen_at       INTEGER NOT NULL,
    failures      INTEGER NOT NULL,
    evicted       TEXT,
    evicted_at    INTEGER,
    CHECK ((evicted IS NULL) = (evicted_at IS NULL))
) STRICT;
CREATE INDEX device_silent ON device (seen_at) WHERE evicted IS NULL;
CREATE INDEX device_evicted ON device (evicted_at) WHERE evicted_at IS NOT NULL;

CREATE TABLE device_tally (
    kind TEXT PRIMARY KEY,
    n    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO device_tally VALUES ('apns', 0), ('fcm', 0), ('websocket', 0), ('evicted', 0);
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

CREATE TABLE server (
    server_id  BLOB PRIMARY KEY CHECK (length(server_id) = 32),
    public_key BLOB NOT NULL,
    name       TEXT NOT NULL,
    trusted_at INTEGER NOT NULL,
    -- By the settings alone: gone when it is gone from there.
    listed     INTEGER NOT NULL
) STRICT;

CREATE TABLE nonce (
    nonce BLOB PRIMARY KEY,
    until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX nonce_over ON nonce (until);

CREATE TABLE bucket (
    server_id   BLOB NOT NULL,
    fingerprint BLOB NOT NULL,
    paid_until  REAL NOT NULL,
    PRIMARY KEY (server_id, fingerprint)
) STRICT, WITHOUT ROWID;
CREATE INDEX bucket_over ON bucket (paid_until);

CREATE TABLE push (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    server_id   BLOB NOT NULL,
    push_key    TEXT NOT NULL,
    push_id     BLOB NOT NULL,
    fingerprint BLOB NOT NULL,
    payload     BLOB NOT NULL,
    expires_at  INTEGER NOT NULL,
    collapse_id TEXT,
    priority    TEXT NOT NULL,
    exempt      INTEGER NOT NULL,
    platform    TEXT NOT NULL,
    status      TEXT NOT NULL,
    error       TEXT,
    due         REAL NOT NULL,
    attempts    INTEGER NOT NULL,
    created_at  REAL NOT NULL,
    UNIQUE (server_id, push_key)
) STRICT;
CREATE INDEX push_acknowledged ON push (push_id);
CREATE INDEX push_waiting ON push (fingerprint, seq) WHERE status = 'queued';
CREATE INDEX push_due ON push (due) WHERE status = 'queued' AND due > 0;
CREATE INDEX push_over ON push (expires_at);
