"""Limits on authentications at `/ws`, whose queries a client causes that needs no key of this relay."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from sigil.protocol.errors import RateLimited
from sigil.serving.http.rate_limits import FAILURE_COST, AddressBuckets

CONNECTS_PER_MINUTE = 60
"""Of one device in a worker. A device waits between attempts to reconnect."""
_MAX_KNOWN = 65_536


class AuthenticationLimits:
    """`failures` limits the failed authentications of an address, and queries about registrations; `connects` the
    connections of a device, by its fingerprint. `on_limited` is called for each authentication over either limit.

    Of all addresses over their limit together, one authentication at a time queries the registry, unless this worker
    knows its device. So failures without end delay no other address, and a client that shares the address of devices
    cannot keep them out: they wait for at most as many queries as there may be unauthenticated sockets.
    """

    def __init__(
        self, failures: AddressBuckets, connects: AddressBuckets, on_limited: Callable[[], None] = lambda: None
    ) -> None:
        self._failures = failures
        self._connects = connects
        self._on_limited = on_limited
        self._known: OrderedDict[bytes, None] = OrderedDict()
        self._over_limit = asyncio.Lock()

    @asynccontextmanager
    async def turn(self, address: str, fingerprint: bytes) -> AsyncIterator[None]:
        """The time to query the registry for a device whose signature verified. RateLimited: it connects too often."""
        try:
            self._connects.check(fingerprint.hex())
        except RateLimited:
            self._on_limited()
            raise
        if self._within_limit(address, fingerprint):
            yield
            return
        self._on_limited()
        async with self._over_limit:
            yield

    def _within_limit(self, address: str, fingerprint: bytes) -> bool:
        try:
            if fingerprint not in self._known:
                self._failures.check(address)
        except RateLimited:
            return False
        return True

    def connected(self, fingerprint: bytes) -> None:
        self._connects.charge(fingerprint.hex())
        self._known[fingerprint] = None
        self._known.move_to_end(fingerprint)
        if len(self._known) > _MAX_KNOWN:
            self._known.popitem(last=False)

    def failed(self, address: str) -> None:
        self._failures.charge(address, FAILURE_COST)

    def queried(self, address: str) -> None:
        """A device of APNs or FCM has checked its registration."""
        self._failures.charge(address)
