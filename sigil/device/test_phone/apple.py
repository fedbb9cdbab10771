"""An iPhone: App Attest. Its attested key is the app's own; it vouches for the key that signs approvals."""

from __future__ import annotations

import hashlib
import hmac
import time
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from sigil.device.attestation import DigestFor
from sigil.device.test_phone import cbor, der
from sigil.device.test_phone.certificates import (
    BASIC_CONSTRAINTS,
    COMMON_NAME,
    ORGANIZATION,
    TRUE,
    Authority,
    Certificate,
    ca_extension,
    new_key,
)
from sigil.device.test_phone.roots import TestRoot
from sigil.protocol.encoding.text import encode_base64
from sigil.protocol.keys import P256_ORDER, PublicKey

NONCE = "1.2.840.113635.100.8.2"
APP_ATTEST_USE = "1.2.840.113635.100.4.24"
AAGUIDS = {"production": b"appattest".ljust(16, b"\0"), "development": b"appattestdevelop"}
_HOUR = 3600
_COUNTER_BEGINS = 1_767_225_600
"""2026-01-01."""


@dataclass(frozen=True, kw_only=True)
class AppleFields:
    """What the phone claims. The defaults are those of a sound phone with iOS 27.

    environment: of the aaguid. category: 1 platform, 2 TestFlight, 3 development, 4 App Store; None leaves it out, as
    older systems do. Bytes given take the place of the right ones: aaguid, rp_id_hash, credential_id, nonce (of the
    certificate), extensions (CBOR after the key). `leaf_` fields are of the certificate of the attested key, `ca_` of
    its issuer's. assertion: renew with an assertion in place of an attestation.
    """

    app: str = "ABCDE12345.org.example.sigil"
    environment: Literal["production", "development"] = "production"
    category: int | None = 4
    bundle_version: str | None = "1"
    extensions: bytes | None = None
    flags: int = 0x40
    counter: int = 0
    aaguid: bytes | None = None
    rp_id_hash: bytes | None = None
    credential_id: bytes | None = None
    credential_id_length: int | None = None
    cose_key: bytes | None = None
    nonce: bytes | None = None
    nonce_extension: bytes | None = None
    nonce_twice: bool = False
    client_data_hash: bytes | None = None
    fmt: str = "apple-appattest"
    receipt: bytes = b"receipt"
    auth_data_trailing: bytes = b""
    object_trailing: bytes = b""
    more_members: int = 0
    leaf_not_before: int | None = None
    leaf_not_after: int | None = None
    leaf_broken_signature: bool = False
    leaf_trailing: bytes = b""
    leaf_extensions: tuple[bytes, ...] = ()
    leaf_key: Literal["attested", "other"] = "attested"
    ca_is_ca: bool = True
    ca_not_after: int | None = None
    ca_broken_signature: bool = False
    ca_issuer_name: bytes | None = None
    with_root: bool = False
    without_ca: bool = False
    order: Literal["right", "reversed"] = "right"
    extra: tuple[bytes, ...] = ()
    root: Literal["apple-appattest", "android-hardware", "android-software", "yubikey-piv"] = "apple-appattest"
    assertion: bool = False
    assertion_counter: int | None = None
    assertion_key: Literal["attested", "other"] = "attested"
    hashed_once: bool = False
    now: int | None = None


@dataclass(frozen=True)
class ApplePhone:
    """Vouches for `device`, a key of any suite. The App Attest key follows from test root and device: no state."""

    test_root: TestRoot
    device: PublicKey
    fields: AppleFields = AppleFields()

    def statement(self, digest_for: DigestFor) -> dict[str, Any]:
        """The `attestation` object of the wire: kind apple-appattest, or apple-assertion."""
        key = encode_base64(self.device.wire)
        if self.fields.assertion:
            digest = digest_for("apple-assertion", key)
            return {"kind": "apple-assertion", "assertion": encode_base64(self.assertion_object(digest))}
        return {"kind": "apple-appattest", "object": encode_base64(self.object(digest_for("apple-appattest", key)))}

    def object(self, digest: bytes) -> bytes:
        f = self.fields
        auth_data = self.auth_data()
        members: dict[object, object] = {
            "fmt": f.fmt,
            "attStmt": {"x5c": list(self.chain(auth_data, digest)), "receipt": f.receipt},
            "authData": auth_data,
        }
        members |= {f"more{number}": number for number in range(f.more_members)}
        return cbor.encode(members) + f.object_trailing

    def auth_data(self) -> bytes:
        f = self.fields
        point = self.key.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )
        credential_id = hashlib.sha256(point).digest() if f.credential_id is None else f.credential_id
        length = len(credential_id) if f.credential_id_length is None else f.credential_id_length
        cose = cbor.encode({1: 2, 3: -7, -1: 1, -2: point[1:33], -3: point[33:]})
        return b"".join(
            (
                self._head(f.counter),
                AAGUIDS[f.environment] if f.aaguid is None else f.aaguid,
                length.to_bytes(2),
                credential_id,
                cose if f.cose_key is None else f.cose_key,
                self._extensions(),
                f.auth_data_trailing,
            )
        )

    def chain(self, auth_data: bytes, digest: bytes) -> list[bytes]:
        f = self.fields
        client_data_hash = digest if f.client_data_hash is None else f.client_data_hash
        nonce = hashlib.sha256(auth_data + client_data_hash).digest() if f.nonce is None else f.nonce
        nonce_extension = der.sequence(der.explicit(1, der.octets(nonce)))
        nonce_extension = nonce_extension if f.nonce_extension is None else f.nonce_extension
        now = int(time.time()) if f.now is None else f.now
        ca_key = new_key(ec.SECP384R1())
        ca_subject = der.name((COMMON_NAME, "Apple App Attestation CA 1"), (ORGANIZATION, "Sigil test"))
        ca = Certificate(
            subject=ca_subject,
            public_key=ca_key.public_key(),
            not_after=f.ca_not_after,
            extensions=[ca_extension(f.ca_is_ca)],
            signature_hash="sha384",
            broken_signature=f.ca_broken_signature,
            issuer_name=f.ca_issuer_name,
        )
        leaf = Certificate(
            subject=der.name((COMMON_NAME, hashlib.sha256(auth_data[55:87]).hexdigest()), (ORGANIZATION, "Sigil test")),
            public_key=self.key.public_key() if f.leaf_key == "attested" else new_key().public_key(),
            not_before=now - 24 * _HOUR if f.leaf_not_before is None else f.leaf_not_before,
            not_after=now + 48 * _HOUR if f.leaf_not_after is None else f.leaf_not_after,
            extensions=[
                der.extension(BASIC_CONSTRAINTS, der.sequence(), critical=[TRUE]),
                der.extension("2.5.29.37", der.sequence(der.oid(APP_ATTEST_USE))),
                *[der.extension(NONCE, nonce_extension)] * (1 + f.nonce_twice),
                *f.leaf_extensions,
            ],
            broken_signature=f.leaf_broken_signature,
            trailing=f.leaf_trailing,
        )
        root = self.test_root.authority(f.root)
        if f.without_ca:
            return [leaf.issued(root, now), self.test_root.certificate[f.root]]
        chain = [
            leaf.issued(Authority(ca_subject, ca_key), now),
            ca.issued(root, now),
            *([self.test_root.certificate[f.root]] if f.with_root else []),
            *f.extra,
        ]
        return chain[::-1] if f.order == "reversed" else chain

    def assertion_object(self, digest: bytes) -> bytes:
        f = self.fields
        # A clock is a counter that no file has to hold; in tenths, since two assertions may be of one second.
        clock = int(((time.time() if f.now is None else f.now) - _COUNTER_BEGINS) * 10)
        auth_data = self._head(clock if f.assertion_counter is None else f.assertion_counter) + self._extensions()
        auth_data += f.auth_data_trailing
        message = auth_data + (digest if f.client_data_hash is None else f.client_data_hash)
        if not f.hashed_once:
            message = hashlib.sha256(message).digest()
        key = self.key if f.assertion_key == "attested" else new_key()
        signature = key.sign(message, ec.ECDSA(hashes.SHA256()))
        members: dict[object, object] = {"signature": signature, "authenticatorData": auth_data}
        members |= {f"more{number}": number for number in range(f.more_members)}
        return cbor.encode(members) + f.object_trailing

    @cached_property
    def key(self) -> ec.EllipticCurvePrivateKey:
        root = self.test_root.keys["apple-appattest"].private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        seed = hmac.digest(root, b"app-attest" + self.device.wire, "sha256")
        return ec.derive_private_key(int.from_bytes(seed) % (P256_ORDER - 1) + 1, ec.SECP256R1())

    def _head(self, counter: int) -> bytes:
        f = self.fields
        rp_id_hash = hashlib.sha256(f.app.encode()).digest() if f.rp_id_hash is None else f.rp_id_hash
        return rp_id_hash + bytes([f.flags]) + counter.to_bytes(4)

    def _extensions(self) -> bytes:
        f = self.fields
        if f.extensions is not None:
            return f.extensions
        members: dict[object, object] = {}
        if f.bundle_version is not None:
            members["apple_bundle_version_01"] = f.bundle_version
        if f.category is not None:
            members["apple_validation_category_01"] = f.category.to_bytes(4, "little")
        return cbor.encode(members) if members else b""
