"""What a slow or dead provider may take of a worker, so that it takes nothing of the others."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Generic, TypeVar

T = TypeVar("T")

AT_ONCE = 256
IN_LINE = 1024


class Bulkhead(Generic[T]):
    """Tasks of one provider: `at_once` that have their `turn`, and `in_line` that wait for it. There are no others."""

    def __init__(self, at_once: int = AT_ONCE, in_line: int = IN_LINE) -> None:
        self.turn = asyncio.Semaphore(at_once)
        self._most = at_once + in_line
        self._running: set[asyncio.Task[T]] = set()

    @property
    def room(self) -> int:
        return self._most - len(self._running)

    def __len__(self) -> int:
        return len(self._running)

    def begin(self, work: Coroutine[None, None, T]) -> asyncio.Task[T]:
        """Only while there is room."""
        task = asyncio.create_task(work)
        self._running.add(task)
        # However it ends, its place is free: also of one that was cancelled before it ran.
        task.add_done_callback(self._running.discard)
        return task

    async def end(self, seconds: float) -> None:
        """Give what runs a moment, and cancel what is left."""
        if self._running:
            await asyncio.wait(self._running, timeout=seconds)
        left = list(self._running)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
