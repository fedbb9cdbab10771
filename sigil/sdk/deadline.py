"""A time by which a thread wants to be done with its socket.

HTTP libraries bound each wait, not their sum: a peer that sends one byte of a header every few seconds holds a
synchronous caller for ever. So the sum is kept where each wait begins, in the socket.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_ends: ContextVar[float | None] = ContextVar("sigil_sdk_deadline", default=None)


@contextmanager
def done_within(seconds: float) -> Iterator[None]:
    """Within this block of this thread, no socket of the SDK waits past the end."""
    token = _ends.set(time.monotonic() + seconds)
    try:
        yield
    finally:
        _ends.reset(token)


def shortened(seconds: float | None) -> float | None:
    """The time-out that a socket may have now."""
    ends = _ends.get()
    if ends is None:
        return seconds
    # Never 0, which means "do not block" and is another error; the wait itself says that time is over.
    left = max(0.001, ends - time.monotonic())
    return left if seconds is None else min(seconds, left)
