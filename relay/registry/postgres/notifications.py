"""News between workers and replicas over LISTEN and NOTIFY, on a connection of its own that comes back by itself.

One channel of PostgreSQL carries all of ours: `channel:base64`, since its payload is text of less than 8000 bytes.
"""

from __future__ import annotations

import asyncio
import base64
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

from relay.registry.port import MAX_TOLD, NotificationHandler
from sigil.serving import logs

CHANNEL = "sigil_relay"
LOST = "lost"

_PING_SECONDS = 20.0
"""A connection that something between has forgotten says nothing, and so does a healthy one."""
_FIRST_DELAY = 0.05
_MAX_DELAY = 10.0


async def notify(connection: Any, channel: str, told: Sequence[bytes]) -> None:
    """ValueError for more than MAX_TOLD bytes in one."""
    if any(len(data) > MAX_TOLD for data in told):
        raise ValueError(f"at most {MAX_TOLD} bytes are told at once")
    texts = [f"{channel}:{base64.b64encode(data).decode()}" for data in told]
    await connection.execute("SELECT pg_notify($1, told) FROM unnest($2::text[]) AS told", CHANNEL, texts)


class Listener:
    """Calls `news` with what others tell, and with LOST when it could not listen for a while."""

    def __init__(
        self, connect: Callable[[], Awaitable[Any]], news: NotificationHandler, *, ping: float = _PING_SECONDS
    ) -> None:
        self._connect = connect
        self._news = news
        self._ping = ping
        self._task: asyncio.Task[None] | None = None

    async def start(self, connection: Any) -> None:
        """Listen on `connection`, which is ours from now on."""
        ended = await self._listen(connection)
        self._task = asyncio.create_task(self._keep(connection, ended))

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def _keep(self, connection: Any, ended: asyncio.Event) -> None:
        while True:
            try:
                await self._until_broken(connection, ended)
            finally:
                connection.terminate()
            logs.warn("database_news_lost")
            connection, ended = await self._again()
            logs.info("database_news_back")
            # By the loop, as all other news is: an error of whoever listens is not ours.
            asyncio.get_running_loop().call_soon(self._news, LOST, b"")

    async def _until_broken(self, connection: Any, ended: asyncio.Event) -> None:
        while not ended.is_set():
            try:
                async with asyncio.timeout(self._ping):
                    await ended.wait()
            except TimeoutError:
                try:
                    await connection.fetchval("SELECT 1", timeout=self._ping)
                except Exception:  # whatever it was, another connection is the answer
                    return

    async def _again(self) -> tuple[Any, asyncio.Event]:
        delay = _FIRST_DELAY
        while True:
            # Jitter: the workers of all replicas lost theirs in the same moment.
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
                await connection.add_listener(CHANNEL, self._heard)
        except BaseException:
            connection.terminate()
            raise
        return ended

    def _heard(self, _connection: object, _pid: int, _channel: str, payload: str) -> None:
        channel, separator, text = payload.partition(":")
        try:
            data = base64.b64decode(text, validate=True)
        except ValueError:
            return
        if separator and channel != LOST:
            self._news(channel, data)
