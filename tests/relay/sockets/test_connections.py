"""The sockets of one worker, over a registry in memory and without waiting."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from relay.registry.model import NewPush, Push, RegistryBusy
from relay.sockets.connections import (
    ACK_TIMEOUT_SECONDS,
    CONCURRENT_SECONDS,
    HEARTBEAT_SECONDS,
    NOTIFY_TIMEOUT_SECONDS,
    DeviceConnections,
)
from tests.support.live import DEADLINE

FINGERPRINT = b"f" * 32


class Registry:
    """Returns the pushes of the test. `busy` makes the next acknowledgement fail; `seen` has the times of mark_seen."""

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
        found = next((push for push in self.pushes if push.push.push_id == push_id), None)
        self.pushes = [push for push in self.pushes if push is not found]
        return found

    async def mark_seen(self, _fingerprint: bytes, now: int) -> None:
        self.seen.append(now)

    async def notify(self, _channel: str, _data: bytes) -> None:
        """There are no other workers."""


class Socket:
    def __init__(self) -> None:
        self.sent: list[str] = []

    async def send(self, text: str) -> None:
        self.sent.append(text)

    async def close(self, code: int) -> None:
        self.sent.append(f"closed {code}")

    async def receive(self) -> bytes:
        raise ConnectionError

    def abort(self) -> None:
        self.sent.append("aborted")


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
    registry: Registry, clock: Callable[[], float] = lambda: NOW, ack_timeout: float = ACK_TIMEOUT_SECONDS
) -> AsyncIterator[tuple[DeviceConnections, Socket, Any]]:
    sockets = DeviceConnections(
        registry=registry,  # type: ignore[arg-type]
        frame=frame,
        clock=clock,
        randomness=bytes,
        ack_timeout=ack_timeout,
    )
    socket = Socket()

    async def deliver() -> None:
        while True:
            await sockets.deliver()

    loop = asyncio.create_task(deliver())
    try:
        with sockets.connected(FINGERPRINT, socket) as connection:
            yield sockets, socket, connection
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


async def a_heartbeat(sockets: DeviceConnections) -> None:
    """One heartbeat of each connection."""
    for _ in range(HEARTBEAT_SECONDS):
        await sockets.heartbeat("ping")


ALL_LATE = -1.0
"""An ack_timeout with which every push in flight is late at the next heartbeat."""


async def test_a_push_that_cannot_be_encoded_does_not_stop_the_others() -> None:
    async with running(Registry("broken", "good")) as (_, socket, _connection):
        await until(lambda: "good" in socket.sent)


async def test_a_push_whose_acknowledgement_could_not_be_stored_is_sent_again() -> None:
    registry = Registry("good")
    async with running(registry) as (sockets, socket, connection):
        await until(lambda: socket.sent == ["good"])
        registry.busy = True
        await sockets.acknowledge(connection, registry.pushes[0].push.push_id)
        await a_heartbeat(sockets)
        await until(lambda: socket.sent.count("good") == 2)
        await sockets.acknowledge(connection, registry.pushes[0].push.push_id)
        assert registry.pushes == []


class SlowQueries(Registry):
    """A query returns its result when `released` is set. `queries` counts them."""

    def __init__(self, *names: str) -> None:
        super().__init__(*names)
        self.released = asyncio.Event()
        self.released.set()
        self.queries = 0

    async def pending_for(self, fingerprints: list[bytes], now: float) -> list[Push]:
        found = await super().pending_for(fingerprints, now)
        self.queries += 1
        await self.released.wait()
        return found


async def test_an_acknowledgement_during_a_query_is_not_lost() -> None:
    registry = SlowQueries("first")
    async with running(registry) as (sockets, socket, connection):
        await until(lambda: socket.sent == ["first"])
        registry.released.clear()
        sockets.wake([FINGERPRINT[:16]])
        await until(lambda: registry.queries == 2)
        first = registry.pushes[0]
        await sockets.acknowledge(connection, first.push.push_id)
        registry.pushes.append(push("second"))
        registry.released.set()
        sockets.wake([FINGERPRINT[:16]])
        await until(lambda: "second" in socket.sent)
        assert socket.sent == ["first", "second"]


class SlowAcknowledgements(Registry):
    """Acknowledgements are stored when `released` is set."""

    def __init__(self, *names: str) -> None:
        super().__init__(*names)
        self.released = asyncio.Event()

    async def acknowledge(self, fingerprint: bytes, push_id: bytes, now: float) -> Push | None:
        await self.released.wait()
        return await super().acknowledge(fingerprint, push_id, now)


async def test_a_push_is_not_sent_again_while_its_acknowledgement_is_being_stored() -> None:
    registry = SlowAcknowledgements("first")
    async with running(registry) as (sockets, socket, connection):
        await until(lambda: socket.sent == ["first"])
        acknowledging = asyncio.create_task(sockets.acknowledge(connection, registry.pushes[0].push.push_id))
        registry.pushes.append(push("second"))
        sockets.wake([FINGERPRINT[:16]])
        await until(lambda: "second" in socket.sent)
        registry.released.set()
        await acknowledging
        assert socket.sent == ["first", "second"]
        assert [waiting.push.push_key for waiting in registry.pushes] == ["second"]


async def test_a_push_without_a_notification_is_sent_at_the_next_heartbeat() -> None:
    """The worker that admitted it stopped before it could notify, or the notification was lost."""
    registry = SlowQueries()
    async with running(registry) as (sockets, socket, _connection):
        await until(lambda: registry.queries == 1)
        registry.pushes.append(push("unnotified"))
        await a_heartbeat(sockets)
        await until(lambda: "unnotified" in socket.sent)


async def test_a_push_that_is_not_acknowledged_in_time_is_sent_again() -> None:
    async with running(Registry("late"), ack_timeout=ALL_LATE) as (sockets, socket, _connection):
        await until(lambda: socket.sent == ["late"])
        await a_heartbeat(sockets)
        await until(lambda: socket.sent.count("late") == 2)


async def test_a_late_acknowledgement_counts_until_the_push_is_sent_again() -> None:
    registry = SlowQueries("late")
    async with running(registry, ack_timeout=ALL_LATE) as (sockets, socket, connection):
        await until(lambda: socket.sent == ["late"])
        registry.released.clear()
        await a_heartbeat(sockets)
        await until(lambda: registry.queries == 2)
        await sockets.acknowledge(connection, registry.pushes[0].push.push_id)
        assert registry.pushes == []
        registry.pushes.append(push("next"))
        registry.released.set()
        sockets.wake([FINGERPRINT[:16]])
        await until(lambda: "next" in socket.sent)
        assert socket.sent.count("late") == 1


async def test_a_push_that_no_longer_waits_is_forgotten_without_an_acknowledgement() -> None:
    registry = Registry("expired")
    async with running(registry, ack_timeout=ALL_LATE) as (sockets, socket, connection):
        await until(lambda: socket.sent == ["expired"])
        registry.pushes.clear()
        await a_heartbeat(sockets)
        await until(lambda: not len(connection.in_flight))


async def test_pushes_are_not_sent_on_a_connection_that_was_replaced_during_the_query() -> None:
    registry = SlowQueries("one")
    registry.released.clear()
    async with running(registry) as (sockets, socket, _connection):
        await until(lambda: registry.queries == 1)
        newer = Socket()
        with sockets.connected(FINGERPRINT, newer):
            registry.released.set()
            await until(lambda: newer.sent == ["one"])
            assert socket.sent == ["closed 4000"]


async def test_a_device_that_stays_connected_is_marked_as_seen_once_a_day() -> None:
    days = [0.0]
    registry = Registry()
    async with running(registry, lambda: NOW + 86_400 * days[0]) as (sockets, socket, connection):
        for day in (0.5, 1.0, 1.5, 2.0):
            days[0], connection.missed_pongs = day, 0
            pings = socket.sent.count("ping")
            await a_heartbeat(sockets)
            await until(lambda before=pings: socket.sent.count("ping") > before)  # type: ignore[misc]
        await until(lambda: registry.seen == [NOW + 86_400, NOW + 2 * 86_400])


class Host(Registry):
    """One worker with its own clock. `sent` are its notifications, which reach a host when the test calls `receive`."""

    def __init__(
        self,
        clock: float,
        *,
        concurrent_seconds: float = CONCURRENT_SECONDS,
        notify_timeout: float = NOTIFY_TIMEOUT_SECONDS,
    ) -> None:
        super().__init__()
        self.sent: list[tuple[str, bytes]] = []
        self.socket = Socket()
        number = bytes([int(clock) % 256])
        self.sockets = DeviceConnections(
            registry=self,  # type: ignore[arg-type]
            frame=frame,
            clock=lambda: clock,
            randomness=lambda size: number * size,
            concurrent_seconds=concurrent_seconds,
            notify_timeout=notify_timeout,
        )

    async def notify(self, channel: str, data: bytes) -> None:
        self.sent.append((channel, data))

    def receive(self, other: Host) -> None:
        for channel, data in other.sent:
            self.sockets.on_notification(channel, data)

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """With a connection of the device, after its notification was sent."""
        with self.sockets.connected(FINGERPRINT, self.socket):
            await until(lambda: bool(self.sent))
            yield

    async def no_task_is_running(self) -> None:
        await until(lambda: not self.sockets._background)


NEVER, ALWAYS = -1.0, 3600.0
"""Values of concurrent_seconds: no two connections are concurrent, or all of them are."""


@pytest.mark.parametrize("ahead", [-60, 60])
async def test_a_reconnect_closes_the_older_connection_even_if_the_clocks_of_hosts_differ(ahead: int) -> None:
    one = Host(NOW + ahead, concurrent_seconds=NEVER)
    other = Host(NOW, concurrent_seconds=NEVER)
    async with one.connected():
        one.receive(one)
        await one.no_task_is_running()
        assert one.socket.sent == [], "it received its own notification"
        async with other.connected():
            one.receive(other)
            await until(lambda: one.socket.sent == ["closed 4000"])
            assert other.socket.sent == []


@pytest.mark.parametrize("ahead", [-60, 60])
async def test_of_two_concurrent_connections_exactly_one_stays(ahead: int) -> None:
    one = Host(NOW + ahead, concurrent_seconds=ALWAYS)
    other = Host(NOW, concurrent_seconds=ALWAYS)
    async with one.connected(), other.connected():
        for host, peer in ((one, other), (other, one)):
            host.receive(host)
            host.receive(peer)
            await host.no_task_is_running()
        assert sorted((one.socket.sent, other.socket.sent)) == [[], ["closed 4000"]]


class SlowNotifications(Host):
    """Its notifications never end; `cancelled` is set when one is cancelled."""

    def __init__(self) -> None:
        super().__init__(NOW, notify_timeout=0.01)
        self.cancelled = asyncio.Event()

    async def notify(self, channel: str, data: bytes) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()


async def test_a_notification_that_takes_too_long_is_cancelled() -> None:
    """A late notification would close the connection that came after it."""
    host = SlowNotifications()
    with host.sockets.connected(FINGERPRINT, host.socket):
        async with asyncio.timeout(DEADLINE):
            await host.cancelled.wait()
        assert host.socket.sent == []
