"""A bulkhead limits the tasks of one provider in a worker: a slow provider cannot use up the capacity of the others."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Generic, TypeVar

T = TypeVar("T")

MAX_CONCURRENT = 256
MAX_QUEUED = 1024


class Bulkhead(Generic[T]):
    """At most `max_concurrent` tasks hold one of the `slots`, and at most `max_queued` wait for one."""

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
        """Only if `capacity` is above 0."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        # A callback, since a task that is cancelled before it runs executes no `finally` of its own.
        task.add_done_callback(self._tasks.discard)
        return task

    async def close(self, seconds: float) -> None:
        """Wait up to `seconds` for the tasks, then cancel the others."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        remaining = list(self._tasks)
        for task in remaining:
            task.cancel()
        await asyncio.gather(*remaining, return_exceptions=True)
