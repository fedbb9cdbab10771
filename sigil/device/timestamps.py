"""Unix seconds that were not used before: /device/pending takes each (fingerprint, timestamp) once (5.2)."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

Clock = Callable[[], float]
Sleep = Callable[[float], None]

# A second further ahead than the server would accept was written under a clock that has been set back since:
# waiting for it could take for ever.
_FAR_AHEAD = 60


def unused_second(last: int, clock: Clock, sleep: Sleep) -> int:
    """The current second if it comes after `last`, else the next one, waited for."""
    if last - clock() > _FAR_AHEAD:
        return int(clock())
    while int(clock()) <= last:
        sleep(last + 1 - clock())
    return int(clock())


class SecondsInMemory:
    """For one process with a key of its own: tests, load generators."""

    def __init__(self, clock: Clock, sleep: Sleep) -> None:
        self._last, self._clock, self._sleep = 0, clock, sleep

    def __call__(self) -> int:
        self._last = unused_second(self._last, self._clock, self._sleep)
        return self._last


class AsyncSecondsInMemory:
    """`SecondsInMemory` for an event loop; who asks at once gets one second after the other."""

    def __init__(self, clock: Clock, sleep: Callable[[float], Awaitable[None]]) -> None:
        self._last, self._clock, self._sleep = 0, clock, sleep

    async def __call__(self) -> int:
        now = self._clock()
        second = int(now) if self._last - now > _FAR_AHEAD else max(int(now), self._last + 1)
        self._last = second
        while (ahead := second - self._clock()) > 0:
            await self._sleep(ahead)
        return second


class SecondsInFile:
    """For all processes of a user that share a key: claimed under a lock, in a file of its own.

    The key file is not touched for it, so a crash while polling cannot cost the key.
    """

    def __init__(self, path: Path, clock: Clock, sleep: Sleep) -> None:
        self._path, self._clock, self._sleep = path, clock, sleep

    def __call__(self) -> int:
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            second = unused_second(_number(os.pread(file, 32, 0)), self._clock, self._sleep)
            os.pwrite(file, b"%020d" % second, 0)
            return second
        finally:
            os.close(file)


def _number(text: bytes) -> int:
    """0 for an empty or damaged file: at worst one request is refused and repeated."""
    return int(text) if text.isdigit() else 0
