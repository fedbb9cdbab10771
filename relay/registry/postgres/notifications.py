"""Notifications between workers and replicas over LISTEN and NOTIFY, on a connection that reconnects by itself.

One channel of PostgreSQL carries all channels of the relay as `channel:base64`, since its payload is text of less than
8000 bytes.
"""

from __future__ import annotations

import asyncio
import base64
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

from relay.registry.model import MAX_NOTIFICATION_BYTES
from relay.registry.port import NotificationHandler
from sigil.serving import logs

CHANNEL = "sigil_relay"
LOST = "lost"

_PING_SECONDS = 20.0
"""A connection that a middlebox has dropped is as silent as a healthy one: only a query shows the difference."""
_FIRST_DELAY = 0.05
_MAX_DELAY = 10.0


async def notify(connection: Any, channel: str, batches: Sequence[bytes]) -> None:
    """ValueError for a batch of more than MAX_NOTIFICATION_BYTES bytes."""
    if any(len(data) > MAX_NOTIFICATION_BYTES for data in batches):
        raise ValueError(f"a notification has at most {MAX_NOTIFICATION_BYTES} bytes")
    payloads = [f"{channel}:{base64.b64encode(data).decode()}" for data in batches]
    await connection.execute("SELECT pg_notify($1, payload) FROM unnest($2::text[]) AS payload", CHANNEL, payloads)


class Listener:
    """Calls `on_notification` with each notification, and with LOST after a time without a connection."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[Any]],
        on_notification: NotificationHandler,
        *,
        ping: float = _PING_SECONDS,
    ) -> None:
        self._connect = connect
        self._on_notification = on_notification
        self._ping = ping
        self._task: asyncio.Task[None] | None = None
        self._connection: Any = None

    async def start(self, connection: Any) -> None:
        """Listen on `connection`, which the listener owns from now on."""
        ended = await self._listen(connection)
        self._connection = connection
        self._task = asyncio.create_task(self._run(ended))

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        # Here, not in the task: one that is cancelled before its first step runs no `finally`.
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def _run(self, ended: asyncio.Event) -> None:
        while True:
            await self._until_broken(self._connection, ended)
            self._connection.terminate()
            logs.warn(
                "database_news_lost", message="devices on WebSockets get their pushes at the next heartbeat meanwhile"
            )
            self._connection, ended = await self._reconnect()
            logs.info("database_news_back")
            # Called by the loop, as for all other notifications: an error of the handler must not end this task.
            asyncio.get_running_loop().call_soon(self._on_notification, LOST, b"")

    async def _until_broken(self, connection: Any, ended: asyncio.Event) -> None:
        while not ended.is_set():
            try:
                async with asyncio.timeout(self._ping):
                    await ended.wait()
            except TimeoutError:
                try:
                    await connection.fetchval("SELECT 1", timeout=self._ping)
                except Exception:  # any error: reconnect
                    return

    async def _reconnect(self) -> tuple[Any, asyncio.Event]:
        delay = _FIRST_DELAY
        while True:
            # Jitter: the workers of all replicas lost their connections at the same moment.
            await asyncio.sleep(delay * random.random())  # noqa: S311
            with suppress(Exception):
                connection = await self._connect()
                return connection, await self._listen(connection)
            delay = min(2 * delay, _MAX_DELAY)

    async def _listen(self, connection: Any) -> asyncio.Event:
        ended = asyncio.Event()
        try:
            connection.add_termination_listener(lambda _connection: ended.set())
            async with asyncio.timeout(self._ping):
                await connection.add_listener(CHANNEL, self._received)
        except BaseException:
            connection.terminate()
            raise
        return ended

    def _received(self, _connection: object, _pid: int, _channel: str, payload: str) -> None:
        channel, separator, text = payload.partition(":")
        try:
            data = base64.b64decode(text, validate=True)
        except ValueError:
            return
        if separator and channel != LOST:
            self._on_notification(channel, data)
