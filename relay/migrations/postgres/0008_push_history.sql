-- When a push got its final status.
ALTER TABLE push ADD COLUMN ended_at double precision;
-- The final pushes of one server to one device, the newest last.
CREATE INDEX push_ended ON push (server_id, fingerprint, seq) WHERE status <> 'queued';

-- The newest pushes of a server to a device that have expired: a JSON array of arrays, the newest first, without payloads. `newest`:
-- the hour (Unix seconds) of the first one's creation, so that most writes change no index.
CREATE TABLE history (
    server_id   bytea NOT NULL,
    fingerprint bytea NOT NULL,
    newest      bigint NOT NULL,
    entries     jsonb NOT NULL,
    PRIMARY KEY (fingerprint, server_id)
) WITH (
    -- Rows of active devices are written every few minutes, in their page if it has space.
    fillfactor = 80,
    autovacuum_vacuum_scale_factor = 0.05,
    autovacuum_analyze_scale_factor = 0.05
);
CREATE INDEX history_age ON history (server_id, newest);

-- The number of rows of each server, as a sum: see device_tally.
CREATE TABLE history_tally (
    server_id bytea NOT NULL,
    n         bigint NOT NULL
);
CREATE FUNCTION tally_history() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        INSERT INTO history_tally SELECT server_id, -count(*) FROM changed GROUP BY server_id;
    ELSE
        INSERT INTO history_tally SELECT server_id, count(*) FROM changed GROUP BY server_id;
    END IF;
    RETURN NULL;
END
$$;
-- Of a statement, not of a row: an upsert that updates inserts nothing.
CREATE TRIGGER history_comes AFTER INSERT ON history
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION tally_history();
CREATE TRIGGER history_goes AFTER DELETE ON history
    REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION tally_history();
