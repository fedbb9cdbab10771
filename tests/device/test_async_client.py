"""The asynchronous client has every property of the synchronous one, for any number of devices."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from sigil.device import Device, ServerPin, verify_info
from sigil.device.async_client import AsyncDeviceClient
from sigil.device.errors import AnswerUnusable, MatchCodeWrong, ServerRefused, Unreachable
from sigil.device.http.async_connection import AsyncServerConnection
from sigil.device.http.exchange import MAX_RESPONSE_BYTES
from sigil.device.http.tls import TlsTrust
from sigil.device.timestamps import AsyncMemoryTimestamps
from tests.device.clock import MovingClock
from tests.device.fake_server import FakeServer, problem
from tests.device.tls import Tls

URL = "https://auth.example.com"


class Chunks(httpx.AsyncByteStream):
    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._chunks


async def pinned(server: FakeServer) -> ServerPin:
    async with AsyncServerConnection(server.url) as connection:
        return verify_info(await connection.info(), server.url)


async def awaited(clock: MovingClock, seconds: float) -> None:
    clock.sleep(seconds)


async def test_devices_on_one_connection_see_and_answer_their_own(server: FakeServer, clock: MovingClock) -> None:
    pin = await pinned(server)
    devices = [Device.generate("Ed25519") for _ in range(20)]
    for device in devices:
        server.add_challenge(device.wire_key)
    async with AsyncServerConnection(server.url) as connection:

        async def approve_one(device: Device) -> str:
            client = AsyncDeviceClient(device, pin, connection, clock=clock)
            (mine,) = (await client.inbox()).challenges
            return (await client.approve(mine)).status

        assert set(await asyncio.gather(*map(approve_one, devices))) == {"verified"}
    assert {answer["fingerprint"] for answer in server.answers} == {device.fingerprint for device in devices}


async def test_concurrent_callers_get_different_timestamps(clock: MovingClock) -> None:
    timestamps = AsyncMemoryTimestamps(clock, lambda wait: awaited(clock, wait))
    assert len(set(await asyncio.gather(*(timestamps() for _ in range(5))))) == 5


async def test_a_clock_that_was_set_back_is_not_waited_for(clock: MovingClock) -> None:
    timestamps = AsyncMemoryTimestamps(clock, lambda wait: awaited(clock, wait))
    await timestamps()
    clock.now -= 3600
    assert await timestamps() == int(clock.now)
    assert clock.slept == []


async def test_a_second_401_is_raised_with_a_hint(server: FakeServer, clock: MovingClock) -> None:
    pin = await pinned(server)
    server.failures = [problem(401, "INVALID_SIGNATURE")] * 3
    async with AsyncServerConnection(server.url) as connection:
        timestamps = AsyncMemoryTimestamps(clock, lambda wait: awaited(clock, wait))
        client = AsyncDeviceClient(Device.generate(), pin, connection, timestamps=timestamps, clock=clock)
        with pytest.raises(ServerRefused, match="clock"):
            await client.inbox()
    assert len(server.failures) == 1


async def test_a_401_of_a_proxy_is_no_wrong_code(server: FakeServer, clock: MovingClock) -> None:
    pin, device = await pinned(server), Device.generate()
    server.add_challenge(device.wire_key, match_code="07")
    async with AsyncServerConnection(server.url) as connection:
        client = AsyncDeviceClient(device, pin, connection, clock=clock)
        (shown,) = (await client.inbox()).challenges
        server.failures = [(401, b"Authorization Required")]
        with pytest.raises(ServerRefused) as refused:
            await client.approve(shown, "07")
        assert refused.value.code == "HTTP_401"
        with pytest.raises(MatchCodeWrong, match="2 tries"):
            await client.approve(shown, "08")


async def test_a_rejection_recorded_as_an_approval_is_an_error(server: FakeServer, clock: MovingClock) -> None:
    pin, device = await pinned(server), Device.generate()
    server.add_challenge(device.wire_key)
    async with AsyncServerConnection(server.url) as connection:
        client = AsyncDeviceClient(device, pin, connection, clock=clock)
        (shown,) = (await client.inbox()).challenges
        handle = server.handle

        def for_an_approval(method: str, path: str, body: bytes) -> tuple[int, bytes]:
            return 200, handle(method, path, body)[1].replace(b'"verified":false', b'"verified":true')

        server.handle = for_an_approval  # type: ignore[method-assign]
        with pytest.raises(AnswerUnusable):
            await client.reject(shown)


async def test_an_endless_response_is_cut_off() -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(MAX_RESPONSE_BYTES // 1000 + 2):
            yield b" " * 1000
        pytest.fail("more was read than the limit")

    transport = httpx.MockTransport(lambda _: httpx.Response(200, stream=Chunks(endless())))
    async with AsyncServerConnection(URL, transport=transport) as connection:
        with pytest.raises(AnswerUnusable, match="larger"):
            await connection.info()


async def test_a_response_that_trickles_is_cut_off() -> None:
    async def trickle() -> AsyncIterator[bytes]:
        while True:
            await asyncio.sleep(0)
            yield b""

    transport = httpx.MockTransport(lambda _: httpx.Response(200, stream=Chunks(trickle())))
    async with AsyncServerConnection(URL, transport=transport, response_seconds=0.01) as connection:
        with pytest.raises(Unreachable, match="longer"):
            await asyncio.wait_for(connection.info(), 120)


async def test_a_redirect_is_not_followed(server: FakeServer) -> None:
    server.failures.append((302, b""))
    async with AsyncServerConnection(server.url) as connection:
        with pytest.raises(ServerRefused) as refused:
            await connection.info()
    assert refused.value.code == "HTTP_302"


async def test_a_stopped_server_is_unreachable(server: FakeServer) -> None:
    with FakeServer(server.clock) as gone:
        url = gone.url
    async with AsyncServerConnection(url) as connection:
        with pytest.raises(Unreachable):
            await connection.info()


async def test_a_certificate_is_trusted_by_its_pin_alone(tls: Tls) -> None:
    async with AsyncServerConnection(tls.url, TlsTrust(sha256=tls.certificate.sha256)) as connection:
        assert await connection.info() == b"{}"
    for trust in (TlsTrust(sha256="00" * 32), TlsTrust()):
        tls.paths.clear()
        async with AsyncServerConnection(tls.url, trust) as connection:
            with pytest.raises(Unreachable, match=r"not the pinned one|is not trusted"):
                await connection.info()
        assert tls.paths == []


async def test_connections_come_from_the_given_local_address(server: FakeServer) -> None:
    async with AsyncServerConnection(server.url, local_address="127.0.0.9") as connection:
        await connection.info()
    assert server.peers == ["127.0.0.9"]
