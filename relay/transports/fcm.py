"""Firebase Cloud Messaging, HTTP v1 (docs/relay.md)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec

from relay.credentials import FcmCredentials
from relay.transports import Outcome, OutgoingPush, RequestSpan
from relay.transports.access_tokens import AccessTokens, TokenRejected, TokenUnavailable
from relay.transports.connection_pool import ConnectionPool, PoolSettings
from relay.transports.http2 import Endpoint, RequestLost, Response
from relay.transports.notification_text import BODY, TITLE, is_clear
from relay.transports.provider_errors import error_code, retry_after_seconds
from relay.transports.token_endpoint import TokenEndpoint

_THROTTLED_SECONDS = 20.0
_ERROR_TYPE = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
_encode = msgspec.json.Encoder().encode


class FcmTransport:
    """`clock` gives Unix seconds."""

    def __init__(
        self,
        credentials: FcmCredentials,
        clock: Callable[[], float],
        settings: PoolSettings = PoolSettings(),  # noqa: B008 - frozen
    ) -> None:
        endpoint = Endpoint.parse(credentials.url)
        self._host = endpoint.host
        self._clock = clock
        self._token_endpoint = TokenEndpoint(credentials.token_url)
        self._tokens = AccessTokens(credentials, self._token_endpoint.fetch, clock)
        self._pool = ConnectionPool("fcm", endpoint.connector(), settings)
        self.open, self.load = self._pool.open, self._pool.load
        base = quote(urlsplit(credentials.url).path, safe="/%:@!$&'()*+,;=~")
        path = f"{base}/v1/projects/{credentials.project_id}/messages:send"
        self._common_headers = [
            (b":method", b"POST"),
            (b":scheme", b"https"),
            (b":authority", endpoint.authority),
            (b":path", path.encode()),
            (b"content-type", b"application/json"),
            (b"user-agent", b"sigil-relay"),
        ]

    async def close(self) -> None:
        await self._tokens.close()
        await self._token_endpoint.close()
        await self._pool.close()

    async def send(self, push: OutgoingPush) -> Outcome:
        body = _message(push, self._clock())
        spans = push.spans
        span = None if spans is None else lambda: spans.request(self._host)
        try:
            outcome, token = await self._attempt(body, span)
            if outcome.error == "UNAUTHENTICATED":
                # Google may have revoked the token before it expired. If it rejects a new one too, the outcome stays.
                self._tokens.invalidate(token)
                outcome, _ = await self._attempt(body, span)
        except RequestLost as lost:
            return Outcome("retry", lost.reason)
        except TokenUnavailable:
            return Outcome("retry", "token_unavailable")
        except TokenRejected as rejected:
            return Outcome("denied", str(rejected))
        return outcome

    async def _attempt(self, body: bytes, span: Callable[[], RequestSpan | None] | None) -> tuple[Outcome, str]:
        """The outcome, and the access token that was sent."""
        token = await self._tokens.current()
        headers = [
            *self._common_headers,
            (b"authorization", b"Bearer " + token.encode()),
            (b"content-length", str(len(body)).encode()),
        ]
        return _outcome(await self._pool.request(lambda: headers, body, span)), token


def _message(push: OutgoingPush, now: float) -> bytes:
    """A message has a visible notification: messages that show nothing lose their high priority. A clear shows nothing,
    and needs none."""
    clears = is_clear(push.payload)
    android: dict[str, Any] = {
        "priority": "NORMAL" if clears or push.priority == "normal" else "HIGH",
        "ttl": f"{max(0, push.expires_at - int(now))}s",
    }
    message = {"token": push.token, "data": {"sigil": push.payload.decode()}, "android": android}
    if push.collapse_id is not None:
        android["collapse_key"] = push.collapse_id
    if not clears:
        message["notification"] = {"title": TITLE, "body": BODY}
        android["notification"] = {"default_sound": True}
        if push.collapse_id is not None:
            # A repeated push replaces the notification that is shown.
            android["notification"]["tag"] = push.collapse_id
    return _encode({"message": message, "validate_only": True} if push.dry_run else {"message": message})


class _Detail(msgspec.Struct, rename={"type": "@type", "code": "errorCode"}):
    type: str = ""
    code: str = ""


class _Error(msgspec.Struct):
    status: str = ""
    details: list[_Detail] = []


class _ErrorBody(msgspec.Struct):
    error: _Error = msgspec.field(default_factory=_Error)


_decode = msgspec.json.Decoder(_ErrorBody).decode


def _reported_code(body: bytes) -> str:
    """FCM's own error code if there is one, else the status that all Google APIs report."""
    try:
        error = _decode(body).error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    return next((detail.code for detail in error.details if detail.type == _ERROR_TYPE and detail.code), error.status)


def _outcome(response: Response) -> Outcome:
    status = response.status
    if status == 200:
        return Outcome("delivered")
    code = error_code(_reported_code(response.body), str(status))
    if code == "UNREGISTERED":
        return Outcome("gone", code)
    if status == 429 or status >= 500:
        default = _THROTTLED_SECONDS if status == 429 else 0
        return Outcome("retry", code, after=retry_after_seconds(response.headers.get(b"retry-after"), default))
    # These two codes concern one token: a device that registers another project's token must not stop all pushes.
    if status in {401, 403} and code not in {"SENDER_ID_MISMATCH", "THIRD_PARTY_AUTH_ERROR"}:
        return Outcome("denied", code)
    return Outcome("refused", code, counts_against_token=code in {"INVALID_ARGUMENT", "SENDER_ID_MISMATCH"})
