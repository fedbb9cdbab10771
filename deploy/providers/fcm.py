"""FCM's HTTP v1 API: checks and responses of `messages:send` (its REST reference and error codes)."""

from __future__ import annotations

import re
import secrets
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from deploy.providers.google_tokens import AccessTokens
from deploy.providers.http.frames import INITIAL_WINDOW
from deploy.providers.http.stream import Response, Stream
from deploy.providers.rules import Name, Rule

_TYPE = "type.googleapis.com/"
_JSON = ("content-type", "application/json; charset=UTF-8")
_PAYLOAD_LIMIT = 4096
_MAX_TTL = 2_419_200
_TOKEN = re.compile(r"[A-Za-z0-9_:-]{20,4096}")
_RESERVED = {"from", "message_type", "collapse_key"}


class ErrorCode(Struct, frozen=True):
    """Status, canonical name and message of an error. `fcm_error`: FCM names the code in an FcmError."""

    status: int
    canonical: str
    message: str
    fcm_error: bool = True
    retry_after: str | None = None


_UNAUTHENTICATED = (
    "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid"
    " authentication credential."
)
_ERRORS = {
    "UNREGISTERED": ErrorCode(404, "NOT_FOUND", "Requested entity was not found."),
    "INVALID_ARGUMENT": ErrorCode(400, "INVALID_ARGUMENT", "Request contains an invalid argument."),
    "SENDER_ID_MISMATCH": ErrorCode(403, "PERMISSION_DENIED", "SenderId mismatch"),
    "QUOTA_EXCEEDED": ErrorCode(429, "RESOURCE_EXHAUSTED", "Quota exceeded for this message.", retry_after="60"),
    "UNAVAILABLE": ErrorCode(503, "UNAVAILABLE", "The service is currently unavailable.", retry_after="30"),
    "INTERNAL": ErrorCode(500, "INTERNAL", "Internal error encountered."),
    "THIRD_PARTY_AUTH_ERROR": ErrorCode(401, "UNAUTHENTICATED", "Auth error from APNS or Web Push Service"),
    "UNAUTHENTICATED": ErrorCode(401, "UNAUTHENTICATED", _UNAUTHENTICATED, fcm_error=False),
    "PERMISSION_DENIED": ErrorCode(403, "PERMISSION_DENIED", "Permission denied on this project.", fcm_error=False),
    "NOT_FOUND": ErrorCode(404, "NOT_FOUND", "There is nothing here.", fcm_error=False),
}


class FcmSettings(Struct, forbid_unknown_fields=True):
    """Number of streams of a connection; initial window in bytes."""

    max_streams: int = 100
    window: int = INITIAL_WINDOW


class _Strict(Struct, forbid_unknown_fields=True):
    """Google rejects unknown members."""


class _Notification(_Strict):
    title: str | None = None
    body: str | None = None
    image: str | None = None


class _AndroidNotification(_Strict):
    title: str | None = None
    body: str | None = None
    icon: str | None = None
    color: str | None = None
    sound: str | None = None
    tag: str | None = None
    click_action: str | None = None
    body_loc_key: str | None = None
    body_loc_args: list[str] | None = None
    title_loc_key: str | None = None
    title_loc_args: list[str] | None = None
    channel_id: str | None = None
    ticker: str | None = None
    sticky: bool | None = None
    event_time: str | None = None
    local_only: bool | None = None
    notification_priority: str | None = None
    default_sound: bool | None = None
    default_vibrate_timings: bool | None = None
    default_light_settings: bool | None = None
    vibrate_timings: list[str] | None = None
    visibility: Literal["VISIBILITY_UNSPECIFIED", "PRIVATE", "PUBLIC", "SECRET"] | None = None
    notification_count: int | None = None
    light_settings: dict[str, Any] | None = None
    image: str | None = None
    bypass_proxy_notification: bool | None = None
    proxy: str | None = None


class _Android(_Strict):
    collapse_key: str | None = None
    priority: Literal["NORMAL", "HIGH", "normal", "high"] | None = None
    ttl: Annotated[str, Meta(pattern=r"^[0-9]+(\.[0-9]{1,9})?s$", max_length=24)] | None = None
    restricted_package_name: str | None = None
    data: dict[str, str] | None = None
    notification: _AndroidNotification | None = None
    fcm_options: dict[str, Any] | None = None
    direct_boot_ok: bool | None = None


class _Message(_Strict):
    name: str | None = None
    token: str | None = None
    topic: str | None = None
    condition: str | None = None
    data: dict[str, str] = {}
    notification: _Notification | None = None
    android: _Android | None = None
    webpush: dict[str, Any] | None = None
    apns: dict[str, Any] | None = None
    fcm_options: dict[str, Any] | None = None


class _Send(_Strict):
    message: _Message
    validate_only: bool = False


class _MessageTarget(Struct):
    token: str = ""


class _Target(Struct):
    message: _MessageTarget = msgspec.field(default_factory=_MessageTarget)


class Invalid(Exception):
    """INVALID_ARGUMENT. `field` is the path of the invalid member; None makes it an FcmError."""

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


_decode = msgspec.json.Decoder(_Send).decode
_decode_target = msgspec.json.Decoder(_Target).decode


class Fcm:
    name: Name = "fcm"

    def __init__(self, project: str, tokens: AccessTokens) -> None:
        self.settings = FcmSettings()
        self._tokens = tokens
        self._project = project
        self._path = f"/v1/projects/{project}/messages:send"

    @property
    def first_streams(self) -> int:
        return self.settings.max_streams

    def session(self) -> None:
        return None

    def device(self, request: Stream) -> str:
        """Also of a request that is rejected later, since rules match it."""
        try:
            return _decode_target(request.body).message.token
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return ""

    def respond(self, request: Stream, now: float) -> tuple[Response, str | None]:
        """The response, and the text for the app if the push is accepted."""
        if request.method != "POST" or not request.path.startswith("/v1/projects/"):
            return _error("NOT_FOUND"), None
        if (reason := self._tokens.rejection_reason(request.headers.get("authorization", ""), now)) is not None:
            return _unauthenticated(reason), None
        if request.path != self._path:
            return _error("PERMISSION_DENIED" if request.path.endswith("/messages:send") else "NOT_FOUND"), None
        try:
            request_body = _parse(request)
        except Invalid as invalid:
            return _invalid(invalid), None
        number = "fake_message_id" if request_body.validate_only else f"0:{int(now * 1e6)}%{secrets.token_hex(8)}"
        sent = {"name": f"projects/{self._project}/messages/{number}"}
        outcome = "Validated" if request_body.validate_only else "Success"
        return Response(200, outcome, (_JSON,), msgspec.json.encode(sent)), request_body.message.data.get("sigil")

    def scripted(self, request: Stream, rule: Rule) -> Response:
        if rule.outcome == "UNAUTHENTICATED":
            return _unauthenticated("ACCESS_TOKEN_EXPIRED")
        return _error(rule.outcome or "", retry_after=rule.retry_after)

    def accept(self, request: Stream) -> bytes:
        return bytes(request.body)

    def supports(self, outcome: str) -> bool:
        return outcome in _ERRORS


def _error(
    outcome: str, details: list[dict[str, Any]] | None = None, message: str | None = None,
    retry_after: str | None = None, headers: tuple[tuple[str, str], ...] = (),
) -> Response:  # fmt: skip
    code = _ERRORS[outcome]
    if details is None and code.fcm_error:
        details = [{"@type": f"{_TYPE}google.firebase.fcm.v1.FcmError", "errorCode": outcome}]
    error = {"code": code.status, "message": message or code.message, "status": code.canonical}
    if details:
        error["details"] = details
    if (after := retry_after or code.retry_after) is not None:
        headers = (*headers, ("retry-after", after))
    body = msgspec.json.format(msgspec.json.encode({"error": error}), indent=2)
    return Response(code.status, outcome, (_JSON, *headers), body)


def _unauthenticated(reason: str) -> Response:
    method = {"method": "google.firebase.fcm.v1.FcmService.SendMessage", "service": "fcm.googleapis.com"}
    info = {
        "@type": f"{_TYPE}google.rpc.ErrorInfo", "reason": reason, "domain": "googleapis.com", "metadata": method,
    }  # fmt: skip
    challenge = 'Bearer realm="https://accounts.google.com/"'
    if reason != "CREDENTIALS_MISSING":
        challenge += ', error="invalid_token"'
    return _error("UNAUTHENTICATED", [info], headers=(("www-authenticate", challenge),))


def _invalid(invalid: Invalid) -> Response:
    if invalid.field is None:
        return _error("INVALID_ARGUMENT", message=str(invalid))
    violation = {"field": invalid.field, "description": str(invalid)}
    details = [{"@type": f"{_TYPE}google.rpc.BadRequest", "fieldViolations": [violation]}]
    return _error("INVALID_ARGUMENT", details, str(invalid))


def _parse(request: Stream) -> _Send:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Invalid("Invalid JSON payload received.", "")
    try:
        request_body: _Send = _decode(request.body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        problem, _, path = str(error).partition(" - at `$")
        raise Invalid(f"Invalid JSON payload received. {problem}", path.strip("`.")) from error
    message = request_body.message
    if message.topic or message.condition:
        raise Invalid("Topics and conditions are not served here.", "message")
    if not message.token:
        raise Invalid("Recipient of the message is not set.", "message")
    if not _TOKEN.fullmatch(message.token):
        raise Invalid("The registration token is not a valid FCM registration token")
    _check_data(message)
    return request_body


def _check_data(message: _Message) -> None:
    android = message.android or _Android()
    data = {**message.data, **(android.data or {})}
    for name in data:
        if name in _RESERVED or name.startswith(("google", "gcm")):
            raise Invalid(f"Invalid data payload key: {name}", f"message.data[{name}]")
    size = sum(len(name.encode()) + len(text.encode()) for name, text in data.items())
    if message.notification:
        size += len(msgspec.json.encode(message.notification))
    if size > _PAYLOAD_LIMIT:
        raise Invalid("Android message is too big", "message")
    if android.ttl is not None and float(android.ttl[:-1]) > _MAX_TTL:
        raise Invalid("Invalid TTL", "message.android.ttl")
