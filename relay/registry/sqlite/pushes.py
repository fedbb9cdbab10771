"""The push queue in SQLite."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterator, Sequence

from relay.registry.group_commit import GroupCommit
from relay.registry.model import (
    BACKLOG_COUNT_LIMIT,
    CLEARED,
    LEASE_SECONDS,
    MAX_HELD_BY_DEVICE,
    PROVIDERS,
    PUSHES,
    SUPERSEDED,
    AdmissionResult,
    AttemptOutcome,
    Device,
    NewPush,
    Platform,
    Push,
)
from relay.registry.port import NotificationHandler
from relay.registry.rows import PUSH_WIDTH, push_columns, push_of, push_row
from relay.registry.rules import Rate, admit, claim_share, coalesced, notification_batches, superseded, triage
from relay.registry.sqlite.database import FileUser, SqliteFile, transaction
from relay.registry.sqlite.devices import find_device
from relay.registry.sqlite.histories import remember_expired

_PUSH = f"SELECT {push_columns('push')} FROM push"  # noqa: S608 - names of columns
_COLUMNS = push_columns("push").replace("push.", "")
_INSERT = f"INSERT INTO push ({_COLUMNS}) VALUES ({', '.join('?' * PUSH_WIDTH)})"  # noqa: S608
_CLAIM = f"""
UPDATE push SET
    status = iif(expires_at <= ?1, 'failed', status),
    error = iif(expires_at <= ?1, 'expired', error),
    payload = iif(expires_at <= ?1, x'', payload),
    due = iif(expires_at <= ?1, 0.0, ?3),
    attempts = attempts + iif(expires_at <= ?1, 0, 1),
    ended_at = iif(expires_at <= ?1, ?1, ended_at)
WHERE seq IN (SELECT value FROM json_each(?2))
RETURNING {_COLUMNS}
"""  # noqa: S608

_NEXT_SERVER = (
    "SELECT server_id FROM push WHERE status = 'queued' AND due > 0 AND platform = ? AND server_id > ? "
    "ORDER BY server_id LIMIT 1"
)
_DUE = (
    "SELECT seq, due FROM push WHERE status = 'queued' AND due > 0 AND platform = ? AND server_id = ? AND due <= ? "
    "ORDER BY due LIMIT ?"
)
_FIRST_DUE = (
    "SELECT due FROM push WHERE status = 'queued' AND due > 0 AND platform = ? AND server_id = ? ORDER BY due LIMIT 1"
)
_HELD = "SELECT seq, server_id, owner FROM push WHERE fingerprint = ? AND status = 'queued' ORDER BY seq DESC"
_SUPERSEDE = """
UPDATE push SET status = 'failed', error = ?2, payload = x'', due = 0, ended_at = ?3
WHERE seq IN (SELECT value FROM json_each(?1))
RETURNING push_id
"""


_WITHDRAW = """
UPDATE push SET status = 'failed', error = ?4, payload = x'', due = 0, ended_at = ?5
WHERE fingerprint = ?2 AND status = 'queued' AND platform = 'websocket' AND attempts = 0
    AND server_id = ?1 AND collapse_id = ?3 AND NOT exempt
"""


class SqlitePushes(FileUser):
    """`PushQueue`."""

    def __init__(self, file: SqliteFile) -> None:
        super().__init__(file)
        self._group_commit = GroupCommit[AttemptOutcome](
            lambda outcomes: file.transact(lambda db: _write_outcomes(db, outcomes))
        )
        self._on_notification: NotificationHandler | None = None

    async def admit(
        self, server_id: bytes, requested: Sequence[NewPush], now: float, rate: Rate
    ) -> list[AdmissionResult]:
        answers = await self._file.transact(lambda db: _admit(db, server_id, requested, now, rate))
        if self._on_notification is not None:
            for data in notification_batches(answers):
                self._on_notification(PUSHES, data)
        return answers

    async def record_outcomes(self, outcomes: Sequence[AttemptOutcome], now: float) -> None:
        if outcomes:
            await self._group_commit([one if one.due else one._replace(due=now) for one in outcomes])

    @transaction
    def outcomes(self, db: sqlite3.Connection, server_id: bytes, push_keys: Sequence[str]) -> list[Push | None]:
        return [_find(db, server_id, key) for key in push_keys]

    @transaction
    def pending_for(self, db: sqlite3.Connection, fingerprints: Sequence[bytes], now: float) -> list[Push]:
        found: list[tuple[int, Push]] = []
        for fingerprint in set(fingerprints):
            db.execute(
                "UPDATE push SET attempts = 1 WHERE fingerprint = ? AND status = 'queued' AND platform = 'websocket' "
                "AND expires_at > ? AND attempts = 0",
                (fingerprint, now),
            )
            rows = db.execute(
                f"SELECT {push_columns('push')}, seq FROM push WHERE fingerprint = ? "  # noqa: S608
                "AND status = 'queued' AND platform = 'websocket' AND expires_at > ? ORDER BY seq DESC LIMIT ?",
                (fingerprint, now, MAX_HELD_BY_DEVICE),
            )
            found += [(row[-1], push_of(row[:-1])) for row in rows]
        return [push for _, push in sorted(found, key=lambda pair: pair[0])]

    @transaction
    def acknowledge(self, db: sqlite3.Connection, fingerprint: bytes, push_id: bytes, now: float) -> Push | None:
        row = db.execute(
            "UPDATE push SET status = 'delivered', error = NULL, payload = x'', due = 0, "  # noqa: S608
            "ended_at = iif(status = 'delivered', ended_at, ?3) "
            f"WHERE push_id = ?1 AND fingerprint = ?2 RETURNING {_COLUMNS}",
            (push_id, fingerprint, now),
        ).fetchone()
        return row and push_of(row)

    @transaction
    def claim(
        self, db: sqlite3.Connection, platform: Platform, now: float, limit: int, skip: Collection[bytes] = ()
    ) -> list[tuple[Push, Device]]:
        selected = json.dumps(_due(db, platform, now, limit, skip))
        rows = db.execute(_CLAIM, (now, selected, now + LEASE_SECONDS)).fetchall()
        due = [push_of(row) for row in rows]
        result = triage(due, _devices(db, {push.push.fingerprint for push in due}))
        _write_outcomes(db, [one._replace(due=now) for one in result.ended])
        return result.claimed

    @transaction
    def sweep(self, db: sqlite3.Connection, now: float, limit: int) -> int:
        expired = remember_expired(db, now, limit)
        nonces = "DELETE FROM nonce WHERE nonce IN (SELECT nonce FROM nonce WHERE until < ? ORDER BY until LIMIT ?)"
        buckets = (
            "DELETE FROM bucket WHERE (server_id, fingerprint) IN "
            "(SELECT server_id, fingerprint FROM bucket WHERE paid_until <= ? ORDER BY paid_until LIMIT ?)"
        )
        return expired + sum(db.execute(sql, (now, limit)).rowcount for sql in (nonces, buckets))

    @transaction
    def first_due(self, db: sqlite3.Connection) -> float | None:
        heads = (
            db.execute(_FIRST_DUE, (platform, server)).fetchone()[0]
            for platform in PROVIDERS
            for server in _due_servers(db, platform)
        )
        return min(heads, default=None)

    @transaction
    def backlog(self, db: sqlite3.Connection) -> int:
        counted = "SELECT count(*) FROM (SELECT 1 FROM push WHERE status = 'queued' LIMIT ?)"
        return int(db.execute(counted, (BACKLOG_COUNT_LIMIT,)).fetchone()[0])


def _admit(
    db: sqlite3.Connection, server_id: bytes, requested: Sequence[NewPush], now: float, rate: Rate
) -> list[AdmissionResult]:
    subjects = {push.subject for push in requested if push.subject is not None}
    withdrawn = {subject for subject in subjects if db.execute(_WITHDRAW, (server_id, *subject, CLEARED, now)).rowcount}
    known = (_find(db, server_id, push.push_key) for push in requested)
    admission = admit(
        server_id,
        requested,
        now,
        rate,
        devices=_devices(db, {push.fingerprint for push in requested}),
        known={push.push.push_key: push for push in known if push is not None},
        paid_until={name: _paid_until(db, server_id, name) for name in {push.bucket for push in requested}},
        withdrawn=withdrawn,
    )
    db.executemany(_INSERT, map(push_row, admission.pushes))
    db.executemany("UPDATE device SET used = 1 WHERE fingerprint = ?", [(name,) for name in admission.newly_used])
    db.executemany(
        "INSERT INTO bucket VALUES (?, ?, ?) "
        "ON CONFLICT (server_id, fingerprint) DO UPDATE SET paid_until = excluded.paid_until",
        [(server_id, bucket.name, bucket.paid_until) for bucket in admission.buckets if bucket.paid_until > now],
    )
    fingerprints = {push.push.fingerprint for push in admission.pushes}
    ended = {push_id for fingerprint in fingerprints for push_id in _supersede(db, fingerprint, now)}
    return [
        AdmissionResult("failed", one.push_id, one.platform, SUPERSEDED) if one.push_id in ended else one
        for one in admission.answers
    ]


def _due(db: sqlite3.Connection, platform: Platform, now: float, limit: int, skip: Collection[bytes]) -> list[int]:
    """The rows of due pushes, the servers in turn."""
    servers = [server_id for server_id in _due_servers(db, platform) if server_id not in skip]
    ranked: list[tuple[int, float, int]] = []
    for server_id in servers:
        rows = db.execute(_DUE, (platform, server_id, now, claim_share(limit, len(servers))))
        ranked += [(place, due, seq) for place, (seq, due) in enumerate(rows)]
    return [seq for _, _, seq in sorted(ranked)[:limit]]


def _due_servers(db: sqlite3.Connection, platform: Platform) -> Iterator[bytes]:
    """Each server is one step in the index, however long its queue is."""
    after = b""
    while (row := db.execute(_NEXT_SERVER, (platform, after)).fetchone()) is not None:
        after = row[0]
        yield after


def _write_outcomes(db: sqlite3.Connection, outcomes: Sequence[AttemptOutcome]) -> None:
    for one in coalesced(outcomes):
        if one.status == "queued":
            db.execute(
                "UPDATE push SET error = ?3, due = iif(platform = 'websocket', 0.0, ?4) "
                "WHERE server_id = ?1 AND push_key = ?2 AND status = 'queued'",
                (one.server_id, one.push_key, one.error, one.due),
            )
        else:
            db.execute(
                "UPDATE push SET status = ?3, error = ?4, payload = x'', due = 0, ended_at = ?5 "
                "WHERE server_id = ?1 AND push_key = ?2 "
                "AND (status = 'queued' OR status <> 'delivered' AND ?3 = 'delivered')",
                (one.server_id, one.push_key, one.status, one.error, one.due),
            )


def _devices(db: sqlite3.Connection, fingerprints: set[bytes]) -> dict[bytes, Device]:
    return {found.fingerprint: found for name in fingerprints if (found := find_device(db, name)) is not None}


def _find(db: sqlite3.Connection, server_id: bytes, push_key: str) -> Push | None:
    row = db.execute(f"{_PUSH} WHERE server_id = ? AND push_key = ?", (server_id, push_key)).fetchone()
    return row and push_of(row)


def _paid_until(db: sqlite3.Connection, server_id: bytes, bucket: bytes) -> float:
    row = db.execute(
        "SELECT paid_until FROM bucket WHERE server_id = ? AND fingerprint = ?", (server_id, bucket)
    ).fetchone()
    return float(row[0]) if row else 0.0


def _supersede(db: sqlite3.Connection, fingerprint: bytes, now: float) -> list[bytes]:
    held = db.execute(_HELD, (fingerprint,)).fetchall()
    excess = superseded([(server_id, owner) for _, server_id, owner in held])
    if not excess:
        return []
    rows = db.execute(_SUPERSEDE, (json.dumps([held[index][0] for index in excess]), SUPERSEDED, now))
    return [push_id for (push_id,) in rows]
