"""The port of transports: how a push leaves, and what may become of it."""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

import msgspec


class OutgoingPush(msgspec.Struct, frozen=True):
    """A push, opened for its transport. Times are Unix seconds."""

    push_id: str
    fingerprint: str
    token: str
    payload: bytes
    expires_at: int
    collapse_id: str | None
    priority: Literal["high", "normal"]


class Outcome(msgspec.Struct, frozen=True):
    """`delivered`: accepted by the provider; `gone`: the token is dead, where known since `since` (Unix seconds);
    `retry`: later, at the earliest after `after` seconds; `refused`: this push will never be taken, which counts
    against the token where it `blames_token`; `denied`: the provider does not accept us. `error` is a word for logs
    and integrators. `unasked`: it was decided here, and says nothing about the provider."""

    kind: Literal["delivered", "gone", "retry", "refused", "denied"]
    error: str | None = None
    after: float = 0.0
    since: float | None = None
    counts_against_token: bool = False
    local: bool = False


class Load(NamedTuple):
    """What a transport holds at this moment."""

    connections: int = 0
    streams: int = 0


class Transport(Protocol):
    def open(self) -> None:
        """Begin to keep connections; in the loop that sends."""

    async def send(self, letter: OutgoingPush) -> Outcome:
        """One attempt, which its caller ends in time by cancelling it; raises nothing else."""

    def load(self) -> Load: ...

    async def close(self) -> None: ...
