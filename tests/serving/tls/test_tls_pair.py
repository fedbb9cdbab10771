"""Which certificates are served; every other one is rejected before a worker would die of it."""

from __future__ import annotations

import datetime
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.x509.oid import NameOID

from sigil.serving.startup_error import StartupError
from sigil.serving.tls.tls_pair import TlsPair
from tests.conformance.server import run
from tests.support.live import LiveServer

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


def error_of(cert: Path, key: Path) -> str:
    with pytest.raises(StartupError) as raised:
        TlsPair(cert, key)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.fixture
def good(tmp_path: Path) -> tuple[Path, Path]:
    return pair(tmp_path, ec.generate_private_key(ec.SECP256R1()))


@pytest.mark.parametrize("form", [PLAIN, TRADITIONAL], ids=["PKCS 8", "traditional"])
@pytest.mark.parametrize("kind", ["P-256", "P-384", "RSA"])
def test_common_certificates_are_served_with_both_forms_of_the_key(
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


def test_an_unsupported_kind_of_key_is_rejected(tmp_path: Path) -> None:
    keys: list[Key] = [
        ec.generate_private_key(ec.SECP521R1()),
        ec.generate_private_key(ec.SECP256K1()),
        rsa.generate_private_key(3, 2048),
        ed448.Ed448PrivateKey.generate(),
    ]
    for key in keys:
        cert, private = pair(tmp_path, key)
        assert error_of(cert, private).startswith(f"TLS: {cert}: its key must be")


def test_a_curve_that_no_library_knows_is_rejected_by_the_server_too(tmp_path: Path) -> None:
    """In files that the server might renew, which it reads before it serves them."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    for command in (
        f"ecparam -name secp224k1 -genkey -noout -out {key}.sec1",
        f"pkcs8 -topk8 -nocrypt -in {key}.sec1 -out {key}",
        f"req -x509 -new -key {key} -days 30 -subj /CN=x -out {cert}",
    ):
        subprocess.run(["openssl", *command.split()], check=True, capture_output=True, timeout=120)
    error = f"TLS: {cert}: its key must be RSA of 2048 to 4096 bits, P-256, P-384 or Ed25519"
    assert error_of(cert, key) == error
    server = LiveServer(workers=1, TLS_CERT_PATH=str(cert), TLS_KEY_PATH=str(key))
    try:
        for verb in ("check-config", "serve"):
            finished = run(verb, env=server.environ)
            assert finished.returncode == 1
            assert finished.stderr.splitlines()[-1] == f"sigil: {error}"
    finally:
        server.__exit__(None, None, None)


@pytest.mark.parametrize("broken", [0, 1], ids=["certificate", "key"])
def test_a_block_after_a_byte_order_mark_is_rejected(good: tuple[Path, Path], broken: int) -> None:
    good[broken].write_bytes(b"\xef\xbb\xbf" + good[broken].read_bytes())
    assert error_of(*good).startswith(f"TLS: {good[broken]}: every block must begin at the start of a line")


def test_a_certificate_with_another_label_is_rejected(good: tuple[Path, Path]) -> None:
    good[0].write_text(good[0].read_text().replace(" CERTIFICATE", " X509 CERTIFICATE"))
    assert "and not TRUSTED CERTIFICATE or another one" in error_of(*good)


def test_a_key_with_a_passphrase_is_rejected_without_a_prompt(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    cert, private = pair(tmp_path, key)
    locked = serialization.BestAvailableEncryption(b"passphrase")
    private.write_bytes(key.private_bytes(serialization.Encoding.PEM, PLAIN, locked))
    assert "unencrypted key" in error_of(cert, private)
