"""Histories of pushes in SQLite: what a server may read of its pushes to a device after they have expired."""

from __future__ import annotations

import sqlite3
from collections import defaultdict

from relay.registry.model import HISTORY_SECONDS, MAX_HISTORY, PRUNE_BATCH, History, PastPush
from relay.registry.rows import entries_of, entries_row, expired_push_of, past_columns, past_push_of
from relay.registry.rules import excess_histories, newest, only_match, remembered
from relay.registry.sqlite.database import FileUser, transaction
from relay.registry.sqlite.devices import find_device

_COLUMNS = past_columns("push").replace("push.", "")
_EXPIRED = f"""
DELETE FROM push WHERE seq IN (SELECT seq FROM push WHERE expires_at <= ? ORDER BY expires_at LIMIT ?)
RETURNING server_id, fingerprint, expires_at, {_COLUMNS}
"""  # noqa: S608 - names of columns
# With `+server_id` no index matches that would read all rows of the server.
_QUEUED, _ENDED = "push WHERE status = 'queued' AND +server_id", "push WHERE status <> 'queued' AND server_id"
MATCHES = [
    f"SELECT fingerprint FROM {source} = :server_id AND fingerprint BETWEEN :first AND :last "  # noqa: S608
    f"ORDER BY fingerprint {order} LIMIT 1"
    for source in (_QUEUED, _ENDED, "history WHERE newest > :since AND +server_id")
    for order in ("ASC", "DESC")
]
PAST = [
    f"SELECT {_COLUMNS} FROM {source} = ? AND fingerprint = ? ORDER BY seq DESC LIMIT ?"  # noqa: S608
    for source in (_QUEUED, _ENDED)
]
FORGET = "SELECT rowid FROM history WHERE server_id = ? {older} ORDER BY newest LIMIT ?"
FORGET_OLD = FORGET.format(older="AND newest < ?")
FORGET_EXCESS = FORGET.format(older="")


class SqliteHistories(FileUser):
    """The history of `PushQueue`."""

    @transaction
    def history(
        self, db: sqlite3.Connection, server_id: bytes, first: bytes, last: bytes, now: float
    ) -> History | None:
        matches = _matches(db, server_id, first, last, now) if first != last else ()
        fingerprint = only_match(matches, first, last)
        if fingerprint is None:
            return None
        named = server_id, fingerprint, MAX_HISTORY
        pushes = [past_push_of(row) for statement in PAST for row in db.execute(statement, named)]
        (evicted_at,) = db.execute(
            "SELECT max(evicted_at) FROM device WHERE fingerprint = ?", (fingerprint,)
        ).fetchone()
        known = remembered([*pushes, *_stored(db, server_id, fingerprint)], now)
        return History(fingerprint, find_device(db, fingerprint), evicted_at, known)

    @transaction
    def forget_histories(self, db: sqlite3.Connection, limit: int, before: int) -> int:
        counts: dict[bytes, int] = dict(db.execute("SELECT server_id, n FROM history_tally"))
        deleted = 0
        for server_id in counts:
            old = server_id, before, PRUNE_BATCH - deleted
            deleted += db.execute(f"DELETE FROM history WHERE rowid IN ({FORGET_OLD})", old).rowcount  # noqa: S608
        excess = excess_histories(dict(db.execute("SELECT server_id, n FROM history_tally")), limit)
        if excess is not None:
            deleted += db.execute(
                f"DELETE FROM history WHERE rowid IN ({FORGET_EXCESS})",  # noqa: S608
                excess,
            ).rowcount
        db.execute("DELETE FROM history_tally WHERE n = 0")
        return deleted


def remember_expired(db: sqlite3.Connection, now: float, limit: int) -> int:
    """Delete expired pushes; the newest of a registered device enter its history. The number of deleted ones."""
    found: defaultdict[tuple[bytes, bytes], list[PastPush]] = defaultdict(list)
    rows = db.execute(_EXPIRED, (now, limit)).fetchall()
    for server_id, fingerprint, expires_at, *row in rows:
        found[server_id, fingerprint].append(expired_push_of(row, expires_at))
    for (server_id, fingerprint), pushes in found.items():
        if db.execute("SELECT 1 FROM device WHERE fingerprint = ?", (fingerprint,)).fetchone() is None:
            continue
        kept = newest([*pushes, *_stored(db, server_id, fingerprint)])
        db.execute(
            "INSERT INTO history VALUES (?, ?, ?, ?) ON CONFLICT (fingerprint, server_id) DO UPDATE SET "
            "newest = excluded.newest, entries = excluded.entries",
            (server_id, fingerprint, int(kept[0].created_at) // 3600 * 3600, entries_row(kept)),
        )
    return len(rows)


def _matches(db: sqlite3.Connection, server_id: bytes, first: bytes, last: bytes, now: float) -> set[bytes]:
    """The least and the greatest match of each source: all that decides whether there is none, one or several."""
    values = {"server_id": server_id, "first": first, "last": last, "since": int(now) - HISTORY_SECONDS}
    return {row[0] for statement in MATCHES for row in db.execute(statement, values)}


def _stored(db: sqlite3.Connection, server_id: bytes, fingerprint: bytes) -> list[PastPush]:
    row = db.execute(
        "SELECT entries FROM history WHERE server_id = ? AND fingerprint = ?", (server_id, fingerprint)
    ).fetchone()
    return entries_of(row[0]) if row else []
