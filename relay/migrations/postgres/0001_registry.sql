-- What the relay remembers. Times are Unix seconds; tokens and payloads are sealed before they come here.

CREATE TABLE device (
    fingerprint   bytea PRIMARY KEY CHECK (octet_length(fingerprint) = 32),
    public_key    bytea NOT NULL,
    platform      text NOT NULL CHECK (platform IN ('apns', 'fcm', 'websocket')),
    token         bytea NOT NULL,
    registered_at bigint NOT NULL,
    seen_at       bigint NOT NULL,
    failures      integer NOT NULL,
    evicted       text,
    evicted_at    bigint,
    CHECK ((evicted IS NULL) = (evicted_at IS NULL))
);
CREATE INDEX device_silent ON device (seen_at) WHERE evicted IS NULL;
CREATE INDEX device_evicted ON device (evicted_at) WHERE evicted_at IS NOT NULL;

-- The number of devices of each platform, as a sum: a row for each change, so that no two changes wait for one another.
-- Whoever counts folds many rows into one.
CREATE TABLE device_tally (
    kind text NOT NULL,
    n    bigint NOT NULL
);

CREATE FUNCTION tally_device() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        INSERT INTO device_tally VALUES (CASE WHEN OLD.evicted IS NULL THEN OLD.platform ELSE 'evicted' END, -1);
    END IF;
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO device_tally VALUES (CASE WHEN NEW.evicted IS NULL THEN NEW.platform ELSE 'evicted' END, 1);
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER device_comes_or_goes AFTER INSERT OR DELETE ON device
    FOR EACH ROW EXECUTE FUNCTION tally_device();
CREATE TRIGGER device_changes AFTER UPDATE OF platform, evicted ON device
    FOR EACH ROW WHEN (OLD.platform <> NEW.platform OR (OLD.evicted IS NULL) <> (NEW.evicted IS NULL))
    EXECUTE FUNCTION tally_device();

CREATE TABLE server (
    server_id  bytea PRIMARY KEY CHECK (octet_length(server_id) = 32),
    public_key bytea NOT NULL,
    name       text NOT NULL,
    trusted_at bigint NOT NULL,
    -- By the settings alone: gone when it is gone from there.
    listed     boolean NOT NULL
);

-- Lost with a crash of the database: a signed request can then be repeated for as long as its timestamp is good, and
-- pushes are told apart by their push_key all the same.
CREATE UNLOGGED TABLE nonce (
    nonce bytea PRIMARY KEY,
    until bigint NOT NULL
);
CREATE INDEX nonce_over ON nonce (until);

-- Lost with a crash of the database: every device has its whole burst again.
CREATE UNLOGGED TABLE bucket (
    server_id   bytea NOT NULL,
    fingerprint bytea NOT NULL,
    paid_until  double precision NOT NULL,
    PRIMARY KEY (server_id, fingerprint)
);
CREATE INDEX bucket_over ON bucket (paid_until);

CREATE TABLE push (
    server_id   bytea NOT NULL,
    push_key    text COLLATE "C" NOT NULL,
    seq         bigint GENERATED ALWAYS AS IDENTITY,
    push_id     bytea NOT NULL,
    fingerprint bytea NOT NULL,
    payload     bytea NOT NULL,
    expires_at  bigint NOT NULL,
    collapse_id text,
    priority    text NOT NULL,
    exempt      boolean NOT NULL,
    platform    text NOT NULL,
    status      text NOT NULL,
    error       text,
    due         double precision NOT NULL,
    attempts    integer NOT NULL,
    created_at  double precision NOT NULL,
    -- The key first: before 17, an ANY on a later column may be done by reading all that the first one leaves.
    PRIMARY KEY (push_key, server_id)
) WITH (
    -- A payload of 3 KiB stays in its row, which is soon gone anyhow.
    toast_tuple_target = 8160,
    -- Every row is written twice and deleted within minutes.
    autovacuum_vacuum_scale_factor = 0.05,
    autovacuum_analyze_scale_factor = 0.05
);
-- What is sealed does not compress.
ALTER TABLE push ALTER COLUMN payload SET STORAGE EXTERNAL;
ALTER TABLE device ALTER COLUMN token SET STORAGE EXTERNAL;
CREATE INDEX push_acknowledged ON push (push_id);
CREATE INDEX push_waiting ON push (fingerprint, seq) WHERE status = 'queued';
CREATE INDEX push_due ON push (due) WHERE status = 'queued' AND due > 0;
CREATE INDEX push_over ON push (expires_at);
