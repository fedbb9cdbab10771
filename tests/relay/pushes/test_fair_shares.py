"""A server within its limits does not starve another: slots, bulkheads, requests and rates are shared by server."""

from __future__ import annotations

import asyncio
from collections import Counter

import httpx
import pytest

from relay.pushes.bulkhead import Bulkhead
from relay.pushes.fair_slots import FairSlots
from relay.pushes.server_shares import ServerShares
from relay.registry.rules import claim_share
from sigil.device import Device
from sigil.protocol.errors import Overloaded, RateLimited
from sigil.protocol.identity import DerivedSecrets, ServerIdentity, generate_mnemonic
from sigil.serving.http.rate_limits import AddressBuckets
from tests.relay.conftest import wanted
from tests.relay.devices_of_relay import register
from tests.support.live import DEADLINE
from tests.support.live_relay import LiveRelay, Server

BUSY, QUIET = b"busy" * 8, b"calm" * 8


async def turns() -> None:
    """Lets all tasks run until they wait."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_free_slot_goes_to_the_servers_in_turn() -> None:
    slots = FairSlots(1)
    order: list[bytes] = []

    async def hold(server_id: bytes) -> None:
        async with slots.of(server_id):
            order.append(server_id)
            await asyncio.sleep(0)

    callers = [asyncio.create_task(hold(BUSY)) for _ in range(50)]
    await asyncio.sleep(0)
    callers += [asyncio.create_task(hold(QUIET)) for _ in range(3)]
    async with asyncio.timeout(DEADLINE):
        await asyncio.gather(*callers)
    assert order.index(QUIET) <= 3
    assert order[:8].count(QUIET) == 3
    assert Counter(order) == {BUSY: 50, QUIET: 3}


async def test_a_cancelled_caller_loses_no_slot() -> None:
    slots = FairSlots(1)
    released = asyncio.Event()

    async def hold(server_id: bytes) -> None:
        async with slots.of(server_id):
            await released.wait()

    holder = asyncio.create_task(hold(BUSY))
    waiting = [asyncio.create_task(hold(BUSY)) for _ in range(3)]
    await turns()
    waiting[0].cancel()
    released.set()
    await holder
    # The slot is given to the second in this moment.
    waiting[1].cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    async with asyncio.timeout(DEADLINE), slots.of(QUIET):
        assert not slots._waiting


async def test_a_bulkhead_keeps_capacity_for_a_server_that_comes() -> None:
    bulkhead = Bulkhead[None](max_concurrent=2, max_queued=10)
    released = asyncio.Event()

    async def attempt(server_id: bytes) -> None:
        async with bulkhead.slots().of(server_id):
            await released.wait()

    def start(server_id: bytes) -> int:
        count = 0
        while bulkhead.capacity_of(server_id) > 0:
            bulkhead.start(server_id, attempt(server_id))
            count += 1
        return count

    assert start(BUSY) == 6
    assert start(QUIET) == 3
    assert start(b"third") == 2
    assert bulkhead.full_servers() == {BUSY, QUIET, b"third"}
    assert len(bulkhead) <= 12
    released.set()
    await bulkhead.close(DEADLINE)
    assert (len(bulkhead), bulkhead.full_servers(), bulkhead.capacity_of(BUSY)) == (0, set(), 12)


async def test_many_requests_of_one_server_do_not_delay_another() -> None:
    shares = ServerShares(AddressBuckets(0), concurrent=2, max_requests=20)
    done: list[bytes] = []
    released = asyncio.Event()

    async def request(server_id: bytes) -> None:
        async with shares.slot(server_id):
            await released.wait()
            done.append(server_id)

    requests = [asyncio.create_task(request(BUSY)) for _ in range(30)]
    await turns()
    refused = [task for task in requests if task.done()]
    assert len(refused) == 20
    assert {type(task.exception()) for task in refused} == {Overloaded}
    requests.append(asyncio.create_task(request(QUIET)))
    await turns()
    released.set()
    await asyncio.gather(*requests, return_exceptions=True)
    assert done.index(QUIET) <= 4
    assert len(done) == 11
    assert (shares._total, shares._by_server) == (0, {})


def test_a_server_over_its_rate_is_rejected_and_no_other() -> None:
    shares = ServerShares(AddressBuckets(100), concurrent=1)
    shares.charge(BUSY, 100)
    with pytest.raises(RateLimited, match="RELAY_SERVER_RATE") as rejected:
        shares.charge(BUSY, 1)
    assert rejected.value.limit == "server"
    shares.charge(QUIET, 1)


@pytest.mark.parametrize("servers", [1, 2, 3, 10, 1000])
def test_the_share_of_a_claim_is_bounded(servers: int) -> None:
    share = claim_share(200, servers)
    assert 50 <= share <= 200
    assert share * servers <= max(400, 50 * servers)


def test_a_server_that_sends_more_than_its_rate_does_not_stop_another() -> None:
    identities = [ServerIdentity.from_secrets(DerivedSecrets.from_mnemonic(generate_mnemonic())) for _ in range(2)]
    trusted = ",".join(identity.server_id for identity in identities)
    with (
        LiveRelay(RELAY_TRUSTED_SERVERS=trusted, RELAY_SERVER_RATE="30/min") as relay,
        relay.client() as client,
    ):
        busy, quiet = (Server(client, identity) for identity in identities)
        assert {busy.register().status_code, quiet.register().status_code} == {200}
        device = Device.generate()
        register(device, client, relay.url)
        answers: list[httpx.Response] = []
        for number in range(5):
            pushes = [wanted(device, f"busy-{number}-{one}") for one in range(10)]
            answers.append(busy.post("/push", {"pushes": pushes}))
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
        assert "RELAY_SERVER_RATE" in answers[-1].json()["error"]["message"]
        assert quiet.push(wanted(device, "quiet"))[0]["status"] == "queued"
        held = quiet.post("/push/outcomes", {"push_keys": ["quiet"]}).json()["results"]
        assert held[0]["status"] == "queued", "the busy server superseded its own pushes alone"
        assert 'relay_rate_limited_total{limit="server"} 2.0' in client.get("/metrics").text


async def test_shares_of_lanes_and_of_the_servers_in_them_leave_capacity_for_those_that_come() -> None:
    bulkhead = Bulkhead[None](max_concurrent=10, max_queued=80)
    end = asyncio.Event()

    async def work() -> None:
        await end.wait()

    def fill(server_id: bytes, lane: str) -> int:
        started = 0
        while bulkhead.capacity_of(server_id, lane) > 0:
            bulkhead.start(server_id, work(), lane)
            started += 1
        return started

    servers = [bytes([number]) * 32 for number in range(4)]
    assert fill(servers[0], "slow") == 30
    assert fill(servers[1], "slow") == 10
    # The first one at another host, then further hosts.
    assert fill(servers[0], "quick") > 10
    assert [fill(servers[0], f"host {number}") > 0 for number in range(3)] == [True] * 3
    assert not bulkhead.full_servers()
    assert bulkhead.slots("slow") is bulkhead.slots("slow") is not bulkhead.slots("quick")
    end.set()
    await bulkhead.close(DEADLINE)
    assert (len(bulkhead), bulkhead._by_lane, bulkhead._by_server, bulkhead._slots) == (0, {}, {}, {})
