"""Push services that flood the relay with small frames, interim responses or chunks: an event loop that reads them all
has no time for the other hosts."""

from __future__ import annotations

import asyncio
from typing import cast

import hpack
import pytest

from relay.transports import Outcome
from relay.transports.frame_budget import BURST, PER_REQUEST, PER_SECOND, FrameBudget
from relay.web_push_settings import VapidKey
from tests.relay.webpush.conftest import new_push, opened, subscription
from tests.support.live import DEADLINE
from tests.support.push_service import FCM, MOZILLA, Alpn, PushService

_DATA, _HEADERS, _SETTINGS, _PING, _WINDOW_UPDATE, _UNKNOWN = 0, 1, 4, 6, 8, 0xBB


def frame(kind: int, payload: bytes = b"", flags: int = 0, stream_id: int = 0) -> bytes:
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream_id.to_bytes(4) + payload


FRAMES = {
    "ping": frame(_PING, bytes(8)),
    "settings": frame(_SETTINGS),
    "window": frame(_WINDOW_UPDATE, b"\x00\x00\x00\x01"),
    "unknown": frame(_UNKNOWN),
    "empty data": frame(_DATA, stream_id=1),
}
INTERIM = b"HTTP/1.1 103 Early Hints\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
CHUNK = b"1\r\nx\r\n"


class Flood(asyncio.Protocol):
    """Writes `first` at once, and `then` after the relay's request, which has more than 1024 bytes."""

    def __init__(self, first: bytes, then: bytes) -> None:
        self._first, self._then = first, then
        self._read = 0
        self.lost = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._first)

    def data_received(self, data: bytes) -> None:
        self._read += len(data)
        if self._read > 1024 and self._then:
            self._transport.write(self._then)
            self._then = b""

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()


async def send_to_both(service: PushService, key: VapidKey, alpn: Alpn, first: bytes, then: bytes) -> Outcome:
    """The outcome at the flooding service, which lost its first connection. Another host gets its push."""
    floods: list[Flood] = []

    def make() -> Flood:
        floods.append(Flood(first, then))
        return floods[-1]

    flooding, good = await service.listen_with(make, alpn), await service.listen()
    async with opened(key, f"{FCM}=127.0.0.1:{good} {MOZILLA}=127.0.0.1:{flooding}") as transport:
        async with asyncio.timeout(DEADLINE):
            outcome = await transport.send(new_push(subscription(key, host=MOZILLA)))
            await asyncio.wait(
                [asyncio.ensure_future(flood.lost.wait()) for flood in floods], return_when=asyncio.FIRST_COMPLETED
            )
            assert (await transport.send(new_push(subscription(key)))).kind == "delivered"
    return outcome


@pytest.mark.parametrize("kind", FRAMES)
async def test_a_flood_of_small_frames_ends_the_connection(service: PushService, key: VapidKey, kind: str) -> None:
    outcome = await send_to_both(service, key, "h2", frame(_SETTINGS), FRAMES[kind] * 20_000)
    assert outcome == Outcome("retry", "too many frames")


@pytest.mark.parametrize("then", [INTERIM * 20_000, CHUNKED + CHUNK * 15_000], ids=["interim", "chunks"])
async def test_a_flood_of_interim_responses_or_chunks_ends_the_connection(
    service: PushService, key: VapidKey, then: bytes
) -> None:
    outcome = await send_to_both(service, key, "http/1.1", b"", then)
    assert outcome == Outcome("retry", "an answer that does not end")


async def test_a_status_of_thousands_of_digits_is_a_broken_response(service: PushService, key: VapidKey) -> None:
    block = hpack.Encoder().encode([(b":status", b"2" * 5000)])
    ended = frame(_HEADERS, block, flags=5, stream_id=1)
    good = await service.listen_with(lambda: Flood(frame(_SETTINGS), ended), "h2")
    async with opened(key, f"{FCM}=127.0.0.1:{good}") as transport, asyncio.timeout(DEADLINE):
        assert await transport.send(new_push(subscription(key))) == Outcome("retry", "http_0")


def test_frames_are_counted_however_they_are_cut() -> None:
    data = b"".join(frame(_DATA, bytes(length % 40), stream_id=1) for length in range(BURST))
    for size in (1, 8, 9, 10, 100, len(data)):
        budget = FrameBudget(lambda: 0.0)
        assert all(budget.take(data[at : at + size], 0) for at in range(0, len(data), size))
        assert not budget.take(frame(_PING, bytes(8)), 0)


def test_requests_and_time_allow_more_frames_up_to_a_limit() -> None:
    now = 0.0
    budget = FrameBudget(lambda: now)
    assert budget.take(FRAMES["ping"] * BURST, 0)
    budget.begin_request(1)
    assert budget.take(FRAMES["ping"] * PER_REQUEST, 1)
    now = 2.0
    assert budget.take(FRAMES["ping"] * int(2 * PER_SECOND), 0)
    now = 1e6
    for _ in range(1000):
        budget.begin_request(1)
    assert not budget.take(FRAMES["ping"] * (BURST + PER_REQUEST + 1), 0)
