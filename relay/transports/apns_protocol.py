"""What is owned of aioapns, so that its users get an answer or know that there is none (docs/decisions/0011)."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import jwt
import msgspec
from aioapns import NotificationRequest
from aioapns.common import NotificationResult
from aioapns.connection import APNsKeyConnectionPool, APNsTLSClientProtocol, AuthorizationHeaderProvider

from relay.credentials import ApnsCredentials
from relay.transports.http2 import Http2

TOKEN_SECONDS = 40 * 60
"""Apple wants a new provider token after 20 minutes at the earliest, and after 60 at the latest."""
MIN_TOKEN_SECONDS = 20 * 60


class ApnsNotification(NotificationRequest):
    """`body` is what is sent: aioapns would encode `message` in its own way, of another size."""

    __slots__ = ("body", "expires_at")

    def __init__(self, token: str, body: bytes, *, expires_at: int, **of_request: Any) -> None:
        super().__init__(token, {}, **of_request)
        self.body = body
        self.expires_at = expires_at


class ApnsResult(NotificationResult):
    """`retry_after` is a header that aioapns does not keep; `description` the reason, of an answer that gave one;
    `authorization` what the request was sent with."""

    __slots__ = ("authorization", "retry_after")

    def __init__(
        self, notification_id: str, status: str, reason: _Reason, retry_after: bytes | None, authorization: str
    ) -> None:
        super().__init__(notification_id, status, reason.reason or None, reason.timestamp)
        self.retry_after = retry_after
        self.authorization = authorization


class _Reason(msgspec.Struct):
    reason: str = ""
    timestamp: int | None = None


_decode = msgspec.json.Decoder(_Reason).decode


class ProviderToken(AuthorizationHeaderProvider):
    """One for all connections, where aioapns has one for each. `clock` gives Unix seconds."""

    def __init__(self, credentials: ApnsCredentials, clock: Callable[[], float]) -> None:
        self._credentials = credentials
        self._clock = clock
        self._made_at = 0.0
        self._header = ""

    def get_header(self) -> str:
        age = self._clock() - self._made_at
        # Before it was made: the clock was set back.
        if not self._header or not 0 <= age < TOKEN_SECONDS:
            self._make()
        return self._header

    def expired(self, header: str) -> bool:
        """The provider says so: True when there is a new one to try. Of all who hear it at once, one makes it."""
        if header == self._header:
            if 0 <= self._clock() - self._made_at < MIN_TOKEN_SECONDS:
                return False
            self._make()
        return True

    def _make(self) -> None:
        self._made_at = self._clock()
        claims = {"iss": self._credentials.team_id, "iat": int(self._made_at)}
        key = self._credentials.key.reveal()
        self._header = "bearer " + jwt.encode(claims, key, "ES256", headers={"kid": self._credentials.key_id})


class ApnsConnection(Http2, APNsTLSClientProtocol):
    """aioapns's protocol class over a connection that loses nothing: every method that is used is here."""

    def __init__(self, topic: str, token: AuthorizationHeaderProvider) -> None:
        Http2.__init__(self)
        self._token = token
        self._fixed = [
            (b":method", b"POST"),
            (b":scheme", b"https"),
            (b":authority", f"{self.APNS_SERVER}:{self.APNS_PORT}".removesuffix(":443").encode()),
        ]
        self._topic = (b"apns-topic", topic.encode())

    async def send_notification(self, request: ApnsNotification) -> ApnsResult:  # type: ignore[override]
        """The answer, whatever its status; Lost."""
        authorization = self._token.get_header()
        answer = await self.request(self._headers(request, authorization), request.body)
        try:
            reason = _decode(answer.body) if answer.body else _Reason()
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            reason = _Reason()
        retry_after = answer.headers.get(b"retry-after")
        return ApnsResult(request.notification_id, str(answer.status), reason, retry_after, authorization)

    def _headers(self, request: ApnsNotification, authorization: str) -> list[tuple[bytes, bytes]]:
        headers = [
            *self._fixed,
            (b":path", f"/3/device/{request.device_token}".encode()),
            (b"authorization", authorization.encode()),
            self._topic,
            (b"apns-id", request.notification_id.encode()),
            (b"apns-expiration", str(request.expires_at).encode()),
            (b"apns-priority", str(request.priority).encode()),
        ]
        if request.push_type is not None:
            headers.append((b"apns-push-type", request.push_type.value.encode()))
        if request.collapse_key is not None:
            headers.append((b"apns-collapse-id", request.collapse_key.encode()))
        return headers

    def close(self) -> None:
        self.leave()


class ApnsConnections(APNsKeyConnectionPool):
    """aioapns's way to a connection, at an address of ours. Which one is used, and how many there are, `Lanes` says."""

    def __init__(self, credentials: ApnsCredentials, tls: ssl.SSLContext, token: ProviderToken) -> None:
        super().__init__(
            key=credentials.key.reveal(),
            key_id=credentials.key_id,
            team_id=credentials.team_id,
            topic=credentials.topic,
            ssl_context=tls,
        )
        url = urlsplit(credentials.url)
        # Host and port are attributes of the class.
        here = type(
            "ApnsConnectionHere", (ApnsConnection,), {"APNS_SERVER": url.hostname, "APNS_PORT": url.port or 443}
        )
        self.protocol_class = here
        self._protocol = partial(here, credentials.topic, token)

    async def create_connection(self) -> ApnsConnection:
        """OSError when there is none."""
        connection: ApnsConnection = await self._create_connection(self._protocol)  # type: ignore[assignment]
        return connection
