"""Webhooks in a backend: `verify` tells whether Sigil sent what arrived, and what it says (docs/webhooks.md).

from sigil.sdk import webhooks

event = webhooks.verify(request.headers, request.body, os.environ["WEBHOOK_SECRET"])
if event.approved: ...
"""

from __future__ import annotations

import hmac
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NoReturn

from sigil.protocol.errors import InvalidRequest as NotOfThatForm
from sigil.protocol.messages import decode
from sigil.protocol.webhook import TOLERANCE_SECONDS, sigil_signature, standard_signature
from sigil.sdk.errors import (
    ConfigurationError,
    WebhookHeadersMissing,
    WebhookRefused,
    WebhookSignatureWrong,
    WebhookTooOld,
)
from sigil.sdk.results import Time

__all__ = ["WebhookEvent", "verify"]

Headers = Mapping[str, str] | Mapping[str, bytes] | Iterable[tuple[str, str]] | Iterable[tuple[bytes, bytes]]
MIN_SECRET_LENGTH = 32
_STANDARD = ("webhook-id", "webhook-timestamp", "webhook-signature")
_SIGIL = ("x-sigil-timestamp", "x-sigil-signature")
# Digits alone: with anything else in a timestamp, a message of one family could be read as one of the other.
_UNIX_SECONDS = re.compile(r"[0-9]{1,11}\Z", re.ASCII)


_MOST_SIGNATURES = 10


@dataclass(frozen=True, slots=True)
class WebhookEvent:
    """What ended. The same `id` may come more than once, and events in any order: keep the ids that you have seen.

    type: challenge.verified, challenge.rejected, challenge.expired, mpa.approved, mpa.rejected or mpa.timeout; later
    servers may send others. Events of challenges have challenge_id and fingerprint, those of multi-party requests
    request_id, mpa_id and groups_satisfied (indices).
    """

    id: str
    type: str
    status: str
    timestamp: Time
    key_id: str
    action_type: str
    challenge_id: str | None = None
    fingerprint: str | None = None
    request_id: str | None = None
    mpa_id: str | None = None
    decision: str | None = None
    reason: str | None = None
    groups_satisfied: tuple[int, ...] | None = None

    @property
    def approved(self) -> bool:
        """Whether it was approved: the only thing to let an action happen on."""
        return self.type in {"challenge.verified", "mpa.approved"}

    def __bool__(self) -> bool:
        """`if event:` would be true for a rejection too."""
        raise TypeError("an event is neither true nor false: ask .approved")


def verify(
    headers: Headers, body: bytes, secret: str | Iterable[str], *, clock: Callable[[], float] = time.time
) -> WebhookEvent:
    """The event, if it was signed with `secret` within 300 s of `clock` (Unix seconds).

    headers: those of the request, as a mapping or as pairs; names in any case. body: its raw bytes. secret: the
    server's WEBHOOK_SECRET, in any of its forms; while it is replaced, `new,old` or both in a list.

    Raises WebhookRefused for what is not to be believed (answer it with 400), and ConfigurationError for a secret that
    is none or a body that was parsed already.
    """
    keys, secret = _Keys(secret), ""
    if fault := keys.fault():
        raise ConfigurationError(fault)
    if not isinstance(body, bytes | bytearray | memoryview):
        raise ConfigurationError(
            f"body is {type(body).__name__}, and the signature is over the raw bytes as they came. Give what your "
            "framework calls request.body, request.get_data(), await request.body() or await req.stream.read()."
        )
    raw = bytes(body)
    _Signed(_lower(headers), raw, keys).check(clock())
    return _event(raw)


class _Keys:
    """Secrets that hide from tools which print local variables."""

    __slots__ = ("_secrets",)

    def __init__(self, secret: object) -> None:
        parts = secret.split(",") if isinstance(secret, str) else secret if isinstance(secret, Iterable) else ()
        self._secrets = tuple(part.strip() if isinstance(part, str) else "" for part in parts)

    def fault(self) -> str | None:
        if not self._secrets or min(map(len, self._secrets)) < MIN_SECRET_LENGTH:
            # An empty key would let anybody sign.
            return f"The secret is the server's WEBHOOK_SECRET; each has {MIN_SECRET_LENGTH} characters or more."
        try:
            self.standard("", "", b"")
        except ValueError:
            return "The secret begins with whsec_, and what follows is not base64."
        return None

    def standard(self, event_id: str, timestamp: str, body: bytes) -> list[str]:
        return [standard_signature(secret, event_id, timestamp, body) for secret in self._secrets]

    def sigil(self, timestamp: str, body: bytes) -> list[str]:
        return [sigil_signature(secret, timestamp, body) for secret in self._secrets]

    def __repr__(self) -> str:
        return "_Keys(…)"


@dataclass(frozen=True, slots=True)
class _Signed:
    headers: Mapping[str, str]
    body: bytes
    keys: _Keys

    def check(self, now: float) -> None:
        """WebhookRefused, unless one of the two families of headers is whole, fresh and signed."""
        families = [names for names in (_STANDARD, _SIGIL) if all(name in self.headers for name in names)]
        if not families:
            self._refuse_incomplete()
        # Proxies that drop or change headers which they do not know leave the other family.
        if not any(self._is_signed(names) for names in families):
            raise WebhookSignatureWrong(
                "The signature does not fit. Compare WEBHOOK_SECRET here and at the server; give the body's bytes as "
                "they came, not parsed and written again."
            )
        if not any(self._is_signed(names) and self._is_fresh(names, now) for names in families):
            raise WebhookTooOld(
                f"The event was signed more than {TOLERANCE_SECONDS} s from now: it was recorded and sent again, or "
                "a clock is wrong. Check the clocks of this machine and of the server."
            )

    def _refuse_incomplete(self) -> NoReturn:
        missing = [name for name in _STANDARD if name not in self.headers]
        raise WebhookHeadersMissing(
            f"The request has no {', '.join(missing)}. Give all its headers; if they are all there, it is not from "
            "Sigil, or a proxy dropped them."
        )

    def _is_signed(self, names: tuple[str, ...]) -> bool:
        timestamp, given = (self.headers[name] for name in names[-2:])
        # What a stranger wrote in other letters was never signed, and may be text that has no bytes.
        if not _UNIX_SECONDS.match(timestamp) or not self.headers[names[0]].isascii():
            return False
        if names is _STANDARD:
            right = self.keys.standard(self.headers[names[0]], timestamp, self.body)
        else:
            right = self.keys.sigil(timestamp, self.body)
        # No shortcut: how long it takes says nothing of which one fits.
        return sum(_equal(one, other) for one in given.split(" ")[:_MOST_SIGNATURES] for other in right) > 0

    def _is_fresh(self, names: tuple[str, ...], now: float) -> bool:
        return abs(now - int(self.headers[names[-2]])) <= TOLERANCE_SECONDS


def _equal(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode("utf-8", "surrogatepass"), other.encode())


def _lower(headers: Headers) -> dict[str, str]:
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    return {_text(name).lower(): _text(value) for name, value in pairs}


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _event(raw: bytes) -> WebhookEvent:
    try:
        return decode(raw, WebhookEvent)
    except NotOfThatForm as error:
        fault = f"The event is signed, but not of the documented form: {error.message} ({error.details['path']})"
    raise WebhookRefused(fault)
