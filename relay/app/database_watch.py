"""Whether the database takes writes: for `GET /health`, the metric, and one log line when an outage begins and ends."""

from __future__ import annotations

import asyncio
import time

from relay.registry.model import RegistryBusy
from relay.registry.port import Registry
from sigil.serving import logs

_FRESH_SECONDS = 1.0
_LOOP_SECONDS = 5.0


class DatabaseWatch:
    """`up` is the result of the last check; true before the first one. Each worker logs an outage once."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._checking = asyncio.Lock()
        self._checked_at = float("-inf")
        self._lost_at = 0.0
        self.up = True

    async def check(self) -> bool:
        """At most one query a second: `GET /health` needs no key, so that a query for each would be a query for
        anyone."""
        async with self._checking:
            if time.monotonic() - self._checked_at >= _FRESH_SECONDS:
                await self._query()
                self._checked_at = time.monotonic()
        return self.up

    async def run_once(self) -> None:
        """The background job, so that an outage is logged without a request."""
        await self.check()
        await asyncio.sleep(_LOOP_SECONDS)

    async def _query(self) -> None:
        try:
            await self._registry.check()
        except RegistryBusy as error:
            self._lost(str(error))
        else:
            self._found()

    def _lost(self, reason: str) -> None:
        if self.up:
            self._lost_at = time.monotonic()
            logs.error(
                "database_unreachable",
                reason=reason,
                message="servers and devices get 503 until the database answers; the relay tries again by itself",
            )
        self.up = False

    def _found(self) -> None:
        if not self.up:
            logs.info("database_reachable", seconds=round(time.monotonic() - self._lost_at, 1))
        self.up = True
