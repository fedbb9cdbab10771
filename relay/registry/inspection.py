"""The state of a database, for a command that changes nothing."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from relay.registry.migrate import migrations, require_migrated_postgres, require_migrated_sqlite
from relay.registry.model import RegistryUnusable


class Inspection(NamedTuple):
    """Unix seconds: the newest minute in which a relay was up, None if there was none, and the time of the database's
    own clock if it has one. `writable` is False for a standby.
    """

    last_beat: int | None
    database_time: float | None
    writable: bool = True


async def inspect_postgres(connection: Any) -> Inspection:
    """RegistryUnusable unless its schema is that of this version, and the errors of asyncpg."""
    await require_migrated_postgres(connection, migrations("postgres"))
    minute, now, standby = await connection.fetchrow(
        "SELECT (SELECT last_minute FROM presence ORDER BY day DESC LIMIT 1),"
        " extract(epoch FROM clock_timestamp())::float8, pg_is_in_recovery()"
    )
    return Inspection(None if minute is None else minute * 60, now, not standby)


def inspect_sqlite(path: Path) -> Inspection:
    """RegistryUnusable."""
    # With its log, a relay has it open or has died; without one, the file alone is the database. SQLite would create
    # the files of the log, with this user as their owner.
    mode = "mode=ro" if Path(f"{path}-wal").exists() else "immutable=1"
    try:
        db = sqlite3.connect(f"file:{quote(str(path))}?{mode}", uri=True, timeout=2)
        try:
            require_migrated_sqlite(db, migrations("sqlite"))
            row = db.execute("SELECT last_minute FROM presence ORDER BY day DESC LIMIT 1").fetchone()
        finally:
            db.close()
    except sqlite3.Error as error:
        raise RegistryUnusable(f"{path} cannot be used: {error}") from error
    return Inspection(row[0] * 60 if row else None, None)
