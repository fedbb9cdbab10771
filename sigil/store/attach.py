"""Opens the store of a running server for operator commands, as one more process next to its workers."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Sequence
from pathlib import Path

import msgspec

from sigil.core.session_store import Kind, StoreUnusable
from sigil.serving.files.errors import reason_of
from sigil.store.adoption import STAMP, Stamp
from sigil.store.lmdb import DATA_FILE, LmdbStore
from sigil.store.state_directory import SERVER_LOCK, StateDirectoryError, in_use
from sigil.store.steady_clock import SharedOffset, SteadyClock


def open_running(path: Path, *, schema: str, kinds: Sequence[Kind]) -> LmdbStore:
    """StateDirectoryError, in one line, unless a server of this user and this version runs on `path`."""
    try:
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise StateDirectoryError(f"{path} is not a directory of this user: run this as the server's user")
        if not _is_locked(path):
            raise FileNotFoundError
        stamp = msgspec.json.decode((path / STAMP).read_bytes(), type=Stamp)
        # The present size: another map size would become the size for all processes.
        size = (path / DATA_FILE).stat().st_size
        if stamp.schema != schema:
            raise StateDirectoryError(
                f"the server on {path} has another version: use the sigil command of that version"
            )
        return LmdbStore(path, size=size, kinds=kinds, clock=SteadyClock(SharedOffset(path)), create=False)
    except FileNotFoundError:
        raise StateDirectoryError(
            f"no server runs on SIGIL_STATE_DIR {path}: set SIGIL_STATE_DIR or SIGIL_PORT to the value of the server"
        ) from None
    except PermissionError:
        user = os.geteuid()
        raise StateDirectoryError(f"uid {user} has no access to {path}: run this as the server's user") from None
    except OSError as error:
        # Such as a mount that is read-only: the lock table of the store is written by each reader.
        reason = reason_of("write to", error.filename or path, error)
        raise StateDirectoryError(f"{path} cannot be used: {reason}") from error
    except (StoreUnusable, msgspec.DecodeError) as error:
        raise StateDirectoryError(f"{path} cannot be used: {error}") from error


def problem_of_another_server(path: Path) -> str | None:
    """The error of a server that starts on a directory which a server holds; None if none does."""
    try:
        return in_use(path) if _is_locked(path) else None
    except OSError:
        # `problem_of_directory` reports it.
        return None


def _is_locked(path: Path) -> bool:
    """Whether a server holds the directory."""
    lock = os.open(path / SERVER_LOCK, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False
