"""The webhook loop of one worker: it claims events and starts an attempt for each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sigil.core.webhooks.delivery import MAX_COMPLETIONS
from sigil.core.webhooks.event import MAX_CLAIMS, Claim
from sigil.delivery.backlog import Backlog
from sigil.delivery.candidates import Candidates
from sigil.delivery.circuit_breaker import CircuitBreaker
from sigil.delivery.in_flight import InFlight
from sigil.webhooks.service import Attempt, Webhooks

MAX_IN_FLIGHT = 100
"""Attempts, and so connections, of a worker at once. A claimed event is attempted at once: it waits for nothing."""
GATHER_SECONDS = 0.005
"""How long claims and completions are gathered for one transaction."""
PRUNE_SECONDS = 5.0
"""How often failures are brought within their bounds: a receiver that rejects 3000 a second is 15 000 beyond them."""
STOP_SECONDS = 1.0


class WebhookLoop:
    """No HTTP request awaits anything here. `jitter` gives 0..1."""

    def __init__(
        self, *, webhooks: Webhooks, backlog: Backlog, breaker: CircuitBreaker, jitter: Callable[[], float]
    ) -> None:
        self._webhooks = webhooks
        self._breaker = breaker
        self._candidates = Candidates(backlog=backlog, due=webhooks.due, jitter=jitter)
        self._attempts = InFlight()
        self._completions = InFlight()
        self._finished: list[Attempt] = []
        self._completing = False

    async def turn(self) -> None:
        """One iteration: wait for a candidate or for the next query, then start the attempts of one batch."""
        if await self._candidates.wait():
            await asyncio.sleep(GATHER_SECONDS)
        self._attempts.raise_pending_error()
        self._completions.raise_pending_error()
        if not await self._breaker.is_closed():
            self._candidates.postpone()
            await self._probe()
            return
        await self._attempts.wait_below(MAX_IN_FLIGHT)
        limit = min(MAX_IN_FLIGHT - len(self._attempts), MAX_CLAIMS)
        for claim in await self._webhooks.claim(await self._candidates.next(limit)):
            self._attempts.start(self._attempt(claim))

    async def prune_failures(self) -> None:
        """One iteration of the loop that keeps failures within their bounds."""
        await asyncio.sleep(PRUNE_SECONDS)
        await self._webhooks.prune_failures()

    async def stop(self) -> None:
        """Wait at most STOP_SECONDS for the attempts in flight; the leases of the rest end by themselves."""
        await self._attempts.stop(STOP_SECONDS)
        await self._completions.stop(STOP_SECONDS)
        await self._webhooks.close()

    async def _attempt(self, claim: Claim) -> None:
        attempt = await self._webhooks.attempt(claim)
        if attempt is not None:
            self._finished.append(attempt)
            if not self._completing:
                self._completing = True
                self._completions.start(self._complete_finished())

    async def _complete_finished(self) -> None:
        """Complete finished attempts, a batch at a time, until there are none."""
        try:
            while self._finished:
                await asyncio.sleep(GATHER_SECONDS)
                batch, self._finished = self._finished[:MAX_COMPLETIONS], self._finished[MAX_COMPLETIONS:]
                await self._webhooks.complete(batch)
        finally:
            self._completing = False

    async def _probe(self) -> None:
        """While the breaker is open, one worker at a time probes the receiver with one event."""
        names = await self._webhooks.due(1)
        if names and await self._breaker.may_probe():
            await asyncio.wait({self._attempts.start(self._attempt_probe(names))})

    async def _attempt_probe(self, names: list[bytes]) -> None:
        for claim in await self._webhooks.claim(names):
            attempt = await self._webhooks.attempt(claim)
            if attempt is not None:
                await self._webhooks.complete([attempt], probing=True)
