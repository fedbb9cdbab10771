"""Which certificates are served, and that every other one is refused before a worker dies of it."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.x509.oid import NameOID

from sigil.serving.process.tls_pair import TlsPair
from sigil.serving.startup_error import StartupError

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey

PLAIN = serialization.PrivateFormat.PKCS8
TRADITIONAL = serialization.PrivateFormat.TraditionalOpenSSL


def pair(folder: Path, key: Key, form: serialization.PrivateFormat = PLAIN) -> tuple[Path, Path]:
    name, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")]), datetime.datetime.now(datetime.UTC)
    hashed = None if isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey) else hashes.SHA256()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashed)
    )
    paths = folder / "cert.pem", folder / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    return paths


def refusal(cert: Path, key: Path) -> str:
    with pytest.raises(StartupError) as refused:
        TlsPair(cert, key)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.fixture
def good(tmp_path: Path) -> tuple[Path, Path]:
    return pair(tmp_path, ec.generate_private_key(ec.SECP256R1()))


@pytest.mark.parametrize("form", [PLAIN, TRADITIONAL], ids=["PKCS 8", "traditional"])
@pytest.mark.parametrize("kind", ["P-256", "P-384", "RSA"])
def test_what_authorities_issue_is_served_in_either_form_of_its_key(
    tmp_path: Path, kind: str, form: serialization.PrivateFormat
) -> None:
    curve = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1()}.get(kind)
    key = ec.generate_private_key(curve) if curve else rsa.generate_private_key(65537, 2048)
    TlsPair(*pair(tmp_path, key, form)).close()


def test_an_ed25519_key_is_served(tmp_path: Path) -> None:
    TlsPair(*pair(tmp_path, ed25519.Ed25519PrivateKey.generate())).close()


def test_a_chain_with_text_around_it_is_served(good: tuple[Path, Path]) -> None:
    pem = good[0].read_text()
    good[0].write_text(f"Bag Attributes\r\n{pem}\nintermediate:\n{pem}".replace("\n", "\r\n"))
    TlsPair(*good).close()


def test_a_key_with_which_no_worker_could_sign_is_refused(tmp_path: Path) -> None:
    keys: list[Key] = [
        ec.generate_private_key(ec.SECP521R1()),
        ec.generate_private_key(ec.SECP256K1()),
        rsa.generate_private_key(3, 2048),
        ed448.Ed448PrivateKey.generate(),
    ]
    for key in keys:
        cert, private = pair(tmp_path, key)
        assert refusal(cert, private).startswith(f"TLS: {cert}: its key has to be")


@pytest.mark.parametrize("spoilt", [0, 1], ids=["certificate", "key"])
def test_a_block_behind_a_byte_order_mark_is_refused(good: tuple[Path, Path], spoilt: int) -> None:
    good[spoilt].write_bytes(b"\xef\xbb\xbf" + good[spoilt].read_bytes())
    assert refusal(*good).startswith(f"TLS: {good[spoilt]}: every block has to begin its line")


def test_a_certificate_under_another_label_is_refused(good: tuple[Path, Path]) -> None:
    good[0].write_text(good[0].read_text().replace(" CERTIFICATE", " X509 CERTIFICATE"))
    assert "and not as TRUSTED CERTIFICATE or the like" in refusal(*good)


def test_a_key_with_a_passphrase_is_refused_without_asking_for_it(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    cert, private = pair(tmp_path, key)
    locked = serialization.BestAvailableEncryption(b"passphrase")
    private.write_bytes(key.private_bytes(serialization.Encoding.PEM, PLAIN, locked))
    assert "unencrypted key" in refusal(cert, private)
