"""The endpoints that an application server posts to (RFC 8030), with the checks of Google's and Mozilla's services.

Bodies stay encrypted: a push service has no key for them.
"""

from __future__ import annotations

import re
from typing import Any, NoReturn

import msgspec
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from msgspec import Struct

from deploy.providers.http.frames import INITIAL_WINDOW
from deploy.providers.http.stream import Response, Stream
from deploy.providers.rules import Name, Rule
from deploy.providers.webpush import base64url
from deploy.providers.webpush.subscriptions import Subscriptions
from deploy.providers.webpush.vapid import Rejected, Vapid

GOOGLE, MOZILLA = "/fcm/send/", "/wpush/v2/"
_MAX_BODY = 4096
_MAX_TTL = 2_419_200
_SALT, _KEY_AT, _KEY_SIZE, _TAG = 16, 21, 65, 16
_TOKEN = re.compile(r"[A-Za-z0-9_:-]{20,1024}")
_TOPIC = re.compile(r"[A-Za-z0-9_-]{1,32}")
_URGENCIES = {"very-low", "low", "normal", "high"}
# Status of each outcome, and Mozilla's errno for it.
_OUTCOMES = {
    "BadRequest": (400, 110),
    "Unauthorized": (401, 109),
    "Forbidden": (403, 109),
    "NotFound": (404, 102),
    "Gone": (410, 106),
    "PayloadTooLarge": (413, 104),
    "TooManyRequests": (429, 114),
    "ServerError": (500, 999),
    "Unavailable": (503, 201),
}
_BY_STATUS = {status: outcome for outcome, (status, _) in _OUTCOMES.items()}


class WebPushSettings(Struct, forbid_unknown_fields=True):
    """Streams of a connection; initial window in bytes; `known_only`: a token that no browser got is unknown (404), as
    at the real services, instead of accepted and delivered to no browser."""

    max_streams: int = 100
    window: int = INITIAL_WINDOW
    known_only: bool = False


class WebPush:
    name: Name = "webpush"

    def __init__(self, subscriptions: Subscriptions) -> None:
        self.settings = WebPushSettings()
        self.vapid = Vapid()
        self._subscriptions = subscriptions

    @property
    def first_streams(self) -> int:
        return self.settings.max_streams

    def session(self) -> None:
        return None

    def device(self, request: Stream) -> str:
        return _token(request.path)

    def respond(self, request: Stream, now: float) -> tuple[Response, str | None]:
        try:
            self._check(request, now)
        except Rejected as rejected:
            return _error(request.path, _BY_STATUS[rejected.status], str(rejected)), None
        origin = _origin(request)
        headers = (("location", f"{origin}/m/{self._subscriptions.next_number}"), ("ttl", request.headers["ttl"]))
        return Response(201, "Success", headers), None

    def scripted(self, request: Stream, rule: Rule) -> Response:
        return _error(request.path, rule.outcome or "", "scripted", retry_after=rule.retry_after)

    def supports(self, outcome: str) -> bool:
        return outcome in _OUTCOMES

    def accept(self, request: Stream) -> bytes:
        """Delivers to the browser, where there is one."""
        subscription = self._subscriptions.find(_token(request.path))
        if subscription is not None:
            self._subscriptions.send(subscription, bytes(request.body), int(request.headers["ttl"]))
        return msgspec.json.encode(base64url.encode(request.body))

    def _check(self, request: Stream, now: float) -> None:
        token, headers = _token(request.path), request.headers
        if request.method != "POST" or not _TOKEN.fullmatch(token):
            raise Rejected(404, "no endpoint has this path")
        sender = self.vapid.sender(headers.get("authorization", ""), _origin(request), now)
        subscription = self._subscriptions.find(token)
        if self._subscriptions.ended(token):
            raise Rejected(410, "the subscription has ended")
        if subscription is None and self.settings.known_only:
            raise Rejected(404, "no browser has this subscription")
        if subscription is not None and subscription.key not in {None, sender}:
            raise Rejected(403, "the subscription belongs to another VAPID key")
        _check_headers(headers)
        _check_body(headers, request.body)


def _token(path: str) -> str:
    for prefix in (GOOGLE, MOZILLA):
        if path.startswith(prefix):
            return path.removeprefix(prefix)
    return ""


def _origin(request: Stream) -> str:
    return "https://" + request.headers.get(":authority", "").removesuffix(":443")


def _check_headers(headers: dict[str, str]) -> None:
    ttl = headers.get("ttl", "")
    if not (ttl.isascii() and ttl.isdigit() and int(ttl) <= _MAX_TTL):
        _invalid("ttl must be 0 to 2419200 seconds")
    if headers.get("urgency", "normal") not in _URGENCIES:
        _invalid("urgency must be very-low, low, normal or high")
    if not _TOPIC.fullmatch(headers.get("topic", "topic")):
        _invalid("topic must have 1 to 32 characters of base64url")


def _check_body(headers: dict[str, str], body: bytes | bytearray) -> None:
    """The header of aes128gcm (RFC 8188, section 2.1; RFC 8291, section 4): one record, and the sender's key in it."""
    if len(body) > _MAX_BODY:
        raise Rejected(413, "a body has at most 4096 bytes")
    if not body:
        return
    if headers.get("content-encoding") != "aes128gcm":
        _invalid("content-encoding must be aes128gcm")
    records = _KEY_AT + _KEY_SIZE
    if len(body) <= records + _TAG or body[_KEY_AT - 1] != _KEY_SIZE:
        _invalid("the body has no header with a key of 65 bytes")
    if len(body) - records > int.from_bytes(body[_SALT : _SALT + 4], "big"):
        _invalid("the body has more than one record")
    try:
        EllipticCurvePublicKey.from_encoded_point(SECP256R1(), bytes(body[_KEY_AT:records]))
    except ValueError:
        _invalid("the key of the body is not a point of P-256")


def _invalid(message: str) -> NoReturn:
    raise Rejected(400, message)


def _error(path: str, outcome: str, message: str, retry_after: str | None = None) -> Response:
    """Mozilla's errors are JSON, Google's a line of text."""
    status, errno = _OUTCOMES[outcome]
    headers: list[tuple[str, str]] = [] if retry_after is None else [("retry-after", retry_after)]
    if not path.startswith(MOZILLA):
        return Response(status, outcome, (("content-type", "text/plain"), *headers), message.encode())
    content: dict[str, Any] = {"code": status, "errno": errno, "error": outcome, "message": message}
    return Response(status, outcome, (("content-type", "application/json"), *headers), msgspec.json.encode(content))
