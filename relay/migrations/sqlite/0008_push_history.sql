-- When a push got its final status.
ALTER TABLE push ADD COLUMN ended_at REAL;
-- The final pushes of one server to one device, the newest last.
CREATE INDEX push_ended ON push (server_id, fingerprint, seq) WHERE status <> 'queued';

-- The newest pushes of a server to a device that have expired: a JSON array of arrays, the newest first, without payloads. `newest`:
-- the hour (Unix seconds) of the first one's creation, so that most writes change no index.
CREATE TABLE history (
    server_id   BLOB NOT NULL,
    fingerprint BLOB NOT NULL,
    newest      INTEGER NOT NULL,
    entries     TEXT NOT NULL,
    PRIMARY KEY (fingerprint, server_id)
) STRICT;
CREATE INDEX history_age ON history (server_id, newest);

-- The number of rows of each server.
CREATE TABLE history_tally (
    server_id BLOB PRIMARY KEY,
    n         INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TRIGGER history_comes AFTER INSERT ON history BEGIN
    INSERT INTO history_tally VALUES (NEW.server_id, 1) ON CONFLICT (server_id) DO UPDATE SET n = n + 1;
END;
CREATE TRIGGER history_goes AFTER DELETE ON history BEGIN
    UPDATE history_tally SET n = n - 1 WHERE server_id = OLD.server_id;
END;
