"""A webhook endpoint in the process of the test: it keeps every request, and answers with a status of the test."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, NamedTuple

import standardwebhooks

from sigil.protocol.webhook import standard_secret
from sigil.sdk import webhooks


class Arrival(NamedTuple):
    """`headers` has lower-case names; `at` is a Unix time; `status` is the HTTP status of the answer."""

    headers: dict[str, str]
    body: bytes
    at: float
    status: int

    @property
    def event(self) -> dict[str, Any]:
        event: dict[str, Any] = json.loads(self.body)
        return event


class WebhookEndpoint:
    """`with WebhookEndpoint() as endpoint: …`

    `status_for(number)` is the status of the answer to that request, counted from 0; 0 closes the connection.
    """

    def __init__(self, status_for: Callable[[int], int] = lambda number: 200, host: str = "127.0.0.1") -> None:
        self.status_for = status_for
        self.host = host
        self.hanging = False
        self.port = 0
        self.arrivals: list[Arrival] = []
        self.connections = 0
        self.most_open = 0
        self._numbers = itertools.count()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hooks/sigil?token=secret-of-the-path"

    def __enter__(self) -> WebhookEndpoint:
        self._thread.start()
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(60)
        self._loop.close()

    def start(self) -> None:
        """Listens; after a stop, on the same port as before."""
        self._run(self._start())

    def stop(self) -> None:
        """Stops listening, and closes all connections."""
        self._run(self._stop())

    def _run(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    async def _start(self) -> None:
        self._server = await asyncio.start_server(self._serve, self.host, self.port, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        self._server.close()
        # A connection that was accepted just now gets its writer some iterations of the loop later.
        for _ in range(10):
            await asyncio.sleep(0)
        while self._writers:
            for writer in self._writers:
                writer.transport.abort()
            await asyncio.sleep(0.01)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        self.most_open = max(self.most_open, len(self._writers))
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while await self._serve_request(reader, writer):
                pass
        writer.transport.abort()
        self._writers.discard(writer)

    async def _serve_request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[1:-2]
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        body = await reader.readexactly(int(headers["content-length"]))
        at = time.time()
        while self.hanging:
            await asyncio.sleep(0.01)
        status = self.status_for(next(self._numbers))
        self.arrivals.append(Arrival(headers, body, at, status))
        if status:
            writer.write(f"HTTP/1.1 {status} Status\r\nContent-Length: 0\r\n\r\n".encode())
            await writer.drain()
        return status != 0

    def arrivals_of(self, event_id: str) -> list[Arrival]:
        return [arrival for arrival in self.arrivals if arrival.headers.get("webhook-id") == event_id]


def verified_event(arrival: Arrival, secret: str) -> webhooks.WebhookEvent:
    """The event, after an independent library of Standard Webhooks and the SDK have verified it."""
    by_library = standardwebhooks.Webhook(standard_secret(secret)).verify(arrival.body, arrival.headers)
    event = webhooks.verify(arrival.headers, arrival.body, secret)
    sigil = {name: value for name, value in arrival.headers.items() if name.startswith("x-sigil-")}
    assert webhooks.verify(sigil, arrival.body, secret) == event
    assert by_library["id"] == event.id == arrival.headers["webhook-id"]
    return event
