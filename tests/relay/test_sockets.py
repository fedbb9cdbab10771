"""The sockets of one worker over a registry that gives out what a test put in, in one loop and without time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from relay.registry import NewPush, Push, RegistryBusy
from relay.sockets import HEARTBEAT_SECONDS, Sockets
from tests.live import DEADLINE

FINGERPRINT = b"f" * 32


class Registry:
    """Holds pushes; `busy` makes the next acknowledgement fail."""

    def __init__(self, *names: str) -> None:
        self.pushes = [push(name) for name in names]
        self.busy = False

    async def held(self, _fingerprints: list[bytes], _now: float) -> list[Push]:
        return self.pushes

    async def acknowledge(self, _fingerprint: bytes, push_id: bytes, _now: float) -> Push | None:
        if self.busy:
            self.busy = False
            raise RegistryBusy
        gone = next((push for push in self.pushes if push.push.push_id == push_id), None)
        self.pushes = [push for push in self.pushes if push is not gone]
        return gone

    async def tell(self, _channel: str, _data: bytes) -> None:
        """Nobody else is there."""


class Wire:
    def __init__(self) -> None:
        self.sent: list[str] = []

    async def send(self, text: str) -> None:
        self.sent.append(text)

    async def close(self, code: int) -> None:
        self.sent.append(f"closed {code}")


def push(name: str) -> Push:
    wanted = NewPush(name.encode().ljust(16, b"."), name, FINGERPRINT, b"{}", 2_000_000_000)
    return Push(b"s" * 32, wanted, "websocket")


def frame(push: Push) -> str:
    if push.push.push_key == "broken":
        raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "not a character")
    return push.push.push_key


@asynccontextmanager
async def running(registry: Registry) -> AsyncIterator[tuple[Sockets, Wire, Any]]:
    sockets = Sockets(registry=registry, frame=frame, clock=lambda: 1e9, randomness=bytes)  # type: ignore[arg-type]
    wire = Wire()

    async def deliver() -> None:
        while True:
            await sockets.deliver()

    loop = asyncio.create_task(deliver())
    try:
        with sockets.connected(FINGERPRINT, wire) as connection:
            yield sockets, wire, connection
    finally:
        loop.cancel()
        with suppress(asyncio.CancelledError):
            await loop


async def until(condition: Callable[[], bool], step: Callable[[], Awaitable[None]] | None = None) -> None:
    async with asyncio.timeout(DEADLINE):
        while not condition():
            if step is not None:
                await step()
            await asyncio.sleep(0)


async def test_a_push_that_no_frame_can_be_made_of_keeps_back_none_of_the_others() -> None:
    async with running(Registry("broken", "good")) as (_, wire, _connection):
        await until(lambda: "good" in wire.sent)


async def test_an_acknowledgement_that_could_not_be_written_is_asked_for_again() -> None:
    registry = Registry("good")
    async with running(registry) as (sockets, wire, connection):
        await until(lambda: wire.sent == ["good"])
        registry.busy = True
        await sockets.acknowledged(connection, registry.pushes[0].push.push_id)
        for _ in range(HEARTBEAT_SECONDS):
            await sockets.beat("ping")
        await until(lambda: wire.sent.count("good") == 2)
        await sockets.acknowledged(connection, registry.pushes[0].push.push_id)
        assert registry.pushes == []


class SlowToLook(Registry):
    """What it found comes when `arrives` is set, however long ago it was found; `looks` counts them."""

    def __init__(self, *names: str) -> None:
        super().__init__(*names)
        self.arrives = asyncio.Event()
        self.arrives.set()
        self.looks = 0

    async def held(self, fingerprints: list[bytes], now: float) -> list[Push]:
        found = await super().held(fingerprints, now)
        self.looks += 1
        await self.arrives.wait()
        return found


async def test_an_acknowledgement_that_overtakes_a_look_is_not_forgotten_by_it() -> None:
    registry = SlowToLook("first")
    async with running(registry) as (sockets, wire, connection):
        await until(lambda: wire.sent == ["first"])
        registry.arrives.clear()
        sockets.wake([FINGERPRINT[:16]])
        await until(lambda: registry.looks == 2)
        first = registry.pushes[0]
        await sockets.acknowledged(connection, first.push.push_id)
        registry.pushes.append(push("second"))
        registry.arrives.set()
        sockets.wake([FINGERPRINT[:16]])
        await until(lambda: "second" in wire.sent)
        assert wire.sent == ["first", "second"]


class SlowToWrite(Registry):
    """Acknowledgements are written when `written` is set."""

    def __init__(self, *names: str) -> None:
        super().__init__(*names)
        self.written = asyncio.Event()

    async def acknowledge(self, fingerprint: bytes, push_id: bytes, now: float) -> Push | None:
        await self.written.wait()
        return await super().acknowledge(fingerprint, push_id, now)


async def test_what_is_being_acknowledged_is_not_sent_again_by_a_look_before_it_is_written() -> None:
    registry = SlowToWrite("first")
    async with running(registry) as (sockets, wire, connection):
        await until(lambda: wire.sent == ["first"])
        acknowledging = asyncio.create_task(sockets.acknowledged(connection, registry.pushes[0].push.push_id))
        registry.pushes.append(push("second"))
        sockets.wake([FINGERPRINT[:16]])
        await until(lambda: "second" in wire.sent)
        registry.written.set()
        await acknowledging
        assert wire.sent == ["first", "second"]
        assert [waiting.push.push_key for waiting in registry.pushes] == ["second"]
