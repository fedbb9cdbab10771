"""The port of WebSockets before anyone asked for one: who only connects takes bounded room, and keeps nobody out."""

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
from relay.sockets.handshake_limit import ARRIVALS_OF_ONE, HandshakeLimit
from relay.sockets.listener import SocketListener
from sigil.serving.http.client_address import ClientAddresses
from tests.support.live import DEADLINE, free_port, wait_until
from tests.support.live_relay import LiveRelay
from tests.support.services import Clock

MOST, MOST_OF_ONE = 5, 3


class Caller:
    def __init__(self) -> None:
        self.was_cut = False

    def cut(self) -> None:
        self.was_cut = True


class Hall:
    """Arrivals, and how many were cut off."""

    def __init__(self) -> None:
        self.clock, self.cuts = Clock(), 0
        self.arrivals = HandshakeLimit(self.clock, self._count, most=MOST, most_of_one=MOST_OF_ONE)

    def _count(self) -> None:
        self.cuts += 1

    def enter(self, address: str | None, count: int = 1) -> list[Caller]:
        callers = [Caller() for _ in range(count)]
        for caller in callers:
            self.arrivals.enter(caller, address)
        return callers


def cut(callers: list[Caller]) -> list[bool]:
    return [caller.was_cut for caller in callers]


def test_one_address_has_its_share_and_the_others_have_the_rest() -> None:
    hall = Hall()
    assert cut(hall.enter("192.0.2.1", 5)) == [False] * 3 + [True] * 2
    assert cut(hall.enter("192.0.2.2", 3)) == [False] * 2 + [True]
    assert (len(hall.arrivals), hall.cuts) == (MOST, 3)


def test_a_proxy_has_no_share_as_it_speaks_for_many() -> None:
    assert cut(Hall().enter(None, 6)) == [False] * 5 + [True]


def test_the_oldest_gives_way_when_it_is_slow() -> None:
    hall = Hall()
    oldest, others = hall.enter("192.0.2.1"), hall.enter("192.0.2.2", 3)
    hall.clock.now += 3
    assert cut(hall.enter("192.0.2.2")) == [False]
    assert (cut(oldest), cut(others)) == ([False], [True, False, False]), "of its own address"
    assert cut(hall.enter("192.0.2.3", 2)) == [False, False]
    assert (cut(oldest), cut(others)) == ([True], [True, False, False]), "of all"
    assert len(hall.arrivals) == MOST


def test_who_asked_or_left_makes_room_once() -> None:
    hall = Hall()
    first, *_ = hall.enter("192.0.2.1", 3)
    for _ in range(2):
        hall.arrivals.leave(first)
    assert cut(hall.enter("192.0.2.1", 2)) == [False, True]


class Silent:
    """In place of the conversation: holds its sockets until they are closed."""

    async def hold(self, wire: Any, _address: str, _origin: str) -> None:
        with contextlib.suppress(ConnectionError):
            await wire.receive()


class Port:
    """A listener on loopback, and what strangers do to it."""

    def __init__(self, hall: Hall, **proxies: Any) -> None:
        self.number = free_port()
        self.listener = SocketListener(
            "127.0.0.1",
            self.number,
            conversation=Silent(),  # type: ignore[arg-type]
            origins=Origins(None),
            addresses=ClientAddresses(**proxies),
            arrivals=hall.arrivals,
        )

    async def silent(self) -> socket.socket:
        """A connection on which nothing is asked."""
        stranger = socket.socket()
        stranger.setblocking(False)
        await asyncio.get_running_loop().sock_connect(stranger, ("127.0.0.1", self.number))
        return stranger

    def connected(self) -> Any:
        return connect(f"ws://127.0.0.1:{self.number}/ws", proxy=None, ping_interval=None)


async def end_of(stranger: socket.socket) -> None:
    """Until the relay has ended it."""
    async with asyncio.timeout(DEADLINE):
        with contextlib.suppress(ConnectionError):
            assert await asyncio.get_running_loop().sock_recv(stranger, 1) == b""
    stranger.close()


async def until_here(hall: Hall, count: int) -> None:
    async with asyncio.timeout(DEADLINE):
        while len(hall.arrivals) != count:
            await asyncio.sleep(0.01)


@pytest.fixture
def hall() -> Hall:
    return Hall()


@pytest.fixture
async def port(hall: Hall) -> AsyncIterator[Port]:
    port = Port(hall)
    await port.listener.open()
    yield port
    await port.listener.close()
    await until_here(hall, 0)


async def test_silent_connections_are_refused_beyond_the_share_and_keep_nobody_out(hall: Hall, port: Port) -> None:
    first, *others = [await port.silent() for _ in range(MOST_OF_ONE)]
    await until_here(hall, MOST_OF_ONE)
    await end_of(await port.silent())
    hall.clock.now += 3
    async with port.connected():
        await end_of(first)
        await until_here(hall, MOST_OF_ONE - 1)
    for stranger in others:
        stranger.close()
    assert hall.cuts == 2


async def test_sockets_that_are_open_take_no_place(hall: Hall, port: Port) -> None:
    async with contextlib.AsyncExitStack() as opened:
        for _ in range(2 * MOST):
            await opened.enter_async_context(port.connected())
        await until_here(hall, 0)
    assert hall.cuts == 0


async def test_a_request_that_does_not_end_is_cut_off_before_it_is_large(hall: Hall, port: Port) -> None:
    stranger = await port.silent()
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(stranger, b"GET /ws HTTP/1.1\r\n")
    await until_here(hall, 1)
    async with asyncio.timeout(DEADLINE):
        with contextlib.suppress(ConnectionError):
            for number in range(100):
                await loop.sock_sendall(stranger, b"X-%d: %s\r\n" % (number, b"x" * 4000))
                await asyncio.sleep(0.001)
            pytest.fail("400 kB of headers were taken")
    stranger.close()
    await until_here(hall, 0)


async def test_connections_of_a_proxy_that_is_believed_have_no_share(hall: Hall) -> None:
    port = Port(hall, trusted=(ip_network("127.0.0.0/8"),))
    await port.listener.open()
    strangers = [await port.silent() for _ in range(MOST)]
    await until_here(hall, MOST)
    for stranger in strangers:
        stranger.close()
    await until_here(hall, 0)
    assert hall.cuts == 0
    await port.listener.close()


async def test_what_was_cut_off_is_counted() -> None:
    with LiveRelay(RELAY_WS_PORT=str(free_port())) as relay, contextlib.ExitStack() as opened:
        for _ in range(ARRIVALS_OF_ONE + 2):
            stranger = await asyncio.to_thread(socket.create_connection, ("127.0.0.1", urlsplit(relay.ws_url).port))
            opened.enter_context(stranger)
        with relay.client() as client:
            await asyncio.to_thread(
                wait_until,
                lambda: 'relay_rate_limited_total{limit="arrivals"} 2.0' in client.get("/metrics").text,
                "both that were over to be counted",
            )
