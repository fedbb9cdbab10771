"""What a slow or dead provider may take of a worker, so that it takes nothing of the others."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Generic, TypeVar

T = TypeVar("T")

MAX_CONCURRENT = 256
MAX_QUEUED = 1024


class Bulkhead(Generic[T]):
    """Tasks of one provider: `at_once` that have their `turn`, and `in_line` that wait for it. There are no others."""

    def __init__(self, max_concurrent: int = MAX_CONCURRENT, max_queued: int = MAX_QUEUED) -> None:
        self.slots = asyncio.Semaphore(max_concurrent)
        self._max_tasks = max_concurrent + max_queued
        self._tasks: set[asyncio.Task[T]] = set()

    @property
    def capacity(self) -> int:
        return self._max_tasks - len(self._tasks)

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, work: Coroutine[None, None, T]) -> asyncio.Task[T]:
        """Only while there is room."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        # However it ends, its place is free: also of one that was cancelled before it ran.
        task.add_done_callback(self._tasks.discard)
        return task

    async def close(self, seconds: float) -> None:
        """Give what runs a moment, and cancel what is left."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        left = list(self._tasks)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
