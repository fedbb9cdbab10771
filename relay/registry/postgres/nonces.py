"""Used nonces in PostgreSQL."""

from __future__ import annotations

from relay.registry.postgres.pool import Connection, PoolUser, autocommit


class PostgresNonces(PoolUser):
    """`UsedNonces`."""

    @autocommit
    async def use_nonce(self, con: Connection, nonce: bytes, until: int) -> bool:
        used = "INSERT INTO nonce VALUES ($1, $2) ON CONFLICT DO NOTHING"
        return bool(await con.execute(used, nonce, until) == "INSERT 0 1")
