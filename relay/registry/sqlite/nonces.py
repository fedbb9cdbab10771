"""Used nonces in SQLite."""

from __future__ import annotations

import sqlite3

from relay.registry.sqlite.database import FileUser, transaction


class SqliteNonces(FileUser):
    """`UsedNonces`."""

    @transaction
    def use_nonce(self, db: sqlite3.Connection, nonce: bytes, until: int) -> bool:
        return db.execute("INSERT INTO nonce VALUES (?, ?) ON CONFLICT DO NOTHING", (nonce, until)).rowcount > 0
