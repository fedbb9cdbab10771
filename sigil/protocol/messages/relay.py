"""The messages of the relay's HTTP and WebSocket interface as types (docs/protocol.md, section 6).

Messages of devices reject unknown members; messages of servers, and answers, ignore them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from sigil.protocol.encoding.fingerprints import MIN_BEGINNING
from sigil.protocol.messages.base import Answer, FromDevice

Platform = Literal["apns", "fcm", "websocket", "webpush"]
PushStatus = Literal["delivered", "queued", "not_registered", "token_evicted", "rate_limited", "failed"]

MAX_PUSHES = 500
MAX_PAYLOAD = 3 * 1024
"""Bytes of a payload as JSON."""
MAX_FRAME = 8 * 1024
"""Bytes of a WebSocket frame of a device."""
MAX_PUSH_BODY = 2 * 1024 * 1024


def _visible(length: int) -> msgspec.Meta:
    return msgspec.Meta(
        min_length=1,
        max_length=length,
        pattern=r"^[\x21-\x7e]+$(?!\n)",
        description=f"1 to {length} visible ASCII characters",
    )


# Without control characters: providers take a push token in a header or in a path.
PushToken = Annotated[
    str,
    msgspec.Meta(
        max_length=4096,
        pattern=r"^[^\x00-\x1f\x7f-\x9f]*$(?!\n)",
        description="at most 4096 characters without control characters",
    ),
]
FingerprintBeginning = Annotated[
    str,
    msgspec.Meta(
        min_length=MIN_BEGINNING,
        max_length=64,
        pattern=r"^[0-9a-f]+$(?!\n)",
        description=f"{MIN_BEGINNING} to 64 lower-case hex characters",
    ),
]
PushKey = Annotated[str, _visible(200)]
PushOwner = Annotated[str, _visible(32)]
CollapseId = Annotated[str, _visible(200)]


class RegistrationChallenge(Answer, frozen=True):
    """200 of `GET /devices/register/challenge`; `nonce` is base64 of 32 bytes

    `webpush_key`: base64url of the VAPID key (65 bytes) for subscriptions; absent where the relay sends no Web Push
    """

    challenge_id: str
    nonce: str
    webpush_key: str | None = None


class RegisterDevice(FromDevice, frozen=True):
    """`POST /devices/register`"""

    device_public_key: str
    push_platform: Platform
    push_token: PushToken
    challenge_id: str
    signature: str


class DeviceRegistered(Answer, frozen=True):
    """201 of `POST /devices/register`"""

    fingerprint: str
    pictogram: list[str]
    pictogram_speakable: str
    registered_at: str


class UnregisterDevice(FromDevice, frozen=True):
    """`POST /devices/unregister`"""

    device_public_key: str
    challenge_id: str
    signature: str


class DeviceUnregistered(Answer, frozen=True):
    """200 of `POST /devices/unregister`; `removed` is False when it was not registered"""

    fingerprint: str
    removed: bool


class RegisterServer(msgspec.Struct, frozen=True):
    """`POST /servers/register`"""

    server_id: str
    server_public_key: str
    server_name: Annotated[str, msgspec.Meta(max_length=64)]


class ServerRegistered(Answer, frozen=True):
    """200 of `POST /servers/register`"""

    server_id: str
    status: Literal["registered"] = msgspec.field(default="registered")


class WantedPush(msgspec.Struct, frozen=True, omit_defaults=True):
    """One push of `POST /push`; `payload` is an object of at most MAX_PAYLOAD bytes

    `owner` distinguishes the requesters of a server: each has its own rate, and its share of what a device holds.
    `traceparent` is of the push's creation; the relay ignores a malformed one, of any type.
    """

    push_key: PushKey
    fingerprint: str
    payload: msgspec.Raw
    expires_at: str | None = None
    collapse_id: CollapseId | None = None
    priority: Literal["high", "normal"] | None = None
    owner: PushOwner | None = None
    traceparent: Any = None


class PushRequest(msgspec.Struct, frozen=True):
    """`POST /push`"""

    pushes: Annotated[list[WantedPush], msgspec.Meta(min_length=1, max_length=MAX_PUSHES)]


class PushResult(Answer, frozen=True):
    fingerprint: str
    status: PushStatus
    provider: str | None = None
    push_id: str | None = None
    error: str | None = None


class PushResults(Answer, frozen=True):
    """200 of `POST /push` and of `POST /push/outcomes`, in the order of the request"""

    results: list[PushResult]


class OutcomesRequest(msgspec.Struct, frozen=True):
    """`POST /push/outcomes`; the result of an unknown or forgotten key is `failed` with error `unknown`"""

    push_keys: Annotated[list[PushKey], msgspec.Meta(min_length=1, max_length=MAX_PUSHES)]


class HistoryRequest(msgspec.Struct, frozen=True):
    """`POST /push/history`; `fingerprint` is whole, or a beginning of it"""

    fingerprint: FingerprintBeginning


class Registration(Answer, frozen=True):
    """Times only for a device to which the requesting server has a push that is remembered"""

    status: Literal["registered", "token_evicted", "not_registered"]
    provider: str | None = None
    error: str | None = None
    registered_at: str | None = None
    last_seen_at: str | None = None
    evicted_at: str | None = None


class PastPush(Answer, frozen=True):
    """`attempts` of a push for a WebSocket: 1 once a connection of the device got it"""

    push_key: str
    push_id: str
    provider: str
    status: PushStatus
    attempts: int
    created_at: str
    error: str | None = None
    ended_at: str | None = None
    next_attempt_at: str | None = None


class PushHistory(Answer, frozen=True):
    """200 of `POST /push/history`; `pushes`: at most ten, the newest first"""

    fingerprint: str
    registration: Registration
    pushes: list[PastPush]


class AuthChallenge(msgspec.Struct, frozen=True, tag_field="type", tag="auth_challenge"):
    """The relay's first frame; `challenge` is base64 of 32 bytes"""

    challenge: str
    expires_at: str


class AuthResponse(FromDevice, frozen=True, tag_field="type", tag="auth_response"):
    device_public_key: str
    signature: str


class AuthSuccess(msgspec.Struct, frozen=True, tag_field="type", tag="auth_success"):
    fingerprint: str


class AuthFailure(msgspec.Struct, frozen=True, tag_field="type", tag="auth_failure"):
    error: str


class Ping(msgspec.Struct, frozen=True, tag_field="type", tag="ping"):
    pass


class Pong(FromDevice, frozen=True, tag_field="type", tag="pong"):
    pass


class Ack(FromDevice, frozen=True, tag_field="type", tag="ack"):
    push_id: str


class Close:
    """Close codes of `/ws`."""

    SHUTDOWN = 1001
    UNSUPPORTED = 1003
    TOO_LARGE = 1009
    TRY_AGAIN = 1013
    REPLACED = 4000
    AUTH_TIMEOUT = 4001
    SILENT = 4002
    AUTH_FAILED = 4003
    BAD_FRAME = 4004
