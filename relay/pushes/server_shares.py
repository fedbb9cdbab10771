"""The share of one server in the requests of a worker, so that a busy server does not delay the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from relay.pushes.fair_slots import FairSlots
from sigil.protocol.errors import Overloaded, RateLimited
from sigil.serving.http.rate_limits import AddressBuckets

MAX_REQUESTS = 1024


class ServerShares:
    """At most `concurrent` requests at once, the servers in turn, and at most `max_requests` that run or wait. A server
    may have as many as there are places left, so that a place is left for another server.

    `rates` limits the pushes of a server, by its id in hex.
    """

    def __init__(self, rates: AddressBuckets, *, concurrent: int, max_requests: int = MAX_REQUESTS) -> None:
        self._rates = rates
        self._slots = FairSlots(concurrent)
        self._max_requests = max_requests
        self._by_server: Counter[bytes] = Counter()
        self._total = 0

    def charge(self, server_id: bytes, pushes: int) -> None:
        """RateLimited when the server is over its rate."""
        name = server_id.hex()
        try:
            self._rates.check(name)
        except RateLimited as error:
            raise RateLimited(
                "This server sends more pushes than RELAY_SERVER_RATE of the relay allows; retry after the time in "
                "Retry-After.",
                retry_after=error.retry_after,
                limit="server",
            ) from None
        self._rates.charge(name, pushes)

    @asynccontextmanager
    async def slot(self, server_id: bytes) -> AsyncIterator[None]:
        """Overloaded when too many requests of the server wait."""
        if self._total + self._by_server[server_id] >= self._max_requests:
            raise Overloaded("Too many requests of this server wait; send fewer at once.", limit="server")
        self._total += 1
        self._by_server[server_id] += 1
        try:
            async with self._slots.of(server_id):
                yield
        finally:
            self._total -= 1
            self._by_server[server_id] -= 1
            if not self._by_server[server_id]:
                del self._by_server[server_id]
