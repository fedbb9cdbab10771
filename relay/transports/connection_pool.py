"""Several warm connections to one provider: each is opened again when it ends, and pinged while it lives."""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Generic, NamedTuple, TypeVar

from relay.transports import Load
from relay.transports.http2 import Http2, RequestLost
from sigil.serving import logs

C = TypeVar("C", bound=Http2)
T = TypeVar("T")

_TRIES = 4
_SHORT_LIFE = 1.0


class Pace(NamedTuple):
    """Times are seconds: to connect, between pings, for the answer to one, for that to a request before it says
    something about the connection, and the longest rest between two tries."""

    lanes: int = 4
    connect: float = 5.0
    ping: float = 20.0
    pong: float = 5.0
    patience: float = 5.0
    rest: float = 15.0


class ConnectionPool(Generic[C]):
    """`connect` opens one connection (OSError, Lost); `provider` is a name for logs."""

    def __init__(self, provider: str, connect: Callable[[], Awaitable[C]], pace: Pace) -> None:
        self._provider = provider
        self._connect = connect
        self._pace = pace
        self._connections: list[C] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._waiting: OrderedDict[asyncio.Future[None], None] = OrderedDict()
        self._failing: set[int] = set()
        self._told_down = False

    def open(self) -> None:
        self._tasks = [asyncio.create_task(self._keep(lane)) for lane in range(self._pace.lanes)]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for connection in list(self._connections):
            connection.abort("closed")

    def load(self) -> Load:
        return Load(len(self._connections), sum(connection.open_streams for connection in self._connections))

    async def use(self, work: Callable[[C], Awaitable[T]]) -> T:
        """`work` on the connection with the fewest open streams, again when a connection did nothing about it; Lost."""
        for tries_left in reversed(range(_TRIES)):
            connection = await self._free()
            try:
                return await work(connection)
            except RequestLost as lost:
                if not lost.unprocessed or not tries_left:
                    raise
        raise AssertionError("unreachable: the last try returns or raises")

    async def _free(self) -> C:
        """A connection with room; Lost at once when the provider cannot be reached on any lane."""
        while True:
            free = [connection for connection in self._connections if connection.room > 0]
            if free:
                return min(free, key=lambda connection: connection.open_streams)
            if len(self._failing) == self._pace.lanes and not any(one.usable for one in self._connections):
                raise RequestLost("unreachable", unprocessed=True)
            await self._room()

    async def _room(self) -> None:
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[waiting] = None
        try:
            await waiting
        except asyncio.CancelledError:
            if waiting.done() and not waiting.cancelled():
                # It was this one's turn: somebody else's then.
                self._wake()
            else:
                # `_wake` may have passed it over already.
                self._waiting.pop(waiting, None)
            raise

    def _wake(self) -> None:
        self._connections = [connection for connection in self._connections if not connection.ended.is_set()]
        room = sum(connection.room for connection in self._connections)
        if room <= 0 and len(self._failing) == self._pace.lanes:
            room = len(self._waiting)
        while self._waiting and room > 0:
            waiting, _ = self._waiting.popitem(last=False)
            if not waiting.done():
                waiting.set_result(None)
                room -= 1

    async def _keep(self, lane: int) -> None:
        """One lane, for ever."""
        failures = 0
        while True:
            lived = 0.0
            try:
                lived = await self._live(lane)
            except (OSError, TimeoutError, RequestLost) as error:
                self._down(lane, error)
            # One that ends as soon as it began is no better than one that never did.
            failures = 0 if lived > _SHORT_LIFE else failures + 1
            pause = min(0.1 * 2.0 ** min(failures, 16), self._pace.rest)
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter

    async def _live(self, lane: int) -> float:
        """From opening a connection until another has to take its place; how long it was good for. Raises when it never
        came up."""
        async with asyncio.timeout(self._pace.connect):
            connection = await self._connect()
            try:
                await connection.ready()
            except BaseException:
                connection.abort("closed")
                raise
        self._connections.append(connection)
        connection.on_room, connection.patience = self._wake, self._pace.patience
        self._up(lane)
        began = time.monotonic()
        await self._tend(connection)
        return time.monotonic() - began

    async def _tend(self, connection: C) -> None:
        """Until nothing more begins on it: another takes its lane, while it waits for the answers it still gets."""
        while not connection.leaving.is_set():
            try:
                async with asyncio.timeout(self._pace.ping):
                    await connection.leaving.wait()
            except TimeoutError:
                try:
                    await connection.ping(self._pace.pong)
                except RequestLost:
                    connection.abort("silent")

    def _up(self, lane: int) -> None:
        self._failing.discard(lane)
        if self._told_down:
            self._told_down = False
            logs.info("provider_reachable", provider=self._provider)
        self._wake()

    def _down(self, lane: int, error: Exception) -> None:
        self._failing.add(lane)
        if len(self._failing) == self._pace.lanes and not self._told_down:
            self._told_down = True
            # The type, since the text of an exception may quote anything; a certificate's fault is worth a word.
            reason = error.verify_message if isinstance(error, ssl.SSLCertVerificationError) else type(error).__name__
            logs.error("provider_unreachable", provider=self._provider, reason=reason)
        self._wake()
