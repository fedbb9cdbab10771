"""The port of transports: how a push leaves, and what may become of it."""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec


class Letter(msgspec.Struct, frozen=True):
    """A push, opened for its transport. Times are Unix seconds."""

    push_id: str
    fingerprint: str
    token: str
    payload: bytes
    expires_at: int
    collapse_id: str | None
    priority: Literal["high", "normal"]


class Outcome(msgspec.Struct, frozen=True):
    """`delivered`: accepted by the provider; `gone`: the token is dead; `retry`: later, at the earliest after `after`
    seconds; `refused`: this push will never be taken. `error` is a word for logs and integrators."""

    kind: Literal["delivered", "gone", "retry", "refused"]
    error: str | None = None
    after: float = 0.0


class Transport(Protocol):
    async def send(self, letter: Letter) -> Outcome:
        """One attempt, within the transport's own time-out; raises nothing but CancelledError."""

    async def close(self) -> None: ...
