"""The attempts that a delivery loop has started and does not wait for.

An attempt holds claimed rows. It ends with a completion, which shows the token of the claim. An attempt that is
cancelled at shutdown leaves its rows claimed: another worker may claim them when the lease ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


class InFlight:
    """Each attempt is a task of its own: cancelling the loop does not cancel the attempts."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._error: BaseException | None = None

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            self._error = task.exception() or self._error

    def raise_pending_error(self) -> None:
        """Raise the last error of a task since the previous call, for the loop to report."""
        error, self._error = self._error, None
        if error is not None:
            raise error

    async def wait_below(self, limit: int) -> None:
        while len(self._tasks) >= limit:
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)

    async def stop(self, seconds: float) -> None:
        """Wait at most `seconds` for the tasks, then cancel those that still run."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
