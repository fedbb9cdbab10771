"""The outermost ASGI layer: it handles what Granian and Falcon do not, before a request becomes a Falcon request."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from itertools import count
from typing import Any, cast

from sigil.protocol.errors import InvalidRequest, PayloadTooLarge
from sigil.serving.http.body_admission import BODY_SECONDS, BodyAdmission, BodyRead
from sigil.serving.http.client_address import ClientAddresses
from sigil.serving.http.request_form import has_one_host, path_of, reject_hosts

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
AsgiApp = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]

DEFAULT_BODY_LIMIT = 64 * 1024
# The rest of a body that is too large is read and discarded: a connection that is closed while the client still sends
# is reset, and the reset overtakes the response.
_DISCARD_BYTES = 1 << 20
_DISCARD_IDLE_SECONDS = 0.5
# A piece of any size costs 60 µs: 360 kB in chunks of one byte held a worker for 3.7 s.
_MAX_PIECES = 2048
_NO_SUCH_SOCKET = 4404
_REQUEST_ID = re.compile(rb"[A-Za-z0-9_.:-]{1,64}\Z")

# Request ids differ from those of every other process; they promise nothing else.
_PROCESS, _numbers = os.urandom(6).hex(), count(1)

request_id: ContextVar[str] = ContextVar("request_id", default="")


class BodyBroken(InvalidRequest):
    """The body broke off, or its chunks were malformed; the response if the connection still exists."""

    summary = "The body of the request broke off."


class BodyTimeout(InvalidRequest):
    """The body did not arrive in time; the connection is closed after the response."""

    summary = f"The body did not arrive within {BODY_SECONDS} seconds."


class AsgiEdge:
    """Wraps a Falcon application.

    - HTTP/1.0: Granian passes the version "1", for which Falcon raises an exception.
    - Falcon waits for the first piece of the body before it routes; it gets an empty one. A resource reads the body
      from `scope["sigil.body"]`, which enforces the limits of size and time.
    - A path in another spelling than that of its route is a path of no route; a request with two hosts is rejected.
    - WebSockets are accepted on the paths `sockets` only: Granian hangs when one is rejected before it was accepted.
    """

    def __init__(
        self, app: AsgiApp, admission: BodyAdmission, addresses: ClientAddresses, sockets: frozenset[str] = frozenset()
    ) -> None:
        self._app = app
        self._admission = admission
        self._addresses = addresses
        self._sockets = sockets

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["http_version"] == "1":
            scope["http_version"] = "1.0"
        # ASGI promises an iterable only, and Falcon reads the headers again.
        scope["headers"] = headers = [(name, value) for name, value in scope["headers"]]
        scope["path"] = path_of(scope)
        one_host = has_one_host(scope, headers)
        if scope["type"] == "websocket" and (scope["path"] not in self._sockets or not one_host):
            await _reject_socket(receive, send)
            return
        request_id.set(_request_id(headers))
        if not one_host:
            await reject_hosts(send, request_id.get())
            return
        if scope["type"] == "websocket":
            await self._app(scope, receive, send)
            return
        scope["sigil.began"] = time.perf_counter()
        client = scope.get("client")
        address = self._addresses.of_peer(str(client[0]) if client else "", headers)
        scope["sigil.address"] = address
        scope["sigil.body"] = Body(receive, self._admission, address)
        await self._app(scope, _empty_piece, send)


async def _reject_socket(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.close", "code": _NO_SUCH_SOCKET})


async def _empty_piece() -> dict[str, Any]:
    """Falcon receives this in place of the body."""
    return {"type": "http.request", "body": b"", "more_body": True}


def _request_id(headers: list[tuple[bytes, bytes]]) -> str:
    for name, value in headers:
        if name == b"x-request-id" and _REQUEST_ID.match(value):
            return value.decode("ascii")
    return f"{_PROCESS}{next(_numbers):08x}"


class Body:
    """The body of one request, read at most once; `complete` when its end was seen."""

    def __init__(self, receive: Receive, admission: BodyAdmission, address: str) -> None:
        self._receive = receive
        self._admission = admission
        self._address = address
        self.complete = False
        self._pieces = 0

    async def read(self, limit: int = DEFAULT_BODY_LIMIT, declared: int = 0) -> bytes:
        """The whole body. Overloaded when too many bodies are being read; PayloadTooLarge when the body, or its
        `declared` length, is over `limit` bytes; BodyTimeout after 10 s, or when this body is slow and is evicted.
        """
        entry = BodyRead(self._address, time.monotonic(), cast(Any, asyncio.current_task()))
        self._admission.enter(entry)
        try:
            return await self._read(entry, limit, declared)
        except asyncio.CancelledError:
            if not entry.evicted:
                raise
            entry.task.uncancel()
            raise BodyTimeout from None
        finally:
            self._admission.leave(entry)

    async def _read(self, entry: BodyRead, limit: int, declared: int) -> bytes:
        pieces: list[bytes] = []
        size, more = declared if declared > limit else 0, True
        while more and size <= limit:
            piece, more = await self._piece()
            size += len(piece)
            pieces.append(piece)
            if size == declared:
                # HTTP ends the body here (RFC 9112, 6.3; RFC 9113, 8.1.1). Granian needs another receive() to say so, a
                # round trip through two threads.
                self.complete, more = True, False
            elif more and size <= limit:
                self._admission.add(entry, len(piece))
        if size > limit:
            await self._discard(more)
            raise PayloadTooLarge
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def _piece(self) -> tuple[bytes, bool]:
        event = await self._receive()
        self._pieces += 1
        if event["type"] == "http.disconnect" or self._pieces > _MAX_PIECES:
            raise BodyBroken
        more = event.get("more_body", False)
        self.complete = not more
        return event.get("body", b""), more

    async def _discard(self, more: bool) -> None:
        left = _DISCARD_BYTES
        with contextlib.suppress(TimeoutError):
            while more and left > 0:
                async with asyncio.timeout(_DISCARD_IDLE_SECONDS):
                    piece, more = await self._piece()
                left -= len(piece)
