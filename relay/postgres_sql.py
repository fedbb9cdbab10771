"""Statements about pushes in PostgreSQL. Arrays are unnested into rows; rows are locked in the order of their keys."""

# ruff: noqa: S608 - what is put together is names of columns

from __future__ import annotations

from relay.rows import device_columns, push_columns

_PUSH = push_columns("push")
_NAMES = _PUSH.replace("push.", "")

SPEND = "INSERT INTO nonce VALUES ($1, $2) ON CONFLICT DO NOTHING"

LOCK_DEVICES = f"""
SELECT {device_columns("device")} FROM device WHERE fingerprint = ANY($1::bytea[])
ORDER BY fingerprint FOR NO KEY UPDATE
"""

SITUATION = """
SELECT bucket.paid_until, held.number, push.push_id, push.platform, push.status, push.error
FROM unnest($2::text[], $3::bytea[]) WITH ORDINALITY AS wanted(push_key, fingerprint, place)
LEFT JOIN push ON push.server_id = $1 AND push.push_key = wanted.push_key
LEFT JOIN bucket ON bucket.server_id = $1 AND bucket.fingerprint = wanted.fingerprint
CROSS JOIN LATERAL (
    SELECT count(*) AS number FROM (
        SELECT FROM push WHERE fingerprint = wanted.fingerprint AND status = 'queued' LIMIT $4
    ) AS first_ones
) AS held
ORDER BY wanted.place
"""

INSERT = f"""
WITH paid AS (
    INSERT INTO bucket SELECT $1, * FROM unnest($2::bytea[], $3::float8[])
    ON CONFLICT (server_id, fingerprint) DO UPDATE SET paid_until = excluded.paid_until
)
INSERT INTO push ({_NAMES})
SELECT {_NAMES} FROM unnest(
    $4::bytea[], $5::text[], $6::bytea[], $7::bytea[], $8::bigint[], $9::text[], $10::text[], $11::boolean[],
    $12::bytea[], $13::text[], $14::text[], $15::text[], $16::float8[], $17::integer[], $18::float8[]
) WITH ORDINALITY AS wanted({_NAMES}, place)
ORDER BY place
ON CONFLICT DO NOTHING
"""

# OFFSET counts from the newest: what is behind it is over the number that a device may hold.
SUPERSEDE = """
WITH over AS (
    SELECT oldest.server_id, oldest.push_key FROM unnest($1::bytea[]) AS crowded(fingerprint)
    CROSS JOIN LATERAL (
        SELECT server_id, push_key FROM push WHERE fingerprint = crowded.fingerprint AND status = 'queued'
        ORDER BY seq DESC OFFSET $2
    ) AS oldest
), locked AS (
    SELECT push.server_id, push.push_key FROM over JOIN push USING (server_id, push_key)
    WHERE push.status = 'queued' ORDER BY push.server_id, push.push_key FOR UPDATE OF push
)
UPDATE push SET status = 'failed', error = $3, payload = '', due = 0
FROM locked WHERE push.server_id = locked.server_id AND push.push_key = locked.push_key
RETURNING push.push_id
"""

SETTLE = """
WITH settled AS (
    SELECT * FROM unnest($1::bytea[], $2::text[], $3::text[], $4::text[], $5::float8[])
        AS one(server_id, push_key, status, error, due)
), locked AS (
    SELECT settled.* FROM settled JOIN push USING (server_id, push_key)
    WHERE push.status = 'queued' OR (push.status <> 'delivered' AND settled.status = 'delivered')
    ORDER BY push.server_id, push.push_key FOR UPDATE OF push
)
UPDATE push SET
    status = locked.status,
    error = locked.error,
    payload = CASE WHEN locked.status = 'queued' THEN push.payload ELSE '' END,
    due = CASE WHEN push.platform = 'websocket' THEN 0 ELSE locked.due END
FROM locked WHERE push.server_id = locked.server_id AND push.push_key = locked.push_key
"""

OUTCOMES = f"""
SELECT {_PUSH} FROM unnest($2::text[]) AS wanted(push_key)
JOIN push ON push.server_id = $1 AND push.push_key = wanted.push_key
"""

HELD = f"""
SELECT {_PUSH} FROM unnest($1::bytea[]) AS asked(fingerprint)
CROSS JOIN LATERAL (
    SELECT * FROM push
    WHERE fingerprint = asked.fingerprint AND status = 'queued' AND platform = 'websocket' AND expires_at > $2::float8
    ORDER BY seq DESC LIMIT $3
) AS push
ORDER BY push.seq
"""

ACKNOWLEDGE = f"""
UPDATE push SET status = 'delivered', error = NULL, payload = '', due = 0
WHERE push_id = $2 AND fingerprint = $1 RETURNING {_PUSH}
"""

# Locked rows are another one's, who claims at the same time or has an outcome to write.
CLAIM = f"""
WITH due AS (
    SELECT server_id, push_key, fingerprint FROM push
    WHERE status = 'queued' AND due > 0 AND due <= $1::float8
    ORDER BY due LIMIT $2 FOR UPDATE SKIP LOCKED
), judged AS (
    SELECT due.server_id, due.push_key, {device_columns("device")} FROM due LEFT JOIN device USING (fingerprint)
)
UPDATE push SET
    status = CASE WHEN push.expires_at <= $1 THEN 'failed' WHEN judged.fingerprint IS NULL THEN 'not_registered'
        WHEN judged.evicted IS NOT NULL THEN 'token_evicted' ELSE 'queued' END,
    error = CASE WHEN push.expires_at <= $1 THEN 'expired' ELSE coalesce(judged.evicted, push.error) END,
    payload = CASE WHEN push.expires_at <= $1 OR judged.fingerprint IS NULL OR judged.evicted IS NOT NULL THEN ''
        ELSE push.payload END,
    due = CASE WHEN push.expires_at <= $1 OR judged.fingerprint IS NULL OR judged.evicted IS NOT NULL THEN 0
        ELSE $3::float8 END,
    attempts = push.attempts + 1
FROM judged WHERE push.server_id = judged.server_id AND push.push_key = judged.push_key
RETURNING {_PUSH}, {device_columns("judged")}
"""

SWEEP = """
WITH over_pushes AS (
    SELECT server_id, push_key FROM push WHERE expires_at <= floor($1::float8)::bigint
    ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED
), over_nonces AS (
    SELECT nonce FROM nonce WHERE until < ceil($1::float8)::bigint
    ORDER BY until LIMIT $2 FOR UPDATE SKIP LOCKED
), over_buckets AS (
    SELECT server_id, fingerprint FROM bucket WHERE paid_until <= $1::float8
    ORDER BY paid_until LIMIT $2 FOR UPDATE SKIP LOCKED
), pushes AS (
    DELETE FROM push USING over_pushes AS over
    WHERE push.server_id = over.server_id AND push.push_key = over.push_key RETURNING 1
), nonces AS (
    DELETE FROM nonce USING over_nonces AS over WHERE nonce.nonce = over.nonce RETURNING 1
), buckets AS (
    DELETE FROM bucket USING over_buckets AS over
    WHERE bucket.server_id = over.server_id AND bucket.fingerprint = over.fingerprint RETURNING 1
)
SELECT (SELECT count(*) FROM pushes) + (SELECT count(*) FROM nonces) + (SELECT count(*) FROM buckets)
"""

# Beyond what is worth counting, what the last ANALYZE estimated.
BACKLOG = """
SELECT CASE WHEN number < $1 THEN number ELSE greatest(number, (
    SELECT reltuples::bigint FROM pg_class WHERE oid = 'push_waiting'::regclass
)) END FROM (SELECT count(*) AS number FROM (SELECT FROM push WHERE status = 'queued' LIMIT $1) AS first_ones) AS counted
"""
