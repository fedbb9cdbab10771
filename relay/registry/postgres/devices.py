"""Devices and servers in PostgreSQL: functions of a connection, one for each method of the registry.

Those that write twice are given a transaction. Locks are taken in one order: devices by fingerprint, then pushes by
push_key; what cleans up does not wait for locks at all.
"""

from __future__ import annotations

from typing import Any

from relay.registry.port import PRUNED_AT_ONCE, SEEN_EVERY_SECONDS, SILENT, Device, Pruned, Server
from relay.registry.postgres.statements import END_ALL, FOLLOW
from relay.registry.rows import SERVER, device_columns, device_of, server_of

_DEVICE = f"SELECT {device_columns('device')} FROM device"  # noqa: S608 - names of columns
_SERVER = f"SELECT {SERVER} FROM server"  # noqa: S608
_TALLIES = 1000

_REGISTER = """
INSERT INTO device VALUES ($1, $2, $3, $4, $5::bigint, greatest($5, $6), 0, NULL, NULL)
ON CONFLICT (fingerprint) DO UPDATE SET
    public_key = excluded.public_key, platform = excluded.platform, token = excluded.token, failures = 0,
    registered_at = excluded.registered_at, seen_at = excluded.seen_at, evicted = NULL, evicted_at = NULL
"""
_SAW = """
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
# Two that fold at once are both right: the second one waits for the rows it saw, finds them gone, and adds nothing.
_FOLD = """
WITH folded AS (DELETE FROM device_tally RETURNING kind, n)
INSERT INTO device_tally SELECT kind, sum(n) FROM folded GROUP BY kind
"""


async def register(con: Any, device: Device) -> None:
    await con.execute(
        _REGISTER,
        device.fingerprint,
        device.public_key,
        device.platform,
        device.token,
        device.registered_at,
        device.seen_at,
    )
    await con.execute(FOLLOW, device.fingerprint, device.platform, device.registered_at)


async def unregister(con: Any, fingerprint: bytes) -> bool:
    if await con.execute("DELETE FROM device WHERE fingerprint = $1", fingerprint) == "DELETE 0":
        return False
    await con.execute(END_ALL, fingerprint, "not_registered", None)
    return True


async def device(con: Any, fingerprint: bytes) -> Device | None:
    row = await con.fetchrow(f"{_DEVICE} WHERE fingerprint = $1", fingerprint)
    return row and device_of(row)


async def mark_seen(con: Any, fingerprint: bytes, now: int) -> None:
    await con.execute(_SAW, fingerprint, now, SEEN_EVERY_SECONDS)


async def failed(con: Any, fingerprint: bytes, token: bytes) -> int:
    counted = "UPDATE device SET failures = failures + 1 WHERE fingerprint = $1 AND token = $2 RETURNING failures"
    return await con.fetchval(counted, fingerprint, token) or 0


async def evict(con: Any, fingerprint: bytes, reason: str, token: bytes, now: int) -> bool:
    if await con.execute(_EVICT, fingerprint, reason, token, now) == "UPDATE 0":
        return False
    # A statement of its own, so that it sees pushes of an admission that held the device until now.
    await con.execute(END_ALL, fingerprint, "token_evicted", reason)
    return True


async def count(con: Any) -> dict[str, int]:
    rows = await con.fetch("SELECT kind, sum(n)::bigint, count(*) FROM device_tally GROUP BY kind")
    if sum(number for _, _, number in rows) > _TALLIES:
        await con.execute(_FOLD)
    return {kind: total for kind, total, _ in rows if total}


async def page(con: Any, after: bytes, limit: int) -> list[Device]:
    rows = await con.fetch(f"{_DEVICE} WHERE fingerprint > $1 ORDER BY fingerprint LIMIT $2", after, limit)
    return [device_of(row) for row in rows]


async def reseal(con: Any, fingerprint: bytes, old: bytes, new: bytes) -> bool:
    changed = "UPDATE device SET token = $3 WHERE fingerprint = $1 AND token = $2"
    return bool(await con.execute(changed, fingerprint, old, new) == "UPDATE 1")


async def prune(con: Any, seen_before: int, evicted_before: int, now: int) -> Pruned:
    return Pruned(*await con.fetchrow(_PRUNE, seen_before, evicted_before, now, PRUNED_AT_ONCE, SILENT))


async def server(con: Any, server_id: bytes) -> Server | None:
    row = await con.fetchrow(f"{_SERVER} WHERE server_id = $1", server_id)
    return row and server_of(row)


async def servers(con: Any) -> list[Server]:
    return [server_of(row) for row in await con.fetch(f"{_SERVER} ORDER BY trusted_at, server_id")]


async def trust(con: Any, server: Server) -> None:
    await con.execute(
        "INSERT INTO server VALUES ($1, $2, $3, $4, $5) ON CONFLICT (server_id) DO UPDATE "
        "SET public_key = excluded.public_key, name = excluded.name, listed = server.listed AND excluded.listed",
        server.server_id,
        server.public_key,
        server.name,
        server.trusted_at,
        server.listed,
    )


async def trust_first(con: Any, server: Server) -> bool:
    # The first of two must be in the table before the second one looks.
    await con.execute("LOCK TABLE server IN SHARE ROW EXCLUSIVE MODE")
    rows = await con.fetch("SELECT server_id FROM server ORDER BY server_id <> $1 LIMIT 1", server.server_id)
    if not rows:
        await trust(con, server)
    return not rows or rows[0][0] == server.server_id


async def distrust(con: Any, server_id: bytes) -> bool:
    return bool(await con.execute("DELETE FROM server WHERE server_id = $1", server_id) == "DELETE 1")
