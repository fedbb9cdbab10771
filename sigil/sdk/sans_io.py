"""Calls without I/O. A conversation is a generator that yields what it wants done and is sent what came of it.

    reply: Outcome = yield Send(…)        # one HTTP exchange
    yield Pause(seconds)

The synchronous and the asynchronous client differ only in how they carry these two out.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

from sigil.sdk.errors import AnswerUnusable, ConnectionFailed

T = TypeVar("T")
MAX_ANSWER_BYTES = 1 << 20


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
class Reply:
    """A whole answer. The body may hold a match code."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Broken:
    """No usable answer: ConnectionFailed, exactly, is worth another try."""

    kind: type[ConnectionFailed | AnswerUnusable]
    reason: str

    @property
    def passing(self) -> bool:
        return self.kind is ConnectionFailed


Outcome: TypeAlias = Reply | Broken
Operation: TypeAlias = Generator[Send | Pause, Any, T]


class ResponseReader:
    """An answer while it comes in."""

    def __init__(self, status: int, headers: Mapping[str, str]) -> None:
        self._status, self._headers, self._body = status, headers, bytearray()

    def take(self, chunk: bytes) -> bool:
        """False when it has become too large to go on."""
        self._body += chunk
        return len(self._body) <= MAX_ANSWER_BYTES

    def outcome(self) -> Outcome:
        if len(self._body) > MAX_ANSWER_BYTES:
            return Broken(AnswerUnusable, f"The server's answer is larger than {MAX_ANSWER_BYTES} bytes.")
        return Reply(self._status, self._headers, bytes(self._body))
