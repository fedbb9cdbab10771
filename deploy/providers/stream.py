"""One request of an HTTP/2 connection, and the ways in which it can be answered, rightly or wrongly."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Any, Protocol

import msgspec


class Answer(msgspec.Struct, frozen=True):
    """What a provider says. `outcome` is its name in the counters."""

    status: int
    outcome: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    @property
    def accepted(self) -> bool:
        return self.status == 200


class Wire(Protocol):
    """The part of a connection that its streams need."""

    session: Any

    def send_headers(self, stream: Stream, headers: Iterable[tuple[str, str]], *, end: bool) -> None: ...
    def send_data(self, stream: Stream) -> None: ...
    def send_reset(self, stream: Stream, code: int) -> None: ...
    def make_room(self, stream: Stream) -> None: ...
    def announce(self, max_streams: int) -> None: ...
    def go_away(self, last_stream: int | None = None, code: int = 0, debug: bytes = b"") -> None: ...
    def abort(self) -> None: ...


class Stream:
    """`headers` are those of the request without pseudo headers; of repeated ones the last counts. `left_open`: an
    answer before the end of the request ends no stream of the client's."""

    __slots__ = (
        "_timer", "body", "connection", "headers", "id", "judged", "left_open", "malformed", "method", "path", "pieces",
        "repeated", "whole", "window",
    )  # fmt: skip

    def __init__(self, number: int, connection: Wire, fields: Iterable[tuple[str, str]], window: int) -> None:
        self.id, self.connection, self.window = number, connection, window
        given = list(fields)
        self.headers = dict(given)
        self.repeated = len(self.headers) < len(given)
        self.method, self.path = self.headers.pop(":method", ""), self.headers.pop(":path", "")
        self.malformed = not self.method or not self.path or any(name != name.lower() for name in self.headers)
        self.body = bytearray()
        self.whole = self.judged = self.left_open = False
        self.pieces: deque[bytes] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def later(self, seconds: float, what: Any, *arguments: Any) -> None:
        """Do something after a while, unless the stream ends before."""
        self._timer = asyncio.get_running_loop().call_later(seconds, what, *arguments)

    def ended(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def answer(self, answer: Answer) -> None:
        self._begin(answer, end=not answer.body)
        if answer.body:
            self._say(answer.body)

    def answer_without_body(self, answer: Answer) -> None:
        self._begin(answer, end=True)

    def answer_in_pieces(self, answer: Answer) -> None:
        """One byte a frame."""
        self._begin(answer, end=not answer.body)
        if answer.body:
            self._say(*(answer.body[at : at + 1] for at in range(len(answer.body))))

    def answer_between_empty_frames(self, answer: Answer) -> None:
        """The body after an empty frame, and an empty one that ends the stream: allowed, and rarely tested."""
        self._begin(answer, end=False)
        self._say(*([b"", answer.body, b""] if answer.body else [b"", b""]))

    def stall(self, answer: Answer) -> None:
        """The headers of an answer whose body never comes."""
        self._begin(answer, end=False)

    def _begin(self, answer: Answer, *, end: bool) -> None:
        headers = [(":status", str(answer.status)), *answer.headers]
        self.connection.send_headers(self, headers, end=end)

    def _say(self, *pieces: bytes) -> None:
        self.pieces.extend(pieces)
        self.connection.send_data(self)
