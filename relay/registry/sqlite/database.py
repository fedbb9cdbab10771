"""The file of the SQLite registry and the one thread that uses it."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from relay.registry.migrate import migrate_sqlite, migrations
from relay.registry.port import RegistryBusy, RegistryUnusable

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]

APPLICATION_ID = 0x5347_4C52
_BUSY_SECONDS = 2.0
"""How long another process (an operator's command) may hold the file."""


class SqliteFile:
    """Whole transactions, one after another, on a thread of their own.

    At most `max_waiting` wait, each for at most `timeout` seconds; over either it is RegistryBusy.
    """

    def __init__(self, path: Path, *, max_waiting: int, timeout: float) -> None:
        self._path = path
        self._max_waiting = max_waiting
        self._timeout = timeout
        self._waiting = 0
        self._open: tuple[ThreadPoolExecutor, sqlite3.Connection] | None = None

    async def open(self) -> None:
        """Make or open the file, and migrate it. Raises RegistryUnusable."""
        thread = ThreadPoolExecutor(1, thread_name_prefix="relay-sqlite")
        try:
            db = await asyncio.get_running_loop().run_in_executor(thread, opened, self._path)
        except BaseException:
            thread.shutdown(wait=False)
            raise
        self._open = thread, db

    async def close(self) -> None:
        """What waits is still done."""
        if self._open is None:
            return
        (thread, db), self._open = self._open, None
        await asyncio.get_running_loop().run_in_executor(thread, db.close)
        thread.shutdown()

    async def transact(self, work: Work[T], *, durable: bool = False) -> T:
        """Run work as one transaction; a `durable` one survives a power failure.

        The others survive the death of this process, as everything that SQLite has committed does.
        """
        if self._open is None:
            raise RegistryBusy("the registry is not open")
        if self._waiting >= self._max_waiting:
            raise RegistryBusy("too many wait for the database")
        thread, db = self._open
        given_up = threading.Event()
        self._waiting += 1
        try:
            async with asyncio.timeout(self._timeout):
                return await asyncio.get_running_loop().run_in_executor(thread, _run, db, work, durable, given_up)
        except TimeoutError as error:
            raise RegistryBusy("the database takes too long") from error
        except (sqlite3.ProgrammingError, sqlite3.IntegrityError, sqlite3.DataError, sqlite3.NotSupportedError):
            raise
        except sqlite3.DatabaseError as error:
            # Locked by another process, the disk full or broken, the file damaged.
            raise RegistryBusy(f"the database cannot be used: {error}") from error
        finally:
            given_up.set()
            self._waiting -= 1


def _run(db: sqlite3.Connection, work: Work[T], durable: bool, given_up: threading.Event) -> T:
    """What is given up before its turn comes is never run, and what is given up while it runs is taken back."""
    if durable:
        db.execute("PRAGMA synchronous = FULL")
    try:
        db.execute("BEGIN IMMEDIATE")
        result = work(db)
        if given_up.is_set():
            raise RegistryBusy("nobody waits for this any more")
        db.execute("COMMIT")
        return result
    except BaseException:
        with suppress(sqlite3.Error):
            db.rollback()
        raise
    finally:
        if durable:
            db.execute("PRAGMA synchronous = NORMAL")


def opened(path: Path) -> sqlite3.Connection:
    """The migrated database at `path`, in autocommit mode; RegistryUnusable says what is in the way."""
    if sqlite3.sqlite_version_info < (3, 38):
        raise RegistryUnusable(f"SQLite is {sqlite3.sqlite_version}: 3.38 or newer is needed")
    try:
        _own(path)
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=_BUSY_SECONDS)
    except (OSError, sqlite3.Error) as error:
        raise RegistryUnusable(f"{path} cannot be opened: {error}") from error
    try:
        _refuse_foreign(path, db)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("PRAGMA journal_size_limit = 67108864")
        # A token that is overwritten is not to be found in a free page.
        db.execute("PRAGMA secure_delete = ON")
        migrate_sqlite(db, migrations("sqlite"))
    except sqlite3.Error as error:
        db.close()
        raise RegistryUnusable(f"{path} cannot be used: {error}; move it away or restore a backup") from error
    except BaseException:
        db.close()
        raise
    return db


def _own(path: Path) -> None:
    """A file that nobody else reads: SQLite gives the files beside it the same mode."""
    path.parent.mkdir(0o700, parents=True, exist_ok=True)
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        status = os.fstat(file)
    finally:
        os.close(file)
    if not stat.S_ISREG(status.st_mode):
        raise RegistryUnusable(f"{path} is not a file")
    if status.st_mode & 0o077:
        mode = stat.S_IMODE(status.st_mode)
        raise RegistryUnusable(f"{path} is open to other users ({mode:04o}); chmod it to 0600")


def _refuse_foreign(path: Path, db: sqlite3.Connection) -> None:
    (mark,) = db.execute("PRAGMA application_id").fetchone()
    (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if tables and mark != APPLICATION_ID:
        raise RegistryUnusable(
            f"{path} belongs to another program; set RELAY_DATA_DIR to a directory of the relay's own"
        )
    # Once at the start rather than in the middle of a night: 0.1 s for 30 MB.
    (first,) = db.execute("PRAGMA quick_check(1)").fetchone()
    if first != "ok":
        raise RegistryUnusable(f"{path} is damaged ({first}); restore a backup or move it away")
