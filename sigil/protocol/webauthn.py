"""The assertion in a signature of a WebAuthn key: its parts and its checks (docs/protocol.md, 2.1).

Signatures are not verified here: `WebAuthnPublicKey` of `keys` does that. Nothing is stored, and the bounds come before
the parsing. A reason is for tests and `sigil doctor`: no caller on the wire learns one.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from sigil.protocol import signed_bytes
from sigil.protocol.encoding import strict_json
from sigil.protocol.encoding.text import encode_base64url
from sigil.protocol.errors import InvalidRequest
from sigil.protocol.origin import NotAnOrigin, parse_origin

# The varint of 0x300001, a code in multicodec's range for private use.
PREFIX = b"\x81\x80\xc0\x01"
KEY_LENGTH = len(PREFIX) + 33 + 33 + 32

MAX_SIGNATURE = 1024
HALF = 64
_BOTH_HALVES = 2 * HALF
_AUTHENTICATOR_DATA = _BOTH_HALVES + 2
_AUTHENTICATOR_DATA_LENGTH = 37
MAX_CLIENT_DATA = MAX_SIGNATURE - _AUTHENTICATOR_DATA - _AUTHENTICATOR_DATA_LENGTH
_MAX_DEPTH = 16

# W3C Web Authentication, 6.1.
_USER_PRESENT, _USER_VERIFIED, _BACKUP_ELIGIBLE, _BACKUP_STATE = 0x01, 0x04, 0x08, 0x10
_ATTESTED_CREDENTIAL, _EXTENSIONS = 0x40, 0x80

LOCAL_ALONE = frozenset(
    {
        signed_bytes.AUTH_REJECT,
        signed_bytes.MPA_REJECT,
        signed_bytes.PENDING,
        signed_bytes.RELAY_REGISTER,
        signed_bytes.RELAY_UNREGISTER,
        signed_bytes.RELAY_WS_AUTH,
    }
)
"""The tags under which the local half signs alone. The list is closed: a script that holds the local key can reject,
fetch and register, but never consent. Every other tag needs both halves, one that is added later too.
"""

Reason = Literal[
    "length",
    "local_signature",
    "assertion_signature",
    "client_data",
    "type",
    "challenge",
    "origin",
    "cross_origin",
    "top_origin",
    "rp_id",
    "user_presence",
    "user_verification",
    "attested_credential",
    "authenticator_data",
    "backup_state",
]


class AssertionRefused(ValueError):
    def __init__(self, reason: Reason) -> None:
        self.reason: Reason = reason
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class UserVerification:
    """What a signature with both halves proves beyond the key: an authenticator verified its user, on a page of
    `origin`. `synced`: the passkey may exist on several devices (the flag BE).
    """

    origin: str
    synced: bool


class Parts(NamedTuple):
    """A signature with both halves: r‖s of each, and the two texts that the assertion covers."""

    local: bytes
    assertion: bytes
    authenticator_data: bytes
    client_data: bytes


def origin_sha256(origin: str) -> bytes:
    """The 32 bytes of a key that name its origin, spelled as `location.origin` in a browser."""
    return hashlib.sha256(origin.encode()).digest()


def needs_both_halves(message: bytes) -> bool:
    """`message` is `tag ‖ …`; a tag ends in its one zero byte."""
    return message[: message.find(b"\0") + 1] not in LOCAL_ALONE


def split(signature: bytes) -> Parts:
    """AssertionRefused: shorter than its parts, or longer than any signature."""
    if not _AUTHENTICATOR_DATA + _AUTHENTICATOR_DATA_LENGTH < len(signature) <= MAX_SIGNATURE:
        raise AssertionRefused("length")
    end = _AUTHENTICATOR_DATA + int.from_bytes(signature[_BOTH_HALVES:_AUTHENTICATOR_DATA])
    if end < _AUTHENTICATOR_DATA + _AUTHENTICATOR_DATA_LENGTH or end >= len(signature):
        raise AssertionRefused("length")
    return Parts(signature[:HALF], signature[HALF:_BOTH_HALVES], signature[_AUTHENTICATOR_DATA:end], signature[end:])


def check(parts: Parts, signed: bytes, key_origin: bytes) -> None:
    """All but the two signatures. `signed`: what both halves sign; `key_origin`: SHA-256 of the key's origin."""
    origin = _check_client_data(parts.client_data, signed, key_origin)
    _check_authenticator_data(parts.authenticator_data, origin)


def user_verification(signature: bytes) -> UserVerification | None:
    """Of a signature that was verified, without the checks; None of the local half alone."""
    backup_eligible = synced(signature)
    if backup_eligible is None:
        return None
    return UserVerification(_client_data(split(signature).client_data)["origin"], backup_eligible)


def synced(signature: bytes) -> bool | None:
    """The same without the origin, and without reading JSON."""
    return None if len(signature) == HALF else bool(signature[_AUTHENTICATOR_DATA + 32] & _BACKUP_ELIGIBLE)


def _check_client_data(text: bytes, signed: bytes, key_origin: bytes) -> str:
    data = _client_data(text)
    if data.get("type") != "webauthn.get":
        raise AssertionRefused("type")
    # Tags separate approvals, codes and rejections through this hash: one gesture is one decision.
    if data.get("challenge") != encode_base64url(hashlib.sha256(signed).digest()):
        raise AssertionRefused("challenge")
    origin = data.get("origin")
    # Every port of a host has the same rpId: only this comparison tells them apart.
    if not isinstance(origin, str) or origin_sha256(origin) != key_origin:
        raise AssertionRefused("origin")
    if data.get("crossOrigin", False) is not False:
        raise AssertionRefused("cross_origin")
    if "topOrigin" in data:
        raise AssertionRefused("top_origin")
    return origin


def _client_data(text: bytes) -> dict[str, Any]:
    try:
        data = strict_json.parse(text)
    except InvalidRequest:
        data = None
    if not isinstance(data, dict) or _depth(data) > _MAX_DEPTH:
        raise AssertionRefused("client_data")
    return data


def _depth(value: object) -> int:
    depth, level = 0, [value]
    while containers := [item for item in level if isinstance(item, dict | list)]:
        depth += 1
        level = [child for item in containers for child in (item.values() if isinstance(item, dict) else item)]
    return depth


def _check_authenticator_data(data: bytes, origin: str) -> None:
    if data[:32] != _rp_id_sha256(origin):
        raise AssertionRefused("rp_id")
    flags = data[32]
    if not flags & _USER_PRESENT:
        raise AssertionRefused("user_presence")
    if not flags & _USER_VERIFIED:
        raise AssertionRefused("user_verification")
    if flags & _ATTESTED_CREDENTIAL:
        raise AssertionRefused("attested_credential")
    # The flag ED says that a map of extensions follows; no member of it counts.
    if (len(data) > _AUTHENTICATOR_DATA_LENGTH) is not bool(flags & _EXTENSIONS):
        raise AssertionRefused("authenticator_data")
    if flags & _BACKUP_STATE and not flags & _BACKUP_ELIGIBLE:
        raise AssertionRefused("backup_state")
    # The counter is ignored: many authenticators keep it at 0, and the challenge's state ensures single use.


# The origin was compared with the key's hash before: it is a fact of the key, the same in each of its signatures.
@lru_cache(maxsize=64)
def _rp_id_sha256(origin: str) -> bytes:
    """Of the host of an origin that a browser gives a key, in a browser's spelling."""
    try:
        parsed = parse_origin(origin)
    except NotAnOrigin:
        parsed = None
    if parsed is None or str(parsed) != origin or not parsed.has_webauthn:
        raise AssertionRefused("origin")
    return hashlib.sha256(parsed.host.encode()).digest()
