"""Apple's push service: token authentication over HTTP/2 (docs/relay.md)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import Any
from uuid import UUID

import msgspec
from aioapns import NotificationRequest, PushType
from aioapns.common import APNS_RESPONSE_CODE, NotificationResult

from relay.credentials import ApnsCredentials
from relay.transports import Outcome, OutgoingPush, RequestSpan
from relay.transports.connection_pool import ConnectionPool, PoolSettings
from relay.transports.http2 import Endpoint, Headers, RequestLost, Response
from relay.transports.notification_text import BODY, TITLE, is_clear, reference
from relay.transports.provider_errors import error_code, retry_after_seconds
from relay.transports.provider_token import ProviderToken

MAX_BODY_BYTES = 4096
_MAX_COLLAPSE_ID = 64
_THROTTLED_SECONDS = 20.0
# The token becomes part of a path.
_TOKEN = re.compile(r"[0-9a-fA-F]{1,400}\Z")
_GONE = frozenset({"BadDeviceToken", "DeviceTokenNotForTopic", "Unregistered", "ExpiredToken"})
# Status 400, but caused by the operator's settings and not by the device.
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

    def __init__(
        self,
        credentials: ApnsCredentials,
        clock: Callable[[], float],
        settings: PoolSettings = PoolSettings(),  # noqa: B008 - frozen
    ) -> None:
        endpoint = Endpoint.parse(credentials.url)
        self._token = ProviderToken(credentials, clock)
        self._pool = ConnectionPool("apns", endpoint.connector(), settings)
        self.open, self.load, self.close = self._pool.open, self._pool.load, self._pool.close
        self._host = endpoint.host
        self._pseudo_headers = [(b":method", b"POST"), (b":scheme", b"https"), (b":authority", endpoint.authority)]
        self._topic = (b"apns-topic", credentials.topic.encode())

    async def send(self, push: OutgoingPush) -> Outcome:
        if not _TOKEN.match(push.token):
            return Outcome("gone", "BadDeviceToken", local=True)
        notification = _notification(push)
        if notification is None:
            return Outcome("refused", "PayloadTooLarge", local=True)
        spans = push.spans
        span = None if spans is None else lambda: spans.request(self._host)
        try:
            outcome, authorization = await self._attempt(notification, span)
            if outcome.error == "ExpiredProviderToken" and self._token.replace_expired(authorization):
                outcome, _ = await self._attempt(notification, span)
        except RequestLost as lost:
            return Outcome("retry", lost.reason)
        return outcome

    async def _attempt(
        self, notification: _Notification, span: Callable[[], RequestSpan | None] | None
    ) -> tuple[Outcome, str]:
        """The outcome, and the authorization header that was sent."""
        authorization = ""

        def headers() -> Headers:
            nonlocal authorization
            # Apple throttles a connection (429) that returns from a new provider token to the one before.
            authorization = self._token.header()
            return self._headers(notification, authorization)

        response = await self._pool.request(headers, notification.body, span)
        result = _result(notification, response)
        return _outcome(result, response.headers.get(b"retry-after")), authorization

    def _headers(self, notification: _Notification, authorization: str) -> Headers:
        headers = [
            *self._pseudo_headers,
            (b":path", f"/3/device/{notification.device_token}".encode()),
            (b"authorization", authorization.encode()),
            self._topic,
            (b"apns-id", notification.notification_id.encode()),
            (b"apns-expiration", str(notification.expires_at).encode()),
            (b"apns-priority", str(notification.priority).encode()),
        ]
        if notification.push_type is not None:
            headers.append((b"apns-push-type", notification.push_type.value.encode()))
        if notification.collapse_key is not None:
            headers.append((b"apns-collapse-id", notification.collapse_key.encode()))
        return headers


class _Notification(NotificationRequest):
    """`body` and `expires_at` are sent in place of `message` and `time_to_live`: aioapns encodes a message less
    compactly, and counts its life from the attempt."""

    __slots__ = ("body", "expires_at")

    def __init__(self, token: str, body: bytes, *, expires_at: int, **fields: Any) -> None:
        super().__init__(token, {}, **fields)
        self.body = body
        self.expires_at = expires_at


def _notification(push: OutgoingPush) -> _Notification | None:
    """None when not even the reference fits into a body."""
    clears = is_clear(push.payload)
    body = _body(push.payload, clears)
    if body is None:
        return None
    return _Notification(
        push.token,
        body,
        expires_at=push.expires_at,
        # The same at every attempt.
        notification_id=str(UUID(push.push_id)),
        priority=5 if clears or push.priority == "normal" else 10,
        collapse_key=_collapse_id(push.collapse_id),
        push_type=PushType.BACKGROUND if clears else PushType.ALERT,
    )


def _body(payload: bytes, clears: bool) -> bytes | None:
    """The payload is a string within JSON: escaping may make it too large for Apple."""
    aps = _BACKGROUND if clears else _ALERT
    for text in (payload, reference(payload)):
        if text is not None and len(body := _encode({"aps": aps, "sigil": text.decode()})) <= MAX_BODY_BYTES:
            return body
    return None


def _collapse_id(given: str | None) -> str | None:
    if given is None or len(given) <= _MAX_COLLAPSE_ID:
        return given
    return hashlib.sha256(given.encode()).hexdigest()


class _Error(msgspec.Struct):
    reason: str = ""
    timestamp: int | None = None


_decode = msgspec.json.Decoder(_Error).decode


def _result(notification: _Notification, response: Response) -> NotificationResult:
    try:
        error = _decode(response.body) if response.body else _Error()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        error = _Error()
    return NotificationResult(notification.notification_id, str(response.status), error.reason or None, error.timestamp)


def _outcome(result: NotificationResult, retry_after: bytes | None) -> Outcome:
    if result.is_successful:
        return Outcome("delivered")
    status, reason = result.status, error_code(result.description, result.status)
    if status == APNS_RESPONSE_CODE.GONE or reason in _GONE:
        return Outcome("gone", reason, since=result.timestamp / 1000 if result.timestamp else None)
    if status == APNS_RESPONSE_CODE.FORBIDDEN or reason in _TOPICS:
        return Outcome("denied", reason)
    throttled = status == APNS_RESPONSE_CODE.TOO_MANY_REQUESTS
    if throttled or not status.startswith("4"):
        return Outcome("retry", reason, after=retry_after_seconds(retry_after, _THROTTLED_SECONDS if throttled else 0))
    return Outcome("refused", reason)
