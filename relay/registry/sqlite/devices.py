"""Devices in SQLite."""

from __future__ import annotations

import sqlite3

from relay.registry.model import PRUNE_BATCH, SEEN_EVERY_SECONDS, SILENT, Device, Pruned, Trimmed
from relay.registry.rows import device_columns, device_of, device_row
from relay.registry.sqlite.database import durable_transaction, transaction
from relay.registry.sqlite.nonces import SqliteNonces

_DEVICE = f"SELECT {device_columns('device')} FROM device"  # noqa: S608 - names of columns

_COUNT_UNUSED = "SELECT count(*) FROM (SELECT 1 FROM device WHERE NOT used LIMIT ?)"
_REPLACEABLE = (
    "SELECT EXISTS (SELECT 1 FROM device WHERE evicted_at IS NOT NULL) OR EXISTS (SELECT 1 FROM device WHERE NOT used)"
)
_TRIM_EVICTED = (
    "DELETE FROM device WHERE fingerprint IN "
    "(SELECT fingerprint FROM device WHERE evicted_at IS NOT NULL ORDER BY evicted_at LIMIT ?) RETURNING fingerprint"
)
_TRIM_UNUSED = (
    "DELETE FROM device WHERE fingerprint IN "
    "(SELECT fingerprint FROM device WHERE NOT used ORDER BY seen_at LIMIT ?) RETURNING fingerprint"
)


class SqliteDevices(SqliteNonces):
    """`DeviceRegistry`."""

    @durable_transaction
    def register(self, db: sqlite3.Connection, device: Device) -> None:
        db.execute(
            "INSERT INTO device VALUES (?1, ?2, ?3, ?4, ?5, max(?5, ?6), 0, NULL, NULL, 0) "
            "ON CONFLICT (fingerprint) DO UPDATE SET public_key = excluded.public_key, platform = excluded.platform, "
            "token = excluded.token, failures = 0, registered_at = excluded.registered_at, "
            "seen_at = excluded.seen_at, evicted = NULL, evicted_at = NULL",
            device_row(device),
        )
        # A queued push is due at once on a platform with push delivery; on websocket it waits for the device.
        db.execute(
            "UPDATE push SET platform = ?2, due = iif(?2 = 'websocket', 0.0, ?3) "
            "WHERE fingerprint = ?1 AND status = 'queued' AND platform <> ?2",
            (device.fingerprint, device.platform, float(device.registered_at)),
        )

    @durable_transaction
    def unregister(self, db: sqlite3.Connection, fingerprint: bytes) -> bool:
        deleted = db.execute("DELETE FROM device WHERE fingerprint = ?", (fingerprint,)).rowcount > 0
        if deleted:
            _end_queued(db, fingerprint, "not_registered", None, None)
            db.execute("DELETE FROM history WHERE fingerprint = ?", (fingerprint,))
        return deleted

    @transaction
    def device(self, db: sqlite3.Connection, fingerprint: bytes) -> Device | None:
        return find_device(db, fingerprint)

    @transaction
    def mark_seen(self, db: sqlite3.Connection, fingerprint: bytes, now: int) -> None:
        db.execute(
            "UPDATE device SET seen_at = max(seen_at, ?2), failures = 0 "
            "WHERE fingerprint = ?1 AND (seen_at <= ?2 - ?3 OR failures > 0)",
            (fingerprint, now, SEEN_EVERY_SECONDS),
        )

    @transaction
    def record_failure(self, db: sqlite3.Connection, fingerprint: bytes, token: bytes) -> int:
        counted = "UPDATE device SET failures = failures + 1 WHERE fingerprint = ? AND token = ? RETURNING failures"
        row = db.execute(counted, (fingerprint, token)).fetchone()
        return row[0] if row else 0

    @transaction
    def evict(self, db: sqlite3.Connection, fingerprint: bytes, reason: str, token: bytes, now: int) -> bool:
        evicted = db.execute(
            "UPDATE device SET evicted = ?2, evicted_at = ?4, token = x'' "
            "WHERE fingerprint = ?1 AND evicted IS NULL AND token = ?3",
            (fingerprint, reason, token, now),
        ).rowcount
        if evicted:
            _end_queued(db, fingerprint, "token_evicted", reason, now)
        return evicted > 0

    @transaction
    def count_devices(self, db: sqlite3.Connection) -> dict[str, int]:
        return dict(db.execute("SELECT kind, n FROM device_tally WHERE n > 0"))

    @transaction
    def devices(self, db: sqlite3.Connection, after: bytes, limit: int) -> list[Device]:
        rows = db.execute(f"{_DEVICE} WHERE fingerprint > ? ORDER BY fingerprint LIMIT ?", (after, limit))
        return [device_of(row) for row in rows]

    @durable_transaction
    def reseal(self, db: sqlite3.Connection, fingerprint: bytes, old: bytes, new: bytes) -> bool:
        changed = "UPDATE device SET token = ?3 WHERE fingerprint = ?1 AND token = ?2"
        return db.execute(changed, (fingerprint, old, new)).rowcount > 0

    @transaction
    def prune(self, db: sqlite3.Connection, seen_before: int, evicted_before: int, now: int) -> Pruned:
        forgotten = db.execute(
            "DELETE FROM device WHERE fingerprint IN "
            "(SELECT fingerprint FROM device WHERE evicted_at < ? ORDER BY evicted_at LIMIT ?)",
            (evicted_before, PRUNE_BATCH),
        ).rowcount
        evicted = db.execute(
            "UPDATE device SET evicted = ?, evicted_at = ?, token = x'' WHERE fingerprint IN "
            "(SELECT fingerprint FROM device WHERE evicted IS NULL AND seen_at < ? ORDER BY seen_at LIMIT ?)",
            (SILENT, now, seen_before, PRUNE_BATCH),
        ).rowcount
        return Pruned(evicted, forgotten)

    @transaction
    def trim(self, db: sqlite3.Connection, max_devices: int, max_unused: int) -> Trimmed:
        (total,) = db.execute("SELECT sum(n) FROM device_tally").fetchone()
        if total <= max_unused:
            return Trimmed([], total, replaceable=True)
        deleted = db.execute(_TRIM_EVICTED, (min(max(total - max_devices, 0), PRUNE_BATCH),)).fetchall()
        (unused,) = db.execute(_COUNT_UNUSED, (max_unused + PRUNE_BATCH,)).fetchone()
        over = max(unused - max_unused, total - len(deleted) - max_devices, 0)
        deleted += db.execute(_TRIM_UNUSED, (min(over, PRUNE_BATCH),)).fetchall()
        (replaceable,) = db.execute(_REPLACEABLE).fetchone()
        return Trimmed([name for (name,) in deleted], total - len(deleted), bool(replaceable))


def find_device(db: sqlite3.Connection, fingerprint: bytes) -> Device | None:
    row = db.execute(f"{_DEVICE} WHERE fingerprint = ?", (fingerprint,)).fetchone()
    return row and device_of(row)


def _end_queued(
    db: sqlite3.Connection, fingerprint: bytes, status: str, error: str | None, ended_at: float | None
) -> None:
    db.execute(
        "UPDATE push SET status = ?2, error = ?3, payload = x'', due = 0, ended_at = ?4 "
        "WHERE fingerprint = ?1 AND status = 'queued'",
        (fingerprint, status, error, ended_at),
    )
