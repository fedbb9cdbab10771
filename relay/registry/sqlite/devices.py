"""Devices and servers in SQLite: functions of an open transaction, one for each method of the registry."""

from __future__ import annotations

import sqlite3

from relay.registry.port import PRUNED_AT_ONCE, SEEN_EVERY_SECONDS, SILENT, Device, Pruned, Server
from relay.registry.rows import SERVER, device_columns, device_of, server_of

Db = sqlite3.Connection

_DEVICE = f"SELECT {device_columns('device')} FROM device"  # noqa: S608 - names of columns
_SERVER = f"SELECT {SERVER} FROM server"  # noqa: S608


def register(db: Db, device: Device) -> None:
    db.execute(
        "INSERT INTO device VALUES (?1, ?2, ?3, ?4, ?5, max(?5, ?6), 0, NULL, NULL) "
        "ON CONFLICT (fingerprint) DO UPDATE SET public_key = excluded.public_key, platform = excluded.platform, "
        "token = excluded.token, failures = 0, registered_at = excluded.registered_at, seen_at = excluded.seen_at, "
        "evicted = NULL, evicted_at = NULL",
        (
            device.fingerprint,
            device.public_key,
            device.platform,
            device.token,
            device.registered_at,
            device.seen_at,
        ),
    )
    # What waits is due at once on a platform that delivers, and waits for the device on the one that does not.
    db.execute(
        "UPDATE push SET platform = ?2, due = iif(?2 = 'websocket', 0.0, ?3) "
        "WHERE fingerprint = ?1 AND status = 'queued' AND platform <> ?2",
        (device.fingerprint, device.platform, float(device.registered_at)),
    )


def unregister(db: Db, fingerprint: bytes) -> bool:
    gone = db.execute("DELETE FROM device WHERE fingerprint = ?", (fingerprint,)).rowcount > 0
    if gone:
        _end(db, fingerprint, "not_registered", None)
    return gone


def device(db: Db, fingerprint: bytes) -> Device | None:
    row = db.execute(f"{_DEVICE} WHERE fingerprint = ?", (fingerprint,)).fetchone()
    return row and device_of(row)


def mark_seen(db: Db, fingerprint: bytes, now: int) -> None:
    db.execute(
        "UPDATE device SET seen_at = max(seen_at, ?2), failures = 0 "
        "WHERE fingerprint = ?1 AND (seen_at <= ?2 - ?3 OR failures > 0)",
        (fingerprint, now, SEEN_EVERY_SECONDS),
    )


def failed(db: Db, fingerprint: bytes, token: bytes) -> int:
    counted = "UPDATE device SET failures = failures + 1 WHERE fingerprint = ? AND token = ? RETURNING failures"
    row = db.execute(counted, (fingerprint, token)).fetchone()
    return row[0] if row else 0


def evict(db: Db, fingerprint: bytes, reason: str, token: bytes, now: int) -> bool:
    evicted = db.execute(
        "UPDATE device SET evicted = ?2, evicted_at = ?4, token = x'' "
        "WHERE fingerprint = ?1 AND evicted IS NULL AND token = ?3",
        (fingerprint, reason, token, now),
    ).rowcount
    if evicted:
        _end(db, fingerprint, "token_evicted", reason)
    return evicted > 0


def count(db: Db) -> dict[str, int]:
    return dict(db.execute("SELECT kind, n FROM device_tally WHERE n > 0"))


def page(db: Db, after: bytes, limit: int) -> list[Device]:
    rows = db.execute(f"{_DEVICE} WHERE fingerprint > ? ORDER BY fingerprint LIMIT ?", (after, limit))
    return [device_of(row) for row in rows]


def reseal(db: Db, fingerprint: bytes, old: bytes, new: bytes) -> bool:
    changed = db.execute("UPDATE device SET token = ?3 WHERE fingerprint = ?1 AND token = ?2", (fingerprint, old, new))
    return changed.rowcount > 0


def prune(db: Db, seen_before: int, evicted_before: int, now: int) -> Pruned:
    forgotten = db.execute(
        "DELETE FROM device WHERE fingerprint IN "
        "(SELECT fingerprint FROM device WHERE evicted_at < ? ORDER BY evicted_at LIMIT ?)",
        (evicted_before, PRUNED_AT_ONCE),
    ).rowcount
    evicted = db.execute(
        "UPDATE device SET evicted = ?, evicted_at = ?, token = x'' WHERE fingerprint IN "
        "(SELECT fingerprint FROM device WHERE evicted IS NULL AND seen_at < ? ORDER BY seen_at LIMIT ?)",
        (SILENT, now, seen_before, PRUNED_AT_ONCE),
    ).rowcount
    return Pruned(evicted, forgotten)


def server(db: Db, server_id: bytes) -> Server | None:
    row = db.execute(f"{_SERVER} WHERE server_id = ?", (server_id,)).fetchone()
    return row and server_of(row)


def servers(db: Db) -> list[Server]:
    return [server_of(row) for row in db.execute(f"{_SERVER} ORDER BY trusted_at, server_id")]


def trust(db: Db, server: Server) -> None:
    db.execute(
        "INSERT INTO server VALUES (?, ?, ?, ?, ?) ON CONFLICT (server_id) DO UPDATE "
        "SET public_key = excluded.public_key, name = excluded.name, listed = server.listed AND excluded.listed",
        (server.server_id, server.public_key, server.name, server.trusted_at, server.listed),
    )


def trust_first(db: Db, server: Server) -> bool:
    if db.execute("SELECT 1 FROM server LIMIT 1").fetchone() is None:
        trust(db, server)
        return True
    return db.execute("SELECT 1 FROM server WHERE server_id = ?", (server.server_id,)).fetchone() is not None


def distrust(db: Db, server_id: bytes) -> bool:
    return db.execute("DELETE FROM server WHERE server_id = ?", (server_id,)).rowcount > 0


def _end(db: Db, fingerprint: bytes, status: str, error: str | None) -> None:
    db.execute(
        "UPDATE push SET status = ?2, error = ?3, payload = x'', due = 0 WHERE fingerprint = ?1 AND status = 'queued'",
        (fingerprint, status, error),
    )
