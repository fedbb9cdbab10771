"""What a host may take: names that lead into private networks, threads, pools and connections are bounded."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from relay.transports import Outcome
from relay.transports.connection_pool import PoolSettings
from relay.transports.webpush import hosts as hosts_module
from relay.transports.webpush.hosts import MAX_WILDCARD_HOSTS, AddressRefused, HostPools, Resolver
from relay.web_push_settings import Host, VapidKey
from sigil.serving import logs
from sigil.serving.addresses.public_networks import is_public
from tests.relay.webpush.conftest import QUICK, at, new_push, opened, subscription
from tests.support.live import DEADLINE
from tests.support.push_service import FCM, MOZILLA, WINDOWS, PushService

PUBLIC = ("8.8.8.8", "1.1.1.1", "172.15.0.1", "172.32.0.1", "2606:4700::1", "2a00:1450::1", "64:ff9b::808:808")
NOT_PUBLIC = (
    "127.0.0.1", "127.255.0.1", "0.0.0.0", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254",
    "100.64.0.1", "192.0.0.8", "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1",
    "240.0.0.1", "255.255.255.255", "::", "::1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::8.8.8.8", "fe80::1",
    "fe80::1%1", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1", "2001::1", "2001:db8::1", "2002:7f00:1::", "3fff::1",
    "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "100::1", "5f00::1",
)  # fmt: skip


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_one(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("address", NOT_PUBLIC)
async def test_a_name_that_leads_into_another_network_gets_no_connection(key: VapidKey, address: str) -> None:
    assert not is_public(address)
    resolver = Resolver(lambda name: [address])
    with pytest.raises(AddressRefused):
        await resolver.resolve("push.example.net", wildcard=False)


async def test_of_a_name_with_both_the_public_addresses_alone_are_used() -> None:
    resolver = Resolver(lambda name: ["127.0.0.1", "8.8.8.8", "::1", "2606:4700::1"])
    assert await resolver.resolve("push.example.net", wildcard=False) == ["8.8.8.8", "2606:4700::1"]
    many = Resolver(lambda name: [f"8.8.8.{number}" for number in range(200)])
    assert len(await many.resolve("push.example.net", wildcard=False)) == 3


async def test_addresses_of_both_families_are_tried_in_the_order_of_the_system() -> None:
    v6 = [f"2606:4700::{number}" for number in range(1, 9)]
    resolver = Resolver(lambda name: [*v6, "8.8.8.8", "8.8.4.4"])
    assert await resolver.resolve("push.example.net", wildcard=False) == [v6[0], "8.8.8.8", v6[1]]
    resolver = Resolver(lambda name: ["8.8.8.8", "8.8.4.4", *v6])
    assert await resolver.resolve("push.example.net", wildcard=False) == ["8.8.8.8", v6[0], "8.8.4.4"]


async def test_an_address_that_fails_at_once_leaves_its_time_to_the_next(
    service: PushService, key: VapidKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits: list[float] = []
    timeout = asyncio.timeout

    def recorded(seconds: float) -> asyncio.Timeout:
        limits.append(seconds)
        return timeout(seconds)

    async def refuse(*_args: object, **_options: object) -> None:
        raise ConnectionRefusedError

    pools = HostPools(PoolSettings(connections=1, connect_timeout=9), look_up=lambda name: ["8.8.8.8", "1.1.1.1"])
    monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", refuse, raising=False)
    monkeypatch.setattr(hosts_module.asyncio, "timeout", recorded)
    with pytest.raises(ConnectionRefusedError):
        await pools.connect(Host(FCM), FCM)
    assert limits[0] <= 4.5 < limits[1]
    await pools.close()


async def test_lookups_of_made_up_names_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts_module, "_MAX_WILDCARD_WAITS", 8)
    release = threading.Event()

    def look_up(name: str) -> list[str]:
        if name != "quick.net":
            release.wait(DEADLINE)
        return ["8.8.8.8"]

    resolver = Resolver(look_up)
    try:
        waiting = [asyncio.create_task(resolver.resolve(f"g{n}.net", wildcard=True)) for n in range(8)]
        await asyncio.sleep(0)
        async with asyncio.timeout(DEADLINE):
            with pytest.raises(OSError, match="too many lookups"):
                await resolver.resolve("one-more.net", wildcard=True)
            assert await resolver.resolve("quick.net", wildcard=False) == ["8.8.8.8"]
        release.set()
        async with asyncio.timeout(DEADLINE):
            await asyncio.gather(*waiting)
            assert await resolver.resolve("one-more.net", wildcard=True) == ["8.8.8.8"]
    finally:
        release.set()
        await resolver.close()


async def test_without_a_thread_the_host_is_unreachable_and_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    resolver = Resolver(lambda name: ["8.8.8.8"])
    with monkeypatch.context() as limited:
        limited.setattr(threading.Thread, "start", start)
        with pytest.raises(OSError, match="no thread"):
            await resolver.resolve("push.example.net", wildcard=False)
    assert await resolver.resolve("push.example.net", wildcard=False) == ["8.8.8.8"]


async def test_dns_rebinding_reaches_nothing_and_the_log_names_the_reason(
    service: PushService, key: VapidKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[dict[str, Any]] = []
    monkeypatch.setattr(logs, "error", lambda event, **fields: lines.append({"event": event, **fields}))
    await service.listen()
    async with opened(key, FCM, look_up=lambda name: ["127.0.0.1", "::1"]) as transport:
        assert await transport.send(new_push(subscription(key))) == Outcome("retry", "unreachable")
    assert service.accepted == 0
    assert lines == [{"event": "provider_unreachable", "provider": "webpush", "host": FCM, "reason": "AddressRefused"}]


async def test_the_certificate_has_to_be_that_of_the_host(service: PushService, key: VapidKey) -> None:
    port = await service.listen()
    async with opened(key, f"push.sigil-relay.net=127.0.0.1:{port}") as transport:
        lost = await transport.send(new_push(subscription(key, host="push.sigil-relay.net")))
        assert lost == Outcome("retry", "unreachable")
    assert not service.received


async def test_a_host_that_cannot_be_reached_delays_no_other(service: PushService, key: VapidKey) -> None:
    listening = asyncio.get_running_loop()
    # A port that accepts, and never answers.
    silent = await listening.create_server(asyncio.Protocol, "127.0.0.1", 0)
    dead = silent.sockets[0].getsockname()[1]
    port = await service.listen()
    items = f"{FCM}=127.0.0.1:{port} {MOZILLA}=127.0.0.1:{dead}"
    async with silent, opened(key, items) as transport:
        stuck = [asyncio.create_task(transport.send(new_push(subscription(key, host=MOZILLA)))) for _ in range(300)]
        async with asyncio.timeout(DEADLINE):
            for _ in range(20):
                assert (await transport.send(new_push(subscription(key)))).kind == "delivered"
        assert not any(task.done() for task in stuck)
        for task in stuck:
            task.cancel()
        await asyncio.gather(*stuck, return_exceptions=True)


async def test_a_lookup_that_hangs_holds_one_thread_and_delays_no_other_name() -> None:
    release, queried = threading.Event(), []

    def look_up(name: str) -> list[str]:
        queried.append(name)
        if name != "quick.net":
            release.wait(DEADLINE)
        return ["8.8.8.8"]

    resolver = Resolver(look_up)
    try:
        hung = [asyncio.create_task(resolver.resolve("hung.net", wildcard=False)) for _ in range(50)]
        guests = [asyncio.create_task(resolver.resolve(f"g{n}.net", wildcard=True)) for n in range(50)]
        async with asyncio.timeout(DEADLINE):
            assert await resolver.resolve("quick.net", wildcard=False) == ["8.8.8.8"]
            while len(queried) < 6:
                await asyncio.sleep(0.01)
        # One for the hung name, four for those that a wildcard allows, and the quick one.
        assert len(queried) == 6
        hung[0].cancel()
        release.set()
        async with asyncio.timeout(DEADLINE):
            found = await asyncio.gather(*hung[1:], *guests)
        assert found == [["8.8.8.8"]] * 99
    finally:
        release.set()
        await resolver.close()


async def test_a_name_that_cannot_be_resolved_is_unreachable_and_a_wildcard_logs_nothing_of_it(
    key: VapidKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    monkeypatch.setattr(logs, "error", lambda event, **fields: lines.append(event))

    def look_up(name: str) -> list[str]:
        raise UnicodeError("label too long")

    async with opened(key, "*.notify.windows.com", look_up=look_up) as transport:
        for number in range(5):
            host = f"made-up-{number}.notify.windows.com"
            assert await transport.send(new_push(subscription(key, host=host))) == Outcome("retry", "unreachable")
    assert not lines


async def test_made_up_hosts_of_a_wildcard_are_bounded_and_take_no_place_of_a_real_one(
    service: PushService, key: VapidKey
) -> None:
    port = await service.listen()

    def look_up(name: str) -> list[str]:
        raise OSError

    items = f"{WINDOWS}=127.0.0.1:{port} {FCM}=127.0.0.1:{port} *.notify.windows.com"
    async with opened(key, items, look_up=look_up) as transport:
        for host in (WINDOWS, FCM):
            assert (await transport.send(new_push(subscription(key, host=host)))).kind == "delivered"
        accepted = service.accepted
        for number in range(2 * MAX_WILDCARD_HOSTS):
            host = f"made-up-{number}.notify.windows.com"
            assert (await transport.send(new_push(subscription(key, host=host)))).error == "unreachable"
        assert len(transport._hosts._pools) == MAX_WILDCARD_HOSTS + 2
        assert (await transport.send(new_push(subscription(key, host=WINDOWS)))).kind == "delivered"
        # Its second connection may have opened meanwhile.
        assert service.accepted <= accepted + 2


async def test_with_all_places_in_use_a_new_host_waits(key: VapidKey) -> None:
    release = threading.Event()

    def look_up(name: str) -> list[str]:
        release.wait(DEADLINE)
        return []

    async with opened(key, "*.notify.windows.com", look_up=look_up) as transport:
        busy = [
            asyncio.create_task(transport.send(new_push(subscription(key, host=f"h{number}.notify.windows.com"))))
            for number in range(MAX_WILDCARD_HOSTS)
        ]
        await asyncio.sleep(0)
        while len(transport._hosts._pools) < MAX_WILDCARD_HOSTS:
            await asyncio.sleep(0.01)
        late = await transport.send(new_push(subscription(key, host="late.notify.windows.com")))
        assert late == Outcome("retry", "provider_busy", after=2.0, local=True)
        release.set()
        for task in busy:
            task.cancel()
        await asyncio.gather(*busy, return_exceptions=True)


@pytest.fixture
def swept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts_module, "_SWEEP_SECONDS", 0.01)


@pytest.mark.usefixtures("swept")
async def test_an_idle_host_is_closed_and_opens_again(service: PushService, key: VapidKey) -> None:
    now = [0.0]
    port = await service.listen()
    async with opened(key, at(port), monotonic=lambda: now[0]) as transport:
        slow = asyncio.create_task(transport.send(new_push(subscription(key, "/slow", MOZILLA))))
        assert (await transport.send(new_push(subscription(key)))).kind == "delivered"
        while len(service.received) < 2:
            await asyncio.sleep(0.01)
        now[0] += 301
        async with asyncio.timeout(DEADLINE):
            # The one with a request in flight stays.
            while list(transport._hosts._pools) != [MOZILLA]:
                await asyncio.sleep(0.01)
        assert not slow.done()
        assert (await transport.send(new_push(subscription(key)))).kind == "delivered"
        slow.cancel()
        await asyncio.gather(slow, return_exceptions=True)


async def test_the_second_address_is_tried_when_the_first_does_not_answer(
    service: PushService, key: VapidKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.2", 0)
    dead = silent.sockets[0].getsockname()[1]
    port = await service.listen()
    monkeypatch.setattr(hosts_module, "is_public", lambda address: True)
    loop = asyncio.get_running_loop()
    connect = loop.create_connection

    async def create(protocol: Any, address: str, _port: int, **options: Any) -> Any:
        return await connect(protocol, address, dead if address == "127.0.0.2" else port, **options)

    monkeypatch.setattr(loop, "create_connection", create)
    settings = PoolSettings(connections=1, connect_timeout=4, max_backoff=0.1)
    async with (
        silent,
        opened(key, FCM, settings=settings, look_up=lambda name: ["127.0.0.2", "127.0.0.1"]) as transport,
    ):
        async with asyncio.timeout(DEADLINE):
            while (await transport.send(new_push(subscription(key)))).kind != "delivered":
                await asyncio.sleep(0.05)


def test_a_host_gets_two_connections() -> None:
    assert HostPools()._settings.connections == QUICK.connections == 2
