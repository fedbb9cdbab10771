"""Where the processes of a service keep their metrics, so that one scrape of any of them tells of all.

Each worker holds a place: a number, a lock on `<directory>/<number>.lock` that ends with the process, and the files of
prometheus_client under that number. Whoever takes a place that a dead worker left goes on counting where it stopped. So
nothing is lost with a worker, and there are never more files than there were workers at once.

prometheus_client is imported here only inside of functions: it looks for its directory when it is imported first.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

_LIVE_GAUGES = "gauge_live*_{}.db"


def directory(state_dir: Path) -> Path:
    """Where they all are; the master makes it anew."""
    return state_dir / "metrics"


def acquire(directory: Path) -> None:
    """In a worker, before any metric is made."""
    os.environ |= {"PROMETHEUS_MULTIPROC_DIR": str(directory)}
    place = _first_free(directory)
    _drop_live_gauges(directory, place)
    from prometheus_client import values

    values.ValueClass = cast(Any, values).MultiProcessValue(process_identifier=lambda: place)


def _first_free(directory: Path) -> int:
    place = 0
    while not _held_from_now_on(directory, place):
        place += 1
    return place


def _held_from_now_on(directory: Path, place: int) -> bool:
    # The descriptor is never closed: the kernel lets go of it when the process is gone, however it went.
    descriptor = os.open(directory / f"{place}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return False
    return True


def drop_dead_gauges(directory: Path) -> None:
    """Without what dead processes said of the present; what they counted stays."""
    for lock in directory.glob("*.lock"):
        with _nobodys(lock) as free:
            if free:
                _drop_live_gauges(directory, int(lock.stem))


@contextmanager
def _nobodys(lock: Path) -> Iterator[bool]:
    """Holds a place for a moment, if it is free: nobody can take it while its files go."""
    descriptor = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(descriptor)


def _drop_live_gauges(directory: Path, place: int) -> None:
    for path in directory.glob(_LIVE_GAUGES.format(place)):
        path.unlink(missing_ok=True)
