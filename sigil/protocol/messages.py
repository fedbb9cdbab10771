"""The messages of the server's HTTP interface as types (docs/protocol.md, section 5).

Requests of devices and unauthenticated clients reject unknown members, requests of integrators ignore them. A field
whose default is None may be absent or null, and is left out of answers when it has no value.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Annotated, Any, Literal, TypeVar, cast

import msgspec

from sigil.protocol import strict_json
from sigil.protocol.action import Action
from sigil.protocol.approval_messages import MpaPayload
from sigil.protocol.errors import InvalidRequest
from sigil.protocol.forms import Answer, Decision, FromDevice, Reason

T = TypeVar("T")

DEFAULT_EXPIRY_SECONDS = 300
_LOCATION = re.compile(r" - at `(\$[^`]*)`\Z")
_MEMBER = re.compile(r"Object (?:missing required|contains unknown) field `(.*?)`(?: - at `(\$[^`]*)`)?\Z", re.DOTALL)
_MAX_MESSAGE = 200

Mode = Literal["operational", "init"]
ChallengeState = Literal["pending", "verified", "rejected", "expired", "cancelled"]


class CreateChallenge(msgspec.Struct, frozen=True):
    """`POST /challenge`"""

    device_public_key: str
    action: Action
    fingerprint: str | None = None
    expires_in_seconds: Annotated[int, msgspec.Meta(ge=30, le=300)] | None = None
    number_matching: bool | None = None


class ChallengeCreated(Answer, frozen=True):
    """201 of `POST /challenge`"""

    challenge_id: str
    fingerprint: str
    pictogram: list[str]
    pictogram_speakable: str
    expires_at: str
    challenge_bytes: str
    nonce: str
    server_signature: str
    respond_to: str | None = None
    match_code: str | None = None


class Respond(FromDevice, frozen=True):
    """`POST /respond`: one of key and fingerprint is enough."""

    challenge_id: str
    signature: str
    device_public_key: str | None = None
    fingerprint: str | None = None
    decision: Decision | None = None
    match_code: Annotated[str, msgspec.Meta(pattern=r"^[0-9]{2}$(?!\n)")] | None = None
    timestamp: Any = None
    reason: Reason | None = None


class Responded(Answer, frozen=True):
    """200 of `POST /respond`"""

    status: Literal["verified", "rejected"]
    verified: bool
    fingerprint: str
    pictogram: list[str]
    pictogram_speakable: str
    action: msgspec.Raw


class PushStatus(Answer, frozen=True):
    status: Literal["queued", "delivered", "failed", "disabled"]
    error: str | None = None


class ChallengeStatus(Answer, frozen=True):
    """200 of `GET /v1/auth/challenge/{id}/status` and of `DELETE /v1/auth/challenge/{id}`"""

    challenge_id: str
    status: ChallengeState
    fingerprint: str
    pictogram: list[str]
    pictogram_speakable: str
    action: msgspec.Raw
    expires_at: str
    push: PushStatus
    decision: Decision | None = None
    reason: str | None = None
    match_code: str | None = None
    verified_at: str | None = None


class Pending(FromDevice, frozen=True):
    """`POST /device/pending`"""

    device_public_key: str
    timestamp: str
    signature: str


class ChallengePayload(Answer, frozen=True, tag_field="type", tag="challenge"):
    """A challenge as a device gets it, by push or from `POST /device/pending`."""

    challenge_id: str
    server_id: str
    challenge_bytes: str
    nonce: str
    fingerprint: str
    action: msgspec.Raw
    server_signature: str
    expires_at: str
    number_matching: bool
    respond_to: str | None = None


class ChallengeReference(Answer, frozen=True, tag_field="type", tag="challenge"):
    """A push with SIGIL_PUSH_CONTENT=reference: the device gets the rest from `POST /device/pending`."""

    challenge_id: str
    server_id: str


class ClearPayload(Answer, frozen=True, tag_field="type", tag="clear"):
    """A push that dismisses the notification of an ended challenge."""

    challenge_id: str
    status: ChallengeState


class PendingList(Answer, frozen=True):
    """200 of `POST /device/pending`"""

    challenges: list[ChallengePayload]
    mpa: list[MpaPayload]


class Health(Answer, frozen=True):
    """`GET /health`; 503 when `status` is `unhealthy`"""

    status: Literal["healthy", "initializing", "unhealthy"]
    mode: Mode
    version: str
    details: dict[str, str] | None = None


class Features(Answer, frozen=True):
    mpa: bool
    webhooks: bool
    secure_decrypt: bool
    mnemonic_generation: bool


class Info(Answer, frozen=True):
    """`GET /info`; in init mode only version, mode and server_name"""

    server_id: str
    server_name: str
    server_public_key: str
    server_public_keys: dict[str, str]
    keys_signature: str
    server_pictogram: list[str]
    server_pictogram_speakable: str
    version: str
    mode: Mode
    features: Features
    relay_url: str | None = None


class ErrorBody(Answer, frozen=True):
    code: str
    message: str
    details: dict[str, Any] | None = None


class ErrorAnswer(Answer, frozen=True):
    """Every answer with a status of 400 or more"""

    error: ErrorBody


def decode_request(body: bytes, kind: type[T]) -> T:
    """Parse a request as strict JSON. Raises InvalidRequest with `details.path`."""
    value = strict_json.parse(body)
    try:
        message: T = msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise _located(str(error)) from error
    return message


def decode(body: bytes, kind: type[T]) -> T:
    """Parse an answer, fast. Raises InvalidRequest with `details.path` when it does not have that form."""
    try:
        message: T = _decoder(cast(Any, kind)).decode(body)
    except msgspec.ValidationError as error:
        raise _located(str(error)) from error
    # msgspec also raises errors that are not its own: for bad UTF-8 inside a string, and for nesting about 1000 deep.
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest("The body is not valid JSON.", path="$") from error
    return message


def _located(text: str) -> InvalidRequest:
    """Split msgspec's "Expected `str`, got `int` - at `$.action.type`" into message and path."""
    if member := _MEMBER.match(text):
        name, parent = member[1], member[2] or "$"
        message, path = text[: member.end(1) + 1], f"{parent}.{name}"
    elif location := _LOCATION.search(text):
        message, path = text[: location.start()], location[1]
    else:
        message, path = text, "$"
    return InvalidRequest(f"{message[:_MAX_MESSAGE]}.", path=path[:_MAX_MESSAGE])


@lru_cache
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)
