"""Certificates of the test phone: X.509 written byte by byte, so that any of it can be wrong."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from sigil.device.test_phone import der

SigningKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
AnyPublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey

COMMON_NAME, SERIAL_NUMBER, ORGANIZATION, UNIT, TITLE = "2.5.4.3", "2.5.4.5", "2.5.4.10", "2.5.4.11", "2.5.4.12"
BASIC_CONSTRAINTS = "2.5.29.19"
TRUE, FALSE = b"\xff", b"\x00"
DAY = 86400

# (signature algorithm, hash) by the issuer's kind of key.
_ECDSA = {"sha256": ("1.2.840.10045.4.3.2", hashes.SHA256), "sha384": ("1.2.840.10045.4.3.3", hashes.SHA384)}


@dataclass(frozen=True)
class Authority:
    """An issuer: its name (DER) and its key."""

    name: bytes
    key: SigningKey


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """What one certificate contains; `issued` signs it. `trailing` follows the certificate."""

    subject: bytes
    public_key: AnyPublicKey
    serial: int | None = None
    not_before: int | None = None
    not_after: int | None = None
    extensions: Sequence[bytes] = ()
    signature_hash: str = "sha256"
    broken_signature: bool = False
    issuer_name: bytes | None = None
    trailing: bytes = b""

    def issued(self, issuer: Authority, now: float | None = None) -> bytes:
        now = int(time.time() if now is None else now)
        algorithm = _algorithm(issuer.key, self.signature_hash)
        begin = now - DAY if self.not_before is None else self.not_before
        end = now + 30 * DAY if self.not_after is None else self.not_after
        serial = secrets.randbits(63) + 1 if self.serial is None else self.serial
        tbs = der.sequence(
            der.explicit(0, der.integer(2)),
            der.integer(serial),
            algorithm,
            self.issuer_name or issuer.name,
            der.sequence(der.moment(begin), der.moment(end)),
            self.subject,
            spki(self.public_key),
            *([der.explicit(3, der.sequence(*self.extensions))] if self.extensions else []),
        )
        signature = _sign(issuer.key, tbs, self.signature_hash)
        if self.broken_signature:
            signature = _sign(issuer.key, tbs + b"\0", self.signature_hash)
        return der.sequence(tbs, algorithm, der.bits(signature)) + self.trailing

    def authority(self, key: SigningKey) -> Authority:
        return Authority(self.subject, key)

    def changed(self, **fields: object) -> Certificate:
        return replace(self, **fields)  # type: ignore[arg-type]


def ca_extension(ca: bool = True) -> bytes:
    return der.extension(BASIC_CONSTRAINTS, der.sequence(der.boolean(TRUE)) if ca else der.sequence(), critical=[TRUE])


def new_key(curve: ec.EllipticCurve | None = None) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(curve or ec.SECP256R1())


def spki(key: AnyPublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def p256(wire: bytes) -> ec.EllipticCurvePublicKey:
    """From a device's ES256 key on the wire."""
    if len(wire) != 33:
        raise ValueError("hardware attests P-256 keys: make the device's key with --suite ES256.")
    return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), wire)


def _algorithm(key: SigningKey, name: str) -> bytes:
    if isinstance(key, rsa.RSAPrivateKey):
        return der.sequence(der.oid("1.2.840.113549.1.1.11"), der.null())
    return der.sequence(der.oid(_ECDSA[name][0]))


def _sign(key: SigningKey, message: bytes, name: str) -> bytes:
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(message, padding.PKCS1v15(), hashes.SHA256())
    return key.sign(message, ec.ECDSA(_ECDSA[name][1]()))
