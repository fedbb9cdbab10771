"""Decides which worker hangs and is killed.

The event loop of a worker writes its beat, not a thread, which would go on while the loop hangs. A worker is silent
while its beat does not change. Silence is summed up from check to check, and a check counts for at most two intervals:
after a pause of the master (SIGSTOP, a suspended host, a frozen container) the time of the pause does not count against
workers that were paused with it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from sigil.serving.watchdog.process_table import Row

BEAT_SECONDS = 1.0
CHECK_SECONDS = 1.0
_TICKS = os.sysconf("SC_CLK_TCK")

# Runnable, in uninterruptible sleep, or stopped by a tracer: the machine or an operator holds it up.
_HELD_UP = frozenset("RDt")
_HELD_UP_FACTOR = 6
_STOPPED = "T"


class Watched(Protocol):
    """A worker that serves."""

    @property
    def pid(self) -> int: ...

    @property
    def row(self) -> Row: ...


W = TypeVar("W", bound=Watched)


@dataclass
class Silence:
    """The beat of a worker, the seconds since it last changed, and the CPU time of its loop's thread at that moment."""

    beat: int
    seconds: float = 0
    cpu: float = 0


class Watchdog(Generic[W]):
    """`limit`: the seconds of silence after which a worker hangs.

    A worker that the kernel does not run (an overloaded machine) or that a tracer holds gets six times as long, unless
    its loop's thread has used CPU for half of `limit` since the beat: then it spins.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._silence: dict[int, Silence] = {}
        self._checked_at = float("-inf")

    def hung(self, workers: Sequence[W], now: float) -> list[W]:
        """The workers to kill now, of those that serve; `now` is a monotonic time. Call it often: it checks once in
        CHECK_SECONDS.

        Workers that wait for the lock of a hung worker are silent too. So the holder of the lock is killed first, and
        workers that are stopped, which no other worker can free; of the rest one at a time, the longest silent. The
        others then have half of the limit to beat again.
        """
        passed = now - self._checked_at
        if passed < CHECK_SECONDS:
            return []
        self._checked_at = now
        self._measure(workers, min(passed, 2 * CHECK_SECONDS))
        victims = self._victims([worker for worker in workers if self._seconds(worker) > 2 * CHECK_SECONDS])
        if victims:
            for silence in self._silence.values():
                silence.seconds = min(silence.seconds, self._limit / 2)
        return victims

    def _measure(self, workers: Sequence[W], seconds: float) -> None:
        before, self._silence = self._silence, {}
        for worker in workers:
            beat = worker.row.last_beat
            silence = before.get(worker.pid)
            if silence is None or silence.beat != beat:
                silence = Silence(beat)
            else:
                if not silence.seconds:
                    silence.cpu = _thread(worker.pid)[1]
                silence.seconds += seconds
            self._silence[worker.pid] = silence

    def _victims(self, silent: list[W]) -> list[W]:
        hung = [worker for worker in silent if self._hangs(worker)]
        stopped = [worker for worker in hung if _thread(worker.pid)[0] == _STOPPED]
        # At most one process has the lock. A holder that is only slow is waited for.
        holders = [worker for worker in silent if worker.row.writing[0]]
        if holders or stopped:
            return [worker for worker in hung if worker in holders or worker in stopped]
        return sorted(hung, key=self._seconds)[-1:]

    def _seconds(self, worker: W) -> float:
        return self._silence[worker.pid].seconds

    def _hangs(self, worker: W) -> bool:
        silence = self._silence[worker.pid]
        if silence.seconds < self._limit:
            return False
        state, cpu = _thread(worker.pid)
        spins = cpu - silence.cpu >= self._limit / 2
        return state not in _HELD_UP or spins or silence.seconds >= _HELD_UP_FACTOR * self._limit


def _thread(pid: int) -> tuple[str, float]:
    """The state letter and the CPU seconds of the main thread, where the loop runs: proc(5). Empty without /proc."""
    try:
        fields = Path(f"/proc/{pid}/task/{pid}/stat").read_text().rpartition(") ")[2].split()
        return fields[0], (int(fields[11]) + int(fields[12])) / _TICKS
    except (OSError, IndexError, ValueError):
        return "", 0.0
