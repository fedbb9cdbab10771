"""`GET /ws`: authentication, close codes, and limits that leave other clients alone."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from sigil.device import Device
from tests.relay.conftest import wanted
from tests.relay.devices_of_relay import authenticate, frame, listening, open_socket, register
from tests.support.live import DEADLINE
from tests.support.live_relay import LiveRelay, Server
from tests.support.ports import free_port


@pytest.fixture(scope="module", params=["main port", "port of its own"])
def settings(request: pytest.FixtureRequest) -> dict[str, str]:
    return {"RELAY_WS_PORT": str(free_port())} if request.param == "port of its own" else {}


@pytest.fixture
def listener(relay: LiveRelay, http: httpx.Client) -> Device:
    device = Device.generate()
    register(device, http, relay.url)
    return device


async def closed_with(socket: Any) -> int:
    """The close code; frames before it are discarded."""
    async with asyncio.timeout(DEADLINE):
        with contextlib.suppress(ConnectionClosed):
            while True:
                await socket.recv()
        await socket.wait_closed()
    return int(socket.close_code)


async def test_a_device_that_is_not_registered_gets_that_error(relay: LiveRelay) -> None:
    async with open_socket(relay) as socket:
        reply = await authenticate(Device.generate(), socket, relay.url)
        assert reply == {"type": "auth_failure", "error": "not_registered"}
        assert await closed_with(socket) == 4003


async def test_a_signature_for_another_origin_is_rejected(relay: LiveRelay, listener: Device) -> None:
    async with open_socket(relay) as socket:
        reply = await authenticate(listener, socket, "https://relay.example.com")
        assert reply == {"type": "auth_failure", "error": "invalid_signature"}
        assert await closed_with(socket) == 4003


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ('{"type":"ack","push_id":"00"}', 4003),
        ("not json", 4003),
        ("[" * 5000, 4003),
        ('{"type":"auth_response","device_public_key":"A","signature":"B"}', 4003),
        (b"\x00\x01", 1003),
        ("x" * 8193, 1009),
        ("é" * 4097, 1009),
    ],
)
async def test_an_invalid_frame_before_authentication_closes_the_connection(
    relay: LiveRelay, sent: str | bytes, code: int
) -> None:
    async with open_socket(relay) as socket:
        await frame(socket)
        await socket.send(sent)
        assert await closed_with(socket) == code


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ("not json", 4004),
        ('{"type":"ack","push_id":"xyz"}', 4004),
        ('{"type":"hello"}', 4004),
        ('{"type":"pong","more":1}', 4004),
        (b"\x00\x01", 1003),
        ("x" * 8193, 1009),
    ],
)
async def test_an_invalid_frame_closes_an_authenticated_connection(
    relay: LiveRelay, listener: Device, sent: str | bytes, code: int
) -> None:
    async with listening(relay, listener) as socket:
        await socket.send(sent)
        assert await closed_with(socket) == code


async def test_the_newest_connection_of_a_device_wins(relay: LiveRelay, server: Server, listener: Device) -> None:
    async with listening(relay, listener) as first, listening(relay, listener) as second:
        assert await closed_with(first) == 4000
        (queued,) = await asyncio.to_thread(server.push, wanted(listener, "newest"))
        assert (await frame(second))["push_id"] == queued["push_id"]


async def test_acknowledging_the_push_of_another_device_changes_nothing(
    relay: LiveRelay, server: Server, listener: Device, http: httpx.Client
) -> None:
    thief = Device.generate()
    register(thief, http, relay.url)
    (queued,) = await asyncio.to_thread(server.push, wanted(listener, "stolen"))
    async with listening(relay, thief) as socket:
        await socket.send(json.dumps({"type": "ack", "push_id": queued["push_id"]}))
        await socket.send('{"type":"pong"}')
        answer = await asyncio.to_thread(server.post, "/push/outcomes", {"push_keys": ["stolen"]})
        assert answer.json()["results"][0]["status"] == "queued"


async def test_another_path_accepts_no_socket(relay: LiveRelay) -> None:
    refused = 0
    with contextlib.suppress(InvalidStatus):
        async with connect(relay.ws_url.replace("/ws", "/other"), proxy=None) as socket:
            refused = await closed_with(socket)
    assert refused in {0, 4404}
    async with open_socket(relay) as socket:
        assert (await frame(socket))["type"] == "auth_challenge"


async def test_the_main_port_accepts_no_sockets_if_they_have_a_port_of_their_own(
    relay: LiveRelay, settings: dict[str, str]
) -> None:
    async with connect(relay.url.replace("http", "ws") + "/ws", ping_interval=None, proxy=None) as socket:
        if settings:
            assert await closed_with(socket) == 4404
        else:
            assert (await frame(socket))["type"] == "auth_challenge"


async def test_a_stop_closes_with_1001_and_ends_cleanly() -> None:
    device = Device.generate()
    with LiveRelay() as relay:
        with relay.client() as client:
            register(device, client, relay.url)
        async with listening(relay, device) as socket:
            stopping = asyncio.create_task(asyncio.to_thread(relay.stop))
            assert await closed_with(socket) == 1001
            assert await stopping == 0


async def test_a_device_that_does_not_answer_a_close_frame_is_disconnected() -> None:
    """On the port of its own: otherwise a device that has vanished would hold its connection and its memory."""
    device = Device.generate()
    with LiveRelay(RELAY_WS_PORT=str(free_port())) as relay:
        with relay.client() as client:
            register(device, client, relay.url)
        async with listening(relay, device) as paused:
            paused.transport.pause_reading()
            async with listening(relay, device), asyncio.timeout(DEADLINE / 2):
                await asyncio.to_thread(read_to_the_end, os.dup(paused.transport.get_extra_info("socket").fileno()))
            paused.transport.abort()


def read_to_the_end(descriptor: int) -> None:
    """Read all that the relay sent, in place of the paused client."""
    with socket.socket(fileno=descriptor) as peer, contextlib.suppress(ConnectionResetError):
        peer.settimeout(DEADLINE / 2)
        while peer.recv(4096):
            pass
