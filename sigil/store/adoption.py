"""Whether a restart adopts the store that it finds: only its own, and only one that it can open. It wipes any other."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import lmdb
import msgspec

from sigil.core.session_store import StoreUnusable
from sigil.store.lmdb import DATA_FILE, LOCK_FILE, LmdbStore
from sigil.store.steady_clock import CLOCK_FILE, SharedOffset, SteadyClock

STAMP = "stamp"
_NEW_STAMP = "stamp.new"
NO_SERVER = ""


class Stamp(msgspec.Struct, frozen=True):
    """The owner of a store: a restart adopts it only if both are equal. In init mode `server_id` is NO_SERVER."""

    schema: str
    server_id: str


def adopt_or_wipe(
    path: Path, directory: int, size: int, stamp: Stamp, also_wiped: frozenset[str], *, adopt_unowned: bool
) -> str:
    """Adopt the store or wipe it. Returns the reason for the wipe, "" if adopted. The caller holds the server lock.

    `adopt_unowned`: a store of NO_SERVER counts as that of `stamp`, since the wizard has committed that identity on it.
    """
    reason = _stamp_mismatch(directory, stamp, adopt_unowned) or _damage(path, directory, size)
    if reason:
        # The stamp is removed first and written last: after a crash in between, the next start wipes again.
        for name in (STAMP, DATA_FILE, LOCK_FILE, CLOCK_FILE, *sorted(also_wiped)):
            _remove(name, directory)
    # Before any worker: the offset of the store's clock is set once, and continues with an adopted store.
    offset = SharedOffset(path)
    SteadyClock(offset)()
    offset.close()
    _write_stamp(directory, stamp)
    return reason


def _stamp_mismatch(directory: int, stamp: Stamp, adopt_unowned: bool) -> str:
    if stamp.server_id == NO_SERVER:
        return "the server has no identity yet"
    try:
        file = os.open(STAMP, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=directory)
    except FileNotFoundError:
        return "there was no store"
    try:
        found = msgspec.json.decode(os.read(file, 4096), type=Stamp)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return "its stamp could not be read"
    finally:
        os.close(file)
    if found.schema != stamp.schema:
        return f"its schema was {found.schema!r}, not {stamp.schema!r}"
    if adopt_unowned and found.server_id == NO_SERVER:
        return ""
    return "" if found.server_id == stamp.server_id else f"it was the store of server {found.server_id!r}"


def _damage(path: Path, directory: int, size: int) -> str:
    """Why the environment cannot be adopted; "" if it can."""
    try:
        file_bytes = os.stat(DATA_FILE, dir_fd=directory, follow_symlinks=False).st_size
        with lmdb.open(str(path), readonly=True, lock=False, create=False) as probe:
            # The full open extends a truncated file with zeros, and each such page would fail later, during a request.
            if file_bytes < (probe.info()["last_pgno"] + 1) * probe.stat()["psize"]:
                return "its file was truncated"
        LmdbStore(path, size=size, kinds=(), clock=float).close()
    except FileNotFoundError:
        return "there was no store"
    except (lmdb.Error, StoreUnusable) as error:
        return f"it could not be opened: {error}"
    return ""


def _remove(name: str, directory: int) -> None:
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError):
        shutil.rmtree(name, dir_fd=directory)


def _write_stamp(directory: int, stamp: Stamp) -> None:
    # A crash may have left an incomplete file.
    _remove(_NEW_STAMP, directory)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    file = os.open(_NEW_STAMP, flags, 0o600, dir_fd=directory)
    try:
        os.write(file, msgspec.json.encode(stamp))
    finally:
        os.close(file)
    os.rename(_NEW_STAMP, STAMP, src_dir_fd=directory, dst_dir_fd=directory)
