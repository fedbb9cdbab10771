"""One worker's turn at the outbox: what it wrote itself is sent at once, what is due by whoever finds it first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sigil.core.push_outbox import MOST_CLAIMS
from sigil.delivery.backlog import Backlog
from sigil.delivery.in_flight import InFlight
from sigil.delivery.relay_watch import RelayWatch
from sigil.pushes.service import Pushes

GATHER_SECONDS, BUSY_GATHER_SECONDS = 0.005, 0.020
"""How long pushes come together for one request, which costs as much CPU as dozens of pushes in it. The longer while
others are under way, so that a worker makes at most 50 requests a second."""
LOOK_SECONDS = 1.0
"""How often a worker looks for what is due: retries, outcomes, and what dead or busy workers left."""
MOST_BATCHES = 8
"""Under way at once in a worker. The relay may take 2 s for an answer."""
STOP_SECONDS = 1.0
_PROBE_CLAIMS = 20


class PushLoop:
    """Nothing here is awaited by a request. `jitter` gives 0..1."""

    def __init__(self, *, pushes: Pushes, outgoing: Backlog, watch: RelayWatch, jitter: Callable[[], float]) -> None:
        self._pushes = pushes
        self._outgoing = outgoing
        self._watch = watch
        self._jitter = jitter
        self._greeted = False
        self._look_at = 0.0
        self._batches = InFlight()

    async def turn(self) -> None:
        """Wait until there is something to send, or time to look for it, and begin to send one batch."""
        if await self._outgoing.wait(max(0.0, self._look_at - _now())):
            await asyncio.sleep(BUSY_GATHER_SECONDS if self._batches else GATHER_SECONDS)
        self._batches.raise_pending_error()
        if not await self._watch.is_closed():
            self._look_again(soon=False)
            await self._probe()
        elif not self._greeted:
            self._greeted = True
            await asyncio.wait({self._batches.start(self._pushes.register())})
        else:
            await self._batches.wait_below(MOST_BATCHES)
            if claims := await self._pushes.claim(await self._candidates()):
                self._batches.start(self._pushes.deliver(claims))

    async def stop(self) -> None:
        """Let what is under way end, if it takes less than STOP_SECONDS; the rest is left to its lease."""
        await self._batches.stop(STOP_SECONDS)
        await self._pushes.close()

    async def _candidates(self) -> list[bytes]:
        """Names of entries: this worker's own entries, and from time to time whatever is due."""
        found: list[bytes] = []
        if _now() >= self._look_at:
            # Neither is to wait behind the other.
            room = MOST_CLAIMS // 2 if len(self._outgoing) else MOST_CLAIMS
            found = await self._pushes.due(room)
            self._look_again(soon=len(found) == room)
        return list(dict.fromkeys([*found, *self._outgoing.take(MOST_CLAIMS - len(found))]))

    def _look_again(self, *, soon: bool) -> None:
        # A fifth more or less, or all workers of a host come to look at the same time.
        self._look_at = _now() + (0.0 if soon else LOOK_SECONDS * (0.8 + 0.4 * self._jitter()))

    async def _probe(self) -> None:
        """While the relay is away one worker at a time tries, with a small batch."""
        if await self._watch.may_probe():
            claims = await self._pushes.claim(await self._pushes.due(_PROBE_CLAIMS))
            await asyncio.wait({self._batches.start(self._pushes.deliver(claims, probing=True))})


def _now() -> float:
    return asyncio.get_running_loop().time()
