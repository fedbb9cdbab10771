"""APNs: checks and responses (Apple: "Sending notification requests to APNs", "Handling notification responses")."""

from __future__ import annotations

import re
import time
import uuid
from typing import Any

import msgspec

from deploy.providers.apns_token import ProviderTokens, TeamKey, expired, issued_in_future
from deploy.providers.http.frames import INITIAL_WINDOW
from deploy.providers.http.stream import Response, Stream, StreamConnection
from deploy.providers.rules import Name, Rule

_STATUS: dict[str, int] = {
    **dict.fromkeys((
        "BadCollapseId", "BadDeviceToken", "BadExpirationDate", "BadMessageId", "BadPriority", "BadTopic",
        "DeviceTokenNotForTopic", "DuplicateHeaders", "IdleTimeout", "InvalidPushType", "MissingDeviceToken",
        "MissingTopic", "PayloadEmpty", "TopicDisallowed",
    ), 400),
    **dict.fromkeys((
        "BadCertificate", "BadCertificateEnvironment", "BadEnvironmentKeyIdInToken", "ExpiredProviderToken",
        "Forbidden", "InvalidProviderToken", "MissingProviderToken", "UnrelatedKeyIdInToken",
    ), 403),
    "BadPath": 404, "MethodNotAllowed": 405, "ExpiredToken": 410, "Unregistered": 410, "PayloadTooLarge": 413,
    "TooManyProviderTokenUpdates": 429, "TooManyRequests": 429, "InternalServerError": 500, "ServiceUnavailable": 503,
    "Shutdown": 503,
}  # fmt: skip
_TYPES = {
    "alert", "background", "complication", "controls", "fileprovider", "liveactivity", "location", "mdm",
    "pushtotalk", "voip", "widgets",
}  # fmt: skip
_VISIBLE = ("alert", "badge", "sound")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
# Apple's tokens have 32 bytes today, but Apple does not promise their length.
_DEVICE_TOKEN = re.compile(r"([0-9a-fA-F]{2}){32,100}")
_TOPIC = re.compile(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*")
_PATH = "/3/device/"
_PAYLOAD_LIMIT, _VOIP_LIMIT, _COLLAPSE_LIMIT = 4096, 5120, 64


class ApnsSettings(msgspec.Struct, forbid_unknown_fields=True):
    """Number of streams until the first valid provider token, after it, and after a rejected one (None: unchanged).
    Maximum age of a provider token, and minimum time between two on a connection, in seconds. Window in bytes."""

    first_streams: int = 1
    max_streams: int = 1000
    streams_after_refusal: int | None = None
    token_lifetime: float = 3600
    token_interval: float = 1200
    window: int = INITIAL_WINDOW


class Rejected(Exception):
    """The reason is one of _STATUS."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class _Payload(msgspec.Struct):
    aps: dict[str, Any]
    sigil: Any = None


_decode = msgspec.json.Decoder(_Payload).decode


class Session:
    """The state of a connection: its provider token, and since when it is in use."""

    __slots__ = ("since", "token")

    def __init__(self) -> None:
        self.token: str | None = None
        self.since = 0.0


class Apns:
    name: Name = "apns"
    session = Session

    def __init__(self, team_key: TeamKey, topic: str) -> None:
        self.tokens = ProviderTokens(team_key)
        self.settings = ApnsSettings()
        self._topic = topic

    @property
    def first_streams(self) -> int:
        return min(self.settings.first_streams, self.settings.max_streams)

    def device(self, request: Stream) -> str:
        return request.path.removeprefix(_PATH)

    def respond(self, request: Stream, now: float) -> tuple[Response, str | None]:
        """The response, and the text for the app if the push is accepted."""
        identifier = request.headers.get("apns-id")
        if identifier is None or not _UUID.fullmatch(identifier):
            request.headers["apns-id"] = str(uuid.uuid4())
        try:
            text = self._accept(request, identifier, now)
        except Rejected as rejected:
            return self._answer(request, rejected.reason), None
        return Response(200, "Success", (("apns-id", request.headers["apns-id"]),)), text

    def scripted(self, request: Stream, rule: Rule) -> Response:
        """For a rule with an outcome; `timestamp` (unix ms) goes with 410, and is now without one."""
        return self._answer(request, rule.outcome or "", rule)

    def accept(self, request: Stream) -> bytes:
        return bytes(request.body)

    def supports(self, outcome: str) -> bool:
        return outcome in _STATUS

    def _answer(self, request: Stream, reason: str, rule: Rule | None = None) -> Response:
        status = _STATUS[reason]
        body: dict[str, Any] = {"reason": reason}
        if status == 410:
            at = rule.timestamp if rule else None
            body["timestamp"] = int(time.time() * 1000) if at is None else at
        headers = [("apns-id", request.headers["apns-id"])]
        if rule and rule.retry_after is not None:
            headers.append(("retry-after", rule.retry_after))
        return Response(status, reason, tuple(headers), msgspec.json.encode(body))

    def _accept(self, request: Stream, identifier: str | None, now: float) -> str | None:
        if request.method != "POST":
            raise Rejected("MethodNotAllowed")
        if not request.path.startswith(_PATH):
            raise Rejected("BadPath")
        if request.repeated:
            raise Rejected("DuplicateHeaders")
        self._check_provider(request.connection, request.headers.get("authorization", ""), now)
        device = self.device(request)
        if not device:
            raise Rejected("MissingDeviceToken")
        self._check_headers(request.headers, identifier)
        text = self._check_payload(request.headers["apns-push-type"], request.body)
        if not _DEVICE_TOKEN.fullmatch(device):
            raise Rejected("BadDeviceToken")
        return text

    def _check_provider(self, connection: StreamConnection, authorization: str, now: float) -> None:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Rejected("MissingProviderToken")
        session: Session = connection.session
        issued_at = self.tokens.issued_at(token)
        if issued_at is None or issued_in_future(issued_at, now):
            if self.settings.streams_after_refusal is not None:
                connection.announce(self.settings.streams_after_refusal)
                session.token = None
            raise Rejected("InvalidProviderToken")
        if expired(issued_at, now, self.settings.token_lifetime):
            raise Rejected("ExpiredProviderToken")
        if token != session.token:
            if session.token is not None and now - session.since < self.settings.token_interval:
                raise Rejected("TooManyProviderTokenUpdates")
            session.token, session.since = token, now
            connection.announce(self.settings.max_streams)

    def _check_headers(self, headers: dict[str, str], identifier: str | None) -> None:
        topic, push_type = headers.get("apns-topic"), headers.get("apns-push-type")
        priority = headers.get("apns-priority", "10")
        if not topic:
            raise Rejected("MissingTopic")
        if not _TOPIC.fullmatch(topic):
            raise Rejected("BadTopic")
        # Some push types have a topic below the app's, such as `com.example.app.voip`.
        if topic != self._topic and not topic.startswith(self._topic + "."):
            raise Rejected("TopicDisallowed")
        if push_type not in _TYPES:
            raise Rejected("InvalidPushType")
        if priority not in {"10", "5", "1"} or (push_type == "background" and priority != "5"):
            raise Rejected("BadPriority")
        expiration = headers.get("apns-expiration", "0")
        if not (expiration.isascii() and expiration.isdigit()):
            raise Rejected("BadExpirationDate")
        if identifier is not None and identifier != headers["apns-id"]:
            raise Rejected("BadMessageId")
        if len(headers.get("apns-collapse-id", "").encode()) > _COLLAPSE_LIMIT:
            raise Rejected("BadCollapseId")

    def _check_payload(self, push_type: str, body: bytes | bytearray) -> str | None:
        if len(body) > (_VOIP_LIMIT if push_type == "voip" else _PAYLOAD_LIMIT):
            raise Rejected("PayloadTooLarge")
        try:
            payload = _decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise Rejected("PayloadEmpty") from error
        aps = payload.aps
        # "If there's a mismatch … APNs may return an error": here it does, so that a test sees it.
        visible = any(name in aps for name in _VISIBLE)
        if push_type == "alert" and not visible:
            raise Rejected("InvalidPushType")
        if push_type == "background" and (visible or aps.get("content-available") != 1):
            raise Rejected("InvalidPushType")
        return payload.sigil if isinstance(payload.sigil, str) else None
