"""Roots of the test phone, one per kind: never a root of a real product.

The subject's OU says what a root stands for, since a server cannot know it otherwise: a chain under `android-software`
is an emulator's, even if its fields say StrongBox.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from sigil.console.new_file import create_file
from sigil.device.test_phone import der
from sigil.device.test_phone.certificates import (
    COMMON_NAME,
    ORGANIZATION,
    UNIT,
    Authority,
    Certificate,
    SigningKey,
    ca_extension,
    new_key,
)

KINDS = ("android-hardware", "android-software", "apple-appattest", "yubikey-piv")
ROOTS_FILE = "roots.pem"
_BEGIN, _END = 1577836800, 2524607999  # 2020-01-01, and the last second of 2049: tests have a clock of their own.


@dataclass(frozen=True)
class TestRoot:
    """The keys and certificates of one root per kind. `roots.pem` of its directory is SIGIL_ATTESTATION_ROOTS."""

    __test__ = False  # For pytest: not a class of tests.

    keys: dict[str, SigningKey]
    certificate: dict[str, bytes]

    @classmethod
    def memory(cls) -> TestRoot:
        keys: dict[str, SigningKey] = {kind: new_key(ec.SECP384R1()) for kind in KINDS}
        return cls(keys, {kind: _self_signed(kind, key) for kind, key in keys.items()})

    @classmethod
    def create(cls, directory: Path) -> TestRoot:
        """OSError when the directory exists and is not empty, or cannot be written."""
        root = cls.memory()
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(directory.iterdir()):
            raise FileExistsError(f"{directory} is not empty: name a new directory.")
        for kind, key in root.keys.items():
            pem = key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            create_file(directory / f"{kind}.key", pem)
        pems = (x509.load_der_x509_certificate(der_) for der_ in root.certificates)
        create_file(directory / ROOTS_FILE, b"".join(pem.public_bytes(serialization.Encoding.PEM) for pem in pems))
        (directory / ROOTS_FILE).chmod(0o644)
        return root

    @classmethod
    def load(cls, directory: Path) -> TestRoot:
        """OSError, ValueError: no test root is there, or it is damaged."""
        keys: dict[str, SigningKey] = {}
        for kind in KINDS:
            key = serialization.load_pem_private_key((directory / f"{kind}.key").read_bytes(), None)
            if not isinstance(key, ec.EllipticCurvePrivateKey):
                raise ValueError(f"{directory / kind}.key is not a key of an elliptic curve.")
            keys[kind] = key
        found = x509.load_pem_x509_certificates((directory / ROOTS_FILE).read_bytes())
        certificates = [each.public_bytes(serialization.Encoding.DER) for each in found]
        if len(certificates) != len(KINDS):
            raise ValueError(f"{directory / ROOTS_FILE} does not hold {len(KINDS)} certificates.")
        return cls(keys, dict(zip(KINDS, certificates, strict=True)))

    @property
    def certificates(self) -> tuple[bytes, ...]:
        return tuple(self.certificate[kind] for kind in KINDS)

    def authority(self, kind: str) -> Authority:
        return Authority(_subject(kind), self.keys[kind])


def _subject(kind: str) -> bytes:
    return der.name((ORGANIZATION, "Sigil test"), (UNIT, kind), (COMMON_NAME, "Sigil test root"))


def _self_signed(kind: str, key: SigningKey) -> bytes:
    subject = _subject(kind)
    content = Certificate(
        subject=subject,
        public_key=key.public_key(),
        not_before=_BEGIN,
        not_after=_END,
        extensions=[ca_extension()],
        signature_hash="sha384",
    )
    return content.issued(Authority(subject, key))
