"""Devices in PostgreSQL.

Locks are taken in one order: devices by fingerprint, then pushes by push_key, then histories. Clean-up does not
wait for locks at all.
"""

from __future__ import annotations

from relay.registry.model import PRUNE_BATCH, SEEN_EVERY_SECONDS, SILENT, Device, Pruned, Trimmed
from relay.registry.postgres.nonces import PostgresNonces
from relay.registry.postgres.pool import Connection, autocommit, transaction
from relay.registry.postgres.statements import END_ALL, FOLLOW
from relay.registry.rows import device_columns, device_of, device_row

_DEVICE = f"SELECT {device_columns('device')} FROM device"  # noqa: S608 - names of columns
_TALLIES = 1000

_REGISTER = """
INSERT INTO device VALUES ($1, $2, $3, $4, $5::bigint, greatest($5, $6), 0, NULL, NULL, false)
ON CONFLICT (fingerprint) DO UPDATE SET
    public_key = excluded.public_key, platform = excluded.platform, token = excluded.token, failures = 0,
    registered_at = excluded.registered_at, seen_at = excluded.seen_at, evicted = NULL, evicted_at = NULL
"""
_MARK_SEEN = """
UPDATE device SET seen_at = greatest(seen_at, $2), failures = 0
WHERE fingerprint = $1 AND (seen_at <= $2::bigint - $3::bigint OR failures > 0)
"""
_EVICT = """
UPDATE device SET evicted = $2, evicted_at = $4, token = ''
WHERE fingerprint = $1 AND token = $3 AND coalesce(evicted_at, -1) < 0
"""
_PRUNE = """
WITH evicted AS (
    UPDATE device SET evicted = $5, evicted_at = $3, token = '' WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM device WHERE evicted IS NULL AND seen_at < $1
        ORDER BY seen_at LIMIT $4 FOR UPDATE SKIP LOCKED
    )) RETURNING 1
), forgotten AS (
    DELETE FROM device WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM device WHERE evicted_at < $2 ORDER BY evicted_at LIMIT $4 FOR UPDATE SKIP LOCKED
    )) RETURNING 1
)
SELECT (SELECT count(*) FROM evicted), (SELECT count(*) FROM forgotten)
"""
_COUNT_UNUSED = "SELECT count(*) FROM (SELECT FROM device WHERE NOT used LIMIT $1) AS ones"
# Any number that no other program in the database uses.
_TRIM_LOCK = 0x5369_6769_6C54_726D
_REPLACEABLE = (
    "SELECT EXISTS (SELECT FROM device WHERE evicted_at IS NOT NULL) OR EXISTS (SELECT FROM device WHERE NOT used)"
)
_TRIM_EVICTED = """
DELETE FROM device WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM device WHERE evicted_at IS NOT NULL ORDER BY evicted_at LIMIT $1 FOR UPDATE SKIP LOCKED
))
RETURNING fingerprint
"""
_TRIM_UNUSED = """
DELETE FROM device WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM device WHERE NOT used ORDER BY seen_at LIMIT $1 FOR UPDATE SKIP LOCKED
))
RETURNING fingerprint
"""
# Two concurrent folds are both correct: the second waits for the rows that it read, finds them gone, and adds nothing.
_FOLD = """
WITH folded AS (DELETE FROM device_tally RETURNING kind, n)
INSERT INTO device_tally SELECT kind, sum(n) FROM folded GROUP BY kind
"""


class PostgresDevices(PostgresNonces):
    """`DeviceRegistry`."""

    @transaction
    async def register(self, con: Connection, device: Device) -> None:
        await con.execute(_REGISTER, *device_row(device))
        await con.execute(FOLLOW, device.fingerprint, device.platform, device.registered_at)

    @transaction
    async def unregister(self, con: Connection, fingerprint: bytes) -> bool:
        if await con.execute("DELETE FROM device WHERE fingerprint = $1", fingerprint) == "DELETE 0":
            return False
        await con.execute(END_ALL, fingerprint, "not_registered", None, None)
        await con.execute("DELETE FROM history WHERE fingerprint = $1", fingerprint)
        return True

    @autocommit
    async def device(self, con: Connection, fingerprint: bytes) -> Device | None:
        row = await con.fetchrow(f"{_DEVICE} WHERE fingerprint = $1", fingerprint)
        return row and device_of(row)

    @autocommit
    async def mark_seen(self, con: Connection, fingerprint: bytes, now: int) -> None:
        await con.execute(_MARK_SEEN, fingerprint, now, SEEN_EVERY_SECONDS)

    @autocommit
    async def record_failure(self, con: Connection, fingerprint: bytes, token: bytes) -> int:
        counted = "UPDATE device SET failures = failures + 1 WHERE fingerprint = $1 AND token = $2 RETURNING failures"
        return await con.fetchval(counted, fingerprint, token) or 0

    @transaction
    async def evict(self, con: Connection, fingerprint: bytes, reason: str, token: bytes, now: int) -> bool:
        if await con.execute(_EVICT, fingerprint, reason, token, now) == "UPDATE 0":
            return False
        # A statement of its own, so that it sees pushes of an admission that held the lock on the device until now.
        await con.execute(END_ALL, fingerprint, "token_evicted", reason, now)
        return True

    @autocommit
    async def count_devices(self, con: Connection) -> dict[str, int]:
        return await _count_devices(con)

    @autocommit
    async def devices(self, con: Connection, after: bytes, limit: int) -> list[Device]:
        rows = await con.fetch(f"{_DEVICE} WHERE fingerprint > $1 ORDER BY fingerprint LIMIT $2", after, limit)
        return [device_of(row) for row in rows]

    @autocommit
    async def reseal(self, con: Connection, fingerprint: bytes, old: bytes, new: bytes) -> bool:
        changed = "UPDATE device SET token = $3 WHERE fingerprint = $1 AND token = $2"
        return bool(await con.execute(changed, fingerprint, old, new) == "UPDATE 1")

    @autocommit
    async def prune(self, con: Connection, seen_before: int, evicted_before: int, now: int) -> Pruned:
        return Pruned(*await con.fetchrow(_PRUNE, seen_before, evicted_before, now, PRUNE_BATCH, SILENT))

    @transaction
    async def trim(self, con: Connection, max_devices: int, max_unused: int) -> Trimmed:
        alone = await con.fetchval("SELECT pg_try_advisory_xact_lock($1)", _TRIM_LOCK)
        total = sum((await _count_devices(con)).values())
        if total <= max_unused:
            return Trimmed([], total, replaceable=True)
        deleted: list[bytes] = []
        if alone:
            deleted = await _delete(con, _TRIM_EVICTED, total - max_devices)
            unused = await con.fetchval(_COUNT_UNUSED, max_unused + PRUNE_BATCH)
            deleted += await _delete(con, _TRIM_UNUSED, max(unused - max_unused, total - len(deleted) - max_devices))
        return Trimmed(deleted, total - len(deleted), await con.fetchval(_REPLACEABLE))


async def _count_devices(con: Connection) -> dict[str, int]:
    rows = await con.fetch("SELECT kind, sum(n)::bigint, count(*) FROM device_tally GROUP BY kind")
    if sum(number for _, _, number in rows) > _TALLIES:
        await con.execute(_FOLD)
    return {kind: total for kind, total, _ in rows if total}


async def _delete(con: Connection, statement: str, excess: int) -> list[bytes]:
    if excess <= 0:
        return []
    return [row[0] for row in await con.fetch(statement, min(excess, PRUNE_BATCH))]
