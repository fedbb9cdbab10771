"""The presence of relays in PostgreSQL."""

from __future__ import annotations

from relay.registry.model import MAX_PRESENCE_DAYS, Beat
from relay.registry.postgres.pool import Connection, PoolUser, autocommit, transaction
from relay.registry.rules import day_of, minute_of, silent_before

_NEWEST = "SELECT last_minute, extract(epoch FROM clock_timestamp())::float8 FROM (SELECT) AS one LEFT JOIN LATERAL ("
_NEWEST += "SELECT last_minute FROM presence ORDER BY day DESC LIMIT 1) AS newest ON true"
_BEAT = """
INSERT INTO presence VALUES ($1, 1, $2) ON CONFLICT (day) DO UPDATE
SET minutes = presence.minutes + 1, last_minute = excluded.last_minute
WHERE presence.last_minute < excluded.last_minute
"""
_COUNT_SILENT = """
SELECT count(*) FROM (
    SELECT FROM device WHERE evicted IS NULL AND seen_at < $1 ORDER BY seen_at LIMIT $2
) AS ones
"""


class PostgresPresence(PoolUser):
    """`Presence`."""

    @autocommit
    async def beat(self, con: Connection, now: float) -> Beat:
        newest, database_time = await con.fetchrow(_NEWEST)
        await con.execute(_BEAT, day_of(now), minute_of(now))
        return Beat(None if newest is None else newest * 60, database_time)

    @autocommit
    async def forget_after(self, con: Connection, now: float) -> None:
        await con.execute("DELETE FROM presence WHERE last_minute > $1", minute_of(now))

    @autocommit
    async def claim_sweep(self, con: Connection, now: float) -> bool:
        claimed = "UPDATE presence SET swept = true WHERE day = $1 AND NOT swept"
        return bool(await con.execute(claimed, day_of(now)) == "UPDATE 1")

    @transaction
    async def silent_before(self, con: Connection, days: int) -> int | None:
        rows = [tuple(row) for row in await con.fetch("SELECT day, minutes FROM presence ORDER BY day DESC")]
        oldest = silent_before(rows, MAX_PRESENCE_DAYS)
        if oldest is not None:
            await con.execute("DELETE FROM presence WHERE day < $1", day_of(oldest))
        return silent_before(rows, days)

    @autocommit
    async def count_silent(self, con: Connection, before: int, limit: int) -> int:
        return int(await con.fetchval(_COUNT_SILENT, before, limit))
