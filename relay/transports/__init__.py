"""The port of the transports: one attempt to deliver a push, and its outcome."""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol, runtime_checkable

import msgspec

NOT_CARRIED = "not_carried"
"""The error of a clear for a platform that has none: every message is shown there."""


class RequestSpan(Protocol):
    """The span of one request to the provider."""

    def set(self, name: str, value: int, /) -> None: ...

    def end(self, error: str | None = None, /) -> None: ...


class RequestSpans(Protocol):
    def request(self, host: str, /) -> RequestSpan | None:
        """A request to the provider begins."""


class OutgoingPush(msgspec.Struct, frozen=True):
    """A push with its token and payload decrypted. Times are Unix seconds. `dry_run`: FCM checks it without a delivery;
    APNs has no such request. `spans` is None unless it is traced.
    """

    push_id: str
    fingerprint: str
    token: str
    payload: bytes
    expires_at: int
    collapse_id: str | None
    priority: Literal["high", "normal"]
    dry_run: bool = False
    spans: RequestSpans | None = None


class Outcome(msgspec.Struct, frozen=True):
    """The outcome of one attempt.

    kind `delivered`: the provider accepted the push. `gone`: the token is dead, since `since` (Unix seconds) if the
    provider reports it. `retry`: try again, after at least `after` seconds. `refused`: the provider will never accept
    this push; with `counts_against_token`, the token may be the cause. `denied`: the provider rejects the relay's
    credentials. `error` is a short text for logs and integrators. `local`: the transport decided without the provider,
    so that the outcome reveals nothing about the provider.
    """

    kind: Literal["delivered", "gone", "retry", "refused", "denied"]
    error: str | None = None
    after: float = 0.0
    since: float | None = None
    counts_against_token: bool = False
    local: bool = False


class Load(NamedTuple):
    """The open connections and streams of a transport."""

    connections: int = 0
    streams: int = 0


class Transport(Protocol):
    def open(self) -> None:
        """Start to connect. Called in the event loop that sends."""

    async def send(self, push: OutgoingPush) -> Outcome:
        """One attempt. The caller cancels it at its time-out; it raises nothing but CancelledError."""

    def load(self) -> Load: ...

    async def close(self) -> None: ...


@runtime_checkable
class Laned(Transport, Protocol):
    """A transport that sends to several hosts, which devices name."""

    def lane(self, token: str, /) -> str:
        """The host, or group of hosts, that a push to this token goes to; "" for a token without one."""
