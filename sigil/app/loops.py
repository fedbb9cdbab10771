"""The background loops of a worker. Every worker runs all of them; the first to find work does it."""

from __future__ import annotations

import asyncio

from sigil.android_status.reader import AndroidStatus
from sigil.approvals.fan_out_worker import FanOutWorker
from sigil.core.session_store import SessionStore
from sigil.pushes.loop import PushLoop
from sigil.serving.background import BackgroundLoops, Job
from sigil.sessions.expiry import ExpirySweeper
from sigil.sessions.long_polls import LongPolls
from sigil.telemetry.store_watch import StoreWatch
from sigil.webhooks.loop import WebhookLoop

WAKE_SECONDS = 0.010
SWEEP_SECONDS = 1.0
CLEAN_SECONDS = 10.0


class Loops:
    """Started and stopped with the application; a loop that fails is logged and goes on."""

    def __init__(
        self,
        *,
        store: SessionStore,
        store_watch: StoreWatch,
        sweeper: ExpirySweeper,
        fan_outs: FanOutWorker,
        long_polls: LongPolls,
        push_loop: PushLoop | None = None,
        webhook_loop: WebhookLoop | None = None,
        android_status: AndroidStatus | None = None,
    ) -> None:
        self._store = store
        self._delivery_loops = [loop for loop in (push_loop, webhook_loop) if loop is not None]
        self._sweeper = sweeper
        self._long_polls = long_polls
        jobs: dict[str, Job] = {
            "wake": self._wake,
            "expire": self._expire,
            "fan out": fan_outs.run_once,
            "clean": self._clean,
            "watch store": store_watch.run_once,
        }
        if push_loop is not None:
            jobs["push"] = push_loop.turn
        if webhook_loop is not None:
            jobs |= {"webhook": webhook_loop.turn, "forget": webhook_loop.prune_failures}
        if android_status is not None:
            jobs["android status"] = android_status.run_once
        self._loops = BackgroundLoops(jobs, rest=SWEEP_SECONDS)

    def start(self) -> None:
        self._loops.start()

    async def stop(self) -> None:
        await self._loops.stop()
        await asyncio.gather(*(loop.stop() for loop in self._delivery_loops))

    async def _wake(self) -> None:
        """From the first long poll to the last: reads the tail of the end log for all of them."""
        await self._long_polls.any_registered.wait()
        position = (await self._store.read_end_log(None)).position
        # Long polls that began before this read query their state again, so they see an earlier end.
        self._long_polls.wake_all()
        while len(self._long_polls):
            await asyncio.sleep(WAKE_SECONDS)
            tail = await self._store.read_end_log(position)
            position = tail.position
            if tail.truncated:
                self._long_polls.wake_all()
            else:
                self._long_polls.wake(tail.ids)

    async def _expire(self) -> None:
        if not await self._sweeper.sweep():
            await asyncio.sleep(SWEEP_SECONDS)
        else:
            await asyncio.sleep(0)

    async def _clean(self) -> None:
        await asyncio.sleep(CLEAN_SECONDS)
        await self._store.clean()
