"""One request of an HTTP/2 connection, and the ways to respond to it, correctly or with a fault."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Any, Protocol

import msgspec


class Response(msgspec.Struct, frozen=True):
    """The response of a provider. `outcome` is its name in the counters."""

    status: int
    outcome: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    @property
    def accepted(self) -> bool:
        return self.status in {200, 201}


class StreamConnection(Protocol):
    """The part of a connection that its streams need."""

    session: Any

    def send_headers(self, stream: Stream, headers: Iterable[tuple[str, str]], *, end: bool) -> None: ...
    def send_data(self, stream: Stream) -> None: ...
    def send_reset(self, stream: Stream, code: int) -> None: ...
    def open_window(self, stream: Stream) -> None: ...
    def announce(self, max_streams: int) -> None: ...
    def go_away(self, last_stream: int | None = None, code: int = 0, debug: bytes = b"") -> None: ...
    def abort(self) -> None: ...


class Stream:
    """`headers` are those of the request without pseudo headers; of repeated ones the last counts. `left_open`: a
    response before the end of the request does not reset the stream."""

    __slots__ = (
        "_timer", "body", "chunks", "complete", "connection", "handled", "headers", "id", "left_open", "malformed",
        "method", "path", "repeated", "window",
    )  # fmt: skip

    def __init__(
        self, number: int, connection: StreamConnection, fields: Iterable[tuple[str, str]], window: int
    ) -> None:
        self.id, self.connection, self.window = number, connection, window
        all_fields = list(fields)
        self.headers = dict(all_fields)
        self.repeated = len(self.headers) < len(all_fields)
        self.method, self.path = self.headers.pop(":method", ""), self.headers.pop(":path", "")
        self.malformed = not self.method or not self.path or any(name != name.lower() for name in self.headers)
        self.body = bytearray()
        self.complete = self.handled = self.left_open = False
        self.chunks: deque[bytes] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def later(self, seconds: float, callback: Any, *arguments: Any) -> None:
        """Call `callback` after `seconds`, unless the stream ends before."""
        self._timer = asyncio.get_running_loop().call_later(seconds, callback, *arguments)

    def cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def respond(self, response: Response) -> None:
        self._send_headers(response, end=not response.body)
        if response.body:
            self._send_body(response.body)

    def respond_without_body(self, response: Response) -> None:
        self._send_headers(response, end=True)

    def respond_in_chunks(self, response: Response) -> None:
        """One byte in each frame."""
        self._send_headers(response, end=not response.body)
        if response.body:
            self._send_body(*(response.body[at : at + 1] for at in range(len(response.body))))

    def respond_between_empty_frames(self, response: Response) -> None:
        """An empty frame before the body, and one after it that ends the stream: allowed, and rarely tested."""
        self._send_headers(response, end=False)
        self._send_body(*([b"", response.body, b""] if response.body else [b"", b""]))

    def stall(self, response: Response) -> None:
        """The headers of a response whose body never follows."""
        self._send_headers(response, end=False)

    def _send_headers(self, response: Response, *, end: bool) -> None:
        headers = [(":status", str(response.status)), *response.headers]
        self.connection.send_headers(self, headers, end=end)

    def _send_body(self, *pieces: bytes) -> None:
        self.chunks.extend(pieces)
        self.connection.send_data(self)
