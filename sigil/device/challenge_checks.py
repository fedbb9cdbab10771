"""The checks of a device before it shows a challenge (docs/protocol.md, 1, 2.4 and 5.2).

    shown = verify_payload(payload, pin, device.public, now)     # PayloadRefused

All that is shown or signed afterwards comes from the `ShownChallenge`, never from the payload.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import msgspec

from sigil.device.errors import (
    ActionRefused,
    AddressRefused,
    ChallengeBytesMismatch,
    ChallengeOver,
    MalformedPayload,
    NotThisDevice,
    RespondToForeign,
    ServerNotPinned,
    ServerSignatureInvalid,
)
from sigil.device.http.origin import origin
from sigil.device.server_pin import ServerPin
from sigil.protocol import signed_bytes
from sigil.protocol.action import Action, action_jcs
from sigil.protocol.encoding.canonical import NotCanonical
from sigil.protocol.encoding.ids import parse_uuid
from sigil.protocol.encoding.text import decode_base64, decode_hex, parse_time
from sigil.protocol.errors import InvalidRequest
from sigil.protocol.keys import SIGNATURE_LENGTH, PublicKey
from sigil.protocol.messages.challenges import ChallengePayload
from sigil.protocol.messages.decoding import decode

CLOCK_ALLOWANCE_SECONDS = 60
"""How many seconds after its expiry a challenge is still shown. The server decides by its own clock and responds with
410, so a device with a fast clock must not refuse a live challenge, and showing an expired one does no harm. Not more
than the 60 s that /device/pending allows: with a larger clock error the device cannot fetch anything."""

T = TypeVar("T")

_HASH = 32


@dataclass(frozen=True)
class ShownChallenge:
    """A challenge that passed every check: the server, the action, the expiry, and the bytes to sign.

    `expires_at` is Unix seconds; `challenge_bytes` 32 bytes; `params` is None when the action has none.
    """

    challenge_id: str
    server: ServerPin
    action_type: str
    description: str
    params: dict[str, Any] | None
    expires_at: int
    number_matching: bool
    challenge_bytes: bytes
    action_jcs: bytes

    @property
    def id(self) -> str:
        return self.challenge_id

    def seconds_left(self, now: float) -> int:
        return seconds_left(self.expires_at, now)


def verify_payload(
    payload: bytes | ChallengePayload, server: ServerPin, device: PublicKey, now: float
) -> ShownChallenge:
    """The challenge of a payload, if the pinned server signed exactly this for exactly this device; PayloadRefused.

    `payload` is JSON or already decoded; `now` is Unix seconds.
    """
    payload = parse_payload(payload)
    expires_at, nonce, challenge, signature = _decoded(payload)
    _check_server(payload, server)
    _check_device(payload, device)
    _check_binding(payload, challenge, nonce, expires_at)
    canonical_action = verified_action(payload.action)
    check_signature(signed_bytes.approval(challenge, canonical_action), signature, server.key(device.server_suite))
    check_respond_to(payload.respond_to, server)
    check_expiry(expires_at, now)
    return _shown(payload, server, challenge, canonical_action, expires_at)


def parse_payload(payload: bytes | ChallengePayload) -> ChallengePayload:
    """Unknown members are ignored, as in every response of a server."""
    if isinstance(payload, ChallengePayload):
        return payload
    return or_malformed(lambda: decode(payload, ChallengePayload))


def verified_action(raw: msgspec.Raw) -> bytes:
    """JCS of the action; ActionRefused unless its text already is that JCS.

    Another parser could read a second spelling (a duplicate name, an escape, another order) differently: this device
    would then show another action than a second device or a log.
    """
    text = bytes(raw)
    try:
        encoded = action_jcs(decode(text, Action), "$.action")
    except InvalidRequest as error:
        raise ActionRefused(f"{ActionRefused.summary} {error.message}") from error
    if encoded != text:
        raise ActionRefused("The action is not sent as canonical JSON.")
    return encoded


def _decoded(payload: ChallengePayload) -> tuple[int, bytes, bytes, bytes]:
    if parse_uuid(payload.challenge_id) is None:
        raise MalformedPayload("challenge_id is not a version 4 UUID in lower case.")
    or_malformed(partial(decode_hex, payload.server_id, "$.server_id", length=_HASH))
    or_malformed(partial(decode_hex, payload.fingerprint, "$.fingerprint", length=_HASH))
    return (
        or_malformed(partial(parse_time, payload.expires_at, "$.expires_at")),
        or_malformed(partial(decode_base64, payload.nonce, "$.nonce", length=_HASH)),
        or_malformed(partial(decode_base64, payload.challenge_bytes, "$.challenge_bytes", length=_HASH)),
        or_malformed(partial(decode_base64, payload.server_signature, "$.server_signature", length=SIGNATURE_LENGTH)),
    )


def or_malformed(parse: Callable[[], T]) -> T:
    try:
        return parse()
    except InvalidRequest as error:
        where = error.details["path"]
        raise MalformedPayload(f"{MalformedPayload.summary} {error.message} ({where})") from error


def _check_server(payload: ChallengePayload, server: ServerPin) -> None:
    if payload.server_id != server.server_id:
        raise ServerNotPinned


def _check_device(payload: ChallengePayload, device: PublicKey) -> None:
    if payload.fingerprint != device.fingerprint:
        raise NotThisDevice


def _check_binding(payload: ChallengePayload, challenge: bytes, nonce: bytes, expires_at: int) -> None:
    try:
        bound = signed_bytes.challenge_bytes(
            challenge_id=payload.challenge_id,
            expires_at=expires_at,
            fingerprint=payload.fingerprint,
            nonce=nonce,
            number_matching=payload.number_matching,
            respond_to=payload.respond_to,
            server_id=payload.server_id,
        )
    except NotCanonical as error:
        raise ChallengeBytesMismatch from error
    if bound != challenge:
        raise ChallengeBytesMismatch


def check_signature(message: bytes, signature: bytes, server_key: PublicKey) -> None:
    if not server_key.verify(message, signature):
        raise ServerSignatureInvalid


def check_respond_to(respond_to: str | None, server: ServerPin) -> None:
    """Even a signed respond_to: a server that directs answers elsewhere is misconfigured or compromised."""
    if not respond_to:
        return
    try:
        same = origin(respond_to) == server.base_url
    except AddressRefused as error:
        raise RespondToForeign from error
    if not same:
        raise RespondToForeign


def check_expiry(expires_at: int, now: float) -> None:
    if now >= expires_at + CLOCK_ALLOWANCE_SECONDS:
        raise ChallengeOver


def seconds_left(expires_at: int, now: float) -> int:
    return max(0, int(expires_at - now))


def _shown(
    payload: ChallengePayload, server: ServerPin, challenge: bytes, action: bytes, expires_at: int
) -> ShownChallenge:
    # Read back from the canonical bytes: the person sees exactly what the signature covers.
    members = msgspec.json.decode(action)
    return ShownChallenge(
        challenge_id=payload.challenge_id,
        server=server,
        action_type=members["type"],
        description=members["description"],
        params=members.get("params"),
        expires_at=expires_at,
        number_matching=payload.number_matching,
        challenge_bytes=challenge,
        action_jcs=action,
    )
