"""The WebSocket connections of one worker: registration, delivery of pushes, heartbeat.

A push that waits for a device is stored in the registry. The worker that holds the device's connection is notified and
reads the push from the registry. It also queries the registry at each heartbeat, without a notification. So a
connection, a worker or a notification may be lost, and no push is.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Protocol

from relay.registry.model import DELETED, MAX_NOTIFICATION_BYTES, Push, RegistryBusy
from relay.registry.port import DeliveryRegistry, Notifier
from relay.sockets.delivery_spans import DeliverySpans
from relay.sockets.in_flight import InFlightPushes
from sigil.protocol.messages.relay import Close
from sigil.serving import logs

if TYPE_CHECKING:
    from relay.tracing import PushTraces

PREFIX_BYTES = 16
"""Length of the fingerprint prefix that identifies a device in notifications between workers."""
HEARTBEAT_SECONDS = 25
ACK_TIMEOUT_SECONDS = 15.0
NOTIFY_TIMEOUT_SECONDS = 1.0
CONCURRENT_SECONDS = 2.0
_MAX_MISSED_PONGS = 2
_SEND_TIMEOUT_SECONDS = 10.0
_BATCH = 100
_BUSY_SECONDS = 0.5
_SEEN_SECONDS = 86_400
"""How often a device that stays connected is marked as seen: a registration unseen for 90 days is evicted."""


class SocketConnection(Protocol):
    """A WebSocket of any server. All methods raise ConnectionError when the peer has disconnected."""

    async def send(self, text: str) -> None: ...

    async def close(self, code: int) -> None: ...

    async def receive(self) -> bytes:
        """The next text frame; session.CloseSession when it is binary, or larger than MAX_FRAME."""

    def abort(self) -> None:
        """Close the connection at once; `receive` raises ConnectionError."""


class DeviceConnection:
    """An authenticated device. `order`, (Unix ms, random), decides which of several concurrent connections is the
    newest. `opened_at` is in monotonic seconds. `frames` counts the frames received since the last heartbeat."""

    __slots__ = (
        "fingerprint",
        "frames",
        "in_flight",
        "missed_pongs",
        "opened_at",
        "order",
        "seen_at",
        "sender",
        "socket",
        "spans",
    )

    def __init__(self, fingerprint: bytes, socket: SocketConnection, order: tuple[int, bytes]) -> None:
        # From the first push of a sampled trace on.
        self.spans: DeliverySpans | None = None
        self.fingerprint = fingerprint
        self.socket = socket
        self.order = order
        self.opened_at = time.monotonic()
        self.in_flight = InFlightPushes()
        self.missed_pongs = 0
        self.frames = 0
        # When the registry last stored that the device was connected, in Unix seconds.
        self.seen_at = order[0] / 1000
        self.sender: asyncio.Task[None] | None = None


class SocketRegistry(DeliveryRegistry, Notifier, Protocol):
    """Held pushes, and the notifications between workers."""


class DeviceConnections:
    """`frame` encodes a push as a text frame; `clock` gives Unix seconds. `on_count` gets the number of connections,
    `on_delivered` each push that a device acknowledged.

    A push that is not acknowledged within `ack_timeout` seconds is sent again at the next heartbeat. The notification
    of a new connection is cancelled after `notify_timeout`: if it arrived late, other workers would take the connection
    for a newer one. Two connections of a device within `concurrent_seconds` are concurrent: the clocks of their hosts
    decide which one stays. A connection that was opened before that is closed in any case.
    """

    def __init__(
        self,
        *,
        registry: SocketRegistry,
        frame: Callable[[Push], str | None],
        clock: Callable[[], float],
        randomness: Callable[[int], bytes],
        on_count: Callable[[int], None] = lambda count: None,
        on_delivered: Callable[[Push], None] = lambda push: None,
        ack_timeout: float = ACK_TIMEOUT_SECONDS,
        notify_timeout: float = NOTIFY_TIMEOUT_SECONDS,
        concurrent_seconds: float = CONCURRENT_SECONDS,
        traces: PushTraces | None = None,
    ) -> None:
        self._traces = traces
        self._registry = registry
        self._frame = frame
        self._clock = clock
        self._randomness = randomness
        self._on_count = on_count
        self._on_delivered = on_delivered
        self._ack_timeout = ack_timeout
        self._notify_timeout = notify_timeout
        self._concurrent_seconds = concurrent_seconds
        self._by_prefix: dict[bytes, DeviceConnection] = {}
        # By the second of their heartbeat, so that each second visits a part of them.
        self._slots: list[dict[DeviceConnection, None]] = [{} for _ in range(HEARTBEAT_SECONDS)]
        self._slot = 0
        self._due: dict[bytes, None] = {}
        self._wake = asyncio.Event()
        self._background: set[asyncio.Task[None]] = set()
        self.draining = False

    def __len__(self) -> int:
        return len(self._by_prefix)

    @contextmanager
    def connected(self, fingerprint: bytes, socket: SocketConnection) -> Iterator[DeviceConnection]:
        """Registers the newest connection of a device, and closes the previous one."""
        connection = DeviceConnection(fingerprint, socket, (int(self._clock() * 1000), self._randomness(8)))
        prefix = fingerprint[:PREFIX_BYTES]
        if (previous := self._by_prefix.get(prefix)) is not None:
            self._spawn(self._close(previous, Close.REPLACED))
        self._by_prefix[prefix] = connection
        slot = self._slots[(self._slot - 1) % HEARTBEAT_SECONDS]
        slot[connection] = None
        self._on_count(len(self._by_prefix))
        self._spawn(self._notify_connected(connection))
        self.wake([prefix])
        try:
            yield connection
        finally:
            slot.pop(connection, None)
            if connection.sender is not None:
                connection.sender.cancel()
            if connection.spans is not None:
                connection.spans.closed()
            if self._by_prefix.get(prefix) is connection:
                del self._by_prefix[prefix]
            self._on_count(len(self._by_prefix))

    async def _notify_connected(self, connection: DeviceConnection) -> None:
        milliseconds, random = connection.order
        try:
            async with asyncio.timeout(self._notify_timeout):
                await self._registry.notify(
                    "taken", connection.fingerprint[:PREFIX_BYTES] + milliseconds.to_bytes(8) + random
                )
        except (RegistryBusy, TimeoutError):
            # Until one of them ends, the device has two connections and gets each push twice, with one id.
            return

    def on_notification(self, channel: str, data: bytes) -> None:
        """From any worker: pushes wait, a device connected there, registrations were deleted, or notifications lost."""
        if channel == "pushes":
            self.wake(_prefixes(data))
        elif channel == DELETED:
            for prefix in _prefixes(data):
                if (connection := self._by_prefix.get(prefix)) is not None:
                    self._spawn(self._close(connection, Close.AUTH_FAILED))
        elif channel == "taken":
            self._close_older(
                data[:PREFIX_BYTES], (int.from_bytes(data[PREFIX_BYTES : PREFIX_BYTES + 8]), data[PREFIX_BYTES + 8 :])
            )
        elif channel == "lost":
            self.wake(list(self._by_prefix))

    def _close_older(self, prefix: bytes, order: tuple[int, bytes]) -> None:
        connection = self._by_prefix.get(prefix)
        if connection is None or connection.order == order:
            return
        # Clocks of hosts differ, so they decide only between concurrent connections: exactly one of those stays.
        if connection.order < order or time.monotonic() - connection.opened_at > self._concurrent_seconds:
            self._spawn(self._close(connection, Close.REPLACED))

    async def disconnect(self, fingerprints: Sequence[bytes]) -> None:
        """Close the connections, in all workers, of devices whose registration was deleted: they would get no push, and
        learn that only when they connect again."""
        data = b"".join(fingerprint[:PREFIX_BYTES] for fingerprint in fingerprints)
        for start in range(0, len(data), MAX_NOTIFICATION_BYTES):
            await self._registry.notify(DELETED, data[start : start + MAX_NOTIFICATION_BYTES])

    def wake(self, prefixes: Iterable[bytes]) -> None:
        """Query the pushes of these devices, as far as they are connected here."""
        for prefix in prefixes:
            if prefix in self._by_prefix:
                self._due[prefix] = None
        if self._due:
            self._wake.set()

    async def deliver(self) -> None:
        """One iteration of the loop: query the pushes of up to 100 devices, and start to send them."""
        await self._wake.wait()
        prefixes = [prefix for prefix, _ in zip(list(self._due), range(_BATCH), strict=False)]
        for prefix in prefixes:
            del self._due[prefix]
        if not self._due:
            self._wake.clear()
        connections = {c.fingerprint: c for prefix in prefixes if (c := self._by_prefix.get(prefix)) is not None}
        if not connections:
            return
        for connection in connections.values():
            connection.in_flight.query_started()
        try:
            found = await self._registry.pending_for(list(connections), self._clock())
        except RegistryBusy:
            self.wake(prefixes)
            await asyncio.sleep(_BUSY_SECONDS)
            return
        waiting: dict[bytes, list[Push]] = {fingerprint: [] for fingerprint in connections}
        for push in found:
            waiting[push.push.fingerprint].append(push)
        for fingerprint, connection in connections.items():
            self._start_sender(connection, connection.in_flight.to_send(waiting[fingerprint]))
            if connection.spans is not None:
                connection.spans.keep(connection.in_flight)

    def _start_sender(self, connection: DeviceConnection, pushes: list[Push]) -> None:
        # During the query the device may have disconnected or reconnected; a reconnect starts a query of its own.
        if not pushes or self._by_prefix.get(connection.fingerprint[:PREFIX_BYTES]) is not connection:
            return
        if connection.sender is not None and not connection.sender.done():
            # Earlier pushes are still being sent. The next heartbeat sends these at the latest.
            connection.sender.add_done_callback(lambda _: self.wake([connection.fingerprint[:PREFIX_BYTES]]))
            return
        connection.sender = asyncio.create_task(self._send_pushes(connection, pushes))

    async def _send_pushes(self, connection: DeviceConnection, pushes: list[Push]) -> None:
        for push in pushes:
            if not connection.in_flight.mark_sent(push.push.push_id, time.monotonic()):
                continue
            if self._traces is not None and push.push.traceparent is not None:
                connection.spans = connection.spans or DeliverySpans(self._traces)
                connection.spans.sent(push)
            frame = self._encode_frame(push)
            if frame is None and connection.spans is not None:
                connection.spans.failed(push)
            if frame is not None and not await self._send_frame(connection, frame):
                return

    def _encode_frame(self, push: Push) -> str | None:
        try:
            return self._frame(push)
        except Exception as error:
            # A fault of one push (its text, the key that sealed it) must not stop the device's other pushes.
            logs.error("push_cannot_be_sent", exc=error, push_id=push.push.push_id.hex())
            return None

    async def _send_frame(self, connection: DeviceConnection, text: str) -> bool:
        """False, and the connection is closed, when the frame is not sent in time."""
        try:
            async with asyncio.timeout(_SEND_TIMEOUT_SECONDS):
                await connection.socket.send(text)
        except (TimeoutError, ConnectionError):
            await self._close(connection, Close.SILENT)
            return False
        return True

    async def acknowledge(self, connection: DeviceConnection, push_id: bytes) -> None:
        """Only for pushes that were sent on this connection: any other acknowledgement causes no query."""
        if not connection.in_flight.start_acknowledgement(push_id):
            return
        try:
            push = await self._registry.acknowledge(connection.fingerprint, push_id, self._clock())
        except RegistryBusy:
            connection.in_flight.acknowledgement_failed(push_id)
            return
        connection.in_flight.acknowledgement_stored(push_id)
        if connection.spans is not None:
            connection.spans.acknowledged(push_id)
        if push is not None:
            self._on_delivered(push)

    async def heartbeat(self, ping: str) -> None:
        """To be called once a second: ping a part of the connections, close those that missed two pongs, and query the
        pushes of the others.

        The query finds pushes that must be sent again, and pushes without a notification: the worker that admitted them
        may have stopped, or found the database busy, before it could notify.
        """
        self._slot = (self._slot + 1) % HEARTBEAT_SECONDS
        for connection in list(self._slots[self._slot]):
            if connection.missed_pongs >= _MAX_MISSED_PONGS:
                self._spawn(self._close(connection, Close.SILENT))
                continue
            connection.missed_pongs += 1
            connection.frames = 0
            self._spawn(self._ping(connection, ping))
            connection.in_flight.mark_late(time.monotonic() - self._ack_timeout)
            self.wake([connection.fingerprint[:PREFIX_BYTES]])

    async def _ping(self, connection: DeviceConnection, ping: str) -> None:
        await self._send_frame(connection, ping)
        if (now := self._clock()) - connection.seen_at >= _SEEN_SECONDS:
            connection.seen_at = now
            with suppress(RegistryBusy):
                await self._registry.mark_seen(connection.fingerprint, int(now))

    async def drain(self) -> None:
        """Close all connections with 1001: the devices reconnect to another worker."""
        self.draining = True
        for connection in list(self._by_prefix.values()):
            self._spawn(self._close(connection, Close.SHUTDOWN))
        if self._background:
            await asyncio.wait(self._background, timeout=5)

    async def _close(self, connection: DeviceConnection, code: int) -> None:
        try:
            async with asyncio.timeout(_SEND_TIMEOUT_SECONDS):
                await connection.socket.close(code)
        except (TimeoutError, ConnectionError):
            return

    def _spawn(self, work: Awaitable[None]) -> None:
        async def run() -> None:
            await work

        task = asyncio.create_task(run())
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def _prefixes(data: bytes) -> Iterator[bytes]:
    return (data[at : at + PREFIX_BYTES] for at in range(0, len(data), PREFIX_BYTES))
