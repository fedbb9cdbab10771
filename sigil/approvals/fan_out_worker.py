"""What is under way for requests of many members goes on here, batch by batch, on whichever worker looks first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from sigil.core import fan_out
from sigil.core.approval import approval_key, member_name
from sigil.core.fan_out import FAN_OUT, fan_out_key
from sigil.core.session_store import Decision, SessionStore
from sigil.delivery.backlog import PushBacklog

LOOK_SECONDS = 1.0
"""How often a worker looks for what another left, or what the sweep ended."""
_MOST_KNOWN = 1024
_MOST_LOOKED_UP = 50


class FanOutWorker:
    """Nothing here is awaited by a request."""

    def __init__(self, *, store: SessionStore, push_backlog: PushBacklog, clock: Callable[[], float]) -> None:
        self._store = store
        self._push_backlog = push_backlog
        self._clock = clock
        self._own: dict[bytes, None] = {}
        self._some = asyncio.Event()

    def enqueued(self, mpa_id: bytes) -> None:
        """Something is under way for this request. What does not fit is found in the store a little later."""
        if len(self._own) < _MOST_KNOWN:
            self._own[mpa_id] = None
            self._some.set()

    async def turn(self) -> None:
        """Wait until something is under way, or time to look for it, and see it through."""
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                await self._some.wait()
        except TimeoutError:
            pass
        await self.run_pending()

    async def run_pending(self) -> None:
        """All that this worker knows of, and what has been due for a while."""
        known, self._own = self._own, {}
        self._some.clear()
        for mpa_id in known:
            await self._see_through(mpa_id)
        for key in await self._store.due(self._clock(), _MOST_LOOKED_UP, FAN_OUT):
            await self._see_through(key.name)

    async def _see_through(self, mpa_id: bytes) -> None:
        more = True
        while more:
            more = await self._one_batch(mpa_id)
            # A batch is a fraction of a millisecond: requests are served in between.
            await asyncio.sleep(0)

    async def _one_batch(self, mpa_id: bytes) -> bool:
        seen = await self._store.get(fan_out_key(mpa_id))
        approval = await self._store.get(approval_key(mpa_id))
        keys = [fan_out_key(mpa_id), approval_key(mpa_id)]
        batch = range(0)
        if seen is not None and approval is not None:
            batch = fan_out.batch_after(approval, seen.next)
            keys += fan_out.rows_of(mpa_id, approval, batch)

        def rule(now: float, found: tuple[Any, ...]) -> Decision[bool]:
            return fan_out.go_on(now, mpa_id, seen, dict(zip(keys, found, strict=True)))

        more = await self._store.transact(keys, rule)
        for member in batch:
            self._push_backlog.enqueued(member_name(mpa_id, member))
        return more
