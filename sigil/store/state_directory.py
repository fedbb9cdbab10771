"""The state directory: the master makes, judges, locks and stamps it before any worker opens the store in it."""

from __future__ import annotations

import ctypes
import fcntl
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from sigil.core.session_store import StoreUnusable
from sigil.store.adoption import Stamp, settle
from sigil.store.lmdb import DATA_FILE
from sigil.store.memory_limits import MemoryLimits

SERVER_LOCK = "lock"
_MEMORY_FILE_SYSTEMS = frozenset({0x01021994, 0x858458F6})
"""f_type of tmpfs and ramfs."""


class StateDirectoryError(Exception):
    """The server must not start on this directory; the message is one line with the setting to mend."""


class StateDirectory:
    """A directory that this process owns until `close`.

    Once settled, `adopted` says that the store of an earlier run is still there; otherwise it starts empty, and
    `reason` says why.
    """

    def __init__(self, path: Path, directory: int, lock: int) -> None:
        self.path = path
        self.reason = "it is not settled"
        self._directory = directory
        self._lock = lock

    @property
    def adopted(self) -> bool:
        return not self.reason

    @classmethod
    def enter(cls, path: Path, *, insecure: bool = False) -> StateDirectory:
        """Make or enter the directory, judge it and lock it; its store is not touched. Raises StateDirectoryError.

        `insecure` allows a file system that is not memory.
        """
        with _as_state_error(path):
            directory = _enter(path)
            try:
                _judge(path, directory, insecure)
                return cls(path, directory, _take_lock(path, directory))
            except BaseException:
                os.close(directory)
                raise

    def settle(
        self,
        *,
        size: int,
        stamp: Stamp,
        wiped: frozenset[str] = frozenset(),
        room: MemoryLimits | None = None,
        vouched: bool = False,
    ) -> None:
        """Adopt the store, or start an empty one of `size` bytes. Raises StateDirectoryError.

        `wiped` are entries that a wipe removes beside the store's own files; everything else stays. `vouched`: a store
        whose stamp names no server is that of `stamp`.
        """
        with _as_state_error(self.path):
            refusal = (room or MemoryLimits()).problem(size, self._directory, DATA_FILE)
            if refusal:
                raise StateDirectoryError(f"SIGIL_STORE_SIZE {size} is too large for {self.path}: {refusal}")
            self.reason = settle(self.path, self._directory, size, stamp, wiped, vouched=vouched)

    def close(self) -> None:
        """Let the next server have the directory."""
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


@contextmanager
def _as_state_error(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, StoreUnusable) as error:
        raise StateDirectoryError(f"SIGIL_STATE_DIR {path} cannot be used: {error}; {_ELSEWHERE}") from error


_ELSEWHERE = "set SIGIL_STATE_DIR to a directory of the server's own"


def _enter(path: Path) -> int:
    """Open the directory, made if it is absent. What is checked afterwards is what was opened, not what was named."""
    parent = path.parent.stat()
    if parent.st_mode & 0o022 and not parent.st_mode & stat.S_ISVTX:
        # Whoever can rename the directory can put another in its place after the checks.
        raise StateDirectoryError(f"SIGIL_STATE_DIR {path} lies where other users may replace it; {_ELSEWHERE}")
    try:
        path.mkdir(0o700)
    except FileExistsError:
        mode = path.lstat().st_mode
        if not stat.S_ISDIR(mode):
            what = "a symbolic link" if stat.S_ISLNK(mode) else "not a directory"
            raise StateDirectoryError(f"SIGIL_STATE_DIR {path} is {what}; {_ELSEWHERE}") from None
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)


def _judge(path: Path, directory: int, insecure: bool) -> None:
    status = os.fstat(directory)
    if status.st_uid != os.geteuid():
        raise StateDirectoryError(
            f"SIGIL_STATE_DIR {path} belongs to user {status.st_uid}, not to {os.geteuid()}; {_ELSEWHERE}"
        )
    if status.st_mode & 0o077:
        mode = stat.S_IMODE(status.st_mode)
        raise StateDirectoryError(f"SIGIL_STATE_DIR {path} is open to other users ({mode:04o}); chmod it to 0700")
    if not insecure and file_system(directory) not in _MEMORY_FILE_SYSTEMS:
        raise StateDirectoryError(
            f"SIGIL_STATE_DIR {path} is not on tmpfs; set it to a directory on tmpfs, "
            "or SIGIL_STATE_DIR_INSECURE=true for development"
        )


def file_system(directory: int) -> int:
    """The f_type of the file system that holds an open directory; 0 where there is no such number."""
    if sys.platform != "linux":
        return 0
    # f_type is the first word of struct statfs, which has at most 120 bytes on any Linux.
    words = (ctypes.c_ulong * 64)()
    if ctypes.CDLL(None, use_errno=True).fstatfs(directory, ctypes.byref(words)) != 0:
        raise OSError(ctypes.get_errno(), "fstatfs failed")
    return words[0]


def _take_lock(path: Path, directory: int) -> int:
    """The lock that is held as long as the server lives, and that its death lets go."""
    lock = os.open(SERVER_LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600, dir_fd=directory)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise StateDirectoryError(
            f"another server is using SIGIL_STATE_DIR {path}; stop it, or set SIGIL_STATE_DIR to another directory"
        ) from None
    return lock
