"""The authenticator data of App Attest: the layout of WebAuthn with fixed lengths, and Apple's extensions after it.

The flags are ignored. Apple's own sample carries extensions without the ED flag, and assertions of iOS 27 set AT
without credential data: the lengths decide.
"""

from __future__ import annotations

from typing import NamedTuple

from sigil.attestation.encoding import cbor
from sigil.attestation.encoding.cbor import CborError

_HEAD = 37
_KEY_AT = 87
_END_OF_KEY = 164
# A COSE key (RFC 9053) of P-256 in its one canonical form: kty 2, alg -7, crv 1, x, y.
_BEFORE_X, _BEFORE_Y = bytes.fromhex("a5010203262001215820"), bytes.fromhex("225820")
_CATEGORY = "apple_validation_category_01"
# Each with its type and the lengths that it may have. The two of the code's hash are of apps that opt in.
_EXTENSIONS: dict[str, tuple[type[bytes | str], range]] = {
    _CATEGORY: (bytes, range(4, 5)),
    "apple_bundle_version_01": (str, range(129)),
    "apple_cd_hash_hash_01": (bytes, range(65)),
    "apple_cd_hash_type_01": (bytes, range(1, 2)),
}


class Head(NamedTuple):
    """What both forms have. `category`: how the app was signed, None before iOS 27."""

    rp_id_hash: bytes
    counter: int
    category: int | None


class AttestedKey(NamedTuple):
    head: Head
    aaguid: bytes
    credential_id: bytes
    point: bytes
    """x and y of the attested key, 64 bytes. Whether they are on the curve is not checked here."""


def of_attestation(data: bytes) -> AttestedKey:
    """Raises CborError."""
    x_at = _KEY_AT + len(_BEFORE_X)
    y_at = x_at + 32 + len(_BEFORE_Y)
    if data[53:55] != b"\x00\x20" or data[_KEY_AT:x_at] != _BEFORE_X or data[x_at + 32 : y_at] != _BEFORE_Y:
        raise CborError("has no credential of 32 bytes with a P-256 key")
    if len(data) < _END_OF_KEY:
        raise CborError("ends early")
    point = data[x_at : x_at + 32] + data[y_at:_END_OF_KEY]
    return AttestedKey(_head(data, _END_OF_KEY), data[_HEAD:53], data[55:_KEY_AT], point)


def of_assertion(data: bytes) -> Head:
    """Raises CborError."""
    if len(data) < _HEAD:
        raise CborError("ends early")
    return _head(data, _HEAD)


def _head(data: bytes, end: int) -> Head:
    extensions = cbor.decode(data[end:]) if len(data) > end else {}
    if not isinstance(extensions, dict):
        raise CborError("has extensions that are not a map")
    for name, value in extensions.items():
        kind, lengths = _EXTENSIONS.get(name, (bytes, range(0)))
        if not isinstance(value, kind) or len(value) not in lengths:
            raise CborError("has an extension that is unknown, or not of its form")
    category = extensions.get(_CATEGORY)
    number = None if category is None else int.from_bytes(category, "little")
    return Head(data[:32], int.from_bytes(data[33:_HEAD]), number)
