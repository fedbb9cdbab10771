"""The long polls of one worker, by id; the tail of the store's end log wakes them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")

MAX_WAIT_SECONDS = 25


class LongPolls:
    """At most `cap` long polls wait. Above that, and while draining, a request gets its response without a wait.

    `on_change` gets the number of long polls when it changes.
    """

    def __init__(self, cap: int = 8192, on_change: Callable[[int], None] = lambda count: None) -> None:
        self._cap = cap
        self.on_change = on_change
        self._waits: dict[bytes, set[Wait]] = {}
        self._count = 0
        self.draining = False
        self.any_registered = asyncio.Event()

    def __len__(self) -> int:
        return self._count

    @contextmanager
    def registered(self, key: bytes) -> Iterator[Wait | None]:
        """Register before the state is read, so that no end is missed; None when the request must not wait."""
        if self.draining or self._count >= self._cap:
            yield None
            return
        wait = Wait()
        self._waits.setdefault(key, set()).add(wait)
        self._count += 1
        self.any_registered.set()
        self.on_change(self._count)
        try:
            yield wait
        finally:
            self._remove(key, wait)

    async def until_final(self, key: bytes, wait: int, read: Callable[[], Awaitable[tuple[T, float | None]]]) -> T:
        """The state as soon as it is final, at the latest after `wait` seconds; at once when the request must not wait.

        `read` returns the state and the seconds until its expiry, None when it is final.
        """
        # Not the time of day, which may be set in the meantime.
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait
        with self.registered(key) as registered:
            while True:
                # Registered first, then read again: no end is missed in between.
                state, expires_in = await read()
                left = min(deadline - loop.time(), expires_in or 0)
                if registered is None or self.draining or left <= 0:
                    return state
                await registered.sleep(left)

    def _remove(self, key: bytes, wait: Wait) -> None:
        self._count -= 1
        waits = self._waits[key]
        waits.discard(wait)
        if not waits:
            del self._waits[key]
        if not self._count:
            self.any_registered.clear()
        self.on_change(self._count)

    def wake(self, keys: Iterable[bytes]) -> None:
        for key in keys:
            for wait in self._waits.get(key, ()):
                wait.wake()

    def wake_all(self) -> None:
        self.wake(list(self._waits))

    def drain(self) -> None:
        """From now on no request waits; all long polls return their present state."""
        self.draining = True
        self.wake_all()


class Wait:
    """One long poll; a wake before or between its sleeps is not lost."""

    def __init__(self) -> None:
        self._woken = asyncio.Event()

    def wake(self) -> None:
        self._woken.set()

    async def sleep(self, seconds: float) -> None:
        """Until woken, at most `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            return
        self._woken.clear()
