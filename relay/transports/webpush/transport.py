"""Web Push: one attempt at the push service of a browser (docs/relay.md)."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec

from relay.transports import NOT_CARRIED, Outcome, OutgoingPush
from relay.transports.http2 import Headers, RequestLost, Response, Sensitive
from relay.transports.notification_text import is_clear
from relay.transports.provider_errors import error_code, retry_after_seconds
from relay.transports.webpush.encryption import SALT_BYTES, Recipient, encrypt
from relay.transports.webpush.hosts import HostPools, HostsBusy
from relay.transports.webpush.message import PADDED_BYTES, message
from relay.transports.webpush.vapid import VapidTokens
from relay.web_push_settings import Settings, VapidKey
from sigil.protocol import web_push
from sigil.protocol.web_push import NotAWebPushToken, WebPushToken

_THROTTLED_SECONDS = 20.0
_BUSY_SECONDS = 2.0
_TOPIC_CHARACTERS = 32
_WINDOWS = "notify.windows.com"
# 406: Microsoft's service over its limit.
_THROTTLED = frozenset({406, 429})


class WebPushTransport:
    """`clock` gives Unix seconds."""

    def __init__(self, settings: Settings, clock: Callable[[], float], hosts: HostPools | None = None) -> None:
        self._settings = settings
        self._clock = clock
        self._tokens = VapidTokens(settings.contact, clock)
        self._hosts = hosts or HostPools()
        self.open, self.load, self.close = self._hosts.open, self._hosts.load, self._hosts.close

    def lane(self, token: str) -> str:
        """The item of the list that allows the host of a push: a slow host must not delay the others.

        The hosts of a wildcard share one, since devices may make them up: with one for each, they would fill the queue.
        """
        try:
            host = self._settings.host_of(_subscription(token).token.host)
        except NotAWebPushToken:
            return ""
        return "" if host is None else str(host)

    async def send(self, push: OutgoingPush) -> Outcome:
        if is_clear(push.payload):
            # A push that shows nothing: a browser revokes the subscription after some of them.
            return Outcome("refused", NOT_CARRIED, local=True)
        try:
            subscription = _subscription(push.token)
        except NotAWebPushToken:
            return Outcome("refused", "malformed_subscription", local=True)
        token = subscription.token
        host, key = self._settings.host_of(token.host), self._settings.key_of(token.key)
        if host is None or key is None:
            return Outcome("refused", self._settings.refusal(token), local=True)
        content = message(push.payload, token.app, push.expires_at)
        body = encrypt(
            content,
            subscription.recipient,
            ec.generate_private_key(ec.SECP256R1()),
            os.urandom(SALT_BYTES),
            PADDED_BYTES,
        )
        spans = push.spans
        span = None if spans is None else lambda: spans.request(token.host)
        try:
            with self._hosts.use(host, token.host) as pool:
                response = await pool.request(lambda: self._headers(push, token, key, len(body)), body, span)
        except RequestLost as lost:
            return Outcome("retry", lost.reason)
        except HostsBusy:
            return Outcome("retry", "provider_busy", after=_BUSY_SECONDS, local=True)
        return _outcome(response)

    def _headers(self, push: OutgoingPush, token: WebPushToken, key: VapidKey, length: int) -> Headers:
        """The path is the capability of the subscription: no table of HPACK keeps it."""
        headers = [
            (b":method", b"POST"),
            (b":scheme", b"https"),
            (b":authority", token.host.encode()),
            Sensitive(b":path", token.path.encode()),
            (b"authorization", self._tokens.header(key, f"https://{token.host}")),
            (b"content-encoding", b"aes128gcm"),
            (b"content-type", b"application/octet-stream"),
            (b"content-length", str(length).encode()),
            (b"ttl", str(max(0, push.expires_at - int(self._clock()))).encode()),
            (b"urgency", push.priority.encode()),
        ]
        if push.collapse_id is not None:
            headers.append(Sensitive(b"topic", _topic(push.collapse_id)))
        if token.host.endswith(f".{_WINDOWS}"):
            # Without it a computer that is off gets nothing later.
            headers.append((b"x-wns-cache-policy", b"cache"))
        return headers


class _Subscription(NamedTuple):
    token: WebPushToken
    recipient: Recipient


@lru_cache(maxsize=1024)
def _subscription(token: str) -> _Subscription:
    """NotAWebPushToken. All lanes of a request (500 pushes) are read, and then the first of them is sent to."""
    parsed = web_push.parse(token)
    return _Subscription(parsed, Recipient.of(parsed.p256dh, parsed.auth))


def _topic(collapse_id: str) -> bytes:
    """At most 32 characters of base64url (RFC 8030, 5.4): a newer message replaces one that waits."""
    return base64.urlsafe_b64encode(hashlib.sha256(collapse_id.encode()).digest())[:_TOPIC_CHARACTERS]


class _Error(msgspec.Struct):
    reason: str = ""


_decode = msgspec.json.Decoder(_Error).decode


def _reported_reason(body: bytes) -> str:
    """Apple's; the other services have a text for people, if any."""
    try:
        return _decode(body).reason if body else ""
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""


def _outcome(response: Response) -> Outcome:
    """A device may name any path of a host: each answer there concerns this token alone, and is never
    `denied`, which would stop the pushes of all."""
    status = response.status
    if 200 <= status < 300:
        return Outcome("delivered")
    if status in {404, 410}:
        return Outcome("gone", f"http_{status}")
    if status in _THROTTLED or status == 408 or status >= 500 or status < 100:
        default = _THROTTLED_SECONDS if status in _THROTTLED else 0
        after = retry_after_seconds(response.headers.get(b"retry-after"), default)
        return Outcome("retry", f"http_{status}", after=after)
    # No redirect is followed: it would lead past the list of hosts.
    reason = error_code(_reported_reason(response.body), str(status))
    return Outcome("refused", reason, counts_against_token=status in {401, 403})
