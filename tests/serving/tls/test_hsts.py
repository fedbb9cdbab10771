"""Strict-Transport-Security: with a certificate that browsers may insist on, and with no other."""

from __future__ import annotations

import datetime
import os
import signal
import ssl
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from sigil.serving.tls.tls_pair import TlsPair
from tests.support.live import LiveServer, wait_until

AUTHORITY = ec.generate_private_key(ec.SECP256R1())
HSTS = "strict-transport-security"


def write_pair(folder: Path, *names: str, issuer: str = "authority") -> tuple[Path, Path]:
    """A certificate that AUTHORITY signs for "leaf"; self-signed when the issuer is "leaf", too."""
    folder.mkdir(parents=True, exist_ok=True)
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "leaf")]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=1))
    )
    if names:
        alternative = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
        builder = builder.add_extension(alternative, critical=False)
    certificate = builder.sign(key if issuer == "leaf" else AUTHORITY, hashes.SHA256())
    cert, private = folder / "cert.pem", folder / "key.pem"
    cert.write_bytes(certificate.public_bytes(Encoding.PEM))
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return cert, private


@pytest.mark.parametrize(
    ("names", "issuer", "expected"),
    [
        (("sigil.example.com",), "authority", True),
        (("sigil.example.com", "localhost"), "authority", True),
        (("sigil.example.com",), "leaf", False),
        (("localhost",), "authority", False),
        ((), "authority", False),
    ],
)
def test_browsers_insist_on_https_only_for_a_name_that_an_authority_signed(
    tmp_path: Path, names: tuple[str, ...], issuer: str, expected: bool
) -> None:
    pair = TlsPair(*write_pair(tmp_path, *names, issuer=issuer))
    assert pair.hsts is expected
    pair.close()


def test_a_server_follows_its_certificate_at_a_reload() -> None:
    """The server made its first certificate itself; SIGHUP replaces it by one of an authority."""
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    with LiveServer(workers=1) as server:

        def answer(path: str) -> httpx.Response:
            with httpx.Client(base_url=server.url, verify=trusting) as client:
                return client.get(path)

        assert {path: HSTS in answer(path).headers for path in ("/", "/info", "/nope")} == dict.fromkeys(
            ("/", "/info", "/nope"), False
        )
        write_pair(server.certificate.parent, "sigil.example.com")
        os.kill(server.pid, signal.SIGHUP)
        wait_until(lambda: HSTS in answer("/health").headers, "the new certificate's worker to serve")
        for path in ("/", "/info", "/nope"):
            assert answer(path).headers[HSTS] == "max-age=31536000"
