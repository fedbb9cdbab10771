"""The background loops of a worker. Every worker runs all of them; whoever gets there first does the work."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from sigil.challenges import Challenges
from sigil.core.decision import SessionStore
from sigil.outbox_loop import OutboxLoop
from sigil.waiting import Waiters

WAKE_SECONDS = 0.010
SWEEP_SECONDS = 1.0
CLEAN_SECONDS = 10.0


class OnFault(Protocol):
    def __call__(self, loop: str, error: Exception) -> None: ...


class Loops:
    """Started and stopped with the application; a loop that fails is reported and goes on."""

    def __init__(
        self,
        *,
        store: SessionStore,
        challenges: Challenges,
        waiters: Waiters,
        on_fault: OnFault,
        outbox: OutboxLoop | None = None,
    ) -> None:
        self._store = store
        self._outbox = outbox
        self._challenges = challenges
        self._waiters = waiters
        self._on_fault = on_fault
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        loops: dict[str, Callable[[], Awaitable[None]]] = {
            "wake": self._wake,
            "expire": self._expire,
            "clean": self._clean,
        }
        if self._outbox is not None:
            loops["push"] = self._outbox.turn
        self._tasks = [asyncio.create_task(self._forever(name, loop), name=name) for name, loop in loops.items()]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._outbox is not None:
            await self._outbox.stop()

    async def _forever(self, name: str, loop: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await loop()
            except Exception as error:
                self._on_fault(name, error)
                await asyncio.sleep(SWEEP_SECONDS)

    async def _wake(self) -> None:
        """One turn from the first waiter to the last: reads the tail of the log of ends for all of them."""
        await self._waiters.present.wait()
        position = (await self._store.ends(None)).position
        # What ended before that position is seen by the second look of those who wait already.
        self._waiters.wake_all()
        while len(self._waiters):
            await asyncio.sleep(WAKE_SECONDS)
            ends = await self._store.ends(position)
            position = ends.position
            if ends.lost:
                self._waiters.wake_all()
            else:
                self._waiters.wake(ends.ids)

    async def _expire(self) -> None:
        if not await self._challenges.sweep():
            await asyncio.sleep(SWEEP_SECONDS)
        else:
            await asyncio.sleep(0)

    async def _clean(self) -> None:
        await asyncio.sleep(CLEAN_SECONDS)
        await self._store.clean()
