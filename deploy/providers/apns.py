"""What APNs says to a request (Apple: "Sending notification requests to APNs", "Handling notification responses")."""

from __future__ import annotations

import re
import time
import uuid
from typing import Any

import msgspec

from deploy.providers.apns_token import ProviderTokens, TeamKey, expired, of_the_future
from deploy.providers.frames import FIRST_WINDOW
from deploy.providers.rules import Name, Rule
from deploy.providers.stream import Answer, Stream, Wire

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
_SHOWN = ("alert", "badge", "sound")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
# Apple's tokens have 32 bytes today, and their length is not promised.
_DEVICE_TOKEN = re.compile(r"([0-9a-fA-F]{2}){32,100}")
_TOPIC = re.compile(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*")
_PATH = "/3/device/"
_PAYLOAD_LIMIT, _VOIP_LIMIT, _COLLAPSE_LIMIT = 4096, 5120, 64


class ApnsSettings(msgspec.Struct, forbid_unknown_fields=True):
    """Streams: until the first valid provider token, after it, and after a refused one (None: as before). Seconds: how
    old a provider token may be, and how soon a connection may bring another. Bytes of a body that come unasked."""

    first_streams: int = 1
    max_streams: int = 1000
    streams_after_refusal: int | None = None
    token_lifetime: float = 3600
    token_interval: float = 1200
    window: int = FIRST_WINDOW


class Refused(Exception):
    """The reason is one of _STATUS."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class _Payload(msgspec.Struct):
    aps: dict[str, Any]
    sigil: Any = None


_decode = msgspec.json.Decoder(_Payload).decode


class Session:
    """What APNs remembers of a connection: the provider token in use, and since when."""

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

    def judge(self, request: Stream, now: float) -> tuple[Answer, str | None]:
        """The answer, and the text for the app where the push is accepted."""
        identifier = request.headers.get("apns-id")
        if identifier is None or not _UUID.fullmatch(identifier):
            request.headers["apns-id"] = str(uuid.uuid4())
        try:
            text = self._accept(request, identifier, now)
        except Refused as refused:
            return self._answer(request, refused.reason), None
        return Answer(200, "Success", (("apns-id", request.headers["apns-id"]),)), text

    def scripted(self, request: Stream, rule: Rule) -> Answer:
        """For a rule with an outcome; `timestamp` (unix ms) goes with 410, and is now without one."""
        return self._answer(request, rule.outcome or "", rule)

    def knows(self, outcome: str) -> bool:
        return outcome in _STATUS

    def _answer(self, request: Stream, reason: str, rule: Rule | None = None) -> Answer:
        status = _STATUS[reason]
        told: dict[str, Any] = {"reason": reason}
        if status == 410:
            at = rule.timestamp if rule else None
            told["timestamp"] = int(time.time() * 1000) if at is None else at
        headers = [("apns-id", request.headers["apns-id"])]
        if rule and rule.retry_after is not None:
            headers.append(("retry-after", rule.retry_after))
        return Answer(status, reason, tuple(headers), msgspec.json.encode(told))

    def _accept(self, request: Stream, identifier: str | None, now: float) -> str | None:
        if request.method != "POST":
            raise Refused("MethodNotAllowed")
        if not request.path.startswith(_PATH):
            raise Refused("BadPath")
        if request.repeated:
            raise Refused("DuplicateHeaders")
        self._check_provider(request.connection, request.headers.get("authorization", ""), now)
        device = self.device(request)
        if not device:
            raise Refused("MissingDeviceToken")
        self._check_headers(request.headers, identifier)
        text = self._check_payload(request.headers["apns-push-type"], request.body)
        if not _DEVICE_TOKEN.fullmatch(device):
            raise Refused("BadDeviceToken")
        return text

    def _check_provider(self, connection: Wire, authorization: str, now: float) -> None:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Refused("MissingProviderToken")
        session: Session = connection.session
        issued_at = self.tokens.issued_at(token)
        if issued_at is None or of_the_future(issued_at, now):
            if self.settings.streams_after_refusal is not None:
                connection.announce(self.settings.streams_after_refusal)
                session.token = None
            raise Refused("InvalidProviderToken")
        if expired(issued_at, now, self.settings.token_lifetime):
            raise Refused("ExpiredProviderToken")
        if token != session.token:
            if session.token is not None and now - session.since < self.settings.token_interval:
                raise Refused("TooManyProviderTokenUpdates")
            session.token, session.since = token, now
            connection.announce(self.settings.max_streams)

    def _check_headers(self, headers: dict[str, str], identifier: str | None) -> None:
        topic, kind = headers.get("apns-topic"), headers.get("apns-push-type")
        priority = headers.get("apns-priority", "10")
        if not topic:
            raise Refused("MissingTopic")
        if not _TOPIC.fullmatch(topic):
            raise Refused("BadTopic")
        # Some types have a topic of their own below the app's, as `com.example.app.voip`.
        if topic != self._topic and not topic.startswith(self._topic + "."):
            raise Refused("TopicDisallowed")
        if kind not in _TYPES:
            raise Refused("InvalidPushType")
        if priority not in {"10", "5", "1"} or (kind == "background" and priority != "5"):
            raise Refused("BadPriority")
        expiration = headers.get("apns-expiration", "0")
        if not (expiration.isascii() and expiration.isdigit()):
            raise Refused("BadExpirationDate")
        if identifier is not None and identifier != headers["apns-id"]:
            raise Refused("BadMessageId")
        if len(headers.get("apns-collapse-id", "").encode()) > _COLLAPSE_LIMIT:
            raise Refused("BadCollapseId")

    def _check_payload(self, kind: str, body: bytes | bytearray) -> str | None:
        if len(body) > (_VOIP_LIMIT if kind == "voip" else _PAYLOAD_LIMIT):
            raise Refused("PayloadTooLarge")
        try:
            payload = _decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise Refused("PayloadEmpty") from error
        aps = payload.aps
        # "If there's a mismatch … APNs may return an error": here it does, so that a test sees it.
        shown = any(name in aps for name in _SHOWN)
        if kind == "alert" and not shown:
            raise Refused("InvalidPushType")
        if kind == "background" and (shown or aps.get("content-available") != 1):
            raise Refused("InvalidPushType")
        return payload.sigil if isinstance(payload.sigil, str) else None
