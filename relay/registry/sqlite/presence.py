"""The presence of the relay in SQLite."""

from __future__ import annotations

import sqlite3

from relay.registry.model import MAX_PRESENCE_DAYS, Beat
from relay.registry.rules import day_of, minute_of, silent_before
from relay.registry.sqlite.database import FileUser, transaction

_BEAT = """
INSERT INTO presence VALUES (?, 1, ?, 0) ON CONFLICT (day) DO UPDATE
SET minutes = minutes + 1, last_minute = excluded.last_minute WHERE last_minute < excluded.last_minute
"""


class SqlitePresence(FileUser):
    """`Presence`."""

    @transaction
    def beat(self, db: sqlite3.Connection, now: float) -> Beat:
        newest = db.execute("SELECT last_minute FROM presence ORDER BY day DESC LIMIT 1").fetchone()
        db.execute(_BEAT, (day_of(now), minute_of(now)))
        return Beat(newest[0] * 60 if newest else None, None)

    @transaction
    def forget_after(self, db: sqlite3.Connection, now: float) -> None:
        db.execute("DELETE FROM presence WHERE last_minute > ?", (minute_of(now),))

    @transaction
    def claim_sweep(self, db: sqlite3.Connection, now: float) -> bool:
        return db.execute("UPDATE presence SET swept = 1 WHERE day = ? AND NOT swept", (day_of(now),)).rowcount > 0

    @transaction
    def silent_before(self, db: sqlite3.Connection, days: int) -> int | None:
        rows = db.execute("SELECT day, minutes FROM presence ORDER BY day DESC").fetchall()
        oldest = silent_before(rows, MAX_PRESENCE_DAYS)
        if oldest is not None:
            db.execute("DELETE FROM presence WHERE day < ?", (day_of(oldest),))
        return silent_before(rows, days)

    @transaction
    def count_silent(self, db: sqlite3.Connection, before: int, limit: int) -> int:
        (count,) = db.execute(
            "SELECT count(*) FROM (SELECT 1 FROM device WHERE evicted IS NULL AND seen_at < ? LIMIT ?)", (before, limit)
        ).fetchone()
        return int(count)
