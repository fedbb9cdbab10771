"""A certificate authority of a test: it renews the certificate of one key for any number of days."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID


class Authority:
    """The pair of a server on loopback in `directory`. The authority is in the chain: clients may trust the file."""

    def __init__(self, directory: Path) -> None:
        self.certificate, self.key = directory / "cert.pem", directory / "key.pem"
        self._key, self._own_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Authority of a test")])
        ends = self._now() + datetime.timedelta(days=3650)
        limits = x509.BasicConstraints(ca=True, path_length=0)
        self._own = (self._builder(self._name, self._own_key, ends).add_extension(limits, critical=True)).sign(
            self._own_key, hashes.SHA256()
        )
        self.key.touch(mode=0o600)
        self.key.write_bytes(self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))

    @staticmethod
    def _now() -> datetime.datetime:
        return datetime.datetime.now(datetime.UTC)

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, ends: datetime.datetime
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self._now() - datetime.timedelta(minutes=5))
            .not_valid_after(ends)
        )

    def issue(self, days: float) -> None:
        """Writes a certificate that ends in so many days; an existing one is replaced."""
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
        issued = (
            self._builder(subject, self._key, self._now() + datetime.timedelta(days=days))
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(self._own_key, hashes.SHA256())
        )
        new = self.certificate.with_suffix(".new")
        new.write_bytes(issued.public_bytes(Encoding.PEM) + self._own.public_bytes(Encoding.PEM))
        new.replace(self.certificate)
