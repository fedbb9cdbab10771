"""Pushes, nonces and buckets in SQLite: functions of an open transaction, one for each method of the registry."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from relay.registry.port import (
    COUNTED_AT_MOST,
    LEASE_SECONDS,
    MAX_HELD,
    SUPERSEDED,
    Admitted,
    AttemptOutcome,
    Device,
    NewPush,
    Platform,
    Push,
    Rate,
    admit,
    coalesced,
    triage,
)
from relay.registry.rows import PUSH_WIDTH, push_columns, push_of, row_of
from relay.registry.sqlite.devices import device

Db = sqlite3.Connection

_PUSH = f"SELECT {push_columns('push')} FROM push"  # noqa: S608 - names of columns
_NAMES = push_columns("push").replace("push.", "")
_INSERT = f"INSERT INTO push ({_NAMES}) VALUES ({', '.join('?' * PUSH_WIDTH)})"  # noqa: S608
_CLAIM = f"""
UPDATE push SET
    status = iif(expires_at <= ?1, 'failed', status),
    error = iif(expires_at <= ?1, 'expired', error),
    payload = iif(expires_at <= ?1, x'', payload),
    due = iif(expires_at <= ?1, 0.0, ?3),
    attempts = attempts + 1
WHERE seq IN (
    SELECT seq FROM push WHERE status = 'queued' AND due > 0 AND platform = ?4 AND due <= ?1 ORDER BY due LIMIT ?2
)
RETURNING {_NAMES}
"""  # noqa: S608


def use_nonce(db: Db, nonce: bytes, until: int) -> bool:
    return db.execute("INSERT INTO nonce VALUES (?, ?) ON CONFLICT DO NOTHING", (nonce, until)).rowcount > 0


def admitted(db: Db, server_id: bytes, wanted: Sequence[NewPush], now: float, rate: Rate) -> list[Admitted]:
    fingerprints = {push.fingerprint for push in wanted}
    known = (_known(db, server_id, push.push_key) for push in wanted)
    admission = admit(
        server_id,
        wanted,
        now,
        rate,
        devices={found.fingerprint: found for name in fingerprints if (found := device(db, name)) is not None},
        known={push.push.push_key: push for push in known if push is not None},
        paid={name: _paid(db, server_id, name) for name in {push.bucket for push in wanted}},
    )
    db.executemany(_INSERT, map(row_of, admission.pushes))
    db.executemany(
        "INSERT INTO bucket VALUES (?, ?, ?) "
        "ON CONFLICT (server_id, fingerprint) DO UPDATE SET paid_until = excluded.paid_until",
        [(server_id, bucket.name, bucket.paid_until) for bucket in admission.buckets if bucket.paid_until > now],
    )
    superseded = {
        push_id for name in {push.push.fingerprint for push in admission.pushes} for push_id in _supersede(db, name)
    }
    return [
        Admitted("failed", one.push_id, one.platform, SUPERSEDED) if one.push_id in superseded else one
        for one in admission.answers
    ]


def settle(db: Db, settled: Sequence[AttemptOutcome]) -> None:
    for one in coalesced(settled):
        if one.status == "queued":
            db.execute(
                "UPDATE push SET error = ?3, due = iif(platform = 'websocket', 0.0, ?4) "
                "WHERE server_id = ?1 AND push_key = ?2 AND status = 'queued'",
                (one.server_id, one.push_key, one.error, one.due),
            )
        else:
            db.execute(
                "UPDATE push SET status = ?3, error = ?4, payload = x'', due = 0 "
                "WHERE server_id = ?1 AND push_key = ?2 "
                "AND (status = 'queued' OR status <> 'delivered' AND ?3 = 'delivered')",
                (one.server_id, one.push_key, one.status, one.error),
            )


def outcomes(db: Db, server_id: bytes, push_keys: Sequence[str]) -> list[Push | None]:
    return [_known(db, server_id, key) for key in push_keys]


def pending_for(db: Db, fingerprints: Sequence[bytes], now: float) -> list[Push]:
    found: list[tuple[int, Push]] = []
    for name in set(fingerprints):
        rows = db.execute(
            f"SELECT {push_columns('push')}, seq FROM push WHERE fingerprint = ? AND status = 'queued' "  # noqa: S608
            "AND platform = 'websocket' AND expires_at > ? ORDER BY seq DESC LIMIT ?",
            (name, now, MAX_HELD),
        )
        found += [(row[-1], push_of(row[:-1])) for row in rows]
    return [push for _, push in sorted(found, key=lambda pair: pair[0])]


def acknowledge(db: Db, fingerprint: bytes, push_id: bytes) -> Push | None:
    row = db.execute(
        "UPDATE push SET status = 'delivered', error = NULL, payload = x'', due = 0 "  # noqa: S608
        f"WHERE push_id = ? AND fingerprint = ? RETURNING {_NAMES}",
        (push_id, fingerprint),
    ).fetchone()
    return row and push_of(row)


def claim(db: Db, platform: Platform, now: float, limit: int) -> list[tuple[Push, Device]]:
    rows = db.execute(_CLAIM, (now, limit, now + LEASE_SECONDS, platform)).fetchall()
    due = [push_of(row) for row in rows]
    owners = (device(db, name) for name in {push.push.fingerprint for push in due})
    result = triage(due, {owner.fingerprint: owner for owner in owners if owner is not None})
    settle(db, result.gone)
    return result.claimed


def sweep(db: Db, now: float, limit: int) -> int:
    pushes = "DELETE FROM push WHERE seq IN (SELECT seq FROM push WHERE expires_at <= ? ORDER BY expires_at LIMIT ?)"
    nonces = "DELETE FROM nonce WHERE nonce IN (SELECT nonce FROM nonce WHERE until < ? ORDER BY until LIMIT ?)"
    buckets = (
        "DELETE FROM bucket WHERE (server_id, fingerprint) IN "
        "(SELECT server_id, fingerprint FROM bucket WHERE paid_until <= ? ORDER BY paid_until LIMIT ?)"
    )
    return sum(db.execute(sql, (now, limit)).rowcount for sql in (pushes, nonces, buckets))


def backlog(db: Db) -> int:
    row = db.execute("SELECT count(*) FROM (SELECT 1 FROM push WHERE status = 'queued' LIMIT ?)", (COUNTED_AT_MOST,))
    return int(row.fetchone()[0])


def _known(db: Db, server_id: bytes, push_key: str) -> Push | None:
    row = db.execute(f"{_PUSH} WHERE server_id = ? AND push_key = ?", (server_id, push_key)).fetchone()
    return row and push_of(row)


def _paid(db: Db, server_id: bytes, bucket: bytes) -> float:
    row = db.execute(
        "SELECT paid_until FROM bucket WHERE server_id = ? AND fingerprint = ?", (server_id, bucket)
    ).fetchone()
    return float(row[0]) if row else 0.0


def _supersede(db: Db, fingerprint: bytes) -> list[bytes]:
    rows = db.execute(
        "UPDATE push SET status = 'failed', error = ?2, payload = x'', due = 0 WHERE seq IN (SELECT seq FROM push "
        "WHERE fingerprint = ?1 AND status = 'queued' ORDER BY seq DESC LIMIT -1 OFFSET ?3) RETURNING push_id",
        (fingerprint, SUPERSEDED, MAX_HELD),
    )
    return [push_id for (push_id,) in rows]
