"""The lock of a data directory: one relay at a time serves its SQLite file. Commands work on the file without it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from relay.registry.model import RegistryUnusable
from sigil.serving.files.errors import file_error, reason_of
from sigil.serving.files.lock import lock_of_server

LOCK_FILE = "relay.lock"


@contextmanager
def exclusive(directory: Path) -> Iterator[None]:
    """Hold the lock; RegistryUnusable while another relay holds it. The kernel releases it with this process."""
    path = directory / LOCK_FILE
    try:
        directory.mkdir(0o700, parents=True, exist_ok=True)
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        reason = f"{path} cannot be opened: {reason_of('use', error.filename or path, error)}"
        raise RegistryUnusable(f"{reason}; set RELAY_DATA_DIR to a directory that the relay can write to") from error
    try:
        try:
            lock_of_server(lock)
        except BlockingIOError:
            raise RegistryUnusable(_in_use(directory)) from None
        except OSError as error:
            raise RegistryUnusable(file_error("lock", path, error)) from error
        yield
    finally:
        os.close(lock)


def problem_of_another_relay(directory: Path) -> str | None:
    """The error of a relay that starts while another one holds the lock; None if none does."""
    try:
        lock = os.open(directory / LOCK_FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    # There is no lock yet, or an error that the check of the directory reports.
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _in_use(directory)
    except OSError:
        return None
    finally:
        os.close(lock)
    return None


def _in_use(directory: Path) -> str:
    return (
        f"another relay runs on {directory}: stop it, set RELAY_DATA_DIR to another directory, or set "
        "DATABASE_URL for several relays on one database"
    )
