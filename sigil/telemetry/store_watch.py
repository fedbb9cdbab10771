"""Log lines when the session store fills, and when it has space again: a server that rejects creations would else log
nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sigil.serving import logs

_FILLING, _FULL = 0.15, 0.01
"""Of the store free for creations: 70 % in use, without pending rows, and so little that creations are rejected."""
_BACK = 0.05
"""A level ends with so much more free, so that a store at the limit does not log at every check."""
_LOOP_SECONDS = 5.0


class StoreWatch:
    """One line of each worker for each level that is reached. `free_and_size` are the bytes that creations may use, and
    those of the store."""

    def __init__(self, free_and_size: Callable[[], tuple[int, int]]) -> None:
        self._free_and_size = free_and_size
        self._level = 0

    async def run_once(self) -> None:
        self.check()
        await asyncio.sleep(_LOOP_SECONDS)

    def check(self) -> None:
        free, size = self._free_and_size()
        level = self._level_of(free / size)
        figures: dict[str, object] = {"free": max(0, free), "size": size}
        if level > self._level:
            self._reached(level, figures)
        elif level == 0 < self._level:
            logs.report("info", "store_has_space", figures)
        self._level = level

    def _level_of(self, share: float) -> int:
        limits = (_FILLING, _FULL)
        return sum(share < limit + (_BACK if self._level > number else 0) for number, limit in enumerate(limits))

    @staticmethod
    def _reached(level: int, figures: dict[str, object]) -> None:
        if level == 1:
            message = "new challenges are rejected when no byte of it is free: raise SIGIL_STORE_SIZE"
            logs.report("warn", "store_filling", {**figures, "message": message})
        else:
            message = "new challenges are rejected, answers are accepted: raise SIGIL_STORE_SIZE"
            logs.report("error", "store_full", {**figures, "message": message})
