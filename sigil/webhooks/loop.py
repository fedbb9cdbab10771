"""One worker's turn at the events: what it wrote itself goes out at once, what is due by whoever finds it first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sigil.core.webhook_delivery import MOST_COMPLETIONS
from sigil.core.webhook_event import MOST_CLAIMS, Claim
from sigil.delivery.backlog import Backlog
from sigil.delivery.in_flight import InFlight
from sigil.delivery.receiver_watch import ReceiverWatch
from sigil.webhooks.service import Attempt, Webhooks

MOST_UNDER_WAY = 100
"""Attempts, and so connections, of a worker at once. What is claimed is attempted at once: it waits for nothing."""
GATHER_SECONDS = 0.005
"""How long claims and completions come together for one transaction."""
LOOK_SECONDS = 1.0
"""How often a worker looks for what is due: retries, and what dead or busy workers left."""
FORGET_SECONDS = 5.0
"""How often failures are brought within their bounds: a receiver that refuses 3000 a second is 15 000 beyond them."""
STOP_SECONDS = 1.0


class WebhookLoop:
    """Nothing here is awaited by a request. `jitter` gives 0..1."""

    def __init__(
        self, *, webhooks: Webhooks, outgoing: Backlog, watch: ReceiverWatch, jitter: Callable[[], float]
    ) -> None:
        self._webhooks = webhooks
        self._outgoing = outgoing
        self._watch = watch
        self._jitter = jitter
        self._look_at = 0.0
        self._attempts = InFlight()
        self._writing = InFlight()
        self._made: list[Attempt] = []
        self._being_written = False

    async def turn(self) -> None:
        """Wait until there is something to tell, or time to look for it, and begin to tell one batch."""
        if await self._outgoing.wait(max(0.0, self._look_at - _now())):
            await asyncio.sleep(GATHER_SECONDS)
        self._attempts.raise_pending_error()
        self._writing.raise_pending_error()
        if not await self._watch.is_closed():
            self._look_again(soon=False)
            await self._probe()
            return
        await self._attempts.wait_below(MOST_UNDER_WAY)
        for claim in await self._webhooks.claim(await self._candidates(MOST_UNDER_WAY - len(self._attempts))):
            self._attempts.start(self._attempt(claim))

    async def forget(self) -> None:
        """One turn of the loop that keeps failures within their bounds."""
        await asyncio.sleep(FORGET_SECONDS)
        await self._webhooks.forget()

    async def stop(self) -> None:
        """Let what is under way end, if it takes less than STOP_SECONDS; the rest is left to its lease."""
        await self._attempts.stop(STOP_SECONDS)
        await self._writing.stop(STOP_SECONDS)
        await self._webhooks.close()

    async def _candidates(self, room: int) -> list[bytes]:
        """Ids of what ended: this worker's own events, and from time to time whatever is due."""
        room = min(room, MOST_CLAIMS)
        found: list[bytes] = []
        if _now() >= self._look_at:
            # Neither is to wait behind the other.
            share = max(1, room // 2) if len(self._outgoing) else room
            found = await self._webhooks.due(share)
            self._look_again(soon=len(found) == share)
        return list(dict.fromkeys([*found, *self._outgoing.take(room - len(found))]))

    def _look_again(self, *, soon: bool) -> None:
        # A fifth more or less, or all workers of a host come to look at the same time.
        self._look_at = _now() + (0.0 if soon else LOOK_SECONDS * (0.8 + 0.4 * self._jitter()))

    async def _attempt(self, claim: Claim) -> None:
        attempt = await self._webhooks.attempt(claim)
        if attempt is not None:
            self._made.append(attempt)
            if not self._being_written:
                self._being_written = True
                self._writing.start(self._write())

    async def _write(self) -> None:
        """Until nothing is left to be written."""
        try:
            while self._made:
                await asyncio.sleep(GATHER_SECONDS)
                batch, self._made = self._made[:MOST_COMPLETIONS], self._made[MOST_COMPLETIONS:]
                await self._webhooks.complete(batch)
        finally:
            self._being_written = False

    async def _probe(self) -> None:
        """While the receiver is away one worker at a time tries, over one connection."""
        names = await self._webhooks.due(1)
        if names and await self._watch.may_probe():
            await asyncio.wait({self._attempts.start(self._try(names))})

    async def _try(self, names: list[bytes]) -> None:
        for claim in await self._webhooks.claim(names):
            attempt = await self._webhooks.attempt(claim)
            if attempt is not None:
                await self._webhooks.complete([attempt], probing=True)


def _now() -> float:
    return asyncio.get_running_loop().time()
