"""A server on loopback that runs a handler of the test on each connection, with TLS or without."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from typing import NamedTuple

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Request(NamedTuple):
    head: str
    body: bytes

    @property
    def headers(self) -> list[tuple[str, str]]:
        lines = self.head.split("\r\n")[1:]
        return [(name, value) for name, _, value in (line.partition(": ") for line in lines)]


class Connection:
    """One connection, on the side of the server. `written` counts the bytes that the kernel took."""

    def __init__(self, server: HostileReceiver, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._server, self._reader, self._writer = server, reader, writer
        self.written = 0

    async def request(self) -> Request | None:
        """The next request, None when the connection is closed."""
        try:
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").removesuffix("\r\n\r\n")
            length = next(line for line in head.lower().split("\r\n") if line.startswith("content-length: "))
            request = Request(head, await self._reader.readexactly(int(length[16:])))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        self._server.requests.append(request)
        return request

    async def write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()
        self.written += len(data)

    async def until_closed(self) -> None:
        with contextlib.suppress(ConnectionError):
            while await self._reader.read(4096):
                pass

    def close(self) -> None:
        self._writer.close()

    def reset(self) -> None:
        self._writer.transport.abort()


Handler = Callable[[Connection], Awaitable[None]]


async def respond_ok(connection: Connection) -> None:
    while await connection.request():
        await connection.write(OK)


def responding(response: bytes) -> Handler:
    """Responds to every request with the same bytes."""

    async def handler(connection: Connection) -> None:
        while await connection.request():
            await connection.write(response)

    return handler


class HostileReceiver:
    """`async with HostileReceiver(handler) as receiver: …`"""

    def __init__(
        self, handler: Handler = respond_ok, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
    ) -> None:
        self._handler, self._tls, self._host = handler, tls, host
        self.requests: list[Request] = []
        self.connections: list[Connection] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> HostileReceiver:
        self._server = await asyncio.start_server(self._serve, self._host, 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def url(self, host: str = "127.0.0.1") -> str:
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}/hook?token=t%2Ft"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(self, reader, writer)
        self.connections.append(connection)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            await self._handler(connection)
        writer.transport.abort()

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        # The last accepted connection is served some event loop iterations later; cancelled before, it would stay open.
        for _ in range(10):
            await asyncio.sleep(0)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
