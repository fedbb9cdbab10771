"""Migrations: numbered files of plain SQL, each applied once, in order, in a transaction of its own.

The database stores the checksum of each applied migration. So a file that was changed afterwards is detected, and so is
a database that a newer relay has migrated.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any, Literal, NamedTuple

from relay.registry.model import RegistryUnusable

_LOCK = 0x5369_6769_6C52_6C79
"""The advisory lock of PostgreSQL for migrations: any number that no other program in the database uses."""


class Migration(NamedTuple):
    number: int
    name: str
    sql: str
    checksum: str

    @classmethod
    def of(cls, name: str, sql: str) -> Migration:
        return cls(int(name.split("_", 1)[0]), name, sql, hashlib.sha256(sql.encode()).hexdigest())


@cache
def migrations(kind: Literal["postgres", "sqlite"]) -> tuple[Migration, ...]:
    """The migrations of this version, in order."""
    folder = resources.files("relay") / "migrations" / kind
    files = [file for file in folder.iterdir() if file.name.endswith(".sql")]
    found = sorted(Migration.of(file.name.removesuffix(".sql"), file.read_text(encoding="utf-8")) for file in files)
    if [one.number for one in found] != list(range(1, len(found) + 1)):
        raise RegistryUnusable("the migrations of this relay are incomplete: reinstall it")
    return tuple(found)


def pending(known: Sequence[Migration], applied: Mapping[int, str]) -> Sequence[Migration]:
    """The migrations still to apply, given the checksums of those applied; RegistryUnusable when they do not match."""
    newest = max(applied, default=0)
    if newest > len(known):
        raise RegistryUnusable(
            f"the database is at migration {newest}, this relay knows {len(known)}: "
            "install the version that migrated it, or restore a backup from before"
        )
    for one in known[:newest]:
        if applied.get(one.number) != one.checksum:
            raise RegistryUnusable(
                f"migration {one.name} is not the one that was applied to this database: "
                "install an unchanged release, or restore a backup"
            )
    return known[newest:]


async def require_migrated_postgres(connection: Any, known: Sequence[Migration]) -> None:
    """RegistryUnusable unless all migrations were applied; changes nothing."""
    applied = {}
    if await connection.fetchval("SELECT to_regclass('migration') IS NOT NULL"):
        applied = dict(await connection.fetch("SELECT number, checksum FROM migration"))
    _require_none(pending(known, applied), applied)


def require_migrated_sqlite(db: sqlite3.Connection, known: Sequence[Migration]) -> None:
    """The same for SQLite."""
    applied = {}
    if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'migration'").fetchone():
        applied = dict(db.execute("SELECT number, checksum FROM migration"))
    _require_none(pending(known, applied), applied)


def _require_none(missing: Sequence[Migration], applied: Mapping[int, str]) -> None:
    if missing and not applied:
        raise RegistryUnusable(
            "no relay has used this database yet: set DATABASE_URL or RELAY_DATA_DIR as for the relay, or run "
            "`sigil-relay migrate` first"
        )
    if missing:
        raise RegistryUnusable(
            f"the database is at migration {max(applied)}, this version needs {missing[-1].number}: run `sigil-relay "
            "migrate`, or the command of the version that runs"
        )


async def migrate_postgres(connection: Any, known: Sequence[Migration]) -> list[str]:
    """Apply missing migrations and return their names; any number of processes may do so at once.

    The lock belongs to each transaction, not to the session: behind a PgBouncer sessions are shared.
    """
    done: list[str] = []
    while True:
        async with connection.transaction(isolation="read_committed"):
            await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
            if await connection.fetchval("SELECT to_regclass('migration') IS NULL"):
                # Checked first: a role without the right to create tables may use a database that is already migrated.
                await connection.execute(_APPLIED)
            rows = await connection.fetch("SELECT number, checksum FROM migration")
            missing = pending(known, dict(rows))
            if not missing:
                return done
            await connection.execute(missing[0].sql)
            await connection.execute("INSERT INTO migration VALUES ($1, $2, $3)", *_row(missing[0]))
            done.append(missing[0].name)


def migrate_sqlite(db: sqlite3.Connection, known: Sequence[Migration]) -> list[str]:
    """The same for SQLite; `db` is in autocommit mode."""
    done: list[str] = []
    while True:
        db.execute("BEGIN IMMEDIATE")
        try:
            db.execute(_APPLIED.replace("TABLE", "TABLE IF NOT EXISTS"))
            missing = pending(known, dict(db.execute("SELECT number, checksum FROM migration")))
            if missing:
                for statement in _statements(missing[0].sql):
                    db.execute(statement)
                db.execute("INSERT INTO migration VALUES (?, ?, ?)", _row(missing[0]))
                done.append(missing[0].name)
            db.execute("COMMIT")
        except BaseException:
            db.rollback()
            raise
        if not missing:
            return done


_APPLIED = "CREATE TABLE migration (number integer PRIMARY KEY, name text NOT NULL, checksum text NOT NULL)"


def _row(one: Migration) -> tuple[int, str, str]:
    return one.number, one.name, one.checksum


def _statements(sql: str) -> Iterator[str]:
    """One by one, since executescript would commit first. A trigger is one statement that contains semicolons."""
    statement = ""
    for line in sql.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
