"""The WebSocket port before a handshake: silent connections are limited, and keep no other client out."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from ipaddress import ip_network
from typing import Any
from urllib.parse import urlsplit

import pytest
from websockets.asyncio.client import connect

from relay.registration.origins import Origins
from relay.sockets.handshake_limit import MAX_HANDSHAKES_PER_ADDRESS, HandshakeLimit
from relay.sockets.listener import SocketListener
from sigil.serving.http.client_address import ClientAddresses
from tests.support.live import DEADLINE, free_port, wait_until
from tests.support.live_relay import LiveRelay
from tests.support.services import Clock

MAX_TOTAL, MAX_PER_ADDRESS = 5, 3


class Connection:
    def __init__(self) -> None:
        self.aborted = False

    def abort(self) -> None:
        self.aborted = True


class Limit:
    """A handshake limit, and how many connections it aborted."""

    def __init__(self) -> None:
        self.clock, self.aborts = Clock(), 0
        self.handshakes = HandshakeLimit(self.clock, self._count, max_total=MAX_TOTAL, max_per_address=MAX_PER_ADDRESS)

    def _count(self) -> None:
        self.aborts += 1

    def connect(self, address: str | None, count: int = 1) -> list[Connection]:
        connections = [Connection() for _ in range(count)]
        for connection in connections:
            self.handshakes.add(connection, address)
        return connections


def aborted(connections: list[Connection]) -> list[bool]:
    return [connection.aborted for connection in connections]


def test_one_address_has_a_limit_and_the_others_share_the_rest() -> None:
    limit = Limit()
    assert aborted(limit.connect("192.0.2.1", 5)) == [False] * 3 + [True] * 2
    assert aborted(limit.connect("192.0.2.2", 3)) == [False] * 2 + [True]
    assert (len(limit.handshakes), limit.aborts) == (MAX_TOTAL, 3)


def test_a_proxy_has_no_limit_of_its_own() -> None:
    assert aborted(Limit().connect(None, 6)) == [False] * 5 + [True]


def test_the_oldest_connection_is_evicted_if_it_is_slow() -> None:
    limit = Limit()
    oldest, others = limit.connect("192.0.2.1"), limit.connect("192.0.2.2", 3)
    limit.clock.now += 3
    assert aborted(limit.connect("192.0.2.2")) == [False]
    assert (aborted(oldest), aborted(others)) == ([False], [True, False, False]), "of its own address"
    assert aborted(limit.connect("192.0.2.3", 2)) == [False, False]
    assert (aborted(oldest), aborted(others)) == ([True], [True, False, False]), "of all"
    assert len(limit.handshakes) == MAX_TOTAL


def test_a_connection_that_is_removed_twice_frees_one_slot() -> None:
    limit = Limit()
    first, *_ = limit.connect("192.0.2.1", 3)
    for _ in range(2):
        limit.handshakes.remove(first)
    assert aborted(limit.connect("192.0.2.1", 2)) == [False, True]


class IdleSession:
    """In place of a DeviceSession: keeps its sockets open until they are closed."""

    async def serve(self, socket: Any, _address: str, _origin: str) -> None:
        with contextlib.suppress(ConnectionError):
            await socket.receive()


class Port:
    """A listener on loopback, and clients of it."""

    def __init__(self, limit: Limit, **proxies: Any) -> None:
        self.number = free_port()
        self.listener = SocketListener(
            "127.0.0.1",
            self.number,
            session=IdleSession(),  # type: ignore[arg-type]
            origins=Origins(None),
            addresses=ClientAddresses(**proxies),
            handshakes=limit.handshakes,
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
        while len(limit.handshakes) != count:
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


async def test_silent_connections_over_the_limit_are_aborted_and_keep_no_client_out(limit: Limit, port: Port) -> None:
    first, *others = [await port.connect_silently() for _ in range(MAX_PER_ADDRESS)]
    await until_pending(limit, MAX_PER_ADDRESS)
    await until_closed(await port.connect_silently())
    limit.clock.now += 3
    async with port.connected():
        await until_closed(first)
        await until_pending(limit, MAX_PER_ADDRESS - 1)
    for client in others:
        client.close()
    assert limit.aborts == 2


async def test_open_sockets_do_not_count(limit: Limit, port: Port) -> None:
    async with contextlib.AsyncExitStack() as opened:
        for _ in range(2 * MAX_TOTAL):
            await opened.enter_async_context(port.connected())
        await until_pending(limit, 0)
    assert limit.aborts == 0


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
    assert limit.aborts == 0
    await port.listener.close()


async def test_aborted_connections_are_counted() -> None:
    with LiveRelay(RELAY_WS_PORT=str(free_port())) as relay, contextlib.ExitStack() as opened:
        for _ in range(MAX_HANDSHAKES_PER_ADDRESS + 2):
            client = await asyncio.to_thread(socket.create_connection, ("127.0.0.1", urlsplit(relay.ws_url).port))
            opened.enter_context(client)
        with relay.client() as client:
            await asyncio.to_thread(
                wait_until,
                lambda: 'relay_rate_limited_total{limit="arrivals"} 2.0' in client.get("/metrics").text,
                "both aborted connections to be counted",
            )
