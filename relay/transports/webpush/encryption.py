"""Encryption of one message for a subscription: RFC 8291, with the content coding aes128gcm of RFC 8188, one record."""

from __future__ import annotations

import hmac
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

RECORD_SIZE = 4096
"""Of the header. A push service takes bodies of 4096 bytes (RFC 8030, 7.2), so the only record is shorter than that."""
SALT_BYTES = 16
_TAG_BYTES = 16
_HEADER_BYTES = SALT_BYTES + 4 + 1 + 65
MAX_PADDED = 4096 - _HEADER_BYTES - _TAG_BYTES
# After the content of the last record; zeros follow (RFC 8188, 2).
_LAST = b"\x02"


class Recipient(NamedTuple):
    """The keys of a subscription: `public` is its point, `key` the same loaded, `auth` its secret."""

    public: bytes
    key: ec.EllipticCurvePublicKey
    auth: bytes

    def __repr__(self) -> str:
        return "<keys of a subscription>"

    @classmethod
    def of(cls, public: bytes, auth: bytes) -> Recipient:
        """ValueError for a point that is not on the curve."""
        return cls(public, ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), public), auth)


def encrypt(
    content: bytes, recipient: Recipient, ephemeral: ec.EllipticCurvePrivateKey, salt: bytes, padded_to: int
) -> bytes:
    """The body of a push. `ephemeral` and `salt` are new for each message: the nonce of AES-GCM follows from them.

    `content`, its delimiter and zeros have `padded_to` bytes in all, so that the length discloses nothing; ValueError
    for a content that is longer.
    """
    if not len(content) < padded_to <= MAX_PADDED:
        raise ValueError("the content does not fit")
    sender = ephemeral.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    shared = ephemeral.exchange(ec.ECDH(), recipient.key)
    secret = _hkdf(recipient.auth, shared, b"WebPush: info\x00" + recipient.public + sender, 32)
    extracted = hmac.digest(salt, secret, "sha256")
    key = _expand(extracted, b"Content-Encoding: aes128gcm\x00", 16)
    nonce = _expand(extracted, b"Content-Encoding: nonce\x00", 12)
    record = AESGCM(key).encrypt(nonce, (content + _LAST).ljust(padded_to, b"\x00"), None)
    return b"".join((salt, RECORD_SIZE.to_bytes(4), len(sender).to_bytes(1), sender, record))


def _hkdf(salt: bytes, secret: bytes, info: bytes, length: int) -> bytes:
    return _expand(hmac.digest(salt, secret, "sha256"), info, length)


def _expand(extracted: bytes, info: bytes, length: int) -> bytes:
    """RFC 5869, one block: at most 32 bytes."""
    return hmac.digest(extracted, info + b"\x01", "sha256")[:length]
