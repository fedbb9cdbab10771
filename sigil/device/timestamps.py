"""Unix seconds not used before: /device/pending accepts each (fingerprint, timestamp) once (5.2)."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

from sigil.console.new_file import named_errors

Clock = Callable[[], float]
Sleep = Callable[[float], None]

# The server would not accept a timestamp further ahead. It was written before the clock was set back: waiting for it
# could take for ever.
_FAR_AHEAD = 60


def unused_timestamp(last: int, clock: Clock, sleep: Sleep) -> int:
    """The current second if it is later than `last`; otherwise waits for the next one."""
    if last - clock() > _FAR_AHEAD:
        return int(clock())
    while int(clock()) <= last:
        sleep(last + 1 - clock())
    return int(clock())


class MemoryTimestamps:
    """For a process whose key no other process uses: tests, load generators."""

    def __init__(self, clock: Clock, sleep: Sleep) -> None:
        self._last, self._clock, self._sleep = 0, clock, sleep

    def __call__(self) -> int:
        self._last = unused_timestamp(self._last, self._clock, self._sleep)
        return self._last


class AsyncMemoryTimestamps:
    """`MemoryTimestamps` for an event loop; concurrent calls get consecutive seconds."""

    def __init__(self, clock: Clock, sleep: Callable[[float], Awaitable[None]]) -> None:
        self._last, self._clock, self._sleep = 0, clock, sleep

    async def __call__(self) -> int:
        now = self._clock()
        second = int(now) if self._last - now > _FAR_AHEAD else max(int(now), self._last + 1)
        self._last = second
        while (ahead := second - self._clock()) > 0:
            await self._sleep(ahead)
        return second


class FileTimestamps:
    """For all processes of a user that share a key: taken under a lock, in a file of their own.

    The key file is not written, so a crash while polling cannot lose the key.
    """

    def __init__(self, path: Path, clock: Clock, sleep: Sleep) -> None:
        self._path, self._clock, self._sleep = path, clock, sleep

    def __call__(self) -> int:
        with named_errors(self._path):
            return self._next()

    def _next(self) -> int:
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            second = unused_timestamp(_number(os.pread(file, 32, 0)), self._clock, self._sleep)
            os.pwrite(file, b"%020d" % second, 0)
            return second
        finally:
            os.close(file)


def _number(text: bytes) -> int:
    """0 for an empty or damaged file: at worst one request is rejected and repeated."""
    return int(text) if text.isdigit() else 0
