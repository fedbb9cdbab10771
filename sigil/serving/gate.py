"""How much a worker takes on at once: over the cap a request is answered 503 before queues grow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sigil.protocol.errors import Overloaded

# A body that takes longer is slow, not work: slow senders must not use up the cap.
_SLOW_SECONDS = 1.0


class Gate:
    """Counts the requests of one worker. Those that only wait (long polls, slow bodies) do not fill it.

    `cap` requests at work, `buffered_cap` bytes of unfinished bodies.
    """

    def __init__(self, cap: int = 1024, buffered_cap: int = 64 << 20) -> None:
        self._cap = cap
        self._buffered_cap = buffered_cap
        self._waiting = 0
        self._slow: dict[object, None] = {}
        self._reading: dict[object, float] = {}
        self.active = 0
        self.buffered = 0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around a wait that is bounded elsewhere."""
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1

    @contextmanager
    def reading(self, now: float) -> Iterator[None]:
        """Around the reading of a body; after a second it no longer counts as work."""
        ticket = object()
        self._reading[ticket] = now
        try:
            yield
        finally:
            if self._reading.pop(ticket, None) is None:
                del self._slow[ticket]

    def check(self, now: float) -> None:
        """Overloaded when the worker is at its cap; `now` is the monotonic time in seconds."""
        if self._at_work() > self._cap:
            self._set_slow_apart(now)
            if self._at_work() > self._cap:
                raise Overloaded

    def hold(self, size: int) -> None:
        """Account for a piece of an unfinished body; Overloaded when all of them are too large together."""
        self.buffered += size
        if self.buffered > self._buffered_cap:
            raise Overloaded

    def _at_work(self) -> int:
        return self.active - self._waiting - len(self._slow)

    def _set_slow_apart(self, now: float) -> None:
        while self._reading:
            ticket, since = next(iter(self._reading.items()))
            if since > now - _SLOW_SECONDS:
                return
            del self._reading[ticket]
            self._slow[ticket] = None
