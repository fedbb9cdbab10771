"""Floods: many connections or requests that no honest client makes, from addresses of their own, for a given time.

Each is bounded in number and rate: the load must go on beside it on two cores. A flood ends with all its connections
closed. Statuses of responses are counted; a 500, or a success where there must be none, is a violation.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

_CONNECTIONS = 400
_TLS_CONNECTIONS = 150
_WEBSOCKETS = 200
_LONG_POLLS = 120
_REQUESTS_PER_SECOND = 100
_CONNECT_SECONDS = 20.0
_PERMITTED = {
    "wrong key": {"401", "429", "503"},
    "large body": {"400", "401", "408", "413", "429", "503"},
    "long poll": {"200", "404", "429", "503"},
}
# What a load balancer's probe, a port scan, a broken client and an attack may send first.
_HTTP_2_BEGINNING = b"PRI * HT"

_ENDS = (OSError, EOFError, TimeoutError)

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class Floods:
    """`api_key` is that of a tenant which only floods; `subject` is the path of a pending challenge of that tenant."""

    url: str
    ws_url: str
    tls: ssl.SSLContext
    api_key: str
    new_subject: Callable[[], Awaitable[str]]
    statuses: Counter[str] = field(default_factory=Counter)
    opened: int = 0

    def __post_init__(self) -> None:
        self._kinds: dict[str, Callable[[float], Awaitable[None]]] = {
            "flood_connections": lambda until: self._hold(until, _CONNECTIONS, b"", tls=False),
            "flood_first_bytes": lambda until: self._hold(until, _CONNECTIONS, _HTTP_2_BEGINNING, tls=False),
            "flood_tls_silence": lambda until: self._hold(until, _TLS_CONNECTIONS, b"", tls=True),
            "flood_half_open_websockets": self._half_open_websockets,
            "flood_wrong_keys": self._wrong_keys,
            "flood_large_bodies": self._large_bodies,
            "flood_long_polls": self._long_polls,
        }

    async def run(self, kind: str, seconds: float) -> None:
        await self._kinds[kind](time.monotonic() + seconds)

    def unexpected(self) -> dict[str, int]:
        """Responses with a status that no flood may get."""
        return {text: count for text, count in self.statuses.items() if not _permitted(text)}

    async def _hold(self, until: float, count: int, first: bytes, *, tls: bool) -> None:
        async def one(number: int) -> None:
            async with self._connection(self.url, f"127.66.{1 + tls}.{1 + number % 2}", tls=tls) as (reader, writer):
                writer.write(first)
                with suppress(TimeoutError):
                    async with asyncio.timeout(max(0.1, until - time.monotonic())):
                        await reader.read()

        await self._gather(one, count)

    async def _half_open_websockets(self, until: float) -> None:
        request = (
            b"GET /ws HTTP/1.1\r\nHost: relay\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )

        async def one(number: int) -> None:
            async with self._connection(self.ws_url, f"127.66.3.{1 + number % 2}", tls=False) as (reader, writer):
                # Half of them do not even complete the request.
                writer.write(request[: 40 if number % 2 else None])
                with suppress(TimeoutError):
                    async with asyncio.timeout(max(0.1, until - time.monotonic())):
                        await reader.read(-1)

        await self._gather(one, _WEBSOCKETS)

    async def _wrong_keys(self, until: float) -> None:
        body = b'{"device_public_key": "AA==", "action": {"type": "login", "description": "x"}}'
        request = self._post("/challenge", body, key="sgk_test_" + "0" * 64)

        async def one(number: int) -> None:
            async with self._connection(self.url, f"127.66.4.{1 + number}", tls=True) as streams:
                while time.monotonic() < until:
                    await self._exchange(streams, request, "wrong key")
                    await asyncio.sleep(10 / _REQUESTS_PER_SECOND)

        await self._repeat(until, one, 10)

    async def _large_bodies(self, until: float) -> None:
        """Bodies that never end, and bodies that are announced too large."""
        endless = self._post("/challenge", b" " * 60_000, key=self.api_key)[:-1]
        too_large = self._post("/challenge", b"", key=self.api_key, length=50_000_000) + b" " * 70_000

        async def one(number: int) -> None:
            async with self._connection(self.url, f"127.66.5.{1 + number % 4}", tls=True) as streams:
                await self._exchange(streams, endless if number % 2 else too_large, "large body", until)

        await self._repeat(until, one, 40)

    async def _long_polls(self, until: float) -> None:
        path = await self.new_subject()
        request = self._get(f"{path}?wait=25")

        async def one(number: int) -> None:
            async with self._connection(self.url, f"127.66.6.{1 + number % 8}", tls=True) as streams:
                while await self._exchange(streams, request, "long poll", until) == "200":
                    pass

        await self._repeat(until, one, _LONG_POLLS)

    async def _exchange(self, streams: Streams, request: bytes, what: str, until: float = 0) -> str:
        """The status of the response; empty when none came before `until`, or within ten seconds."""
        reader, writer = streams
        writer.write(request)
        try:
            async with asyncio.timeout(max(1.0, until - time.monotonic()) if until else 10):
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0] or 0)
                await reader.readexactly(length)
        except TimeoutError:
            return ""
        status = head[9:12].decode(errors="replace")
        self.statuses[f"{what} {status}"] += 1
        return status

    @asynccontextmanager
    async def _connection(self, url: str, address: str, *, tls: bool) -> AsyncIterator[Streams]:
        """A connection from an address of this host; OSError when the server refuses it, as it may."""
        parts = urlsplit(url)
        async with asyncio.timeout(_CONNECT_SECONDS):
            reader, writer = await asyncio.open_connection(
                parts.hostname, parts.port, local_addr=(address, 0), ssl=self.tls if tls else None
            )
        self.opened += 1
        try:
            yield reader, writer
        finally:
            writer.transport.abort()

    async def _gather(self, one: Callable[[int], Awaitable[None]], count: int) -> None:
        async def guarded(number: int) -> None:
            with suppress(*_ENDS):
                await one(number)

        await asyncio.gather(*(guarded(number) for number in range(count)))

    async def _repeat(self, until: float, one: Callable[[int], Awaitable[None]], count: int) -> None:
        """Each of `count` connects again after its connection has ended."""

        async def repeated(number: int) -> None:
            while time.monotonic() < until:
                with suppress(*_ENDS):
                    await one(number)
                await asyncio.sleep(0.5)

        await self._gather(repeated, count)

    def _post(self, path: str, body: bytes, *, key: str, length: int | None = None) -> bytes:
        size = len(body) if length is None else length
        head = f"POST {path} HTTP/1.1\r\nHost: {urlsplit(self.url).netloc}\r\nContent-Type: application/json\r\n"
        return f"{head}Authorization: Bearer {key}\r\nContent-Length: {size}\r\n\r\n".encode() + body

    def _get(self, path: str) -> bytes:
        head = f"GET {path} HTTP/1.1\r\nHost: {urlsplit(self.url).netloc}\r\n"
        return f"{head}Authorization: Bearer {self.api_key}\r\n\r\n".encode()


def _permitted(text: str) -> bool:
    what, _, status = text.rpartition(" ")
    return status in _PERMITTED[what]
