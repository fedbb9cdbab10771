"""Histories of pushes in PostgreSQL: what a server may read of its pushes to a device after they have expired.

The sweep writes them (`statements.SWEEP`).
"""

from __future__ import annotations

from relay.registry.model import HISTORY_SECONDS, PRUNE_BATCH, History
from relay.registry.postgres import statements
from relay.registry.postgres.pool import Connection, PoolUser, autocommit, transaction
from relay.registry.rows import device_of, entries_of, past_push_of
from relay.registry.rules import excess_histories, only_match, remembered

# Any number that no other program in the database uses.
_FORGET_LOCK = 0x5369_6769_6C48_6973
_TALLIES = 1000


class PostgresHistories(PoolUser):
    """The history of `PushQueue`."""

    @autocommit
    async def history(self, con: Connection, server_id: bytes, first: bytes, last: bytes, now: float) -> History | None:
        matches = []
        if first != last:
            since = int(now) - HISTORY_SECONDS
            matches = [row[0] for row in await con.fetch(statements.MATCHES, server_id, first, last, since)]
        fingerprint = only_match(matches, first, last)
        if fingerprint is None:
            return None
        device = await con.fetchrow(statements.DEVICE, fingerprint)
        # First the rows of `push`, then those that a sweep has moved meanwhile: none is missing, some may be in both.
        pushes = {
            row["push_id"].hex(): past_push_of(row) for row in await con.fetch(statements.PAST, server_id, fingerprint)
        }
        entries = await con.fetchval(statements.OLDER, server_id, fingerprint)
        older = {push.push_id: push for push in entries_of(entries)} if entries else {}
        known = remembered((older | pushes).values(), now)
        if device is None:
            return History(fingerprint, None, None, known)
        *columns, evicted_at = device
        return History(fingerprint, device_of(columns), evicted_at, known)

    @transaction
    async def forget_histories(self, con: Connection, limit: int, before: int) -> int:
        if not await con.fetchval("SELECT pg_try_advisory_xact_lock($1)", _FORGET_LOCK):
            return 0
        counts = await _counts(con)
        if not counts:
            return 0
        deleted = _number(await con.execute(statements.FORGET_OLD, list(counts), before, PRUNE_BATCH))
        excess = excess_histories(await _counts(con) if deleted else counts, limit)
        if excess is not None:
            deleted += _number(await con.execute(statements.FORGET_EXCESS, *excess))
        return deleted


async def _counts(con: Connection) -> dict[bytes, int]:
    rows = await con.fetch(statements.HISTORIES)
    if sum(number for _, _, number in rows) > _TALLIES:
        await con.execute(statements.FOLD_HISTORIES)
    return {server_id: total for server_id, total, _ in rows if total > 0}


def _number(status: str) -> int:
    return int(status.rpartition(" ")[2])
