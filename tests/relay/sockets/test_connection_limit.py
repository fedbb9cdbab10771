"""The limit of open connections: the oldest are evicted, and clients of few addresses evict each other alone."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from ipaddress import ip_network
from typing import Any

import pytest
from websockets.asyncio.client import connect

from relay.registration.origins import Origins
from relay.sockets import listener
from relay.sockets.connection_limit import Capacity, ConnectionLimit
from relay.sockets.listener import SocketListener
from sigil.serving.http.client_address import ClientAddresses
from tests.support.live import DEADLINE
from tests.support.ports import free_port

MAX_TOTAL, MAX_PER_ADDRESS = 5, 3


class Connection:
    def __init__(self) -> None:
        self.aborted = False

    def abort(self) -> None:
        self.aborted = True


class Limit:
    """A limit, and how many connections it evicted."""

    def __init__(self) -> None:
        self.evictions = 0
        self.connections = ConnectionLimit(
            max_total=MAX_TOTAL, max_per_address=MAX_PER_ADDRESS, on_evict=self._count_eviction
        )

    def _count_eviction(self) -> None:
        self.evictions += 1

    def connect(self, address: str | None, count: int = 1) -> list[Connection]:
        connections = [Connection() for _ in range(count)]
        for connection in connections:
            self.connections.add(connection, address)
        return connections


def aborted(connections: list[Connection]) -> list[bool]:
    return [connection.aborted for connection in connections]


def test_a_connection_over_the_limit_of_its_address_evicts_the_oldest_of_that_address() -> None:
    limit = Limit()
    other, flood = limit.connect("192.0.2.2"), limit.connect("192.0.2.1", 5)
    assert (aborted(flood), aborted(other)) == ([True, True, False, False, False], [False])
    assert (len(limit.connections), limit.evictions) == (4, 2)


def test_a_connection_over_the_total_evicts_the_oldest_of_the_address_that_has_the_most() -> None:
    limit = Limit()
    other, flood = limit.connect("192.0.2.2", 2), limit.connect("192.0.2.1", 3)
    assert aborted(limit.connect("192.0.2.3", 2)) == [False, False]
    assert (aborted(flood), aborted(other)) == ([True, False, False], [True, False]), "two each: the oldest of all"
    assert len(limit.connections) == MAX_TOTAL


def test_many_addresses_with_one_connection_each_evict_the_oldest_of_all() -> None:
    limit = Limit()
    connections = [limit.connect(f"192.0.2.{number}")[0] for number in range(8)]
    assert aborted(connections) == [True] * 3 + [False] * 5


def test_connections_of_a_proxy_have_no_limit_of_their_own() -> None:
    limit = Limit()
    flood, proxied = limit.connect("192.0.2.1", 3), limit.connect(None, 4)
    assert (aborted(flood), aborted(proxied)) == ([True, True, False], [False] * 4)
    limit.connect(None)
    assert sum(aborted(flood + proxied)) == 3, "one each: one of them is evicted"


def test_a_connection_that_is_removed_twice_frees_one_slot() -> None:
    limit = Limit()
    first, *others = limit.connect("192.0.2.1", 3)
    for _ in range(2):
        limit.connections.remove(first)
    limit.connect("192.0.2.1", 2)
    assert (first.aborted, aborted(others)) == (False, [True, False])


def test_a_connection_that_is_added_again_counts_once_and_under_its_new_address() -> None:
    limit = Limit()
    (proxied,) = limit.connect(None)
    limit.connections.add(proxied, "192.0.2.1")
    assert len(limit.connections) == 1
    assert aborted(limit.connect("192.0.2.1", 3)) == [False] * 3
    assert proxied.aborted


def test_nothing_is_kept_of_connections_that_are_gone() -> None:
    limit = Limit()
    for number in range(100):
        limit.connect(f"192.0.2.{number % 7}", number % 4)
    for connection in list(limit.connections._address_of):
        limit.connections.remove(connection)
    assert not limit.connections._connections
    assert not any(limit.connections._with_count.values())


def test_the_limits_follow_from_the_descriptors_that_the_process_may_open(monkeypatch: pytest.MonkeyPatch) -> None:
    for descriptors, expected in ((256, (32, 96, 4)), (1024, (128, 384, 16)), (65_536, (2048, 24_576, 256))):
        monkeypatch.setattr("resource.getrlimit", lambda _which, soft=descriptors: (soft, soft))
        capacity = Capacity.of_process()
        assert (*capacity, capacity.unauthenticated_of_address) == expected
        assert sum(capacity) <= descriptors // 2


class IdleSession:
    """In place of a DeviceSession: keeps its sockets open until they are closed."""

    async def serve(self, socket: Any, _address: str, _origin: str) -> None:
        with contextlib.suppress(ConnectionError):
            await socket.receive()


class Port:
    """A listener on loopback, and clients of it."""

    def __init__(self, limit: Limit, session: Any = None, **proxies: Any) -> None:
        self.number = free_port()
        self.listener = SocketListener(
            "127.0.0.1",
            self.number,
            session=session or IdleSession(),  # type: ignore[arg-type]
            origins=Origins(None),
            addresses=ClientAddresses(**proxies),
            unauthenticated=limit.connections,
        )

    async def connect_silently(self) -> socket.socket:
        """A connection without a handshake."""
        client = socket.socket()
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", self.number))
        return client

    def connected(self) -> Any:
        return connect(f"ws://127.0.0.1:{self.number}/ws", proxy=None, ping_interval=None)


async def until_closed(client: socket.socket) -> None:
    """Wait until the relay has closed the connection."""
    async with asyncio.timeout(DEADLINE):
        with contextlib.suppress(ConnectionError):
            assert await asyncio.get_running_loop().sock_recv(client, 1) == b""
    client.close()


async def until_pending(limit: Limit, count: int) -> None:
    async with asyncio.timeout(DEADLINE):
        while len(limit.connections) != count:
            await asyncio.sleep(0.01)


@pytest.fixture
def limit() -> Limit:
    return Limit()


@pytest.fixture
async def port(limit: Limit) -> AsyncIterator[Port]:
    port = Port(limit)
    await port.listener.open()
    yield port
    await port.listener.close()
    await until_pending(limit, 0)


async def test_silent_connections_are_evicted_and_keep_no_client_out(limit: Limit, port: Port) -> None:
    first, second, *others = [await port.connect_silently() for _ in range(MAX_PER_ADDRESS + 1)]
    await until_closed(first)
    async with port.connected():
        await until_closed(second)
        await until_pending(limit, MAX_PER_ADDRESS - 1)
    for client in others:
        client.close()
    assert limit.evictions == 2


async def test_open_sockets_do_not_count(limit: Limit, port: Port) -> None:
    async with contextlib.AsyncExitStack() as opened:
        for _ in range(2 * MAX_TOTAL):
            await opened.enter_async_context(port.connected())
        await until_pending(limit, 0)
    assert limit.evictions == 0


async def test_a_handshake_that_is_too_large_is_aborted(limit: Limit, port: Port) -> None:
    client = await port.connect_silently()
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(client, b"GET /ws HTTP/1.1\r\n")
    await until_pending(limit, 1)
    async with asyncio.timeout(DEADLINE):
        with contextlib.suppress(ConnectionError):
            for number in range(100):
                await loop.sock_sendall(client, b"X-%d: %s\r\n" % (number, b"x" * 4000))
                await asyncio.sleep(0.001)
            pytest.fail("400 kB of headers were accepted")
    client.close()
    await until_pending(limit, 0)


async def test_connections_of_a_trusted_proxy_have_no_limit_of_their_own(limit: Limit) -> None:
    port = Port(limit, trusted=(ip_network("127.0.0.0/8"),))
    await port.listener.open()
    clients = [await port.connect_silently() for _ in range(MAX_TOTAL)]
    await until_pending(limit, MAX_TOTAL)
    for client in clients:
        client.close()
    await until_pending(limit, 0)
    assert limit.evictions == 0
    await port.listener.close()


class StalledSession:
    """In place of a DeviceSession: sends until its peer, which does not read, has filled all buffers; then closes."""

    def __init__(self) -> None:
        self.closed = asyncio.Event()

    async def serve(self, socket: Any, _address: str, _origin: str) -> None:
        with contextlib.suppress(TimeoutError):
            while True:
                async with asyncio.timeout(0.2):
                    await socket.send("x" * 65_536)
        with contextlib.suppress(ConnectionError, TimeoutError):
            await socket.close(4002)
        with pytest.raises(ConnectionError):
            await socket.receive()
        self.closed.set()


async def test_a_close_ends_a_connection_whose_peer_does_not_read(
    limit: Limit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "_CLOSE_SECONDS", 0.1)
    session = StalledSession()
    port = Port(limit, session)
    await port.listener.open()
    async with port.connected() as client:
        client.transport.pause_reading()
        async with asyncio.timeout(DEADLINE):
            await session.closed.wait()
        client.transport.abort()
    await port.listener.close()
