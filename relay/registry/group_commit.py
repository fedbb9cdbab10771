"""Calls that come while one is under way go together in the next."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from relay.registry.port import RegistryBusy

T = TypeVar("T")


class GroupCommit(Generic[T]):
    """Runs `run` with the items of one call or more, one after another: at most `at_once` of several calls.

    A commit waits for the disk. One for each outcome of a push would let through a few hundred a second; so those that
    come during a commit share the next one. With `max_waiting` items waiting, calls are RegistryBusy.
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
        """Return when they are done, and raise what `run` raised."""
        if self._waiting + len(items) > self._max_waiting:
            raise RegistryBusy("too many wait for the database")
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._calls.append((items, done))
        self._waiting += len(items)
        if self._task is None:
            self._task = asyncio.create_task(self._work())
        await done

    async def _work(self) -> None:
        while self._calls:
            items, calls = self._next()
            error: BaseException | None = None
            try:
                await self._run(items)
            except Exception as raised:  # whatever it was, it belongs to those who wait
                error = raised
            for done in calls:
                if done.done():
                    continue  # whoever waited was cancelled
                if error is None:
                    done.set_result(None)
                else:
                    done.set_exception(error)
        self._task = None

    def _next(self) -> tuple[list[T], list[asyncio.Future[None]]]:
        items: list[T] = []
        calls: list[asyncio.Future[None]] = []
        while self._calls and (not calls or len(items) + len(self._calls[0][0]) <= self._at_once):
            more, done = self._calls.popleft()
            items.extend(more)
            calls.append(done)
        self._waiting -= len(items)
        return items, calls
