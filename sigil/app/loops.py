"""The background loops of a worker. Every worker runs all of them; whoever gets there first does the work."""

from __future__ import annotations

import asyncio

from sigil.approvals.fan_out_worker import FanOutWorker
from sigil.core.session_store import SessionStore
from sigil.pushes.loop import PushLoop
from sigil.serving.background import BackgroundLoops, Turn
from sigil.sessions.expiry import ExpirySweeper
from sigil.sessions.long_polls import LongPolls
from sigil.webhooks.loop import WebhookLoop

WAKE_SECONDS = 0.010
SWEEP_SECONDS = 1.0
CLEAN_SECONDS = 10.0


class Loops:
    """Started and stopped with the application; a loop that fails is reported and goes on."""

    def __init__(
        self,
        *,
        store: SessionStore,
        sweeper: ExpirySweeper,
        fan_outs: FanOutWorker,
        waiters: LongPolls,
        outbox: PushLoop | None = None,
        webhooks: WebhookLoop | None = None,
    ) -> None:
        self._store = store
        self._outgoing = [loop for loop in (outbox, webhooks) if loop is not None]
        self._sweeper = sweeper
        self._waiters = waiters
        turns: dict[str, Turn] = {
            "wake": self._wake,
            "expire": self._expire,
            "fan out": fan_outs.turn,
            "clean": self._clean,
        }
        if outbox is not None:
            turns["push"] = outbox.turn
        if webhooks is not None:
            turns |= {"webhook": webhooks.turn, "forget": webhooks.forget}
        self._loops = BackgroundLoops(turns, rest=SWEEP_SECONDS)

    def start(self) -> None:
        self._loops.start()

    async def stop(self) -> None:
        await self._loops.stop()
        await asyncio.gather(*(loop.stop() for loop in self._outgoing))

    async def _wake(self) -> None:
        """One turn from the first waiter to the last: reads the tail of the log of ends for all of them."""
        await self._waiters.present.wait()
        position = (await self._store.ends(None)).position
        # What ended before that position is seen by the second look of those who wait already.
        self._waiters.wake_all()
        while len(self._waiters):
            await asyncio.sleep(WAKE_SECONDS)
            ends = await self._store.ends(position)
            position = ends.position
            if ends.truncated:
                self._waiters.wake_all()
            else:
                self._waiters.wake(ends.ids)

    async def _expire(self) -> None:
        if not await self._sweeper.sweep():
            await asyncio.sleep(SWEEP_SECONDS)
        else:
            await asyncio.sleep(0)

    async def _clean(self) -> None:
        await asyncio.sleep(CLEAN_SECONDS)
        await self._store.clean()
