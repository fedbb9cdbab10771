"""The sockets of one worker over a registry that gives out what a test put in, in one loop and without time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from relay.registry.model import NewPush, Push, RegistryBusy
from relay.sockets.connections import HEARTBEAT_SECONDS, Sockets
from tests.support.live import DEADLINE

FINGERPRINT = b"f" * 32


class Registry:
    """Holds pushes; `busy` makes the next acknowledgement fail. `seen` has the times at which devices were seen."""

    def __init__(self, *names: str) -> None:
        self.pushes = [push(name) for name in names]
        self.busy = False
        self.seen: list[int] = []

    async def pending_for(self, _fingerprints: list[bytes], _now: float) -> list[Push]:
        return self.pushes

    async def acknowledge(self, _fingerprint: bytes, push_id: bytes, _now: float) -> Push | None:
        if self.busy:
            self.busy = False
            raise RegistryBusy
        gone = next((push for push in self.pushes if push.push.push_id == push_id), None)
        self.pushes = [push for push in self.pushes if push is not gone]
        return gone

    async def mark_seen(self, _fingerprint: bytes, now: int) -> None:
        self.seen.append(now)

    async def notify(self, _channel: str, _data: bytes) -> None:
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


NOW = 1_000_000_000


@asynccontextmanager
async def running(
    registry: Registry, clock: Callable[[], float] = lambda: NOW
) -> AsyncIterator[tuple[Sockets, Wire, Any]]:
    sockets = Sockets(registry=registry, frame=frame, clock=clock, randomness=bytes)  # type: ignore[arg-type]
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


async def a_heartbeat(sockets: Sockets) -> None:
    """Of every connection."""
    for _ in range(HEARTBEAT_SECONDS):
        await sockets.beat("ping")


def whatever_was_sent_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.sockets.connections._ACK_SECONDS", -1.0)


async def test_a_push_that_no_frame_can_be_made_of_keeps_back_none_of_the_others() -> None:
    async with running(Registry("broken", "good")) as (_, wire, _connection):
        await until(lambda: "good" in wire.sent)


async def test_an_acknowledgement_that_could_not_be_written_is_asked_for_again() -> None:
    registry = Registry("good")
    async with running(registry) as (sockets, wire, connection):
        await until(lambda: wire.sent == ["good"])
        registry.busy = True
        await sockets.acknowledged(connection, registry.pushes[0].push.push_id)
        await a_heartbeat(sockets)
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

    async def pending_for(self, fingerprints: list[bytes], now: float) -> list[Push]:
        found = await super().pending_for(fingerprints, now)
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


async def test_a_push_that_nobody_told_of_comes_with_the_next_heartbeat() -> None:
    """Who admitted it died before it told, or the message was lost."""
    registry = SlowToLook()
    async with running(registry) as (sockets, wire, _connection):
        await until(lambda: registry.looks == 1)
        registry.pushes.append(push("untold"))
        await a_heartbeat(sockets)
        await until(lambda: "untold" in wire.sent)


async def test_what_was_not_acknowledged_in_time_is_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(Registry("late")) as (sockets, wire, _connection):
        await until(lambda: wire.sent == ["late"])
        whatever_was_sent_is_late(monkeypatch)
        await a_heartbeat(sockets)
        await until(lambda: wire.sent.count("late") == 2)


async def test_an_acknowledgement_is_taken_until_the_push_is_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = SlowToLook("late")
    async with running(registry) as (sockets, wire, connection):
        await until(lambda: wire.sent == ["late"])
        whatever_was_sent_is_late(monkeypatch)
        registry.arrives.clear()
        await a_heartbeat(sockets)
        await until(lambda: registry.looks == 2)
        await sockets.acknowledged(connection, registry.pushes[0].push.push_id)
        assert registry.pushes == []
        registry.pushes.append(push("next"))
        registry.arrives.set()
        sockets.wake([FINGERPRINT[:16]])
        await until(lambda: "next" in wire.sent)
        assert wire.sent.count("late") == 1


async def test_what_waits_no_more_is_forgotten_unacknowledged(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = Registry("over")
    async with running(registry) as (sockets, wire, connection):
        await until(lambda: wire.sent == ["over"])
        whatever_was_sent_is_late(monkeypatch)
        registry.pushes.clear()
        await a_heartbeat(sockets)
        await until(lambda: not len(connection.in_flight))


async def test_what_a_look_found_is_not_sent_on_a_connection_that_was_replaced_meanwhile() -> None:
    registry = SlowToLook("one")
    registry.arrives.clear()
    async with running(registry) as (sockets, wire, _connection):
        await until(lambda: registry.looks == 1)
        newer = Wire()
        with sockets.connected(FINGERPRINT, newer):
            registry.arrives.set()
            await until(lambda: newer.sent == ["one"])
            assert wire.sent == ["closed 4000"]


async def test_a_device_that_stays_connected_is_seen_once_a_day() -> None:
    days = [0.0]
    registry = Registry()
    async with running(registry, lambda: NOW + 86_400 * days[0]) as (sockets, wire, connection):
        for day in (0.5, 1.0, 1.5, 2.0):
            days[0], connection.silent = day, 0
            pings = wire.sent.count("ping")
            await a_heartbeat(sockets)
            await until(lambda before=pings: wire.sent.count("ping") > before)  # type: ignore[misc]
        await until(lambda: registry.seen == [NOW + 86_400, NOW + 2 * 86_400])


class Host(Registry):
    """One worker with its own clock; `told` is what it tells, and whoever `hears` it does so when the test says."""

    def __init__(self, clock: float) -> None:
        super().__init__()
        self.told: list[tuple[str, bytes]] = []
        self.wire = Wire()
        number = bytes([int(clock) % 256])
        self.sockets = Sockets(
            registry=self,  # type: ignore[arg-type]
            frame=frame,
            clock=lambda: clock,
            randomness=lambda size: number * size,
        )

    async def notify(self, channel: str, data: bytes) -> None:
        self.told.append((channel, data))

    def hears(self, other: Host) -> None:
        for channel, data in other.told:
            self.sockets.news(channel, data)

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """The device, and it was told of."""
        with self.sockets.connected(FINGERPRINT, self.wire):
            await until(lambda: bool(self.told))
            yield

    async def nothing_is_under_way(self) -> None:
        await until(lambda: not self.sockets._background)


def connections_are(monkeypatch: pytest.MonkeyPatch, age: str) -> None:
    monkeypatch.setattr("relay.sockets.connections._SETTLED_SECONDS", {"old": -1.0, "new": 3600.0}[age])


@pytest.mark.parametrize("ahead", [-60, 60])
async def test_a_reconnect_ends_the_connection_before_whatever_the_clocks_of_hosts_say(
    monkeypatch: pytest.MonkeyPatch, ahead: int
) -> None:
    one, other = Host(NOW + ahead), Host(NOW)
    async with one.connected():
        connections_are(monkeypatch, "old")
        one.hears(one)
        await one.nothing_is_under_way()
        assert one.wire.sent == [], "it heard of itself"
        async with other.connected():
            one.hears(other)
            await until(lambda: one.wire.sent == ["closed 4000"])
            assert other.wire.sent == []


@pytest.mark.parametrize("ahead", [-60, 60])
async def test_of_two_connections_that_come_at_once_exactly_one_stays(
    monkeypatch: pytest.MonkeyPatch, ahead: int
) -> None:
    connections_are(monkeypatch, "new")
    one, other = Host(NOW + ahead), Host(NOW)
    async with one.connected(), other.connected():
        for host, told in ((one, other), (other, one)):
            host.hears(host)
            host.hears(told)
            await host.nothing_is_under_way()
        assert sorted((one.wire.sent, other.wire.sent)) == [[], ["closed 4000"]]


class SlowToTell(Host):
    """Its news never get away; `given_up` when nobody waits for that any more."""

    def __init__(self) -> None:
        super().__init__(NOW)
        self.given_up = asyncio.Event()

    async def notify(self, channel: str, data: bytes) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            self.given_up.set()


async def test_a_connection_that_cannot_be_told_of_in_time_is_told_of_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Late news of it would end the connection that came after it."""
    monkeypatch.setattr("relay.sockets.connections._TELL_SECONDS", 0.01)
    host = SlowToTell()
    with host.sockets.connected(FINGERPRINT, host.wire):
        async with asyncio.timeout(DEADLINE):
            await host.given_up.wait()
        assert host.wire.sent == []
