"""Trusted servers in SQLite."""

from __future__ import annotations

import sqlite3

from relay.registry.model import Server
from relay.registry.rows import SERVER, server_of, server_row
from relay.registry.sqlite.database import durable_transaction, transaction
from relay.registry.sqlite.nonces import SqliteNonces

_SERVER = f"SELECT {SERVER} FROM server"  # noqa: S608 - names of columns
_TRUST = """
INSERT INTO server VALUES (?, ?, ?, ?, ?) ON CONFLICT (server_id) DO UPDATE
SET public_key = excluded.public_key, name = excluded.name, listed = server.listed AND excluded.listed
"""


class SqliteServers(SqliteNonces):
    """`ServerRegistry`."""

    @transaction
    def server(self, db: sqlite3.Connection, server_id: bytes) -> Server | None:
        row = db.execute(f"{_SERVER} WHERE server_id = ?", (server_id,)).fetchone()
        return row and server_of(row)

    @transaction
    def servers(self, db: sqlite3.Connection) -> list[Server]:
        return [server_of(row) for row in db.execute(f"{_SERVER} ORDER BY trusted_at, server_id")]

    @durable_transaction
    def trust(self, db: sqlite3.Connection, server: Server) -> None:
        db.execute(_TRUST, server_row(server))

    @durable_transaction
    def trust_first(self, db: sqlite3.Connection, server: Server) -> bool:
        if db.execute("SELECT 1 FROM server LIMIT 1").fetchone() is None:
            db.execute(_TRUST, server_row(server))
            return True
        return db.execute("SELECT 1 FROM server WHERE server_id = ?", (server.server_id,)).fetchone() is not None

    @durable_transaction
    def distrust(self, db: sqlite3.Connection, server_id: bytes) -> bool:
        return db.execute("DELETE FROM server WHERE server_id = ?", (server_id,)).rowcount > 0
