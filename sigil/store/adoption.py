"""Does a restart keep the store that it finds? Only one of its own making, which it can open; else it wipes it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import lmdb
import msgspec

from sigil.core.session_store import StoreUnusable
from sigil.store.lmdb import DATA_FILE, LOCK_FILE, LmdbStore

STAMP = "stamp"
_NEW_STAMP = "stamp.new"
NOBODY = ""


class Stamp(msgspec.Struct, frozen=True):
    """Whose store it is: both must be equal for a restart to adopt it. In init mode it is nobody's: NOBODY."""

    schema: str
    server_id: str


def settle(path: Path, directory: int, size: int, stamp: Stamp, wiped: frozenset[str], *, vouched: bool) -> str:
    """Adopt what is there, or wipe it and say why; an empty line means adopted. The caller holds the server lock.

    `vouched`: nobody's store is that of `stamp`, since the wizard committed that identity over it.
    """
    reason = _stamped_otherwise(directory, stamp, vouched) or _broken(path, directory, size)
    if reason:
        # The stamp goes first and comes last: a crash in between leaves no stamp, and the next start wipes again.
        for name in (STAMP, DATA_FILE, LOCK_FILE, *sorted(wiped)):
            _remove(name, directory)
    _write_stamp(directory, stamp)
    return reason


def _stamped_otherwise(directory: int, stamp: Stamp, vouched: bool) -> str:
    if stamp.server_id == NOBODY:
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
    if vouched and found.server_id == NOBODY:
        return ""
    return "" if found.server_id == stamp.server_id else f"it was the store of server {found.server_id!r}"


def _broken(path: Path, directory: int, size: int) -> str:
    """Why the environment cannot be adopted; an empty line if it can."""
    try:
        held = os.stat(DATA_FILE, dir_fd=directory, follow_symlinks=False).st_size
        with lmdb.open(str(path), readonly=True, lock=False, create=False) as probe:
            # The full open lengthens a truncated file with zeros, which would be met one by one, in the middle of work.
            if held < (probe.info()["last_pgno"] + 1) * probe.stat()["psize"]:
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
    # What a crash left half written.
    _remove(_NEW_STAMP, directory)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    file = os.open(_NEW_STAMP, flags, 0o600, dir_fd=directory)
    try:
        os.write(file, msgspec.json.encode(stamp))
    finally:
        os.close(file)
    os.rename(_NEW_STAMP, STAMP, src_dir_fd=directory, dst_dir_fd=directory)
