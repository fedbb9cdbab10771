"""The outermost ASGI layer: what Granian and Falcon leave to us, before a request becomes a Falcon request."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

from sigil.protocol.errors import InvalidRequest, PayloadTooLarge
from sigil.serving.gate import Gate

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
AsgiApp = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]

DEFAULT_BODY_LIMIT = 64 * 1024
BODY_SECONDS = 10
_REQUEST_ID = re.compile(rb"[A-Za-z0-9_.:-]{1,64}\Z")

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
    """

    def __init__(self, app: AsgiApp, gate: Gate) -> None:
        self._app = app
        self._gate = gate

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["http_version"] == "1":
            scope["http_version"] = "1.0"
        request_id.set(_request_id(scope["headers"]))
        body = scope["sigil.body"] = Body(receive, self._gate)
        self._gate.active += 1
        try:
            await self._app(scope, body.nothing_yet, send)
        finally:
            self._gate.active -= 1


def _request_id(headers: list[tuple[bytes, bytes]]) -> str:
    for name, value in headers:
        if name == b"x-request-id" and _REQUEST_ID.match(value):
            return value.decode("ascii")
    return os.urandom(8).hex()


class Body:
    """The body of one request, read at most once."""

    def __init__(self, receive: Receive, gate: Gate) -> None:
        self._receive = receive
        self._gate = gate

    async def nothing_yet(self) -> dict[str, Any]:
        """What Falcon receives in place of the body."""
        return {"type": "http.request", "body": b"", "more_body": True}

    async def read(self, limit: int = DEFAULT_BODY_LIMIT) -> bytes:
        """All of it: PayloadTooLarge over `limit` bytes, BodyTimeout after 10 s, Overloaded when memory is short."""
        with self._gate.reading(time.monotonic()):
            try:
                async with asyncio.timeout(BODY_SECONDS):
                    return await self._read(limit)
            except TimeoutError as error:
                raise BodyTimeout from error

    async def _read(self, limit: int) -> bytes:
        event = await self._receive()
        if not event.get("more_body"):
            return _piece(event, limit)
        held = 0
        pieces = [_piece(event, limit)]
        try:
            while event.get("more_body"):
                size = len(pieces[-1])
                held += size
                self._gate.hold(size)
                event = await self._receive()
                pieces.append(_piece(event, limit - held))
        finally:
            self._gate.buffered -= held
        return b"".join(pieces)


def _piece(event: dict[str, Any], limit: int) -> bytes:
    if event["type"] == "http.disconnect":
        raise BodyBroken
    piece: bytes = event.get("body", b"")
    if len(piece) > limit:
        raise PayloadTooLarge
    return piece
