"""Webhooks in a backend: `verify` checks that Sigil sent an event, and returns it (docs/webhooks.md).

from sigil.sdk import webhooks

event = webhooks.verify(request.headers, request.body, os.environ["WEBHOOK_SECRET"])
if event.approved: ...
"""

from __future__ import annotations

import hmac
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn, Protocol

from sigil.protocol.encoding.plain_text import NotPlainText, check
from sigil.protocol.errors import InvalidRequest as Malformed
from sigil.protocol.messages.decoding import decode
from sigil.protocol.webhook import TOLERANCE_SECONDS, sigil_signature, standard_signature
from sigil.sdk.errors import (
    ConfigurationError,
    WebhookHeadersMissing,
    WebhookRefused,
    WebhookSignatureWrong,
    WebhookTooOld,
)
from sigil.sdk.http import trace_context
from sigil.sdk.results import Attestation, Time

__all__ = ["WebhookEvent", "verify"]


class Items(Protocol):
    """Headers of a framework: a mapping, or what only resembles one (http.server, wsgiref)."""

    def items(self) -> Iterable[tuple[Any, Any]]: ...


Headers = Items | Iterable[tuple[Any, Any]]
"""Names and values are text or bytes; a value may be a list of them."""
MIN_SECRET_LENGTH = 32
_STANDARD = ("webhook-id", "webhook-timestamp", "webhook-signature")
_SIGIL = ("x-sigil-timestamp", "x-sigil-signature")
# Only digits: otherwise a message signed for one family of headers could be replayed as one of the other.
_UNIX_SECONDS = re.compile(r"[0-9]{1,11}\Z", re.ASCII)


_MAX_SIGNATURES = 10


@dataclass(frozen=True, slots=True)
class WebhookEvent:
    """The end of a challenge, request or enrolment. An `id` may arrive more than once, and events in any order:
    store the ids that you have processed.

    type: challenge.verified, challenge.rejected, challenge.expired, mpa.approved, mpa.rejected, mpa.timeout,
    enrolment.completed, enrolment.failed or enrolment.expired; later servers may send others. Events of challenges have
    action_type, challenge_id and fingerprint, those of approval requests action_type, request_id, mpa_id and
    groups_satisfied (indices), those of enrolments enrolment_id, account and confirm, and device_public_key once it is
    enrolled.

    traceparent: that of the delivery, for a span or a link of your own. It is a header, which the signature does not
    cover: base no decision on it.
    """

    id: str
    type: str
    status: str
    timestamp: Time
    key_id: str
    action_type: str | None = None
    challenge_id: str | None = None
    fingerprint: str | None = None
    request_id: str | None = None
    mpa_id: str | None = None
    decision: str | None = None
    reason: str | None = None
    groups_satisfied: tuple[int, ...] | None = None
    enrolment_id: str | None = None
    account: str | None = None
    confirm: str | None = None
    device_public_key: str | None = None
    replaced: str | None = None
    attestation: Attestation | None = None
    user_verification: bool | None = None
    synced: bool | None = None
    traceparent: str | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.type.startswith(("challenge.", "mpa.")) and self.action_type is None:
            raise ValueError("action_type is missing")
        if self.type.startswith("enrolment.") and self.enrolment_id is None:
            raise ValueError("enrolment_id is missing")
        if self.enrolled != (self.device_public_key is not None):
            raise ValueError("device_public_key belongs to enrolment.completed, and to no other event")

    @property
    def enrolled(self) -> bool:
        """Whether a device was enrolled. Store `device_public_key` on this alone, for the user whose `enrolment_id` you
        stored.
        """
        return self.type == "enrolment.completed"

    @property
    def approved(self) -> bool:
        """Whether it was approved. Act on this alone."""
        return self.type in {"challenge.verified", "mpa.approved"}

    def __bool__(self) -> bool:
        """`if event:` would be true for a rejection too."""
        raise TypeError("an event is neither true nor false: use .approved or .enrolled")


def verify(
    headers: Headers, body: bytes, secret: str | Iterable[str], *, clock: Callable[[], float] = time.time
) -> WebhookEvent:
    """The event, if it was signed with `secret` within 300 s of `clock` (Unix seconds).

    headers: those of the request, as an object with `items()` or as pairs; names in any case. body: its raw bytes.
    secret: the server's WEBHOOK_SECRET, in any of its forms; during a rotation `new,old`, or both in a list.

    Raises WebhookRefused when the webhook is not authentic (respond with 400), and ConfigurationError for an unusable
    secret or a body that was parsed already.
    """
    keys, secret = _Keys(secret), ""
    if problem := keys.problem():
        raise ConfigurationError(problem)
    if not isinstance(body, bytes | bytearray | memoryview):
        raise ConfigurationError(
            f"body is {type(body).__name__}, but the signature covers the raw bytes as received. Pass what your "
            "framework calls request.body, request.get_data(), await request.body() or await req.stream.read()."
        )
    raw, given = bytes(body), _lower_case(headers)
    _SignedRequest(given, raw, keys).check(clock())
    return replace(_event(raw), traceparent=trace_context.valid(given.get(trace_context.HEADER)))


class _Keys:
    """Secrets, hidden from tools that print local variables."""

    __slots__ = ("_secrets",)

    def __init__(self, secret: object) -> None:
        parts = secret.split(",") if isinstance(secret, str) else secret if isinstance(secret, Iterable) else ()
        # A receiver that reads a file as UTF-8 gets its byte order mark, too; the server takes it off.
        self._secrets = tuple(
            part.strip(" \t\r\n").removeprefix("\ufeff") if isinstance(part, str) else "" for part in parts
        )

    def problem(self) -> str | None:
        if not self._secrets or min(map(len, self._secrets)) < MIN_SECRET_LENGTH:
            # Anyone can sign with an empty key.
            return f"secret must be the server's WEBHOOK_SECRET; each has {MIN_SECRET_LENGTH} characters or more."
        try:
            for secret in self._secrets:
                check(secret)
        except NotPlainText as error:
            return f"secret {error}."
        try:
            self.standard("", "", b"")
        except ValueError:
            return "The secret begins with whsec_, but the rest is not base64."
        return None

    def standard(self, event_id: str, timestamp: str, body: bytes) -> list[str]:
        return [standard_signature(secret, event_id, timestamp, body) for secret in self._secrets]

    def sigil(self, timestamp: str, body: bytes) -> list[str]:
        return [sigil_signature(secret, timestamp, body) for secret in self._secrets]

    def __repr__(self) -> str:
        return "_Keys(…)"


@dataclass(frozen=True, slots=True)
class _SignedRequest:
    headers: Mapping[str, str]
    body: bytes
    keys: _Keys

    def check(self, now: float) -> None:
        """WebhookRefused unless one of the two families of headers is complete, fresh and validly signed."""
        families = [names for names in (_STANDARD, _SIGIL) if all(name in self.headers for name in names)]
        if not families:
            self._raise_missing()
        # A proxy may drop or change one family of headers; then the other one counts.
        if not any(self._is_signed(names) for names in families):
            raise WebhookSignatureWrong(
                "The signature does not match. Compare WEBHOOK_SECRET here and at the server; pass the body's bytes as "
                "received, not parsed and serialised again."
            )
        if not any(self._is_signed(names) and self._is_fresh(names, now) for names in families):
            raise WebhookTooOld(
                f"The event was signed more than {TOLERANCE_SECONDS} s from now: it is a replay, or a clock is wrong. "
                "Check the clocks of this machine and of the server."
            )

    def _raise_missing(self) -> NoReturn:
        missing = [name for name in _STANDARD if name not in self.headers]
        environ = " That is a WSGI environ (request.META): pass the headers." if "wsgi.version" in self.headers else ""
        raise WebhookHeadersMissing(
            f"The request has no {', '.join(missing)}. Pass all its headers. If you do, the request is not from "
            f"Sigil, or a proxy dropped the headers.{environ}"
        )

    def _is_signed(self, names: tuple[str, ...]) -> bool:
        timestamp, given = (self.headers[name] for name in names[-2:])
        # Headers that are not ASCII were never signed, and may be text that cannot be encoded.
        if not _UNIX_SECONDS.match(timestamp) or not self.headers[names[0]].isascii():
            return False
        if names is _STANDARD:
            expected = self.keys.standard(self.headers[names[0]], timestamp, self.body)
        else:
            expected = self.keys.sigil(timestamp, self.body)
        # No early exit: the time taken does not reveal which signature matches.
        return sum(_equal(one, other) for one in given.split(" ")[:_MAX_SIGNATURES] for other in expected) > 0

    def _is_fresh(self, names: tuple[str, ...], now: float) -> bool:
        return abs(now - int(self.headers[names[-2]])) <= TOLERANCE_SECONDS


def _equal(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode("utf-8", "surrogatepass"), other.encode())


def _lower_case(headers: Any) -> dict[str, str]:
    """WebhookHeadersMissing for an object that holds no headers."""
    try:
        pairs = headers.items() if hasattr(headers, "items") else headers
        found: dict[str, list[str]] = {}
        for name, values in pairs:
            for value in values if isinstance(values, list | tuple) else [values]:
                seen = found.setdefault(_text(name).lower(), [])
                # Absent, and sent twice by a proxy.
                if value is not None and _text(value) not in seen:
                    seen.append(_text(value))
    except Exception:
        fault = (
            f"headers is {type(headers).__name__}, which holds no headers. Pass what your framework calls "
            "request.headers: an object with items(), or pairs of names and values."
        )
    else:
        # RFC 9110, 5.3. Two values of one header are one text that was never signed.
        return {name: ", ".join(values) for name, values in found.items() if values}
    raise WebhookHeadersMissing(fault)


def _text(value: object) -> str:
    return bytes(value).decode("latin-1") if isinstance(value, bytes | bytearray | memoryview) else str(value)


def _event(raw: bytes) -> WebhookEvent:
    try:
        return decode(raw, WebhookEvent)
    except Malformed as error:
        fault = f"The event is signed, but not of the documented form: {error.message} ({error.details['path']})"
    raise WebhookRefused(fault)
