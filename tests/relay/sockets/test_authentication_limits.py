"""Authentications of addresses over their limit query the registry one at a time, and delay no other client."""

from __future__ import annotations

import asyncio

import pytest

from relay.sockets.authentication_limits import AuthenticationLimits
from sigil.protocol.errors import RateLimited
from sigil.serving.http.rate_limits import AddressBuckets

FAILING, OTHER = "192.0.2.1", "192.0.2.2"
KNOWN, NEW = b"known", b"new"


class Limits:
    """Limits on a clock that stands still, with FAILING over its limit; `querying` is the number of open turns."""

    def __init__(self) -> None:
        self.limited = 0
        self.querying = 0
        self.most = 0
        clock = float
        self.limits = AuthenticationLimits(
            AddressBuckets(60, clock=clock), AddressBuckets(2, clock=clock), self._count_limited
        )
        self.limits.connected(KNOWN)
        for _ in range(6):
            self.limits.failed(FAILING)
        self.end = asyncio.Event()

    def _count_limited(self) -> None:
        self.limited += 1

    async def query(self, address: str, fingerprint: bytes) -> None:
        async with self.limits.turn(address, fingerprint):
            self.querying += 1
            self.most = max(self.most, self.querying)
            await self.end.wait()
            self.querying -= 1


async def test_an_address_over_its_limit_has_one_query_at_a_time_and_delays_no_other() -> None:
    limits = Limits()
    async with asyncio.TaskGroup() as tasks:
        for number in range(5):
            tasks.create_task(limits.query(FAILING, b"%d" % number))
        await asyncio.sleep(0)
        assert limits.querying == 1
        for address, fingerprint in ((FAILING, KNOWN), (OTHER, NEW), (OTHER, NEW)):
            tasks.create_task(limits.query(address, fingerprint))
        await asyncio.sleep(0)
        assert limits.querying == 4
        limits.end.set()
    assert (limits.querying, limits.most, limits.limited) == (0, 4, 5)


async def test_a_query_that_is_cancelled_frees_its_turn() -> None:
    limits = Limits()
    holding, waiting = (asyncio.create_task(limits.query(FAILING, NEW)) for _ in range(2))
    await asyncio.sleep(0)
    for task in (waiting, holding):
        task.cancel()
    await asyncio.gather(holding, waiting, return_exceptions=True)
    limits.end.set()
    await limits.query(FAILING, NEW)


async def test_a_device_that_connects_too_often_is_rejected() -> None:
    limits = Limits()
    limits.end.set()
    limits.limits.connected(KNOWN)
    with pytest.raises(RateLimited):
        await limits.query(OTHER, KNOWN)
    assert limits.limited == 1
