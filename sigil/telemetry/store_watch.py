"""Log lines when the session store fills, and when it has space again: a server that rejects creations would else log
nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sigil.core.session_store import CREATION_RESERVE, Usage
from sigil.serving import logs

_FILLING, _FULL = 0.7, 1 - CREATION_RESERVE
_BACK = 0.05
"""A level ends this far below its begin, so that a store at the limit does not log at every check."""
_LOOP_SECONDS = 5.0


class StoreWatch:
    """One line of each worker for each level that is reached. `usage` is that of the store."""

    def __init__(self, usage: Callable[[], Usage]) -> None:
        self._usage = usage
        self._level = 0

    async def run_once(self) -> None:
        self.check()
        await asyncio.sleep(_LOOP_SECONDS)

    def check(self) -> None:
        used, size, _ = self._usage()
        level = self._level_of(used / size)
        figures: dict[str, object] = {"percent": 100 * used // size, "bytes": used, "size": size}
        if level > self._level:
            self._reached(level, figures)
        elif level == 0 < self._level:
            logs.report("info", "store_has_space", figures)
        self._level = level

    def _level_of(self, share: float) -> int:
        limits = (_FILLING, _FULL)
        return sum(share >= limit - (_BACK if self._level > number else 0) for number, limit in enumerate(limits))

    @staticmethod
    def _reached(level: int, figures: dict[str, object]) -> None:
        if level == 1:
            message = "from 85 percent on new challenges are rejected with 503: raise SIGIL_STORE_SIZE"
            logs.report("warn", "store_filling", {**figures, "message": message})
        else:
            message = "new challenges are rejected with 503, answers are accepted: raise SIGIL_STORE_SIZE"
            logs.report("error", "store_full", {**figures, "message": message})
