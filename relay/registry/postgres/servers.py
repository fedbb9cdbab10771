"""Trusted servers in PostgreSQL."""

from __future__ import annotations

from relay.registry.model import Server
from relay.registry.postgres.nonces import PostgresNonces
from relay.registry.postgres.pool import Connection, autocommit, transaction
from relay.registry.rows import SERVER, server_of, server_row

_SERVER = f"SELECT {SERVER} FROM server"  # noqa: S608 - names of columns
_TRUST = """
INSERT INTO server VALUES ($1, $2, $3, $4, $5) ON CONFLICT (server_id) DO UPDATE
SET public_key = excluded.public_key, name = excluded.name, listed = server.listed AND excluded.listed
"""


class PostgresServers(PostgresNonces):
    """`ServerRegistry`."""

    @autocommit
    async def server(self, con: Connection, server_id: bytes) -> Server | None:
        row = await con.fetchrow(f"{_SERVER} WHERE server_id = $1", server_id)
        return row and server_of(row)

    @autocommit
    async def servers(self, con: Connection) -> list[Server]:
        return [server_of(row) for row in await con.fetch(f"{_SERVER} ORDER BY trusted_at, server_id")]

    @autocommit
    async def trust(self, con: Connection, server: Server) -> None:
        await con.execute(_TRUST, *server_row(server))

    @transaction
    async def trust_first(self, con: Connection, server: Server) -> bool:
        # The first of two must be in the table before the second reads it.
        await con.execute("LOCK TABLE server IN SHARE ROW EXCLUSIVE MODE")
        rows = await con.fetch("SELECT server_id FROM server ORDER BY server_id <> $1 LIMIT 1", server.server_id)
        if not rows:
            await con.execute(_TRUST, *server_row(server))
        return not rows or rows[0][0] == server.server_id

    @autocommit
    async def distrust(self, con: Connection, server_id: bytes) -> bool:
        return bool(await con.execute("DELETE FROM server WHERE server_id = $1", server_id) == "DELETE 1")
