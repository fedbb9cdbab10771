"""The file of the SQLite registry and the one thread that uses it.

    class SqliteServers(FileUser):
        @transaction
        def servers(self, db: sqlite3.Connection) -> list[Server]: ...     # callers: await registry.servers()

`transaction` and `durable_transaction` turn a method that takes a connection into one that runs on that thread.
"""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
import stat
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from relay.registry.migrate import migrate_sqlite, migrations, require_migrated_sqlite
from relay.registry.model import RegistryBusy, RegistryUnusable
from sigil.serving.files.errors import file_error, reason_of

T = TypeVar("T")
P = ParamSpec("P")
U = TypeVar("U", bound="FileUser")
Work = Callable[[sqlite3.Connection], T]

APPLICATION_ID = 0x5347_4C52
# The file format of SQLite: the header ends, for this module, with the application id.
_MAGIC, _HEADER_BYTES = b"SQLite format 3\0", 72
_REPLACE = "move it elsewhere or restore a backup"


class SqliteFile:
    """Runs whole transactions, one after another, on a thread of its own.

    At most `max_waiting` callers wait, each for at most `timeout` seconds. Beyond either limit it is RegistryBusy.
    Another process (an operator's command) may hold the file for `lock_timeout` seconds.
    """

    def __init__(self, path: Path, *, max_waiting: int, timeout: float, lock_timeout: float = 2.0) -> None:
        self._path = path
        self._lock_timeout = lock_timeout
        self._max_waiting = max_waiting
        self._timeout = timeout
        self._waiting = 0
        self._open: tuple[ThreadPoolExecutor, sqlite3.Connection] | None = None

    async def open(self, *, migrate: bool = True) -> None:
        """Create or open the file, and migrate it; without `migrate` it must exist. Raises RegistryUnusable."""
        thread = ThreadPoolExecutor(1, thread_name_prefix="relay-sqlite")
        try:
            db = await asyncio.get_running_loop().run_in_executor(
                thread, open_database, self._path, self._lock_timeout, migrate
            )
        except BaseException:
            thread.shutdown(wait=False)
            raise
        self._open = thread, db

    async def close(self) -> None:
        """Waiting transactions still run."""
        if self._open is None:
            return
        (thread, db), self._open = self._open, None
        await asyncio.get_running_loop().run_in_executor(thread, db.close)
        thread.shutdown()

    async def transact(self, work: Work[T], *, durable: bool = False) -> T:
        """Run work as one transaction. A `durable` one survives a power failure.

        All others survive the death of this process, as every commit of SQLite does.
        """
        if self._open is None:
            raise RegistryBusy("the registry is not open")
        if self._waiting >= self._max_waiting:
            raise RegistryBusy("too many callers wait for the database")
        thread, db = self._open
        cancelled = threading.Event()
        self._waiting += 1
        try:
            async with asyncio.timeout(self._timeout):
                return await asyncio.get_running_loop().run_in_executor(thread, _run, db, work, durable, cancelled)
        except TimeoutError as error:
            raise RegistryBusy("the database takes too long") from error
        except (sqlite3.ProgrammingError, sqlite3.IntegrityError, sqlite3.DataError, sqlite3.NotSupportedError):
            raise
        except sqlite3.DatabaseError as error:
            # Locked by another process, the disk full or broken, the file damaged.
            raise RegistryBusy(f"the database cannot be used: {error}") from error
        finally:
            cancelled.set()
            self._waiting -= 1


def _run(db: sqlite3.Connection, work: Work[T], durable: bool, cancelled: threading.Event) -> T:
    """Work that is cancelled before it starts never runs; work that is cancelled while it runs is rolled back."""
    if durable:
        db.execute("PRAGMA synchronous = FULL")
    try:
        db.execute("BEGIN IMMEDIATE")
        result = work(db)
        if cancelled.is_set():
            raise RegistryBusy("the caller has stopped waiting")
        db.execute("COMMIT")
        return result
    except BaseException:
        with suppress(sqlite3.Error):
            db.rollback()
        raise
    finally:
        if durable:
            db.execute("PRAGMA synchronous = NORMAL")


def open_database(path: Path, lock_timeout: float, migrate: bool = True) -> sqlite3.Connection:
    """The migrated database at `path`, in autocommit mode; RegistryUnusable with the reason.

    Without `migrate` it must exist, at the schema of this version: a command with other settings than those of the
    relay would otherwise create a database and report that it is empty.
    """
    if sqlite3.sqlite_version_info < (3, 38):
        raise RegistryUnusable(f"SQLite is {sqlite3.sqlite_version}: 3.38 or newer is needed")
    if not migrate and not path.exists():
        raise RegistryUnusable(
            f"there is no database: DATABASE_URL is not set, and {path} does not exist; set DATABASE_URL or "
            "RELAY_DATA_DIR as for the relay, or run `sigil-relay migrate` first"
        )
    try:
        _create_private(path)
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=lock_timeout)
    except (OSError, sqlite3.Error) as error:
        reason = f"{path} cannot be opened: {_reason(path, error)}"
        raise RegistryUnusable(f"{reason}; set RELAY_DATA_DIR to a directory that the relay can write to") from error
    try:
        _check_ours(path, db)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute("PRAGMA journal_size_limit = 67108864")
        # An overwritten token must not remain in a free page.
        db.execute("PRAGMA secure_delete = ON")
        (migrate_sqlite if migrate else require_migrated_sqlite)(db, migrations("sqlite"))
    except sqlite3.Error as error:
        db.close()
        reason = _directory_error(path.parent) or f"{error}; {_REPLACE}"
        raise RegistryUnusable(f"{path} cannot be used: {reason}") from error
    except BaseException:
        db.close()
        raise
    return db


def _reason(path: Path, error: OSError | sqlite3.Error) -> str:
    """Names the file of the error if it is another one than `path`."""
    if not isinstance(error, OSError):
        return str(error)
    named = "" if error.filename in {None, str(path)} else f"{error.filename}: "
    return f"{named}{reason_of('use', error.filename or path, error)}"


def _directory_error(directory: Path) -> str | None:
    """SQLite creates files there; without permission it reports a read-only database."""
    if os.access(directory, os.W_OK | os.X_OK):
        return None
    return file_error("write", directory, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))


def _create_private(path: Path) -> None:
    """Create a file that no other user can read: SQLite gives the WAL files the same mode."""
    path.parent.mkdir(0o700, parents=True, exist_ok=True)
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        status = os.fstat(file)
    finally:
        os.close(file)
    _require_private(path, status)


def check_file(path: Path) -> None:
    """RegistryUnusable for a file that `open_database` would reject, as far as its mode and its header show. SQLite
    itself would make files beside it, with this user as their owner.
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        _require_private(path, os.fstat(file))
        header = os.read(file, _HEADER_BYTES)
    finally:
        os.close(file)
    if header and not header.startswith(_MAGIC):
        raise RegistryUnusable(f"{path} cannot be used: file is not a database; {_REPLACE}")
    # A new database may have its mark in the log of SQLite alone.
    if int.from_bytes(header[_HEADER_BYTES - 4 :]) not in {0, APPLICATION_ID}:
        raise _of_another_program(path)


def _require_private(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise RegistryUnusable(f"{path} is not a file")
    if status.st_mode & 0o077:
        mode = stat.S_IMODE(status.st_mode)
        raise RegistryUnusable(f"{path} is open to other users ({mode:04o}); chmod it to 0600")


def _check_ours(path: Path, db: sqlite3.Connection) -> None:
    (mark,) = db.execute("PRAGMA application_id").fetchone()
    (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if tables and mark != APPLICATION_ID:
        raise _of_another_program(path)
    # Once at the start, so that damage is found before it matters: 0.1 s for 30 MB.
    (first,) = db.execute("PRAGMA quick_check(1)").fetchone()
    if first != "ok":
        raise RegistryUnusable(f"{path} is damaged ({first}); restore a backup or move it elsewhere")


def _of_another_program(path: Path) -> RegistryUnusable:
    return RegistryUnusable(f"{path} belongs to another program; set RELAY_DATA_DIR to a directory of the relay's own")


class FileUser:
    """Base of the classes that implement a port over the file."""

    def __init__(self, file: SqliteFile) -> None:
        self._file = file


def transaction(
    method: Callable[Concatenate[U, sqlite3.Connection, P], T],
) -> Callable[Concatenate[U, P], Coroutine[Any, Any, T]]:
    """One transaction, which survives the death of the process."""

    @wraps(method)
    def call(self: U, /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, T]:
        return self._file.transact(lambda db: method(self, db, *args, **kwargs))

    return call


def durable_transaction(
    method: Callable[Concatenate[U, sqlite3.Connection, P], T],
) -> Callable[Concatenate[U, P], Coroutine[Any, Any, T]]:
    """One transaction, which survives a power failure, too."""

    @wraps(method)
    def call(self: U, /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, T]:
        return self._file.transact(lambda db: method(self, db, *args, **kwargs), durable=True)

    return call
