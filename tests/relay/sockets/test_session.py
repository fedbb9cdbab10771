"""What a device is told on its socket when time passes, over a wire in memory and a registry in a file."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from relay.registry.model import Device as Registered
from relay.registry.sqlite.registry import SqliteRegistry
from relay.sockets.connections import HEARTBEAT_SECONDS, Sockets
from relay.sockets.session import DeviceSession
from relay.sockets.unauthenticated_limit import UnauthenticatedLimit
from sigil.device import Device
from sigil.protocol import signed_bytes
from sigil.protocol.encoding import decode_base64
from tests.relay.devices_of_relay import sign
from tests.support.live import DEADLINE

ORIGIN, NOW = "https://relay.example.com", 1_800_000_000


class Wire:
    """The relay's end: what it sends is in `told`, what the device says comes through `says`."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        self.closed: int | None = None
        self._said: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def send(self, text: str) -> None:
        self.told.append(json.loads(text))

    async def close(self, code: int) -> None:
        self.closed = code
        self._said.put_nowait(None)

    async def receive(self) -> bytes:
        said = await self._said.get()
        if said is None:
            raise ConnectionError
        return said

    def says(self, **frame: str) -> None:
        self._said.put_nowait(json.dumps(frame).encode())


@pytest.fixture
def sockets(registry: SqliteRegistry) -> Sockets:
    return Sockets(registry=registry, frame=lambda push: None, clock=lambda: NOW, randomness=bytes)


Hold = Callable[..., Awaitable[tuple[Wire, "asyncio.Task[None]"]]]


@pytest.fixture
async def hold(registry: SqliteRegistry, sockets: Sockets) -> AsyncIterator[Hold]:
    """Begins a conversation; `seconds` is the time for authentication."""
    tasks: list[asyncio.Task[None]] = []

    async def begin(seconds: float = DEADLINE) -> tuple[Wire, asyncio.Task[None]]:
        conversation = DeviceSession(
            registry=registry, sockets=sockets, clock=lambda: NOW, randomness=bytes, auth_seconds=seconds
        )
        wire = Wire()
        tasks.append(asyncio.create_task(conversation.hold(wire, "192.0.2.1", ORIGIN)))
        await until(lambda: bool(wire.told))
        return wire, tasks[-1]

    yield begin
    for task in tasks:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not condition():
            await asyncio.sleep(0.001)


async def authenticated(registry: SqliteRegistry, wire: Wire) -> None:
    device = Device.generate()
    fingerprint = bytes.fromhex(device.fingerprint)
    await registry.register(Registered(fingerprint, device.public.wire, "websocket", b"", NOW))
    challenge = decode_base64(wire.told[0]["challenge"], "")
    signature = sign(device, signed_bytes.relay_ws_auth(ORIGIN, challenge))
    wire.says(type="auth_response", device_public_key=device.wire_key, signature=signature)
    await until(lambda: len(wire.told) == 2)
    assert wire.told[1]["type"] == "auth_success"


async def a_heartbeat(sockets: Sockets, wire: Wire) -> None:
    """Ends when the connection was pinged or closed."""
    before = len(wire.told)
    for _ in range(HEARTBEAT_SECONDS):
        await sockets.beat('{"type":"ping"}')
    await until(lambda: len(wire.told) > before or wire.closed is not None)


async def test_who_does_not_answer_the_challenge_in_time_is_closed_with_4001(hold: Hold) -> None:
    wire, conversation = await hold(seconds=0.01)
    async with asyncio.timeout(DEADLINE):
        await conversation
    assert wire.closed == 4001
    assert [frame["type"] for frame in wire.told] == ["auth_challenge"]


async def test_a_device_that_misses_two_pings_is_closed_with_4002(
    hold: Hold, registry: SqliteRegistry, sockets: Sockets
) -> None:
    wire, conversation = await hold()
    await authenticated(registry, wire)
    for _ in range(3):
        assert wire.closed is None
        await a_heartbeat(sockets, wire)
    assert wire.closed == 4002
    assert [frame["type"] for frame in wire.told[2:]] == ["ping", "ping"]
    async with asyncio.timeout(DEADLINE):
        await conversation
    assert len(sockets) == 0


async def test_a_device_that_answers_pings_stays(hold: Hold, registry: SqliteRegistry, sockets: Sockets) -> None:
    wire, _ = await hold()
    await authenticated(registry, wire)
    (connection,) = sockets._here.values()
    for _ in range(6):
        await a_heartbeat(sockets, wire)
        wire.says(type="pong")
        await until(lambda: connection.silent == 0)
    assert wire.closed is None
    assert [frame["type"] for frame in wire.told[2:]] == ["ping"] * 6


def test_who_has_not_said_who_it_is_takes_no_more_than_its_address_may() -> None:
    half_open = UnauthenticatedLimit(most=3, most_of_one=2)
    assert [half_open.enter(address) for address in ("a", "a", "a", "b", "c")] == [True, True, False, True, False]
    half_open.leave("a")
    assert [half_open.enter(address) for address in ("c", "a")] == [True, False]
