"""The time by which a thread must be done with its socket.

HTTP libraries bound each wait, not their sum: a peer that sends one byte of a header every few seconds would hold a
synchronous caller for ever. So each wait, where it begins in the socket, is shortened to the time that is left.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_ends: ContextVar[float | None] = ContextVar("sigil_sdk_deadline", default=None)


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Within this block of this thread, no socket of the SDK waits past the end."""
    token = _ends.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _ends.reset(token)


def shortened(seconds: float | None) -> float | None:
    """The timeout that a socket may have now: `seconds`, or the time left if that is less."""
    ends = _ends.get()
    if ends is None:
        return seconds
    # Never 0, which means "do not block" and raises another error. A wait of 1 ms ends with a timeout.
    left = max(0.001, ends - time.monotonic())
    return left if seconds is None else min(seconds, left)
