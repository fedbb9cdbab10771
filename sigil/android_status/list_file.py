"""The file of the status list, and the list of the release where there is none.

The time of the file is the time at which the list was known to be the present one; a fetch sets it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from importlib import resources
from pathlib import Path

from sigil.attestation.certificates.status_list import MAX_BYTES, StatusList, UnusableStatusList, parse
from sigil.serving.bounded import files
from sigil.serving.files.errors import file_error

Mark = tuple[int, int, int, int]
_MODE = 0o644
_PIPE_SECONDS = 1.0


def of_release() -> StatusList:
    """Its date is not known (sigil/attestation/certificates/data/README.md)."""
    return parse(resources.files("sigil.attestation.certificates").joinpath("data/android-status.json").read_bytes(), 0)


def read(path: Path) -> StatusList | None:
    """None when there is no file. UnusableStatusList for one that cannot be read or used. Waits are bounded."""
    try:
        before = files.status(path)
        content = files.read(path, MAX_BYTES, _PIPE_SECONDS)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UnusableStatusList(file_error("read", path, error)) from error
    if content.mode & 0o002:
        # Each of them could make a leaked key good again.
        raise UnusableStatusList("every user can change it: chmod o-w it")
    return parse(content.data, before.st_mtime)


def mark_of(path: Path) -> Mark | None:
    """Another one for each change of the file; None without it."""
    try:
        found = path.stat()
    except OSError:
        return None
    # The status time as well: `chmod o-w`, the remedy for a file that is not used, changes nothing else.
    return found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size


def write(path: Path, content: bytes, known_at: float) -> StatusList:
    """Replaces the file in one step; UnusableStatusList, OSError. A list that lost more than half of the entries of the
    present file is not written: entries do not vanish in bulk, and each one that does makes a leaked key good again.
    """
    new, present = parse(content, known_at), usable(path)
    if present is not None and 2 * new.entries < present.entries:
        raise UnusableStatusList(f"it has {new.entries} entries, and the list in use has {present.entries}")
    replace(path, content, known_at)
    return new


def replace(path: Path, content: bytes, known_at: float) -> None:
    """OSError."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, _MODE)
        with os.fdopen(fd, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            os.utime(file.fileno(), (known_at, known_at))
        beside.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise


def usable(path: Path) -> StatusList | None:
    """The list of the file, if there is one that can be used."""
    try:
        return read(path)
    except UnusableStatusList:
        return None
