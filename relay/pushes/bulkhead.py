"""A bulkhead limits the tasks of one provider in a worker: a slow provider cannot use up the capacity of the others,
and a server not that of other servers.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine
from typing import Generic, TypeVar

from relay.pushes.fair_slots import FairSlots

T = TypeVar("T")

MAX_CONCURRENT = 256
MAX_QUEUED = 2304


class Bulkhead(Generic[T]):
    """At most `max_concurrent` tasks hold one of the `slots`, and at most `max_queued` wait for one.

    A server may have as many tasks as there is capacity left: half of all if it is alone, a third each if there are two
    with long queues, and so on (Choudhury and Hahne, dynamic queue length thresholds, 1998). So some capacity is left
    for a server that comes.
    """

    def __init__(self, max_concurrent: int = MAX_CONCURRENT, max_queued: int = MAX_QUEUED) -> None:
        self.slots = FairSlots(max_concurrent)
        self._max_tasks = max_concurrent + max_queued
        self._tasks: set[asyncio.Task[T]] = set()
        self._by_server: Counter[bytes] = Counter()

    @property
    def capacity(self) -> int:
        return self._max_tasks - len(self._tasks)

    def capacity_of(self, server_id: bytes) -> int:
        return self.capacity - self._by_server[server_id]

    def full_servers(self) -> set[bytes]:
        """Those without capacity, of the servers that have tasks."""
        return {server_id for server_id in self._by_server if self.capacity_of(server_id) <= 0}

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, server_id: bytes, work: Coroutine[None, None, T]) -> asyncio.Task[T]:
        """Only if `capacity_of` the server is above 0."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        self._by_server[server_id] += 1
        # A callback, since a task that is cancelled before it runs executes no `finally` of its own.
        task.add_done_callback(lambda done: self._ended(server_id, done))
        return task

    def _ended(self, server_id: bytes, task: asyncio.Task[T]) -> None:
        self._tasks.discard(task)
        self._by_server[server_id] -= 1
        if not self._by_server[server_id]:
            del self._by_server[server_id]

    async def close(self, seconds: float) -> None:
        """Wait up to `seconds` for the tasks, then cancel the others."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        remaining = list(self._tasks)
        for task in remaining:
            task.cancel()
        await asyncio.gather(*remaining, return_exceptions=True)
