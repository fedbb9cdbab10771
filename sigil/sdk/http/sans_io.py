"""Calls without I/O. An operation is a generator: it yields what is to be done, and receives the outcome.

    outcome: Outcome = yield Send(…)      # one HTTP exchange
    yield Pause(seconds)

The synchronous and the asynchronous client differ only in how they carry out these two steps.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

from sigil.sdk.errors import AnswerUnusable, ConnectionFailed

T = TypeVar("T")
# The status of an approval request of 1000 web devices, whose signatures have up to 1024 bytes, is 2 MiB.
MAX_RESPONSE_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Send:
    """One HTTP exchange: `seconds` for all of it, `phase` for connecting and writing, `silence` for each read."""

    method: str
    target: str
    seconds: float
    phase: float
    silence: float
    body: bytes | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pause:
    seconds: float


@dataclass(frozen=True, slots=True)
class Response:
    """A complete response. The body may hold a match code."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Failure:
    """No usable response. Only ConnectionFailed itself, and none of its subclasses, is retried."""

    kind: type[ConnectionFailed | AnswerUnusable]
    reason: str

    @property
    def retryable(self) -> bool:
        return self.kind is ConnectionFailed


Outcome: TypeAlias = Response | Failure
Operation: TypeAlias = Generator[Send | Pause, Any, T]


class ResponseReader:
    """Collects a response chunk by chunk."""

    def __init__(self, status: int, headers: Mapping[str, str]) -> None:
        self._status, self._headers, self._body = status, headers, bytearray()

    def feed(self, chunk: bytes) -> bool:
        """False when the body has become too large to go on."""
        self._body += chunk
        return len(self._body) <= MAX_RESPONSE_BYTES

    def outcome(self) -> Outcome:
        if len(self._body) > MAX_RESPONSE_BYTES:
            return Failure(AnswerUnusable, f"The server's response is larger than {MAX_RESPONSE_BYTES} bytes.")
        return Response(self._status, self._headers, bytes(self._body))
