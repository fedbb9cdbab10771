"""Apple's push service: token authentication over HTTP/2 (docs/relay.md)."""

from __future__ import annotations

import hashlib
import re
import ssl
from collections.abc import Callable
from uuid import UUID

import msgspec
from aioapns import PushType

from relay.credentials import ApnsCredentials
from relay.transports import Outcome, OutgoingPush
from relay.transports.apns_protocol import (
    ApnsConnection,
    ApnsConnections,
    ApnsNotification,
    ApnsResult,
    ProviderToken,
)
from relay.transports.connection_pool import ConnectionPool, Pace
from relay.transports.http2 import RequestLost
from relay.transports.notification_text import BODY, TITLE, is_clear, reference
from relay.transports.provider_errors import seconds_of, word

MAX_BODY = 4096
_MAX_COLLAPSE_ID = 64
_BUSY_SECONDS = 20.0
# It becomes part of a path.
_TOKEN = re.compile(r"[0-9a-fA-F]{1,400}\Z")
_GONE = frozenset({"BadDeviceToken", "DeviceTokenNotForTopic", "Unregistered", "ExpiredToken"})
# 400, and about what the operator set, not about the device.
_TOPICS = frozenset({"BadTopic", "MissingTopic", "TopicDisallowed", "BadCertificate", "BadCertificateEnvironment"})
_encode = msgspec.json.Encoder().encode

_ALERT = {
    "alert": {"title": TITLE, "body": BODY},
    "sound": "default",
    "mutable-content": 1,
    "interruption-level": "time-sensitive",
}
_BACKGROUND = {"content-available": 1}


class ApnsTransport:
    """`clock` gives Unix seconds."""

    def __init__(self, credentials: ApnsCredentials, clock: Callable[[], float], pace: Pace = Pace()) -> None:  # noqa: B008 - frozen
        tls = ssl.create_default_context()
        tls.set_alpn_protocols(["h2"])
        self._token = ProviderToken(credentials, clock)

        async def connect() -> ApnsConnection:
            # In the loop that sends: aioapns asks for it at once.
            return await ApnsConnections(credentials, tls, self._token).create_connection()

        self._lanes = ConnectionPool("apns", connect, pace)
        self.open, self.load, self.close = self._lanes.open, self._lanes.load, self._lanes.close

    async def send(self, letter: OutgoingPush) -> Outcome:
        if not _TOKEN.match(letter.token):
            return Outcome("gone", "BadDeviceToken", local=True)
        notification = _notification(letter)
        if notification is None:
            return Outcome("refused", "PayloadTooLarge", local=True)
        try:
            result = await self._ask(notification)
            outcome = _outcome(result)
            if outcome.error == "ExpiredProviderToken" and self._token.expired(result.authorization):
                outcome = _outcome(await self._ask(notification))
        except RequestLost as lost:
            return Outcome("retry", lost.reason)
        return outcome

    async def _ask(self, notification: ApnsNotification) -> ApnsResult:
        return await self._lanes.use(lambda connection: connection.send_notification(notification))


def _notification(letter: OutgoingPush) -> ApnsNotification | None:
    """None when not even the reference to what the push is about has room."""
    clears = is_clear(letter.payload)
    body = _body(letter.payload, clears)
    if body is None:
        return None
    return ApnsNotification(
        letter.token,
        body,
        expires_at=letter.expires_at,
        # The same at every attempt.
        notification_id=str(UUID(letter.push_id)),
        priority=5 if clears or letter.priority == "normal" else 10,
        collapse_key=_collapse_id(letter.collapse_id),
        push_type=PushType.BACKGROUND if clears else PushType.ALERT,
    )


def _body(payload: bytes, clears: bool) -> bytes | None:
    """The payload's JSON text as a string within JSON: escaping may make it larger than Apple takes."""
    aps = _BACKGROUND if clears else _ALERT
    for text in (payload, reference(payload)):
        if text is not None and len(body := _encode({"aps": aps, "sigil": text.decode()})) <= MAX_BODY:
            return body
    return None


def _collapse_id(given: str | None) -> str | None:
    if given is None or len(given) <= _MAX_COLLAPSE_ID:
        return given
    return hashlib.sha256(given.encode()).hexdigest()


def _outcome(result: ApnsResult) -> Outcome:
    status, reason = result.status, word(result.description, result.status)
    if status == "200":
        return Outcome("delivered")
    if status == "410" or reason in _GONE:
        return Outcome("gone", reason, since=result.timestamp / 1000 if result.timestamp else None)
    if status == "403" or reason in _TOPICS:
        return Outcome("denied", reason)
    if status == "429" or not status.startswith("4"):
        return Outcome("retry", reason, after=seconds_of(result.retry_after, _BUSY_SECONDS if status == "429" else 0))
    return Outcome("refused", reason)
