"""PID 1 of a container reaps the processes whose parent has ended: each would stay a zombie, and PIDs have a limit."""

from __future__ import annotations

import contextlib
import os

from sigil.serving.process.proc_stats import children, is_zombie

_CHECK_SECONDS = 2.0
# Children of this process itself are reaped by the code that started them, at once: their exit code is not taken away.
_GRACE_SECONDS = 6.0


class OrphanReaper:
    """Does nothing in a process that is not PID 1."""

    def __init__(self) -> None:
        self._check_at = 0.0 if os.getpid() == 1 else float("inf")
        self._seen: dict[int, float] = {}

    def step(self, now: float) -> None:
        """Call it often; `now` is a monotonic time."""
        if now < self._check_at:
            return
        self._check_at = now + _CHECK_SECONDS
        self._seen = {pid: self._seen.get(pid, now) for pid in children(1) if is_zombie(pid)}
        for pid, since in self._seen.items():
            if now - since >= _GRACE_SECONDS:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
