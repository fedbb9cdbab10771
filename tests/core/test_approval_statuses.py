"""The cache of encoded statuses: the same bytes as without it, in bounded memory, and no work for a repeated poll."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sigil.approvals.statuses import Statuses
from sigil.core.session_store import Key
from sigil.device import Device
from sigil.protocol.errors import MpaNotFound
from sigil.protocol.messages.approvals import MpaCreated
from tests.support.services import APPROVAL_MESSAGES, CALLER, Services, as_status

DEVICES = [Device.from_secret("ES256", bytes([number]) * 32) for number in range(11, 31)]
GROUPS = [DEVICES[:10], DEVICES[10:]]


class Reads:
    """Counts what a store reads."""

    def __init__(self, services: Services) -> None:
        self.keys: list[Key] = []
        self._get = services.store.get
        services.store.get = self.get

    async def get(self, key: Key) -> Any:
        self.keys.append(key)
        return await self._get(key)


async def uncached(services: Services, created: MpaCreated) -> bytes:
    mpa_id, approval = await services.approvals._owned(CALLER, created.request_id)
    return bytes(await Statuses(services.store, APPROVAL_MESSAGES).encoded(mpa_id, approval))


async def test_a_repeated_poll_reads_no_vote_and_encodes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    services = Services()
    created = await services.create_approval(GROUPS, 2)
    for device in DEVICES[:9]:
        await services.vote(device, created)
    first = bytes(await services.approvals.status(CALLER, created.request_id))
    reads = Reads(services)
    monkeypatch.setattr("sigil.approvals.messages._encode", lambda _: pytest.fail("the status was encoded again"))
    for _ in range(3):
        assert bytes(await services.approvals.status(CALLER, created.request_id)) == first
    assert len(reads.keys) == 2 * 3
    assert len(as_status(await services.approvals.status(CALLER, created.request_id)).votes) == 9


async def test_a_status_after_each_vote_and_the_end_is_the_same_as_without_a_cache() -> None:
    services = Services()
    created = await services.create_approval(GROUPS, 2)
    for number, device in enumerate(DEVICES):
        services.clock.now += number % 3
        if number < 15:
            await services.vote(device, created, "approved" if number in {2, 5} else "rejected")
        elif number == 15:
            await services.approvals.cancel(CALLER, created.request_id)
        cached = bytes(await services.approvals.status(CALLER, created.request_id))
        assert cached == await uncached(services, created)


async def test_after_a_new_vote_only_that_vote_is_read() -> None:
    services = Services()
    created = await services.create_approval(GROUPS, 2)
    for device in DEVICES[:9]:
        await services.vote(device, created)
    reads = Reads(services)
    await services.vote(DEVICES[9], created)
    reads.keys.clear()
    await services.approvals.status(CALLER, created.request_id)
    assert [key.kind.tag for key in reads.keys] == [b"n", b"m", b"v"]


async def test_concurrent_polls_get_the_same_status() -> None:
    services = Services()
    created = await services.create_approval(GROUPS, 2)
    for device in DEVICES[:5]:
        await services.vote(device, created)
    polls = [services.approvals.status(CALLER, created.request_id) for _ in range(20)]
    assert {bytes(body) for body in await asyncio.gather(*polls)} == {await uncached(services, created)}


async def test_the_cache_is_bounded_in_bytes() -> None:
    services = Services()
    statuses = Statuses(services.store, APPROVAL_MESSAGES, max_bytes=60_000)
    for number in range(20):
        services.clock.now += 60
        created = await services.create_approval(GROUPS, 1, name=str(number))
        mpa_id, approval = await services.approvals._owned(CALLER, created.request_id)
        assert as_status(await statuses.encoded(mpa_id, approval)).request_id == str(number)
        assert statuses._bytes == sum(status.size for status in statuses._cache.values()) <= 60_000
    assert 3 < len(statuses._cache) < 20


async def test_a_status_larger_than_the_cache_is_answered_and_not_kept() -> None:
    services = Services()
    statuses = Statuses(services.store, APPROVAL_MESSAGES, max_bytes=1000)
    created = await services.create_approval(GROUPS, 1)
    mpa_id, approval = await services.approvals._owned(CALLER, created.request_id)
    assert as_status(await statuses.encoded(mpa_id, approval)).mpa_id == created.mpa_id
    assert (len(statuses._cache), statuses._bytes) == (0, 0)


async def test_a_deleted_request_is_not_found_although_its_status_is_cached() -> None:
    services = Services()
    created = await services.create_approval(GROUPS, 1)
    await services.vote(DEVICES[0], created)
    await services.approvals.status(CALLER, created.request_id)
    services.clock.now += 86_400 + 400
    await services.sweep()
    with pytest.raises(MpaNotFound):
        await services.approvals.status(CALLER, created.request_id)
