"""Files of secrets: written whole under a temporary name of the same directory, mode 0600, then named.

A full disk, a crash or a lack of permission leaves either the whole file or none, so that a retry works.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PREFIX = ".new-"
_LEFT_SECONDS = 60.0
"""A write takes milliseconds: an older temporary file is of a process that was killed."""


def create_file(path: Path, content: bytes) -> None:
    """A new file at `path`, on disk when this returns; OSError, FileExistsError also for a dangling link.

    The directory must exist.
    """
    with named_errors(path):
        temporary = _write(path, content)
        try:
            _name(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    _sync_directory(path.parent)


def replace_file(path: Path, content: bytes) -> None:
    """The same, and it takes the place of a file that is there."""
    with named_errors(path):
        temporary = _write(path, content)
        try:
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    _sync_directory(path.parent)


def remove_leftovers(directory: Path) -> None:
    """Delete the temporary files of killed processes, which hold secrets. For a directory that has such files alone."""
    with contextlib.suppress(OSError):
        for path in directory.glob(f"{_PREFIX}*"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.lstat().st_mtime > _LEFT_SECONDS:
                    path.unlink()


@contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """An OSError names `path`: that of a write names no file, and others the temporary name, which is gone by then."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


def _write(path: Path, content: bytes) -> Path:
    temporary = path.parent / f"{_PREFIX}{secrets.token_hex(8)}"
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def _name(temporary: Path, path: Path) -> None:
    try:
        # A link, unlike a rename, fails when the name exists: of two concurrent commands, one fails.
        os.link(temporary, path, follow_symlinks=False)
    except FileExistsError:
        raise
    except OSError:
        # FAT, exFAT and some network file systems have no hard links.
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
        temporary.rename(path)


def _sync_directory(directory: Path) -> None:
    """The name survives a power cut too, where the file system can promise it."""
    with contextlib.suppress(OSError):
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
