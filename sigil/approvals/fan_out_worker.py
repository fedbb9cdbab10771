"""Continues the fan-outs of large requests, batch by batch; the first worker to find a fan-out completes it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from sigil.core.approvals import fan_out
from sigil.core.approvals.approval import Approval, approval_key, member_name
from sigil.core.approvals.fan_out import FAN_OUT, fan_out_key
from sigil.core.session_store import Decision, SessionStore
from sigil.delivery.backlog import PushBacklog
from sigil.delivery.fair_queue import FairQueue

POLL_SECONDS = 1.0
"""How often a worker queries the store for fan-outs of other workers and of the expiry sweep."""
_MAX_ENQUEUED = 1024
_MAX_DUE = 50


class FanOutWorker:
    """No HTTP request awaits this."""

    def __init__(self, *, store: SessionStore, push_backlog: PushBacklog, clock: Callable[[], float]) -> None:
        self._store = store
        self._push_backlog = push_backlog
        self._clock = clock
        self._enqueued = FairQueue(_MAX_ENQUEUED)
        self._any_enqueued = asyncio.Event()

    def add(self, mpa_id: bytes, owner: bytes = b"") -> None:
        """This request has a fan-out. Above the limit, it is found in the store a little later."""
        if self._enqueued.add(owner, mpa_id):
            self._any_enqueued.set()

    async def run_once(self) -> None:
        """Wait for a fan-out, at most POLL_SECONDS, and complete all."""
        try:
            async with asyncio.timeout(POLL_SECONDS):
                await self._any_enqueued.wait()
        except TimeoutError:
            pass
        await self.run_pending()

    async def run_pending(self) -> None:
        """Complete the fan-outs that this worker has enqueued, and those that are due in the store."""
        self._any_enqueued.clear()
        await self._complete_enqueued()
        for key in await self._store.due(self._clock(), _MAX_DUE, FAN_OUT):
            approval: Approval | None = await self._store.get(approval_key(key.name))
            self._enqueued.add(approval.owner if approval else b"", key.name)
        await self._complete_enqueued()

    async def _complete_enqueued(self) -> None:
        """One batch at a time, of the owners in turn: many large requests of one owner do not delay another's."""
        while self._enqueued:
            for owner, mpa_id in self._enqueued.take(1):
                if await self._next_batch(mpa_id):
                    self._enqueued.add(owner, mpa_id)
            # A batch takes a fraction of a millisecond: other requests run in between.
            await asyncio.sleep(0)

    async def _next_batch(self, mpa_id: bytes) -> bool:
        seen = await self._store.get(fan_out_key(mpa_id))
        approval = await self._store.get(approval_key(mpa_id))
        keys = [fan_out_key(mpa_id), approval_key(mpa_id)]
        batch = range(0)
        if seen is not None and approval is not None:
            batch = fan_out.batch_after(approval, seen.next)
            keys += fan_out.rows_of_batch(mpa_id, approval, batch)

        def rule(now: float, found: tuple[Any, ...]) -> Decision[bool]:
            return fan_out.next_batch(now, mpa_id, seen, dict(zip(keys, found, strict=True)))

        more = await self._store.transact(keys, rule)
        for member in batch:
            self._push_backlog.add(member_name(mpa_id, member), approval.owner if approval else b"")
        return more
