"""The signature suites behind one interface (docs/protocol.md, 2.1).

    key = PublicKey.parse(wire)          # InvalidPublicKey
    key.verify(message, signature)       # bool; accepts both halves of s
    key.user_verification(signature)     # of a signature that `verify` accepted: UserVerification or None
    PrivateKey.load("ES256", scalar).sign(message)   # 64 bytes, deterministic, low s

`message` is always one of the domain-tagged byte strings of `signed_bytes`.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Set
from functools import lru_cache
from typing import Literal

import coincurve
import nacl.exceptions
import nacl.signing
from cryptography.exceptions import InvalidSignature as CryptographyInvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from nacl.bindings import crypto_core_ed25519_is_valid_point

from sigil.protocol import webauthn
from sigil.protocol.errors import InvalidPublicKey

Suite = Literal["ES256", "ES256K", "Ed25519"]
SUITES: tuple[Suite, ...] = ("ES256", "ES256K", "Ed25519")
# Only devices have keys of the last one, and only a browser signs with them.
DeviceSuite = Literal["ES256", "ES256K", "Ed25519", "WebAuthn"]

SIGNATURE_LENGTH = 64
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
SECP256K1_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141

# Multicodec prefixes: a key on the wire names its own suite, and fingerprints of two suites cannot collide.
_ES256K_PREFIX = b"\xe7\x01"
_ED25519_PREFIX = b"\xed\x01"

# Loading a compressed P-256 point costs 17 µs, a third of a verification. The same devices come back, so it is cached.
_LOADED_KEYS = 4096


class PublicKey(ABC):
    """A loaded public key. `wire` is its form on the wire, `fingerprint` the hex SHA-256 of `wire`."""

    suite: DeviceSuite
    server_suite: Suite
    """The suite of the server's key that signs for a device with this key."""

    def __init__(self, wire: bytes) -> None:
        self.wire = wire
        self.fingerprint = hashlib.sha256(wire).hexdigest()

    @staticmethod
    @lru_cache(maxsize=_LOADED_KEYS)
    def parse(wire: bytes) -> PublicKey:
        """Load 33 (ES256), 35 (ES256K), 34 (Ed25519) or 102 (WebAuthn) bytes; anything else is InvalidPublicKey."""
        if len(wire) == 33:
            return ES256PublicKey(wire)
        if len(wire) == 35 and wire.startswith(_ES256K_PREFIX):
            return ES256KPublicKey(wire)
        if len(wire) == 34 and wire.startswith(_ED25519_PREFIX):
            return Ed25519PublicKey(wire)
        if len(wire) == webauthn.KEY_LENGTH and wire.startswith(webauthn.PREFIX):
            return WebAuthnPublicKey(wire)
        raise InvalidPublicKey

    @abstractmethod
    def verify(self, message: bytes, signature: bytes) -> bool:
        """Whether `signature` (of a WebAuthn key 64 to 1024 bytes, else 64) is this key's over `message`."""

    @abstractmethod
    def normalised(self, signature: bytes) -> bytes:
        """The stored form of a signature that `verify` accepted: libraries that require low s accept it."""

    def user_verification(self, signature: bytes) -> webauthn.UserVerification | None:
        """What a signature that `verify` accepted proves about the user: None of a plain key, and of a rejection."""
        return None

    def is_among(self, wires: Set[bytes]) -> bool:
        """Whether this key, or a half of it, is one of `wires`."""
        return self.wire in wires

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PublicKey) and self.wire == other.wire

    def __hash__(self) -> int:
        return hash(self.wire)

    def __repr__(self) -> str:
        return f"<{self.suite} public key {self.fingerprint[:6]}…>"


class ES256PublicKey(PublicKey):
    suite = server_suite = "ES256"

    def __init__(self, wire: bytes) -> None:
        super().__init__(wire)
        _require_compressed(wire)
        try:
            self._key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), wire)
        except ValueError as error:
            raise InvalidPublicKey from error

    def verify(self, message: bytes, signature: bytes) -> bool:
        der = _ecdsa_der(signature, P256_ORDER)
        if der is None:
            return False
        try:
            self._key.verify(der, message, _ES256)
        except CryptographyInvalidSignature:
            return False
        return True

    def normalised(self, signature: bytes) -> bytes:
        return _low_s(signature, P256_ORDER)


class ES256KPublicKey(PublicKey):
    suite = server_suite = "ES256K"

    def __init__(self, wire: bytes) -> None:
        super().__init__(wire)
        # coincurve would also accept the hybrid forms 06 and 07.
        _require_compressed(wire[2:])
        try:
            self._key = coincurve.PublicKey(wire[2:])
        except ValueError as error:
            raise InvalidPublicKey from error

    def verify(self, message: bytes, signature: bytes) -> bool:
        der = _ecdsa_der(signature, SECP256K1_ORDER)
        return der is not None and self._key.verify(der, message)

    def normalised(self, signature: bytes) -> bytes:
        return _low_s(signature, SECP256K1_ORDER)


class Ed25519PublicKey(PublicKey):
    suite = server_suite = "Ed25519"

    def __init__(self, wire: bytes) -> None:
        super().__init__(wire)
        # Rejects small-order points: for such a key, one signature can be valid for any message.
        if not crypto_core_ed25519_is_valid_point(wire[2:]):
            raise InvalidPublicKey
        self._key = nacl.signing.VerifyKey(wire[2:])

    def verify(self, message: bytes, signature: bytes) -> bool:
        if len(signature) != SIGNATURE_LENGTH:
            return False
        try:
            self._key.verify(message, signature)
        except nacl.exceptions.BadSignatureError:
            return False
        return True

    def normalised(self, signature: bytes) -> bytes:
        return signature


class WebAuthnPublicKey(PublicKey):
    """A web device's: an assertion key, which an authenticator uses once it verified its user, and a local key, which a
    script uses. Either key may exist elsewhere: a synced passkey, a copied browser profile. Only both approve.
    """

    suite, server_suite = "WebAuthn", "ES256"

    def __init__(self, wire: bytes) -> None:
        super().__init__(wire)
        start = len(webauthn.PREFIX)
        self.assertion_key = ES256PublicKey(wire[start : start + 33])
        self.local_key = ES256PublicKey(wire[start + 33 : start + 66])
        self.origin_sha256 = wire[start + 66 :]
        # Keys with the same x have the same secret but for its sign: one key would sign for both halves.
        if self.assertion_key.wire[1:] == self.local_key.wire[1:]:
            raise InvalidPublicKey
        self._wire_sha256 = hashlib.sha256(wire).digest()

    def verify(self, message: bytes, signature: bytes) -> bool:
        return self.refusal(message, signature) is None

    def refusal(self, message: bytes, signature: bytes) -> webauthn.Reason | None:
        """The check that failed, for tests and diagnosis alone; None if the signature verifies."""
        # Without the key's hash, one gesture would be the vote of every key that shares both halves' secrets.
        signed = message + self._wire_sha256
        if not webauthn.needs_both_halves(message):
            if len(signature) != SIGNATURE_LENGTH:
                return "length"
            return None if self.local_key.verify(signed, signature) else "local_signature"
        try:
            parts = webauthn.split(signature)
            webauthn.check(parts, signed, self.origin_sha256)
        except webauthn.AssertionRefused as error:
            return error.reason
        if not self.local_key.verify(signed, parts.local):
            return "local_signature"
        asserted = parts.authenticator_data + hashlib.sha256(parts.client_data).digest()
        return None if self.assertion_key.verify(asserted, parts.assertion) else "assertion_signature"

    def normalised(self, signature: bytes) -> bytes:
        local, rest = signature[:SIGNATURE_LENGTH], signature[SIGNATURE_LENGTH:]
        return self.local_key.normalised(local) + (
            self.assertion_key.normalised(rest[:SIGNATURE_LENGTH]) + rest[SIGNATURE_LENGTH:] if rest else b""
        )

    def user_verification(self, signature: bytes) -> webauthn.UserVerification | None:
        return webauthn.user_verification(signature)

    def is_among(self, wires: Set[bytes]) -> bool:
        return self.assertion_key.wire in wires or self.local_key.wire in wires


class PrivateKey(ABC):
    """A loaded private key; its `repr` shows only the public key."""

    public: PublicKey

    @staticmethod
    def load(suite: Suite, secret: bytes) -> PrivateKey:
        """Load the 32-byte scalar (ECDSA, 1..n-1, big-endian) or seed (Ed25519); anything else is ValueError."""
        if len(secret) != 32:
            raise ValueError(f"a private key is 32 bytes, not {len(secret)}")
        return _PRIVATE[suite](secret)

    @abstractmethod
    def sign(self, message: bytes) -> bytes:
        """A deterministic signature of 64 bytes (RFC 6979, RFC 8032); ECDSA with low s."""

    def __repr__(self) -> str:
        return f"<private half of {self.public!r}>"


class ES256PrivateKey(PrivateKey):
    def __init__(self, secret: bytes) -> None:
        self._key = ec.derive_private_key(_scalar(secret, P256_ORDER), ec.SECP256R1())
        point = self._key.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint
        )
        self.public = PublicKey.parse(point)

    def sign(self, message: bytes) -> bytes:
        return _low_s(_raw(self._key.sign(message, _ES256)), P256_ORDER)


class ES256KPrivateKey(PrivateKey):
    def __init__(self, secret: bytes) -> None:
        _scalar(secret, SECP256K1_ORDER)
        self._key = coincurve.PrivateKey(secret)
        self.public = PublicKey.parse(_ES256K_PREFIX + self._key.public_key.format(compressed=True))

    def sign(self, message: bytes) -> bytes:
        return _low_s(_raw(self._key.sign(message)), SECP256K1_ORDER)


class Ed25519PrivateKey(PrivateKey):
    def __init__(self, secret: bytes) -> None:
        self._key = nacl.signing.SigningKey(secret)
        self.public = PublicKey.parse(_ED25519_PREFIX + bytes(self._key.verify_key))

    def sign(self, message: bytes) -> bytes:
        return self._key.sign(message).signature


_PRIVATE: dict[Suite, type[ES256PrivateKey] | type[ES256KPrivateKey] | type[Ed25519PrivateKey]] = {
    "ES256": ES256PrivateKey,
    "ES256K": ES256KPrivateKey,
    "Ed25519": Ed25519PrivateKey,
}
_ES256 = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)


def _require_compressed(point: bytes) -> None:
    if point[0] not in (2, 3):
        raise InvalidPublicKey


def _scalar(secret: bytes, order: int) -> int:
    value = int.from_bytes(secret)
    if not 0 < value < order:
        raise ValueError("the scalar is not in 1..n-1")
    return value


def _ecdsa_der(signature: bytes, order: int) -> bytes | None:
    """DER with low s, which libsecp256k1 requires; None when r or s is 0 or not below the order."""
    if len(signature) != SIGNATURE_LENGTH:
        return None
    r, s = int.from_bytes(signature[:32]), int.from_bytes(signature[32:])
    if not (0 < r < order and 0 < s < order):
        return None
    return encode_dss_signature(r, min(s, order - s))


def _raw(der: bytes) -> bytes:
    r, s = decode_dss_signature(der)
    return r.to_bytes(32) + s.to_bytes(32)


def _low_s(signature: bytes, order: int) -> bytes:
    s = int.from_bytes(signature[32:])
    return signature[:32] + min(s, order - s).to_bytes(32)
