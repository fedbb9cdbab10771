"""Rejected requests of servers: the response is the same for every reason, and the log and the metric name it.

Any client can send such requests, so the lines are bounded: see `RejectionLog`.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from sigil.protocol.errors import (
    FingerprintMismatch,
    InvalidPublicKey,
    InvalidRequest,
    PayloadTooLarge,
    Unauthorized,
    UnsupportedMediaType,
)
from sigil.serving import logs

Reason = Literal["malformed", "clock", "unknown_server", "not_registered", "signature", "nonce_used", "form"]
AGAIN_SECONDS = 600.0
"""A server that keeps failing for the same reason gets another line after this time."""
LINES_PER_MINUTE = 5
"""Of one worker, for servers that the relay knows; and as many for all others."""
_MAX_REMEMBERED = 256

_MESSAGES: dict[Reason, str] = {
    "malformed": "a header of a signed request is missing or malformed: no Sigil server, or a proxy removed "
    "X-Sigil headers",
    "unknown_server": "to accept this server: add its id to RELAY_TRUSTED_SERVERS and send SIGHUP, or run "
    "`sigil-relay servers trust` with it",
    "signature": "signed with another key, or changed on its way: a proxy must pass the path and the body of RELAY_URL "
    "unchanged",
    "nonce_used": "an earlier request was repeated: a proxy between the server and the relay must not repeat requests",
    "form": "the request has another form than this version expects: the versions of server and relay may be "
    "incompatible",
}
_FORM = (InvalidRequest, InvalidPublicKey, FingerprintMismatch, PayloadTooLarge, UnsupportedMediaType)


class ServerRejected(Unauthorized):
    """The same response for every reason. `seconds`: how far the server's clock is ahead of this one."""

    def __init__(self, reason: Reason, seconds: int = 0) -> None:
        super().__init__("Sign the request with the key of a server that this relay knows.")
        self.reason: Reason = reason
        self.seconds = seconds


@dataclass
class _Remembered:
    """When the last line was written (monotonic), and the rejections since."""

    at: float
    count: int = 0


class RejectionLog:
    """One line for a reason and server, again after AGAIN_SECONDS with the `count` since; LINES_PER_MINUTE for known
    servers and as many for the others, so that requests with invented ids hide no server that the relay knows. Lines
    beyond that are counted as `suppressed`. `on_rejected` gets every reason; `monotonic` gives seconds.
    """

    def __init__(
        self,
        on_rejected: Callable[[str], None] = lambda reason: None,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._on_rejected = on_rejected
        self._monotonic = monotonic
        self._lines = {known: _Lines() for known in (False, True)}

    @contextmanager
    def observing(self, server_id: str, address: str, is_known: Callable[[], bool]) -> Iterator[None]:
        """Records the rejection that ends the block. `server_id` is what the request claims."""
        try:
            yield
        except ServerRejected as rejected:
            fields: dict[str, Any] = {}
            if rejected.reason == "clock":
                fields = {"seconds": rejected.seconds, "message": _clock_message(rejected.seconds)}
            # Without a valid head the id may be any text.
            named = server_id if rejected.reason != "malformed" else ""
            self._record(rejected.reason, named, address, is_known(), fields)
            raise
        except _FORM as problem:
            known = is_known()
            self._record("form", server_id if known else "", address, known, {"error": problem.code})
            raise

    def _record(self, reason: Reason, server_id: str, address: str, known: bool, fields: dict[str, Any]) -> None:
        self._on_rejected(reason)
        # The first request after the relay's database was replaced: the server registers and repeats it.
        if reason == "not_registered":
            return
        counts = self._lines[known].next(f"{reason} {server_id}", self._monotonic())
        if counts is None:
            return
        named = {"server_id": server_id} if server_id else {}
        message = {} if "message" in fields else {"message": _MESSAGES[reason]}
        logs.warn("server_request_rejected", reason=reason, **named, address=address, **fields, **message, **counts)


class _Lines:
    """Which rejections get a line."""

    def __init__(self) -> None:
        self._remembered: OrderedDict[str, _Remembered] = OrderedDict()
        self._minute = float("-inf")
        self._left = 0
        self._suppressed = 0

    def next(self, name: str, now: float) -> dict[str, int] | None:
        """The counts for the line; None without one."""
        one = self._remembered.get(name)
        if one is not None and now - one.at < AGAIN_SECONDS:
            one.count += 1
            return None
        if now - self._minute >= 60:
            self._minute, self._left = now, LINES_PER_MINUTE
        if not self._left:
            self._suppressed += 1
            return None
        self._left -= 1
        counts = {}
        if one is not None and one.count:
            counts["count"] = one.count + 1
        if self._suppressed:
            counts["suppressed"], self._suppressed = self._suppressed, 0
        self._remembered.pop(name, None)
        self._remembered[name] = _Remembered(now)
        if len(self._remembered) > _MAX_REMEMBERED:
            self._remembered.popitem(last=False)
        return counts


def _clock_message(seconds: int) -> str:
    direction = "ahead of" if seconds > 0 else "behind"
    return f"the server's clock is {abs(seconds)} s {direction} the relay's: synchronise the clocks of both hosts (NTP)"
