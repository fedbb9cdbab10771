"""The state directory: the master creates, checks, locks and stamps it before any worker opens the store in it."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

from sigil.core.session_store import StoreUnusable
from sigil.serving.files.errors import is_of_system, reason_of
from sigil.serving.files.lock import lock_of_server
from sigil.serving.files.writable import creation_error
from sigil.store.adoption import Stamp, adopt_or_wipe
from sigil.store.lmdb import DATA_FILE, LOCK_FILE, LmdbStore
from sigil.store.memory_limits import MemoryLimits

SERVER_LOCK = "lock"
_MEMORY_FILE_SYSTEMS = frozenset({0x01021994, 0x858458F6})
"""f_type of tmpfs and ramfs."""


class StateDirectoryError(Exception):
    """The server must not start on this directory. The message is one line, with the setting to change."""


class StateDirectory:
    """A directory that this process owns until `close`.

    After `prepare_store`, `adopted` is True if the store of an earlier run was kept. Otherwise the store is empty, and
    `reason` is the cause.
    """

    def __init__(self, path: Path, directory: int, lock: int) -> None:
        self.path = path
        self.reason = "prepare_store was not called"
        self._directory = directory
        self._lock = lock

    @property
    def adopted(self) -> bool:
        return not self.reason

    @classmethod
    def enter(cls, path: Path, *, insecure: bool = False) -> StateDirectory:
        """Create or open the directory, check it and lock it; the store stays as it is. Raises StateDirectoryError.

        `insecure` allows a file system that is not in memory.
        """
        with _as_state_error(path):
            directory = _enter(path)
            try:
                _check_directory(path, directory, insecure)
                return cls(path, directory, _take_lock(path, directory))
            except BaseException:
                os.close(directory)
                raise

    def prepare_store(
        self,
        *,
        size: int,
        stamp: Stamp,
        workers: int = 1,
        also_wiped: frozenset[str] = frozenset(),
        limits: MemoryLimits | None = None,
        adopt_unowned: bool = False,
    ) -> None:
        """Adopt the store, or start an empty one of `size` bytes, for `workers`. Raises StateDirectoryError.

        `also_wiped`: entries that a wipe removes in addition to the store's own files; all others stay.
        `adopt_unowned`: adopt a store whose stamp names no server as that of `stamp`.
        """
        with _as_state_error(self.path):
            _check_capacity(self.path, self._directory, size, workers, limits)
            self.reason = adopt_or_wipe(
                self.path, self._directory, size, stamp, also_wiped, adopt_unowned=adopt_unowned
            )
            self._allocate(size)

    def _allocate(self, size: int) -> None:
        """Give the store all its memory now: a page that the file system cannot back later is a SIGBUS in a worker,
        which every other user of the tmpfs could cause by filling it.
        """
        LmdbStore(self.path, size=size, kinds=(), clock=float).close()
        try:
            allocate(self._directory, DATA_FILE)
            allocate(self._directory, LOCK_FILE)
        except OSError as error:
            if error.errno not in {errno.ENOSPC, errno.EFBIG, errno.EDQUOT}:
                raise
            raise StateDirectoryError(
                f"SIGIL_STORE_SIZE {size} does not fit into {self.path}: set a smaller SIGIL_STORE_SIZE or mount a "
                "larger tmpfs"
            ) from error

    def close(self) -> None:
        """Release the directory for the next server."""
        if self._lock >= 0:
            os.close(self._lock)
            os.close(self._directory)
            self._lock = -1

    def __enter__(self) -> StateDirectory:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def problem_of_directory(
    path: Path, *, size: int, workers: int, insecure: bool = False, limits: MemoryLimits | None = None
) -> str | None:
    """Why no server could start on `path` with a store of `size` bytes; None if one can. Neither creates nor locks the
    directory, so that a server may run on it: a missing one is checked by its parent.
    """
    try:
        with _as_state_error(path):
            _check_parent(path)
            existing = os.path.lexists(path)
            directory = _open(path) if existing else os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                if existing:
                    _check_directory(path, directory, insecure)
                else:
                    _check_file_system(path, directory, insecure)
                _check_capacity(path, directory, size, workers, limits)
                if error := creation_error(path / SERVER_LOCK if existing else path):
                    raise error
            finally:
                os.close(directory)
    except StateDirectoryError as error:
        return str(error)
    return None


@contextmanager
def _as_state_error(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StateDirectoryError(f"SIGIL_STATE_DIR {path} cannot be used: {_reason(path, error)}") from error
    except StoreUnusable as error:
        raise StateDirectoryError(f"SIGIL_STATE_DIR {path} cannot be used: {error}; {_ELSEWHERE}") from error


def _reason(path: Path, error: OSError) -> str:
    """Names the file of the error if it is another one than `path`."""
    if isinstance(error, FileNotFoundError) and error.filename == str(path.parent):
        return f"its parent directory does not exist: create it, or {_ELSEWHERE}"
    named = "" if error.filename in {None, str(path)} else f"{error.filename}: "
    return f"{named}{reason_of('use', error.filename or path, error)}; or {_ELSEWHERE}"


_ELSEWHERE = "set SIGIL_STATE_DIR to a directory that belongs to the server alone"


def _enter(path: Path) -> int:
    """Open the directory, created if it is absent. The later checks use the open directory, not its path."""
    _check_parent(path)
    with suppress(FileExistsError):
        path.mkdir(0o700)
    return _open(path)


def _check_parent(path: Path) -> None:
    parent = path.parent.stat()
    if parent.st_mode & 0o022 and not parent.st_mode & stat.S_ISVTX:
        # A user who can rename the directory can replace it after the checks.
        raise StateDirectoryError(f"SIGIL_STATE_DIR {path} can be replaced by other users; {_ELSEWHERE}")


def _open(path: Path) -> int:
    mode = path.lstat().st_mode
    if not stat.S_ISDIR(mode):
        problem = "a symbolic link" if stat.S_ISLNK(mode) else "not a directory"
        raise StateDirectoryError(f"SIGIL_STATE_DIR {path} is {problem}; {_ELSEWHERE}")
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)


def _check_directory(path: Path, directory: int, insecure: bool) -> None:
    status = os.fstat(directory)
    is_foreign, is_open = status.st_uid != os.geteuid(), status.st_mode & 0o077
    if (is_foreign or is_open) and (is_of_system(path.resolve()) or status.st_mode & stat.S_ISVTX):
        raise StateDirectoryError(
            f"SIGIL_STATE_DIR {path} belongs to all programs of this host; set SIGIL_STATE_DIR to a new directory in "
            f"it, such as {path / 'sigil'}"
        )
    if is_foreign:
        raise StateDirectoryError(
            f"SIGIL_STATE_DIR {path} belongs to uid {status.st_uid}, and the server runs as uid {os.geteuid()}: "
            f"sudo chown {os.geteuid()} that directory, or {_ELSEWHERE}"
        )
    if is_open:
        mode = stat.S_IMODE(status.st_mode)
        raise StateDirectoryError(f"SIGIL_STATE_DIR {path} is open to other users ({mode:04o}); chmod it to 0700")
    _check_file_system(path, directory, insecure)


def _check_file_system(path: Path, directory: int, insecure: bool) -> None:
    if not insecure and file_system(directory) not in _MEMORY_FILE_SYSTEMS:
        raise StateDirectoryError(
            f"SIGIL_STATE_DIR {path} is not on tmpfs; set it to a directory on tmpfs, "
            "or SIGIL_STATE_DIR_INSECURE=true for development"
        )


def _check_capacity(path: Path, directory: int, size: int, workers: int, limits: MemoryLimits | None) -> None:
    if problem := (limits or MemoryLimits()).problem(size, directory, DATA_FILE, workers):
        raise StateDirectoryError(f"SIGIL_STORE_SIZE {size} is too large for {path}: {problem}")


def file_system(directory: int) -> int:
    """The f_type of the file system of an open directory; 0 on other systems than Linux."""
    if sys.platform != "linux":
        return 0
    # f_type is the first member of struct statfs, which has at most 120 bytes on any Linux.
    buffer = (ctypes.c_ulong * 64)()
    if ctypes.CDLL(None, use_errno=True).fstatfs(directory, ctypes.byref(buffer)) != 0:
        raise OSError(ctypes.get_errno(), "fstatfs failed")
    return buffer[0]


def allocate(directory: int, name: str) -> None:
    """Back every byte of a file with memory. OSError (ENOSPC) when the file system has not enough."""
    if not hasattr(os, "posix_fallocate"):
        return
    file = os.open(name, os.O_RDWR | os.O_NOFOLLOW, dir_fd=directory)
    try:
        os.posix_fallocate(file, 0, os.fstat(file).st_size)
    finally:
        os.close(file)


def in_use(path: Path) -> str:
    return f"another server is using SIGIL_STATE_DIR {path}; stop it, or set SIGIL_STATE_DIR to another directory"


def _take_lock(path: Path, directory: int) -> int:
    """The lock that the server holds until it stops or dies."""
    lock = os.open(SERVER_LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600, dir_fd=directory)
    try:
        lock_of_server(lock)
    except BlockingIOError:
        os.close(lock)
        raise StateDirectoryError(in_use(path)) from None
    return lock
