"""The lock of a server on its directory."""

from __future__ import annotations

import fcntl
import time

_SECONDS = 1.0
_PAUSE_SECONDS = 0.05


def lock_of_server(descriptor: int) -> None:
    """Take it for the life of the process. BlockingIOError if another process keeps it; OSError.

    A command that examines a running server has it for a moment, and must not make a start fail.
    """
    ends = time.monotonic() + _SECONDS
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= ends:
                raise
            time.sleep(_PAUSE_SECONDS)
