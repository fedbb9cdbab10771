"""The long polls of one worker, by id; the tail of the store's end log wakes them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from sigil.core.owner_share import SHARE_PER_OWNER, dynamic_limit

T = TypeVar("T")

MAX_WAIT_SECONDS = 25
_ALWAYS = 32
"""Long polls that an owner may hold while there is any place, also above its share."""


class LongPolls:
    """At most `cap` long polls wait, and those of one owner at most at `share` percent of them, less while others wait.
    Above that, and while draining, a request gets its response without a wait.

    `on_change` gets the number of long polls when it changes; `on_refusal` is called for a request that does not wait.
    """

    def __init__(
        self,
        cap: int = 8192,
        share: int = SHARE_PER_OWNER,
        on_change: Callable[[int], None] = lambda count: None,
        on_refusal: Callable[[], None] = lambda: None,
    ) -> None:
        self._cap = cap
        self._share = share
        self.on_change = on_change
        self.on_refusal = on_refusal
        self._waits: dict[bytes, set[Wait]] = {}
        self._of_owner: Counter[bytes] = Counter()
        self._count = 0
        self.draining = False
        self.any_registered = asyncio.Event()

    def __len__(self) -> int:
        return self._count

    @contextmanager
    def registered(self, owner: bytes, key: bytes, at_most: int | None = None) -> Iterator[Wait | None]:
        """Register before the state is read, so that no end is missed; None when the request must not wait: also when
        the owner already holds `at_most`.
        """
        if self.draining or not self._has_place(owner, at_most):
            self.on_refusal()
            yield None
            return
        wait = Wait()
        self._waits.setdefault(key, set()).add(wait)
        self._count += 1
        self._of_owner[owner] += 1
        self.any_registered.set()
        self.on_change(self._count)
        try:
            yield wait
        finally:
            self._remove(owner, key, wait)

    def _has_place(self, owner: bytes, at_most: int | None) -> bool:
        free, held = self._cap - self._count, self._of_owner[owner]
        if at_most is not None and held >= at_most:
            return False
        return free > 0 and (held < _ALWAYS or held < dynamic_limit(self._share, free))

    async def until_final(
        self,
        owner: bytes,
        key: bytes,
        wait: int,
        read: Callable[[], Awaitable[tuple[T, float | None]]],
        at_most: int | None = None,
    ) -> T:
        """The state as soon as it is final, at the latest after `wait` seconds; at once when the request must not wait.

        `read` returns the state and the seconds until its expiry, None when it is final, or the caller needs to know.
        """
        # Not the time of day, which may be set in the meantime.
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait
        with self.registered(owner, key, at_most) as registered:
            while True:
                # Registered first, then read again: no end is missed in between.
                state, expires_in = await read()
                left = min(deadline - loop.time(), expires_in or 0)
                if registered is None or self.draining or left <= 0:
                    return state
                await registered.sleep(left)

    def _remove(self, owner: bytes, key: bytes, wait: Wait) -> None:
        self._count -= 1
        self._of_owner[owner] -= 1
        if not self._of_owner[owner]:
            del self._of_owner[owner]
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
