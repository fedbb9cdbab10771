"""Time-outs and heartbeats of a device session, over a socket in memory and a registry in a file."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from relay.registry.model import Device as Registered
from relay.registry.sqlite.registry import SqliteRegistry
from relay.sockets.authentication_limits import AuthenticationLimits
from relay.sockets.connection_limit import ConnectionLimit
from relay.sockets.connections import HEARTBEAT_SECONDS, DeviceConnections
from relay.sockets.session import DeviceSession
from sigil.device import Device
from sigil.protocol import signed_bytes
from sigil.protocol.encoding.text import decode_base64
from sigil.serving.http.rate_limits import AddressBuckets
from tests.relay.devices_of_relay import sign
from tests.support.live import DEADLINE

ORIGIN, NOW = "https://relay.example.com", 1_800_000_000


class Socket:
    """The relay's end: `sent` are the frames of the relay, `device_sends` adds a frame of the device."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.close_code: int | None = None
        self._incoming: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def send(self, text: str) -> None:
        self.sent.append(json.loads(text))

    async def close(self, code: int) -> None:
        self.close_code = code
        self._incoming.put_nowait(None)

    async def receive(self) -> bytes:
        frame = await self._incoming.get()
        if frame is None:
            raise ConnectionError
        return frame

    def abort(self) -> None:
        self._incoming.put_nowait(None)

    def device_sends(self, **frame: str) -> None:
        self._incoming.put_nowait(json.dumps(frame).encode())


@pytest.fixture
def sockets(registry: SqliteRegistry) -> DeviceConnections:
    return DeviceConnections(registry=registry, frame=lambda push: None, clock=lambda: NOW, randomness=bytes)


Connect = Callable[..., Awaitable[tuple[Socket, "asyncio.Task[None]"]]]


@pytest.fixture
async def connect(registry: SqliteRegistry, sockets: DeviceConnections) -> AsyncIterator[Connect]:
    """Starts a session; `seconds` is the time-out of its authentication."""
    tasks: list[asyncio.Task[None]] = []

    async def begin(seconds: float = DEADLINE) -> tuple[Socket, asyncio.Task[None]]:
        session = DeviceSession(
            registry=registry,
            sockets=sockets,
            clock=lambda: NOW,
            randomness=bytes,
            limits=AuthenticationLimits(AddressBuckets(0), AddressBuckets(0)),
            unauthenticated=ConnectionLimit(max_total=8),
            authenticated=ConnectionLimit(max_total=8),
            auth_timeout=seconds,
        )
        socket = Socket()
        tasks.append(asyncio.create_task(session.serve(socket, "192.0.2.1", ORIGIN)))
        await until(lambda: bool(socket.sent))
        return socket, tasks[-1]

    yield begin
    for task in tasks:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not condition():
            await asyncio.sleep(0.001)


async def authenticate(registry: SqliteRegistry, socket: Socket) -> None:
    device = Device.generate()
    fingerprint = bytes.fromhex(device.fingerprint)
    await registry.register(Registered(fingerprint, device.public.wire, "websocket", b"", NOW))
    challenge = decode_base64(socket.sent[0]["challenge"], "")
    signature = sign(device, signed_bytes.relay_ws_auth(ORIGIN, challenge))
    socket.device_sends(type="auth_response", device_public_key=device.wire_key, signature=signature)
    await until(lambda: len(socket.sent) == 2)
    assert socket.sent[1]["type"] == "auth_success"


async def a_heartbeat(sockets: DeviceConnections, socket: Socket) -> None:
    """Returns when the connection was pinged or closed."""
    before = len(socket.sent)
    for _ in range(HEARTBEAT_SECONDS):
        await sockets.heartbeat('{"type":"ping"}')
    await until(lambda: len(socket.sent) > before or socket.close_code is not None)


async def test_a_device_that_does_not_answer_the_challenge_in_time_is_closed_with_4001(connect: Connect) -> None:
    socket, serving = await connect(seconds=0.01)
    async with asyncio.timeout(DEADLINE):
        await serving
    assert socket.close_code == 4001
    assert [frame["type"] for frame in socket.sent] == ["auth_challenge"]


async def test_a_device_that_misses_two_pings_is_closed_with_4002(
    connect: Connect, registry: SqliteRegistry, sockets: DeviceConnections
) -> None:
    socket, serving = await connect()
    await authenticate(registry, socket)
    for _ in range(3):
        assert socket.close_code is None
        await a_heartbeat(sockets, socket)
    assert socket.close_code == 4002
    assert [frame["type"] for frame in socket.sent[2:]] == ["ping", "ping"]
    async with asyncio.timeout(DEADLINE):
        await serving
    assert len(sockets) == 0


async def test_a_device_that_answers_pings_stays(
    connect: Connect, registry: SqliteRegistry, sockets: DeviceConnections
) -> None:
    socket, _ = await connect()
    await authenticate(registry, socket)
    (connection,) = sockets._by_prefix.values()
    for _ in range(6):
        await a_heartbeat(sockets, socket)
        socket.device_sends(type="pong")
        await until(lambda: connection.missed_pongs == 0)
    assert socket.close_code is None
    assert [frame["type"] for frame in socket.sent[2:]] == ["ping"] * 6
