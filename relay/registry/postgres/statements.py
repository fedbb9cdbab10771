"""Statements on pushes in PostgreSQL.

A plan is made when a table is almost empty, and kept when it is full. So no statement leaves a choice that is right for
a small table only: keys are looked up by ANY or by a LATERAL with a LIMIT, and rows that were selected and locked are
written by their ctid, never by a join. A row that changes at that moment is not written; where this can happen, the
next run of the statement finds the row. Where an unsuitable index would match by its condition or its order alone, the
statement is written so that it does not match (`coalesce`, `|| ''`).
"""

# ruff: noqa: S608 - only names of columns and numbers of this program are inserted

from __future__ import annotations

from relay.registry.model import MAX_HISTORY
from relay.registry.rows import device_columns, past_columns, push_columns

_PUSH = push_columns("push")
_NAMES = _PUSH.replace("push.", "")

DEVICES = f"SELECT {device_columns('device')} FROM device WHERE fingerprint = ANY($1::bytea[])"
DEVICE = f"SELECT {device_columns('device')}, evicted_at FROM device WHERE fingerprint = $1"
LOCK_DEVICES = f"{DEVICES} ORDER BY fingerprint FOR NO KEY UPDATE"

SITUATION = """
SELECT paid.until, held.own, held.number, known.push_id, known.platform, known.status, known.error
FROM unnest($2::text[], $3::bytea[], $4::bytea[]) WITH ORDINALITY AS requested(push_key, fingerprint, bucket, place)
LEFT JOIN LATERAL (
    SELECT push_id, platform, status, error FROM push WHERE server_id = $1 AND push_key = requested.push_key LIMIT 1
) AS known ON true
LEFT JOIN LATERAL (
    SELECT paid_until AS until FROM bucket WHERE server_id = $1 AND fingerprint = requested.bucket LIMIT 1
) AS paid ON true
CROSS JOIN LATERAL (
    SELECT count(*) AS number, count(*) FILTER (WHERE server_id = $1) AS own FROM (
        SELECT server_id FROM push WHERE fingerprint = requested.fingerprint AND status = 'queued' LIMIT $5
    ) AS ones
) AS held
ORDER BY requested.place
"""

INSERT = f"""
WITH paid AS (
    INSERT INTO bucket SELECT $1, * FROM unnest($2::bytea[], $3::float8[])
    ON CONFLICT (server_id, fingerprint) DO UPDATE SET paid_until = excluded.paid_until
), used AS (
    UPDATE device SET used = true WHERE fingerprint = ANY ($22::bytea[]) AND NOT used
)
INSERT INTO push ({_NAMES})
SELECT {_NAMES} FROM unnest(
    $4::bytea[], $5::text[], $6::bytea[], $7::bytea[], $8::bigint[], $9::text[], $10::text[], $11::boolean[],
    $12::text[], $13::bytea[], $14::bytea[], $15::text[], $16::text[], $17::text[], $18::float8[], $19::integer[],
    $20::float8[], $21::float8[]
) WITH ORDINALITY AS requested({_NAMES}, place)
ORDER BY place
ON CONFLICT DO NOTHING
"""

# `turn` counts the pushes of one owner to the device from the newest, `nth` those of one server with its owners in
# turn, `place` those of all servers in turn.
SUPERSEDE = """
UPDATE push SET status = 'failed', error = $4, payload = '', due = 0, ended_at = $5 WHERE ctid = ANY (ARRAY(
    SELECT ranked.id FROM unnest($1::bytea[]) AS overfull(fingerprint) CROSS JOIN LATERAL (
        SELECT id, nth, row_number() OVER (ORDER BY nth, seq DESC) AS place FROM (
            SELECT id, seq, row_number() OVER (PARTITION BY server_id ORDER BY turn, seq DESC) AS nth FROM (
                SELECT *, row_number() OVER (PARTITION BY server_id, owner ORDER BY seq DESC) AS turn FROM (
                    SELECT ctid AS id, seq, server_id, owner FROM push
                    WHERE fingerprint = overfull.fingerprint AND status = 'queued' FOR UPDATE SKIP LOCKED
                ) AS locked
            ) AS turns
        ) AS own
    ) AS ranked WHERE nth > $2 OR place > $3
))
RETURNING push_id
"""

# Pushes that wait for their device and were not given to a connection. A locked one is being given to one right now.
WITHDRAW = """
UPDATE push SET status = 'failed', error = $4, payload = '', due = 0, ended_at = $5 WHERE ctid = ANY (ARRAY(
    SELECT waiting.ctid FROM unnest($2::bytea[], $3::text[]) AS cleared(fingerprint, subject) CROSS JOIN LATERAL (
        SELECT ctid FROM push
        WHERE fingerprint = cleared.fingerprint AND status = 'queued' AND platform = 'websocket' AND attempts = 0
            AND server_id = $1 AND collapse_id = cleared.subject AND NOT exempt
        ORDER BY seq FOR UPDATE SKIP LOCKED
    ) AS waiting
))
RETURNING fingerprint, collapse_id
"""

# The rows of an ANY come in the order of the index, so that two batches lock in the same order.
END_SOME = """
UPDATE push SET
    status = $3, error = $4, payload = '', due = 0,
    ended_at = $5
WHERE server_id = $1 AND push_key = ANY ($2::text[])
    AND (status = 'queued' OR (status <> 'delivered' AND $3 = 'delivered'))
"""
RETRY = """
UPDATE push SET
    error = ($3::text[])[array_position($2::text[], push_key)],
    due = CASE WHEN platform = 'websocket' THEN 0 ELSE ($4::float8[])[array_position($2::text[], push_key)] END
WHERE server_id = $1 AND push_key = ANY ($2::text[]) AND coalesce(status, '') = 'queued'
"""

# END_ALL: the device is deleted or evicted. FOLLOW: it has another platform, and its pushes are due at once, or on
# websocket wait for the device to fetch them.
END_ALL = """
UPDATE push SET status = $2, error = $3, payload = '', due = 0, ended_at = $4 WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM push WHERE fingerprint = $1 AND status = 'queued' ORDER BY push_key || '' FOR UPDATE
))
"""
FOLLOW = """
UPDATE push SET platform = $2, due = CASE WHEN $2 = 'websocket' THEN 0 ELSE $3::float8 END WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM push WHERE fingerprint = $1 AND status = 'queued' AND platform <> $2
    ORDER BY push_key || '' FOR UPDATE
))
"""

OUTCOMES = f"SELECT {_PUSH} FROM push WHERE server_id = $1 AND push_key = ANY ($2::text[])"

HELD = f"""
SELECT {_PUSH} FROM unnest($1::bytea[]) AS requested(fingerprint)
CROSS JOIN LATERAL (
    SELECT * FROM push
    WHERE fingerprint = requested.fingerprint AND status = 'queued' AND platform = 'websocket'
        AND expires_at > $2::float8
    ORDER BY seq DESC LIMIT $3
) AS push
ORDER BY push.seq
"""

# It waits for a clear that withdraws one of them at that moment, and then does not give that one.
GIVE = """
UPDATE push SET attempts = 1
WHERE push_id = ANY ($1::bytea[]) AND attempts = 0 AND coalesce(status, '') = 'queued'
"""

ACKNOWLEDGE = f"""
UPDATE push SET
    status = 'delivered', error = NULL, payload = '', due = 0,
    ended_at = CASE WHEN status = 'delivered' THEN ended_at ELSE $3 END
WHERE push_id = $2 AND fingerprint = $1 RETURNING {_PUSH}
"""

# Each server is one step in the index, however long its queue is.
DUE_SERVERS = """
WITH RECURSIVE found(server_id) AS (
    (SELECT server_id FROM push WHERE status = 'queued' AND due > 0 AND platform = $1 ORDER BY server_id LIMIT 1)
    UNION ALL
    SELECT (
        SELECT server_id FROM push
        WHERE status = 'queued' AND due > 0 AND platform = $1 AND server_id > found.server_id
        ORDER BY server_id LIMIT 1
    ) FROM found WHERE found.server_id IS NOT NULL
)
SELECT server_id FROM found WHERE server_id IS NOT NULL
"""
FIRST_DUE = """
SELECT min(first.due) FROM unnest($2::bytea[]) AS owner(server_id) CROSS JOIN LATERAL (
    SELECT due FROM push WHERE status = 'queued' AND due > 0 AND platform = $1 AND server_id = owner.server_id
    ORDER BY due LIMIT 1
) AS first
"""
# A locked row belongs to another transaction, which claims it at the same time or writes its outcome.
CLAIM = f"""
UPDATE push SET
    status = CASE WHEN expires_at <= $1 THEN 'failed' ELSE status END,
    error = CASE WHEN expires_at <= $1 THEN 'expired' ELSE error END,
    payload = CASE WHEN expires_at <= $1 THEN '' ELSE payload END,
    due = CASE WHEN expires_at <= $1 THEN 0 ELSE $3::float8 END,
    attempts = attempts + CASE WHEN expires_at <= $1 THEN 0 ELSE 1 END,
    ended_at = CASE WHEN expires_at <= $1 THEN $1::float8 ELSE ended_at END
WHERE ctid = ANY (ARRAY(
    SELECT id FROM (
        SELECT id, due, row_number() OVER (PARTITION BY server_id ORDER BY due) AS place
        FROM unnest($5::bytea[]) AS owner(server_id) CROSS JOIN LATERAL (
            SELECT ctid AS id, due FROM push
            WHERE status = 'queued' AND due > 0 AND platform = $4 AND server_id = owner.server_id AND due <= $1::float8
            ORDER BY due LIMIT $6 FOR UPDATE SKIP LOCKED
        ) AS locked
    ) AS ranked ORDER BY place, due LIMIT $2
))
RETURNING {_PUSH}
"""

# A push enters its history when its row is deleted, and not when it ends: the push path does nothing more. A row that
# leaves `push` is in `history`, or, if this is rolled back, still there. An entry is a `model.PastPush`.
SWEEP = f"""
WITH pushes AS (
    DELETE FROM push WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM push WHERE expires_at <= floor($1::float8)::bigint
        ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED
    )) RETURNING server_id, fingerprint, created_at, jsonb_build_array(
        created_at,
        CASE WHEN status = 'queued' THEN expires_at ELSE ended_at END,
        encode(push_id, 'hex'), push_key, platform,
        CASE WHEN status = 'queued' THEN 'failed' ELSE status END,
        CASE WHEN status = 'queued' THEN 'expired' ELSE error END,
        attempts + CASE WHEN platform = 'websocket' THEN 0 ELSE 1 END
    ) AS entry
), remembered AS (
    INSERT INTO history (server_id, fingerprint, newest, entries)
    SELECT
        server_id, fingerprint, floor(max(created_at) / 3600)::bigint * 3600, jsonb_agg(entry ORDER BY created_at DESC)
    FROM (
        SELECT *, row_number() OVER (PARTITION BY server_id, fingerprint ORDER BY created_at DESC) AS place FROM pushes
        WHERE (SELECT true FROM device WHERE device.fingerprint = pushes.fingerprint LIMIT 1)
    ) AS ranked WHERE place <= {MAX_HISTORY}
    GROUP BY server_id, fingerprint ORDER BY server_id, fingerprint
    ON CONFLICT (fingerprint, server_id) DO UPDATE SET
        newest = greatest(history.newest, excluded.newest),
        entries = (
            SELECT jsonb_agg(entry ORDER BY created_at DESC) FROM (
                SELECT entry, (entry->>0)::float8 AS created_at
                FROM jsonb_array_elements(history.entries || excluded.entries) AS entry
                ORDER BY created_at DESC LIMIT {MAX_HISTORY}
            ) AS kept
        )
), nonces AS (
    DELETE FROM nonce WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM nonce WHERE until < ceil($1::float8)::bigint
        ORDER BY until LIMIT $2 FOR UPDATE SKIP LOCKED
    )) RETURNING 1
), buckets AS (
    DELETE FROM bucket WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM bucket WHERE paid_until <= $1::float8 ORDER BY paid_until LIMIT $2 FOR UPDATE SKIP LOCKED
    )) RETURNING 1
)
SELECT (SELECT count(*) FROM pushes) + (SELECT count(*) FROM nonces) + (SELECT count(*) FROM buckets)
"""

# The least and the greatest fingerprint of each source, with the beginning that is searched for: all that decides
# whether there is none, one or several.
_MATCHES = """
(SELECT fingerprint FROM {source} AND server_id = $1 AND fingerprint BETWEEN $2 AND $3 ORDER BY fingerprint LIMIT 1)
UNION ALL
(SELECT fingerprint FROM {source} AND server_id = $1 AND fingerprint BETWEEN $2 AND $3
 ORDER BY fingerprint DESC LIMIT 1)
"""
MATCHES = "UNION ALL".join(
    _MATCHES.format(source=source)
    for source in (
        "push WHERE status = 'queued'",
        "push WHERE status <> 'queued'",
        "history WHERE coalesce(newest, 0) > $4",
    )
)
PAST = f"""
(SELECT {past_columns("push")} FROM push WHERE status = 'queued' AND server_id = $1 AND fingerprint = $2
 ORDER BY seq DESC LIMIT {MAX_HISTORY})
UNION ALL
(SELECT {past_columns("push")} FROM push WHERE status <> 'queued' AND server_id = $1 AND fingerprint = $2
 ORDER BY seq DESC LIMIT {MAX_HISTORY})
"""
OLDER = "SELECT entries FROM history WHERE coalesce(server_id, '') = $1 AND fingerprint = $2"
FORGET_OLD = """
DELETE FROM history WHERE ctid = ANY (ARRAY(
    SELECT old.ctid FROM unnest($1::bytea[]) AS owner(server_id) CROSS JOIN LATERAL (
        SELECT ctid FROM history WHERE server_id = owner.server_id AND newest < $2 ORDER BY newest LIMIT $3
        FOR UPDATE SKIP LOCKED
    ) AS old LIMIT $3
))
"""
FORGET_EXCESS = """
DELETE FROM history WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM history WHERE server_id = $1 ORDER BY newest LIMIT $2 FOR UPDATE SKIP LOCKED
))
"""
HISTORIES = "SELECT server_id, sum(n)::bigint, count(*) FROM history_tally GROUP BY server_id"
FOLD_HISTORIES = """
WITH folded AS (DELETE FROM history_tally RETURNING server_id, n)
INSERT INTO history_tally SELECT server_id, sum(n) FROM folded GROUP BY server_id HAVING sum(n) <> 0
"""

# Above the number that is worth counting: the estimate of the last ANALYZE.
BACKLOG = """
SELECT CASE WHEN number < $1 THEN number ELSE greatest(number, (
    SELECT reltuples::bigint FROM pg_class WHERE oid = 'push_waiting'::regclass
)) END FROM (SELECT count(*) AS number FROM (SELECT FROM push WHERE status = 'queued' LIMIT $1) AS ones) AS counted
"""
