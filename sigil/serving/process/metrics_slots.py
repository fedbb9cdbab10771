"""The files in which the processes of a service keep their metrics, so that a scrape of any worker covers all of them.

Each worker holds a slot: a number, a lock on `<directory>/<number>.lock` that ends with the process, and the files of
prometheus_client under that number. A worker that takes the slot of a dead worker continues its counters. So no counts
are lost with a worker, and there are never more files than there were workers at once.

prometheus_client is imported only inside functions: it looks for its directory at its first import.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from sigil.serving.startup_error import StartupError

# More than all label values together need: the largest of the four files of a worker has 36 kB in use.
_FILE_BYTES = 1 << 20
_LIVE_GAUGES = "gauge_live*_{}.db"


def directory(state_dir: Path) -> Path:
    """The directory of all slots; the master creates it empty."""
    return state_dir / "metrics"


def acquire(directory: Path) -> None:
    """Take a slot for this worker; call it before any metric is created."""
    os.environ |= {"PROMETHEUS_MULTIPROC_DIR": str(directory)}
    slot = _lock_first_free(directory)
    _drop_live_gauges(directory, slot)
    from prometheus_client import mmap_dict, values

    class AllocatedDict(mmap_dict.MmapedDict):
        """A file that is backed whole before it is mapped: on a full tmpfs, a write to a hole is a SIGBUS."""

        def __init__(self, filename: str, read_mode: bool = False) -> None:
            if not read_mode and hasattr(os, "posix_fallocate"):
                file = os.open(filename, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                try:
                    os.posix_fallocate(file, 0, _FILE_BYTES)
                except OSError as error:
                    reason = f"no memory for metrics in {directory}: {error.strerror}; remove other files there"
                    raise StartupError(reason) from error
                finally:
                    os.close(file)
            cast(Any, super()).__init__(filename, read_mode)

    cast(Any, values).MmapedDict = AllocatedDict
    values.ValueClass = cast(Any, values).MultiProcessValue(process_identifier=lambda: slot)


def _lock_first_free(directory: Path) -> int:
    slot = 0
    while not _lock(directory, slot):
        slot += 1
    return slot


def _lock(directory: Path, slot: int) -> bool:
    # The descriptor is never closed: the kernel releases the lock when the process ends, however it ends.
    descriptor = os.open(directory / f"{slot}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return False
    return True


def drop_dead_gauges(directory: Path) -> None:
    """Empty the live gauges of dead processes; their counters stay."""
    for lock in directory.glob("*.lock"):
        with _locked_if_free(lock) as free:
            if free:
                _drop_live_gauges(directory, int(lock.stem))


@contextmanager
def _locked_if_free(lock: Path) -> Iterator[bool]:
    """Holds the lock of a free slot, so that no worker takes the slot while its files are removed."""
    descriptor = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(descriptor)


def _drop_live_gauges(directory: Path, slot: int) -> None:
    for path in directory.glob(_LIVE_GAUGES.format(slot)):
        # The file begins with the number of bytes in use. Its memory stays: on a tmpfs that others fill, the next
        # worker of this slot would not get it back, and could not start.
        with path.open("r+b") as file:
            file.write(bytes(8))
