"""Several warm connections to one provider. Each is pinged while it is open, and replaced when it ends."""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, Protocol

from relay.transports import Load, RequestSpan
from relay.transports.http2 import Headers, RequestLost, Response
from relay.transports.outage_reason import OutageReason
from sigil.serving import logs

_MAX_TRIES = 4
_SHORT_LIFE_SECONDS = 1.0


class PoolSettings(NamedTuple):
    """Times are seconds. `answer_timeout`: see Http2Connection. `max_backoff`: longest pause between two tries to
    connect."""

    connections: int = 4
    connect_timeout: float = 5.0
    ping_interval: float = 20.0
    ping_timeout: float = 5.0
    answer_timeout: float = 5.0
    max_backoff: float = 15.0


class Connection(Protocol):
    """What the pool needs of a connection; Http2Connection describes it."""

    on_change: Callable[[], None]
    answer_timeout: float
    draining: asyncio.Event
    closed: asyncio.Event

    @property
    def open_streams(self) -> int: ...

    @property
    def capacity(self) -> int: ...

    @property
    def usable(self) -> bool: ...

    async def ready(self) -> None: ...

    async def request(self, headers: Headers, body: bytes) -> Response: ...

    async def ping(self, seconds: float, /) -> None: ...

    def abort(self, reason: str) -> None: ...


class ConnectionPool:
    """`connect` opens one connection (OSError); `provider`, and `host` if it has several, are its names in logs. With
    `quiet`, it logs nothing before its first connection.

    The pool has a fixed number of slots. A task for each slot keeps one connection open.
    """

    def __init__(
        self,
        provider: str,
        connect: Callable[[], Awaitable[Connection]],
        settings: PoolSettings,
        *,
        host: str | None = None,
        quiet: bool = False,
    ) -> None:
        self._names: dict[str, Any] = {"provider": provider} if host is None else {"provider": provider, "host": host}
        self._quiet = quiet
        self._connect = connect
        self._settings = settings
        self._connections: list[Connection] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._waiting: OrderedDict[asyncio.Future[None], None] = OrderedDict()
        self._failing: set[int] = set()
        self._outage = OutageReason()

    def open(self) -> None:
        self._tasks = [asyncio.create_task(self._maintain(slot)) for slot in range(self._settings.connections)]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for connection in list(self._connections):
            connection.abort("closed")

    def load(self) -> Load:
        return Load(len(self._connections), sum(connection.open_streams for connection in self._connections))

    async def request(
        self, headers: Callable[[], Headers], body: bytes, span: Callable[[], RequestSpan | None] | None = None
    ) -> Response:
        """On the connection with the fewest open streams; RequestLost.

        A request that the provider did not process is sent again. `headers` is called for each try, at the moment of
        sending: what they hold may have been replaced while the request waited for a stream. `span` starts the span of
        a try.
        """
        for tries_left in reversed(range(_MAX_TRIES)):
            connection = await self._acquire()
            try:
                if span is None:
                    return await connection.request(headers(), body)
                return await _traced(span(), connection.request(headers(), body))
            except RequestLost as lost:
                if not lost.unprocessed or not tries_left:
                    raise
        raise AssertionError("unreachable: the last try returns or raises")

    async def _acquire(self) -> Connection:
        """A connection with capacity; RequestLost at once when no slot reaches the provider."""
        while True:
            free = [connection for connection in self._connections if connection.capacity > 0]
            if free:
                return min(free, key=lambda connection: connection.open_streams)
            if self._all_failing() and not any(connection.usable for connection in self._connections):
                raise RequestLost("unreachable", unprocessed=True)
            await self._wait_for_capacity()

    async def _wait_for_capacity(self) -> None:
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[waiting] = None
        try:
            await waiting
        except asyncio.CancelledError:
            if waiting.done() and not waiting.cancelled():
                # It was woken as well: the capacity goes to the next.
                self._wake()
            else:
                # `_wake` may have removed it already.
                self._waiting.pop(waiting, None)
            raise

    def _wake(self) -> None:
        self._connections = [connection for connection in self._connections if not connection.closed.is_set()]
        capacity = sum(connection.capacity for connection in self._connections)
        if capacity <= 0 and self._all_failing():
            capacity = len(self._waiting)
        while self._waiting and capacity > 0:
            waiting, _ = self._waiting.popitem(last=False)
            if not waiting.done():
                waiting.set_result(None)
                capacity -= 1

    def _all_failing(self) -> bool:
        return len(self._failing) == self._settings.connections

    async def _maintain(self, slot: int) -> None:
        """Keep a connection open in this slot until the pool is closed."""
        failures = 0
        while True:
            lifetime = 0.0
            try:
                lifetime = await self._run_connection(slot)
            except (OSError, TimeoutError, RequestLost) as error:
                self._connection_failed(slot, error)
            # A connection that ends at once counts as a failure to connect.
            failures = 0 if lifetime > _SHORT_LIFE_SECONDS else failures + 1
            backoff = min(0.1 * 2.0 ** min(failures, 16), self._settings.max_backoff)
            await asyncio.sleep(backoff * random.uniform(0.5, 1.0))  # noqa: S311 - jitter

    async def _run_connection(self, slot: int) -> float:
        """Open a connection and return when the slot needs another. Returns how long it accepted requests, in seconds;
        raises when it could not be opened."""
        async with asyncio.timeout(self._settings.connect_timeout):
            connection = await self._connect()
            try:
                await connection.ready()
            except BaseException:
                connection.abort("closed")
                raise
        self._connections.append(connection)
        connection.on_change, connection.answer_timeout = self._wake, self._settings.answer_timeout
        self._connection_opened(slot)
        opened_at = time.monotonic()
        await self._ping_until_drained(connection)
        return time.monotonic() - opened_at

    async def _ping_until_drained(self, connection: Connection) -> None:
        """A draining connection leaves its slot at once, and still receives the responses to its open requests."""
        while not connection.draining.is_set():
            try:
                async with asyncio.timeout(self._settings.ping_interval):
                    await connection.draining.wait()
            except TimeoutError:
                try:
                    await connection.ping(self._settings.ping_timeout)
                except RequestLost:
                    connection.abort("silent")

    def _connection_opened(self, slot: int) -> None:
        self._failing.discard(slot)
        self._quiet = False
        if self._outage.ended():
            logs.info("provider_reachable", **self._names)
        self._wake()

    def _connection_failed(self, slot: int, error: Exception) -> None:
        self._failing.add(slot)
        # The type: the text of an exception may quote anything. A certificate error also needs its cause.
        reason = error.verify_message if isinstance(error, ssl.SSLCertVerificationError) else type(error).__name__
        if not self._quiet and self._all_failing() and self._outage.is_news(reason):
            logs.error("provider_unreachable", **self._names, reason=reason)
        self._wake()


async def _traced(span: RequestSpan | None, request: Awaitable[Response]) -> Response:
    error: str | None = "cancelled"
    try:
        response = await request
        error = None
    except RequestLost as lost:
        error = lost.reason.replace(" ", "_")
        raise
    else:
        if span is not None:
            span.set("http.response.status_code", response.status)
            error = str(response.status) if response.status >= 400 else None
        return response
    finally:
        if span is not None:
            span.end(error)
