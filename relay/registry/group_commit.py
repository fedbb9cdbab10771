"""Group commit: calls that arrive during a commit share the next one."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from relay.registry.model import RegistryBusy

T = TypeVar("T")


class GroupCommit(Generic[T]):
    """Calls `run` with the items of one or more calls, batch after batch: at most `at_once` items of several calls.

    A commit waits for the disk. One commit per push outcome would limit the relay to a few hundred a second; so calls
    that arrive during a commit share the next one. Beyond `max_waiting` waiting items a call is RegistryBusy.
    """

    def __init__(
        self, run: Callable[[list[T]], Awaitable[None]], *, at_once: int = 500, max_waiting: int = 10_000
    ) -> None:
        self._run = run
        self._at_once = at_once
        self._max_waiting = max_waiting
        self._calls: deque[tuple[Sequence[T], asyncio.Future[None]]] = deque()
        self._waiting = 0
        self._task: asyncio.Task[None] | None = None

    async def __call__(self, items: Sequence[T]) -> None:
        """Return when `run` has processed the items, and raise its error."""
        if self._waiting + len(items) > self._max_waiting:
            raise RegistryBusy("too many callers wait for the database")
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._calls.append((items, done))
        self._waiting += len(items)
        if self._task is None:
            self._task = asyncio.create_task(self._commit_all())
        await done

    async def _commit_all(self) -> None:
        while self._calls:
            items, calls = self._next_batch()
            error: BaseException | None = None
            try:
                await self._run(items)
            except Exception as raised:  # any error belongs to the callers of this batch
                error = raised
            for done in calls:
                if done.done():
                    continue  # the caller was cancelled
                if error is None:
                    done.set_result(None)
                else:
                    done.set_exception(error)
        self._task = None

    def _next_batch(self) -> tuple[list[T], list[asyncio.Future[None]]]:
        items: list[T] = []
        calls: list[asyncio.Future[None]] = []
        while self._calls and (not calls or len(items) + len(self._calls[0][0]) <= self._at_once):
            more, done = self._calls.popleft()
            items.extend(more)
            calls.append(done)
        self._waiting -= len(items)
        return items, calls
