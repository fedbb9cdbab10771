"""Slots that servers take in turn: a server with a long queue does not delay another."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class FairSlots:
    """At most `count` holders at once. A free slot goes to the servers that wait, one after another, and not by the
    number of their callers; of one server to the caller that waits for the longest time. All operations take constant
    time."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._waiting: OrderedDict[bytes, deque[asyncio.Future[None]]] = OrderedDict()

    @asynccontextmanager
    async def of(self, server_id: bytes) -> AsyncIterator[None]:
        await self._acquire(server_id)
        try:
            yield
        finally:
            self._release()

    async def _acquire(self, server_id: bytes) -> None:
        if self._free > 0:
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(server_id, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                # The slot came in the same moment as the cancellation.
                self._release()
            raise

    def _release(self) -> None:
        while self._waiting:
            server_id, queue = self._waiting.popitem(last=False)
            turn = queue.popleft()
            if queue:
                self._waiting[server_id] = queue
            # A caller that was cancelled has left its place in the queue.
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
