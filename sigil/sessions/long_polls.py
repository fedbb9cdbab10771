"""Long polls of one worker: who waits for which id, woken by the tail of the store's log of ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")

MAX_WAIT_SECONDS = 25


class LongPolls:
    """At most `cap` waits at once; over it, and while draining, nobody waits and the answer comes at once.

    `on_change` is told the number of waits when it changes.
    """

    def __init__(self, cap: int = 8192, on_change: Callable[[int], None] = lambda count: None) -> None:
        self._cap = cap
        self.on_change = on_change
        self._waits: dict[bytes, set[Wait]] = {}
        self._count = 0
        self.draining = False
        self.present = asyncio.Event()

    def __len__(self) -> int:
        return self._count

    @contextmanager
    def waiting(self, key: bytes) -> Iterator[Wait | None]:
        """Register before reading the state, so that no end falls between the two; None when nobody may wait."""
        if self.draining or self._count >= self._cap:
            yield None
            return
        wait = Wait()
        self._waits.setdefault(key, set()).add(wait)
        self._count += 1
        self.present.set()
        self.on_change(self._count)
        try:
            yield wait
        finally:
            self._remove(key, wait)

    async def until_final(self, key: bytes, wait: int, read: Callable[[], Awaitable[tuple[T, float | None]]]) -> T:
        """What `look` finds when it is final, or at the end of `wait` seconds, or when nobody may wait.

        `look` reads the state, and tells for how many seconds it can stay as it is: None when it is final.
        """
        # The time of day may be set while somebody waits.
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait
        with self.waiting(key) as waiter:
            while True:
                # Registered first, read again then: no end can fall between the two.
                found, lasts = await read()
                left = min(deadline - loop.time(), lasts or 0)
                if waiter is None or self.draining or left <= 0:
                    return found
                await waiter.sleep(left)

    def _remove(self, key: bytes, wait: Wait) -> None:
        self._count -= 1
        waits = self._waits[key]
        waits.discard(wait)
        if not waits:
            del self._waits[key]
        if not self._count:
            self.present.clear()
        self.on_change(self._count)

    def wake(self, keys: Iterable[bytes]) -> None:
        for key in keys:
            for wait in self._waits.get(key, ()):
                wait.wake()

    def wake_all(self) -> None:
        self.wake(list(self._waits))

    def drain(self) -> None:
        """From now on nobody waits; who does is answered with what is known."""
        self.draining = True
        self.wake_all()


class Wait:
    """One waiter; a wake before or between its sleeps is not lost."""

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
