"""The outermost ASGI layer: what Granian and Falcon leave to us, before a request becomes a Falcon request."""

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

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
AsgiApp = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]

DEFAULT_BODY_LIMIT = 64 * 1024
# What follows a body that is too large is read on while it keeps coming, and kept no more: a connection that is closed
# while the client still sends is reset, and the reset overtakes the answer.
_READ_ON = 1 << 20
_READ_ON_SILENCE = 0.5
# Each piece costs 60 µs however small it is: 360 kB in chunks of one byte held a worker for 3.7 s.
_MOST_PIECES = 2048
_NO_SUCH_SOCKET = 4404
_REQUEST_ID = re.compile(rb"[A-Za-z0-9_.:-]{1,64}\Z")

# Unlike those of any other process; nobody may rely on more than that.
_PROCESS, _numbers = os.urandom(6).hex(), count(1)

request_id: ContextVar[str] = ContextVar("request_id", default="")


class BodyBroken(InvalidRequest):
    """The body broke off, or was malformed chunks; if anyone still listens, this is the answer."""

    summary = "The body of the request broke off."


class BodyTimeout(InvalidRequest):
    """The body did not arrive in time; the connection is closed after the answer."""

    summary = f"The body did not arrive within {BODY_SECONDS} seconds."


class Edge:
    """Wraps a Falcon application.

    - HTTP/1.0: Granian says "1", which Falcon refuses with an exception.
    - Falcon waits for the first piece of the body before it routes; it gets an empty one, and who wants the body reads
      `scope["sigil.body"]`, which holds to sizes and times.
    - WebSockets are for the paths `sockets` alone: Granian hangs when one is refused before it was accepted.
    """

    def __init__(
        self, app: AsgiApp, intake: BodyAdmission, addresses: ClientAddresses, sockets: frozenset[str] = frozenset()
    ) -> None:
        self._app = app
        self._intake = intake
        self._addresses = addresses
        self._sockets = sockets

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] == "websocket" and scope["path"] not in self._sockets:
            await _no_socket(receive, send)
            return
        if scope["http_version"] == "1":
            scope["http_version"] = "1.0"
        # ASGI promises iterables only, and Falcon will read them after us.
        scope["headers"] = headers = [(name, value) for name, value in scope["headers"]]
        request_id.set(_request_id(headers))
        if scope["type"] == "websocket":
            await self._app(scope, receive, send)
            return
        scope["sigil.began"] = time.perf_counter()
        client = scope.get("client")
        address = self._addresses.of_peer(str(client[0]) if client else "", headers)
        scope["sigil.body"] = Body(receive, self._intake, address)
        await self._app(scope, _nothing_yet, send)


async def _no_socket(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.close", "code": _NO_SUCH_SOCKET})


async def _nothing_yet() -> dict[str, Any]:
    """What Falcon receives in place of the body."""
    return {"type": "http.request", "body": b"", "more_body": True}


def _request_id(headers: list[tuple[bytes, bytes]]) -> str:
    for name, value in headers:
        if name == b"x-request-id" and _REQUEST_ID.match(value):
            return value.decode("ascii")
    return f"{_PROCESS}{next(_numbers):08x}"


class Body:
    """The body of one request, read at most once; `complete` when its end was seen."""

    def __init__(self, receive: Receive, intake: BodyAdmission, address: str) -> None:
        self._receive = receive
        self._intake = intake
        self._address = address
        self.complete = False
        self._pieces = 0

    async def read(self, limit: int = DEFAULT_BODY_LIMIT, declared: int = 0) -> bytes:
        """All of it. Overloaded when too many are being read; PayloadTooLarge when it is over `limit` bytes, or
        `declared` is; BodyTimeout after 10 s, or when a slow one has to give way.
        """
        reader = BodyRead(self._address, time.monotonic(), cast(Any, asyncio.current_task()))
        self._intake.enter(reader)
        try:
            return await self._read(reader, limit, declared)
        except asyncio.CancelledError:
            if not reader.cut:
                raise
            reader.task.uncancel()
            raise BodyTimeout from None
        finally:
            self._intake.leave(reader)

    async def _read(self, reader: BodyRead, limit: int, declared: int) -> bytes:
        pieces: list[bytes] = []
        size, more = declared if declared > limit else 0, True
        while more and size <= limit:
            piece, more = await self._piece()
            size += len(piece)
            pieces.append(piece)
            if more and size <= limit:
                self._intake.hold(reader, len(piece))
        if size > limit:
            await self._read_on(more)
            raise PayloadTooLarge
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def _piece(self) -> tuple[bytes, bool]:
        event = await self._receive()
        self._pieces += 1
        if event["type"] == "http.disconnect" or self._pieces > _MOST_PIECES:
            raise BodyBroken
        more = event.get("more_body", False)
        self.complete = not more
        return event.get("body", b""), more

    async def _read_on(self, more: bool) -> None:
        left = _READ_ON
        with contextlib.suppress(TimeoutError):
            while more and left > 0:
                async with asyncio.timeout(_READ_ON_SILENCE):
                    piece, more = await self._piece()
                left -= len(piece)
