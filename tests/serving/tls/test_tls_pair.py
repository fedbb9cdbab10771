"""Which certificates are served; every other one is rejected before a worker would die of it."""

from __future__ import annotations

import datetime
import os
import signal
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.x509.oid import NameOID

from sigil.serving.startup_error import StartupError
from sigil.serving.tls import trial
from sigil.serving.tls.tls_pair import TlsPair
from sigil.serving.tls.validity import validity_warnings
from tests.conformance.server import run
from tests.serving.running import eventually
from tests.support.live import LiveServer

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey

UNKNOWN_KEY = (
    "the TLS server does not know this kind or form of key: it takes RSA of 2048 to 4096 bits, P-256, P-384 and "
    "Ed25519, in PKCS#8, PKCS#1 or SEC1 with a named curve"
)
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
        rsa.generate_private_key(65537, 1024),  # noqa: S505 - to be rejected
        ed448.Ed448PrivateKey.generate(),
    ]
    for key in keys:
        cert, private = pair(tmp_path, key)
        assert error_of(cert, private) == f"TLS: {cert} and {private}: {UNKNOWN_KEY}"


@pytest.mark.parametrize(
    ("key_options", "certificate_options", "reason"),
    [
        ("", "x509 -req", "the certificate is X.509 version 1: make one of version 3"),
        ("-pkeyopt ec_param_enc:explicit", "req -x509", UNKNOWN_KEY),
        ("", "req -x509 -addext 1.2.3.4=critical,ASN1:UTF8:x", "the certificate has a critical extension that"),
    ],
    ids=["version 1", "explicit curve", "critical extension"],
)
def test_a_pair_that_openssl_takes_and_the_tls_server_does_not_is_one_line_everywhere(
    tmp_path: Path, key_options: str, certificate_options: str, reason: str
) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    openssl(f"genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 {key_options} -out {key}")
    if certificate_options.startswith("x509"):
        openssl(f"req -new -key {key} -subj /CN=x -out {tmp_path}/request")
        openssl(f"{certificate_options} -in {tmp_path}/request -signkey {key} -out {cert}")
    else:
        openssl(f"{certificate_options} -new -key {key} -subj /CN=x -out {cert}")
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key)
    error = error_of(cert, key)
    assert error.startswith(f"TLS: {cert} and {key}: {reason}")
    is_error_of_every_command(cert, key, error)


def test_a_curve_that_no_library_knows_is_rejected_by_the_server_too(tmp_path: Path) -> None:
    """In files that the server might renew, which it reads before it serves them."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    openssl(f"ecparam -name secp224k1 -genkey -noout -out {key}.sec1")
    openssl(f"pkcs8 -topk8 -nocrypt -in {key}.sec1 -out {key}")
    openssl(f"req -x509 -new -key {key} -days 30 -subj /CN=x -out {cert}")
    error = f"TLS: {cert} and {key}: {UNKNOWN_KEY}"
    assert error_of(cert, key) == error
    is_error_of_every_command(cert, key, error)


def test_a_pair_that_the_tls_server_rejects_stops_no_running_server(tmp_path: Path) -> None:
    with LiveServer(workers=1) as server:
        cert, key = Path(server.environ["TLS_CERT_PATH"]), Path(server.environ["TLS_KEY_PATH"])
        good = cert.read_bytes()
        openssl(f"req -new -key {key} -subj /CN=x -out {tmp_path}/request")
        openssl(f"x509 -req -in {tmp_path}/request -signkey {key} -out {cert}")
        os.kill(server.pid, signal.SIGHUP)

        def events(name: str) -> list[dict[str, Any]]:
            return [line for line in server.log() if line["event"] == name]

        (refused,) = eventually(lambda: events("reload_refused"), "a rejected reload")
        assert "the certificate is X.509 version 1" in refused["reason"]
        assert not events("worker_died")
        cert.write_bytes(good)


def test_several_keys_in_one_file_the_first_counts(good: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    _, other = pair(tmp_path / "other", ec.generate_private_key(ec.SECP384R1()))
    first, second = good[1].read_text(), other.read_text()
    good[1].write_text(first + second)
    TlsPair(*good).close()
    good[1].write_text(second + first)
    assert "the key does not belong to the first certificate" in error_of(*good)


def test_a_chain_that_begins_with_another_certificate_is_rejected(good: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other, _ = pair(tmp_path / "other", ec.generate_private_key(ec.SECP384R1()))
    leaf, authority = good[0].read_text(), other.read_text()
    good[0].write_text(leaf + authority)
    TlsPair(*good).close()
    good[0].write_text(authority + leaf)
    assert "the key does not belong to the first certificate of the file" in error_of(*good)


@pytest.mark.parametrize(
    ("broken", "content", "reason"),
    [
        (0, "", "the first file has no certificate in PEM"),
        (1, "", "the second file has no private key in PEM"),
        (0, "-----BEGIN CERTIFICATE-----\nAAAA", "a file ends within a block of PEM"),
    ],
)
def test_files_without_a_pair_are_rejected(good: tuple[Path, Path], broken: int, content: str, reason: str) -> None:
    good[broken].write_text(content)
    assert error_of(*good) == f"TLS: {good[0]} and {good[1]}: {reason}"


def test_a_damaged_certificate_of_the_chain_is_rejected(good: tuple[Path, Path]) -> None:
    with good[0].open("a") as file:
        file.write("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    assert "a certificate of the chain cannot be read" in error_of(*good)


def test_the_trial_is_bounded(good: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "_CHILD", "import os, time; print(os.getpid(), flush=True); time.sleep(600)")
    monkeypatch.setattr(trial, "_SECONDS", 1.0)
    assert "the TLS server completed no handshake within 1 s" in error_of(*good)


def test_the_trial_gets_no_secret_of_the_environment(good: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEY", "sgk_test_" + "ab" * 32)
    monkeypatch.setattr(trial, "_CHILD", "import os, sys; sys.exit(','.join(sorted(os.environ)))")
    assert "API_KEY" not in error_of(*good)


def test_the_trial_works_where_the_end_of_a_child_is_ignored(good: tuple[Path, Path]) -> None:
    """A parent that ignores SIGCHLD gets no exit code."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        TlsPair(*good).close()
        good[1].write_text("")
        assert "no private key in PEM" in error_of(*good)
    finally:
        signal.signal(signal.SIGCHLD, before)


def openssl(arguments: str) -> None:
    subprocess.run(["openssl", *arguments.split()], check=True, capture_output=True, timeout=120)


def is_error_of_every_command(cert: Path, key: Path, error: str) -> None:
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
    assert error_of(cert, private).startswith(f"TLS: {private}: the key has a passphrase: write it without one")


def test_a_certificate_from_a_pipe_is_left_to_the_server(good: tuple[Path, Path], tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pipe.open("r+b", buffering=0) as held:
        os.set_blocking(held.fileno(), False)
        held.write(good[0].read_bytes())
        now = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=9)
        assert validity_warnings(good[0], now, host=None, renews_own=True)
        assert validity_warnings(pipe, now, host=None, renews_own=True) == []
        assert held.read(27) == b"-----BEGIN CERTIFICATE-----"
