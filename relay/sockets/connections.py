"""The WebSocket connections of one worker: who is here, what they were sent, and who is still alive.

A push that waits for a device is in the registry; a worker that holds the device's connection is told of it and reads
it there, and looks at each heartbeat without being told. So a connection, a worker or a message between workers may be
lost, and no push is.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

from relay.registry.model import Push, RegistryBusy
from relay.registry.port import DeliveryRegistry, Notifier
from relay.sockets.in_flight import InFlight
from sigil.protocol.relay_messages import Close
from sigil.serving import logs

PREFIX = 16
"""Bytes of a fingerprint that name it between workers."""
HEARTBEAT_SECONDS = 25
_MISSED_PONGS = 2
_SEND_SECONDS = 10.0
_ACK_SECONDS = 15.0
_BATCH = 200
_BUSY_SECONDS = 0.5
_TELL_SECONDS = 1.0
"""A connection that could not be told of by then never is: whoever heard of it late would take it for a new one."""
_SETTLED_SECONDS = 2.0
"""What is here for longer was here before whatever is told of now; between younger ones their hosts' clocks decide."""
_SEEN_SECONDS = 86_400
"""A device that stays connected is not silent: without a word of it for 90 days its registration would be evicted."""


class SocketConnection(Protocol):
    """A connection as this module sees it; both raise ConnectionError when the peer is gone."""

    async def send(self, text: str) -> None: ...

    async def close(self, code: int) -> None: ...


class Connection:
    """An authenticated device. `order` tells the newest of several connections that were opened within
    _SETTLED_SECONDS: (Unix ms, random). `opened` is by the monotonic clock."""

    __slots__ = ("fingerprint", "in_flight", "opened", "order", "seen", "sender", "silent", "wire")

    def __init__(self, fingerprint: bytes, wire: SocketConnection, order: tuple[int, bytes]) -> None:
        self.fingerprint = fingerprint
        self.wire = wire
        self.order = order
        self.opened = time.monotonic()
        self.in_flight = InFlight()
        self.silent = 0
        # The second (Unix) of which the registry knows that the device was here.
        self.seen = order[0] / 1000
        self.sender: asyncio.Task[None] | None = None


class SocketRegistry(DeliveryRegistry, Notifier, Protocol):
    """Held pushes, and the notifications between workers."""


class Sockets:
    """Collaborators: the registry, `frame` that makes a push a text frame, and who is told of their number."""

    def __init__(
        self,
        *,
        registry: SocketRegistry,
        frame: Callable[[Push], str | None],
        clock: Callable[[], float],
        randomness: Callable[[int], bytes],
        on_count: Callable[[int], None] = lambda count: None,
        on_delivered: Callable[[Push], None] = lambda push: None,
    ) -> None:
        self._registry = registry
        self._frame = frame
        self._clock = clock
        self._randomness = randomness
        self._on_count = on_count
        self._on_delivered = on_delivered
        self._here: dict[bytes, Connection] = {}
        # By the second of their heartbeat, so that a tick looks at a part of them.
        self._slots: list[dict[Connection, None]] = [{} for _ in range(HEARTBEAT_SECONDS)]
        self._slot = 0
        self._due: dict[bytes, None] = {}
        self._wake = asyncio.Event()
        self._background: set[asyncio.Task[None]] = set()
        self.draining = False

    def __len__(self) -> int:
        return len(self._here)

    @contextmanager
    def connected(self, fingerprint: bytes, wire: SocketConnection) -> Iterator[Connection]:
        """Registers the newest connection of a device; the one before is closed."""
        connection = Connection(fingerprint, wire, (int(self._clock() * 1000), self._randomness(8)))
        name = fingerprint[:PREFIX]
        if (before := self._here.get(name)) is not None:
            self._spawn(self._close(before, Close.REPLACED))
        self._here[name] = connection
        slot = self._slots[(self._slot - 1) % HEARTBEAT_SECONDS]
        slot[connection] = None
        self._on_count(len(self._here))
        self._spawn(self._tell_taken(connection))
        self.wake([name])
        try:
            yield connection
        finally:
            slot.pop(connection, None)
            if connection.sender is not None:
                connection.sender.cancel()
            if self._here.get(name) is connection:
                del self._here[name]
            self._on_count(len(self._here))

    async def _tell_taken(self, connection: Connection) -> None:
        milliseconds, number = connection.order
        try:
            async with asyncio.timeout(_TELL_SECONDS):
                await self._registry.notify(
                    "taken", connection.fingerprint[:PREFIX] + milliseconds.to_bytes(8) + number
                )
        except (RegistryBusy, TimeoutError):
            # Two connections for a while: each push comes twice, with one id.
            return

    def news(self, channel: str, data: bytes) -> None:
        """What other workers tell: pushes that wait, a device that connected there, or that news were lost."""
        if channel == "pushes":
            self.wake(data[at : at + PREFIX] for at in range(0, len(data), PREFIX))
        elif channel == "taken":
            self._taken(data[:PREFIX], (int.from_bytes(data[PREFIX : PREFIX + 8]), data[PREFIX + 8 :]))
        elif channel == "lost":
            self.wake(list(self._here))

    def _taken(self, name: bytes, order: tuple[int, bytes]) -> None:
        connection = self._here.get(name)
        if connection is None or connection.order == order:
            return
        # Hosts' clocks differ, so they are asked about two that came at once alone: of those, exactly one stays.
        if connection.order < order or time.monotonic() - connection.opened > _SETTLED_SECONDS:
            self._spawn(self._close(connection, Close.REPLACED))

    def wake(self, names: Iterable[bytes]) -> None:
        for name in names:
            if name in self._here:
                self._due[name] = None
        if self._due:
            self._wake.set()

    async def deliver(self) -> None:
        """One turn of the loop: read what waits for up to 200 devices, and hand it to their senders."""
        await self._wake.wait()
        names = [name for name, _ in zip(list(self._due), range(_BATCH), strict=False)]
        for name in names:
            del self._due[name]
        if not self._due:
            self._wake.clear()
        connections = {c.fingerprint: c for name in names if (c := self._here.get(name)) is not None}
        if not connections:
            return
        for connection in connections.values():
            connection.in_flight.look_begins()
        try:
            held = await self._registry.pending_for(list(connections), self._clock())
        except RegistryBusy:
            self.wake(names)
            await asyncio.sleep(_BUSY_SECONDS)
            return
        waiting: dict[bytes, list[Push]] = {fingerprint: [] for fingerprint in connections}
        for push in held:
            waiting[push.push.fingerprint].append(push)
        for fingerprint, connection in connections.items():
            self._hand_over(connection, connection.in_flight.to_send(waiting[fingerprint]))

    def _hand_over(self, connection: Connection, pushes: list[Push]) -> None:
        # During the look the device may have gone, or come anew: then another look is under way.
        if not pushes or self._here.get(connection.fingerprint[:PREFIX]) is not connection:
            return
        if connection.sender is not None and not connection.sender.done():
            # Its sender is at work on earlier ones; they come with the next heartbeat at the latest.
            before = connection.sender
            before.add_done_callback(lambda _: self.wake([connection.fingerprint[:PREFIX]]))
            return
        connection.sender = asyncio.create_task(self._send(connection, pushes))

    async def _send(self, connection: Connection, pushes: list[Push]) -> None:
        for push in pushes:
            if not connection.in_flight.goes_out(push.push.push_id, time.monotonic()):
                continue
            frame = self._framed(push)
            if frame is not None and not await self._sent(connection, frame):
                return

    def _framed(self, push: Push) -> str | None:
        try:
            return self._frame(push)
        except Exception as error:
            # Whatever is wrong with one push (its text, the key it was sealed with), the others of its device go on.
            logs.error("push_cannot_be_sent", exc=error, push_id=push.push.push_id.hex())
            return None

    async def _sent(self, connection: Connection, text: str) -> bool:
        """False, and the connection closed, when it does not take the frame in time."""
        try:
            async with asyncio.timeout(_SEND_SECONDS):
                await connection.wire.send(text)
        except (TimeoutError, ConnectionError):
            await self._close(connection, Close.SILENT)
            return False
        return True

    async def acknowledged(self, connection: Connection, push_id: bytes) -> None:
        """Only for what was sent on this connection: acknowledgements of a stranger's push cost nothing."""
        if not connection.in_flight.acknowledged(push_id):
            return
        try:
            push = await self._registry.acknowledge(connection.fingerprint, push_id, self._clock())
        except RegistryBusy:
            connection.in_flight.not_written(push_id)
            return
        connection.in_flight.written(push_id)
        if push is not None:
            self._on_delivered(push)

    async def beat(self, ping: str) -> None:
        """One second: ping a part of all, end those who missed two, and look at what waits for the others.

        What was not acknowledged is sent again then, and what this worker was not told of: whoever admitted it may have
        died, or found the database busy, before it could tell.
        """
        self._slot = (self._slot + 1) % HEARTBEAT_SECONDS
        for connection in list(self._slots[self._slot]):
            if connection.silent >= _MISSED_PONGS:
                self._spawn(self._close(connection, Close.SILENT))
                continue
            connection.silent += 1
            self._spawn(self._ping(connection, ping))
            connection.in_flight.late(time.monotonic() - _ACK_SECONDS)
            self.wake([connection.fingerprint[:PREFIX]])

    async def _ping(self, connection: Connection, ping: str) -> None:
        await self._sent(connection, ping)
        if (now := self._clock()) - connection.seen >= _SEEN_SECONDS:
            connection.seen = now
            with suppress(RegistryBusy):
                await self._registry.mark_seen(connection.fingerprint, int(now))

    async def drain(self) -> None:
        """Close all with 1001; devices come back to another worker."""
        self.draining = True
        for connection in list(self._here.values()):
            self._spawn(self._close(connection, Close.SHUTDOWN))
        if self._background:
            await asyncio.wait(self._background, timeout=5)

    async def _close(self, connection: Connection, code: int) -> None:
        try:
            async with asyncio.timeout(_SEND_SECONDS):
                await connection.wire.close(code)
        except (TimeoutError, ConnectionError):
            return

    def _spawn(self, work: Awaitable[None]) -> None:
        async def run() -> None:
            await work

        task = asyncio.create_task(run())
        self._background.add(task)
        task.add_done_callback(self._background.discard)
