"""The push loop of one worker: it claims outbox entries and starts to deliver them, one batch per iteration."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sigil.core.pushes.outbox import MAX_CLAIMS
from sigil.delivery.backlog import Backlog
from sigil.delivery.candidates import Candidates
from sigil.delivery.circuit_breaker import CircuitBreaker
from sigil.delivery.in_flight import InFlight
from sigil.pushes.service import Pushes

GATHER_SECONDS, BUSY_GATHER_SECONDS = 0.005, 0.020
"""How long pushes are gathered for one request, which costs as much CPU as dozens of pushes in it. The longer time
applies while other requests are in flight, so that a worker makes at most 50 requests a second."""
MAX_BATCHES = 8
"""In flight at once in a worker. The relay may take 2 s for a response."""
STOP_SECONDS = 1.0
_PROBE_CLAIMS = 20


class PushLoop:
    """No HTTP request awaits anything here. `jitter` gives 0..1."""

    def __init__(
        self, *, pushes: Pushes, backlog: Backlog, breaker: CircuitBreaker, jitter: Callable[[], float]
    ) -> None:
        self._pushes = pushes
        self._breaker = breaker
        self._candidates = Candidates(backlog=backlog, due=pushes.due, jitter=jitter)
        self._registered = False
        self._batches = InFlight()

    async def turn(self) -> None:
        """One iteration: wait for a candidate or for the next query, then start to deliver one batch."""
        if await self._candidates.wait():
            await asyncio.sleep(BUSY_GATHER_SECONDS if self._batches else GATHER_SECONDS)
        self._batches.raise_pending_error()
        if not await self._breaker.is_closed():
            self._candidates.postpone()
            await self._probe()
        elif not self._registered:
            self._registered = True
            await asyncio.wait({self._batches.start(self._pushes.register())})
        else:
            await self._batches.wait_below(MAX_BATCHES)
            if claims := await self._pushes.claim(await self._candidates.next(MAX_CLAIMS)):
                self._batches.start(self._pushes.deliver(claims))

    async def stop(self) -> None:
        """Wait at most STOP_SECONDS for the batches in flight; the leases of the rest end by themselves."""
        await self._batches.stop(STOP_SECONDS)
        await self._pushes.close()

    async def _probe(self) -> None:
        """While the breaker is open, one worker at a time probes the relay with a small batch."""
        if await self._breaker.may_probe():
            claims = await self._pushes.claim(await self._pushes.due(_PROBE_CLAIMS))
            await asyncio.wait({self._batches.start(self._pushes.deliver(claims, probing=True))})
