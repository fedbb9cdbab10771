"""A push service that speaks HTTP/1.1 alone: the same requests and outcomes, one request at a time on a connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from relay.transports import Outcome
from relay.transports.http1 import Http1Connection
from relay.transports.http2 import RequestLost
from relay.transports.webpush.transport import WebPushTransport
from relay.web_push_settings import VapidKey
from tests.relay.webpush.conftest import at, new_push, opened, subscription
from tests.relay.webpush.test_transport import OUTCOMES
from tests.support.live import DEADLINE
from tests.support.push_service import FCM, PushService


@pytest.fixture
async def transport(service: PushService, key: VapidKey) -> AsyncIterator[WebPushTransport]:
    async with opened(key, at(await service.listen("http/1.1"))) as transport:
        yield transport


async def test_the_request_is_that_of_http2(transport: WebPushTransport, service: PushService, key: VapidKey) -> None:
    subscribed = subscription(key, "/wpush/ok?a=%2b")
    assert await transport.send(new_push(subscribed)) == Outcome("delivered")
    (received,) = service.received
    assert received.path == "/wpush/ok?a=%2b"
    assert (received.headers["host"], received.headers["content-encoding"]) == (FCM, "aes128gcm")
    assert b"web_push" in subscribed.decrypt(received.body)
    assert not any(name.startswith(":") for name in received.headers)


@OUTCOMES
async def test_each_answer_has_its_outcome(
    transport: WebPushTransport, service: PushService, key: VapidKey, path: str, outcome: Outcome
) -> None:
    assert await transport.send(new_push(subscription(key, path))) == outcome
    assert (await transport.send(new_push(subscription(key)))).kind == "delivered"


async def test_pushes_take_turns_on_two_connections(
    transport: WebPushTransport, service: PushService, key: VapidKey
) -> None:
    outcomes = await asyncio.gather(*(transport.send(new_push(subscription(key))) for _ in range(50)))
    assert {outcome.kind for outcome in outcomes} == {"delivered"}
    assert len(service.received) == 50
    assert service.accepted == 2


async def test_a_connection_that_the_service_closes_is_replaced(
    transport: WebPushTransport, service: PushService, key: VapidKey
) -> None:
    assert await transport.send(new_push(subscription(key, "/early"))) == Outcome("retry", "closed")
    async with asyncio.timeout(DEADLINE):
        assert (await transport.send(new_push(subscription(key)))).kind == "delivered"


async def test_a_cancelled_push_takes_its_connection_along(
    transport: WebPushTransport, service: PushService, key: VapidKey
) -> None:
    slow = [asyncio.create_task(transport.send(new_push(subscription(key, "/slow")))) for _ in range(2)]
    async with asyncio.timeout(DEADLINE):
        while len(service.received) < 2:
            await asyncio.sleep(0.01)
        for task in slow:
            task.cancel()
        await asyncio.gather(*slow, return_exceptions=True)
        # A late answer to one of them could not be read as that to this push.
        assert await transport.send(new_push(subscription(key, "/410"))) == Outcome("gone", "http_410")


async def test_a_service_without_alpn_is_spoken_to_in_http1(service: PushService, key: VapidKey) -> None:
    async with opened(key, at(await service.listen(None))) as transport:
        assert await transport.send(new_push(subscription(key))) == Outcome("delivered")


class Socket(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.written, self.aborted = b"", False

    def write(self, data: bytes) -> None:  # type: ignore[override]
        self.written += data

    def abort(self) -> None:
        self.aborted = True


HEADERS = [
    (b":method", b"POST"),
    (b":scheme", b"https"),
    (b":authority", b"a.b"),
    (b":path", b"/x"),
    (b"content-length", b"1"),
]


@pytest.mark.parametrize(
    "sent",
    [
        b"HTTP/2 200 OK\r\n\r\n",
        b"x" * 20_000,
        b"HTTP/1.1 200 OK\r\n" + b"a: " + b"x" * 20_000,
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ],
)
async def test_what_is_no_http_ends_the_connection(sent: bytes) -> None:
    connection, socket = Http1Connection(), Socket()
    connection.connection_made(socket)
    request = asyncio.create_task(connection.request(HEADERS, b"x"))
    await asyncio.sleep(0)
    assert socket.written == b"POST /x HTTP/1.1\r\nhost: a.b\r\ncontent-length: 1\r\n\r\nx"
    connection.data_received(sent)
    with pytest.raises(RequestLost):
        await request
    assert socket.aborted
    assert (connection.capacity, connection.usable) == (0, False)


async def test_bytes_without_a_request_end_the_connection_so_that_no_push_gets_the_answer_of_another() -> None:
    connection, socket = Http1Connection(), Socket()
    connection.connection_made(socket)
    request = asyncio.create_task(connection.request(HEADERS, b"x"))
    await asyncio.sleep(0)
    connection.data_received(b"HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n")
    assert (await request).status == 201
    assert connection.capacity == 1
    connection.data_received(b"HTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n")
    assert (socket.aborted, connection.capacity) == (True, 0)


async def test_two_answers_in_one_piece_end_the_connection() -> None:
    connection, socket = Http1Connection(), Socket()
    connection.connection_made(socket)
    request = asyncio.create_task(connection.request(HEADERS, b"x"))
    await asyncio.sleep(0)
    connection.data_received(b"HTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n" * 2)
    assert (await request).status == 201
    assert socket.aborted


async def test_an_answer_without_a_length_ends_with_the_connection() -> None:
    connection, socket = Http1Connection(), Socket()
    connection.connection_made(socket)
    request = asyncio.create_task(connection.request(HEADERS, b"x"))
    await asyncio.sleep(0)
    connection.data_received(b"HTTP/1.1 404 Not Found\r\n\r\ngone")
    connection.connection_lost(None)
    assert (await request).status == 404
    with pytest.raises(RequestLost):
        await connection.ready()
