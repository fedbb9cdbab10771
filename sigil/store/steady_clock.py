"""The clock of the session store: Unix seconds that never run backwards (docs/decisions/0024).

It is the boot clock plus an offset. The boot clock runs while the host is suspended, and setting the time of day does
not change it. The offset follows the time of day forwards only. All processes on a state directory share it: none ever
sees an earlier time than another has used.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import time
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from sigil.serving.boot_clock import boot_seconds

CLOCK_FILE = "clock"
"""The file in the state directory; it holds the offset in nanoseconds, in the byte order of the host."""
STEP_SECONDS = 0.05
"""A smaller difference between the time of day and the store's clock is no step."""
_REPORTED_SECONDS = 1.0
# The codec stores due times in 32 bits; a time of day near the end of that range is an error of the clock.
_LAST = (1 << 32) - (1 << 25)
_SECOND = 1_000_000_000


class Offset(Protocol):
    """An offset in nanoseconds, 0 until it is set."""

    @property
    def cell(self) -> memoryview | array[int]:
        """Its only item is the offset. Written by `raise_to` alone."""

    def raise_to(self, value: int) -> bool:
        """Unless it is larger already; whether this call has raised it."""


class LocalOffset:
    """The `Offset` of a store in the memory of one process."""

    def __init__(self) -> None:
        self.cell = array("q", [0])

    def raise_to(self, value: int) -> bool:
        raised = value > self.cell[0]
        self.cell[0] = max(self.cell[0], value)
        return raised


class SharedOffset:
    """The `Offset` of a state directory, in a file that is created if it is absent."""

    def __init__(self, directory: Path) -> None:
        self._file = os.open(directory / CLOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            # Its page exists from now on: a tmpfs that fills up later cannot end a process with SIGBUS here.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(self._file, 0, mmap.PAGESIZE)
            else:
                os.ftruncate(self._file, mmap.PAGESIZE)
            self._map = mmap.mmap(self._file, mmap.PAGESIZE)
        except BaseException:
            os.close(self._file)
            raise
        # An aligned item of 8 bytes is read and written at once.
        self.cell = memoryview(self._map).cast("q")

    def raise_to(self, value: int) -> bool:
        try:
            # Never a wait for a process that is stopped while it holds the lock: the next reading tries again. The
            # master sets the first offset while no other process has the directory.
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        try:
            raised = value > self.cell[0]
            self.cell[0] = max(self.cell[0], value)
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)
        return raised

    def close(self) -> None:
        self.cell.release()
        self._map.close()
        os.close(self._file)


class SteadyClock:
    """`wall` gives the time of day, `boot` seconds that never step.

    `on_step` gets the seconds by which the time of day was set, if more than one: forward in the process that follows
    it first; back in each process, once, as how far the time of day is from this clock (below 0).
    """

    def __init__(
        self,
        offset: Offset,
        *,
        wall: Callable[[], float] = time.time,
        boot: Callable[[], float] = boot_seconds,
        on_step: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        self._offset = offset
        self._cell = offset.cell
        self._wall = wall
        self._boot = boot
        self._on_step = on_step
        self._reported_ahead = _REPORTED_SECONDS

    def __call__(self) -> float:
        """The present time: not earlier than any that a process with this offset has had before."""
        # The time of day first: a pause between the two readings then makes the offset too small, never too large.
        wall = self._wall()
        boot = self._boot()
        now = boot + self._cell[0] / _SECOND
        if -self._reported_ahead <= wall - now <= STEP_SECONDS or wall > _LAST:
            return now
        return self._follow(wall, boot, now)

    def _follow(self, wall: float, boot: float, now: float) -> float:
        if wall < now:
            self._reported_ahead = now - wall + _REPORTED_SECONDS
            self._on_step(wall - now)
            return now
        before = self._cell[0]
        if self._offset.raise_to(int((wall - boot) * _SECOND)) and before and wall - now > _REPORTED_SECONDS:
            self._on_step(wall - now)
        return boot + self._cell[0] / _SECOND
