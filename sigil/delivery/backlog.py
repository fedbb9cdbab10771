"""What one worker wrote into the outbox and has not claimed yet: it sends that without looking for it."""

from __future__ import annotations

import asyncio
from collections import deque

from sigil.core.push_outbox import Push


class Backlog:
    """At most `cap` names of entries; what does not fit is found in the store a little later, by any worker."""

    def __init__(self, cap: int = 8192) -> None:
        self._cap = cap
        self._ids: deque[bytes] = deque()
        self._some = asyncio.Event()
        self._away = False

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def push(self) -> Push:
        """How the push of what is asked now stands."""
        return Push.RELAY_UNREACHABLE if self._away else Push.QUEUED

    def enqueued(self, name: bytes) -> None:
        """There may be a new entry of that name. Returns at once."""
        # While nobody takes them nothing is claimed: entries wait in the store, which has room for them.
        if not self._away and len(self._ids) < self._cap:
            self._ids.append(name)
            self._some.set()

    def pause(self, away: bool) -> None:
        """Whether who they go to is away."""
        self._away = away
        if away:
            self.take(len(self._ids))

    async def wait(self, seconds: float) -> bool:
        """Wait until there is something, at most `seconds`; whether there is."""
        if not self._ids:
            try:
                async with asyncio.timeout(seconds):
                    await self._some.wait()
            except TimeoutError:
                pass
        return bool(self._ids)

    def take(self, most: int) -> list[bytes]:
        """The oldest, at most so many."""
        taken = [self._ids.popleft() for _ in range(min(most, len(self._ids)))]
        if not self._ids:
            self._some.clear()
        return taken


class PushDisabled:
    """In the place of `Backlog` where nothing is pushed."""

    push = Push.DISABLED

    def enqueued(self, name: bytes) -> None:
        pass


PushBacklog = Backlog | PushDisabled
