"""A bulkhead limits the tasks of one provider in a worker: a slow provider cannot use up the capacity of the others,
a server not that of other servers, and a host of a provider that has several (a lane) not that of other hosts.
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
    """At most `max_concurrent` tasks of each lane hold one of its slots, and at most `max_queued` more wait for one.

    A server may have as many tasks as there is capacity left: half of all if it is alone, a third each if there are two
    with long queues, and so on (Choudhury and Hahne, dynamic queue length thresholds, 1998). So some capacity is left
    for a server that comes. A provider of one host has the lane "" alone. A named lane has its own share by the same
    rule, and its servers have shares of that: a server whose pushes wait for a slow host still reaches another one.
    """

    def __init__(self, max_concurrent: int = MAX_CONCURRENT, max_queued: int = MAX_QUEUED) -> None:
        self._max_concurrent = max_concurrent
        self._max_tasks = max_concurrent + max_queued
        self._tasks: set[asyncio.Task[T]] = set()
        self._by_server: Counter[tuple[bytes, str]] = Counter()
        self._by_lane: Counter[str] = Counter()
        # Only of lanes with tasks.
        self._slots: dict[str, FairSlots] = {}

    @property
    def capacity(self) -> int:
        return self._max_tasks - len(self._tasks)

    def capacity_of(self, server_id: bytes, lane: str = "") -> int:
        capacity_of_lane = self.capacity - (self._by_lane[lane] if lane else 0)
        return capacity_of_lane - self._by_server[server_id, lane]

    def full_servers(self) -> set[bytes]:
        """Those without capacity, of the servers that have tasks. A server is not full while a single lane is."""
        return {server_id for server_id, lane in self._by_server if not lane and self.capacity_of(server_id) <= 0}

    def slots(self, lane: str = "") -> FairSlots:
        """For a task that was started in this lane."""
        slots = self._slots.get(lane)
        if slots is None:
            slots = self._slots[lane] = FairSlots(self._max_concurrent)
        return slots

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, server_id: bytes, work: Coroutine[None, None, T], lane: str = "") -> asyncio.Task[T]:
        """Only if `capacity_of` the server and the lane is above 0."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        self._by_server[server_id, lane] += 1
        self._by_lane[lane] += 1
        # A callback, since a task that is cancelled before it runs executes no `finally` of its own.
        task.add_done_callback(lambda done: self._ended(server_id, lane, done))
        return task

    def _ended(self, server_id: bytes, lane: str, task: asyncio.Task[T]) -> None:
        self._tasks.discard(task)
        self._by_server[server_id, lane] -= 1
        if not self._by_server[server_id, lane]:
            del self._by_server[server_id, lane]
        self._by_lane[lane] -= 1
        if not self._by_lane[lane]:
            del self._by_lane[lane]
            self._slots.pop(lane, None)

    async def close(self, seconds: float) -> None:
        """Wait up to `seconds` for the tasks, then cancel the others."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        remaining = list(self._tasks)
        for task in remaining:
            task.cancel()
        await asyncio.gather(*remaining, return_exceptions=True)
