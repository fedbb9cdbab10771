"""The self-signed pair renews itself before its end, and clients that trust the file notice nothing."""

from __future__ import annotations

import datetime
import ipaddress
import os
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from sigil.serving.tls import issuing
from sigil.serving.tls.issuing import AUTHORITY, SUBJECT, VALID_DAYS, is_self_made, issue, pem_of
from sigil.serving.tls.renewal import RENEW_BEFORE, Renewal
from sigil.serving.tls.self_signed import ensure_pair, write_file
from sigil.serving.tls.tls_pair import TlsPair
from tests.support.live import LiveServer, wait_until
from tests.support.other_user import UID, as_user, needs_root, open_directory

NOW = datetime.datetime.now(datetime.UTC)
CHECK, DAY = 3600, 86_400
KEY = ec.generate_private_key(ec.SECP256R1())
NAMES: list[x509.GeneralName] = [x509.DNSName("localhost"), x509.DNSName("sigil")]


def days(number: float) -> datetime.timedelta:
    return datetime.timedelta(days=number)


def write_pair(
    folder: Path,
    ends_in: datetime.timedelta,
    key: ec.EllipticCurvePrivateKey | None = None,
    names: list[x509.GeneralName] = NAMES,
) -> tuple[Path, Path]:
    """A pair that the server made, which ends `ends_in` from now."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    made = datetime.datetime.now(datetime.UTC) - days(VALID_DAYS) + ends_in
    return write(folder, pem_of(issue(key, names, made)), key)


def write(folder: Path, pem: bytes, key: ec.EllipticCurvePrivateKey) -> tuple[Path, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    cert, private = folder / "cert.pem", folder / "key.pem"
    cert.write_bytes(pem)
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return cert, private


def chain_in(cert: Path) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(cert.read_bytes())


def names_of(certificate: x509.Certificate) -> list[x509.GeneralName]:
    return list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)


def test_a_pair_that_is_due_gets_a_new_certificate_and_keeps_key_names_and_authority(tmp_path: Path) -> None:
    cert, key = write_pair(tmp_path, RENEW_BEFORE - days(1))
    before, private = chain_in(cert), key.read_bytes()
    assert Renewal(cert, key)() == (None, CHECK)
    after = chain_in(cert)
    assert key.read_bytes() == private
    assert after[0].serial_number != before[0].serial_number
    assert after[0].not_valid_after_utc - NOW > days(VALID_DAYS - 1)
    assert names_of(after[0]) == names_of(before[0]) == NAMES
    assert after[1] == before[1]
    assert cert.stat().st_mode & 0o777 == 0o644
    assert sorted(tmp_path.iterdir()) == [cert, key]
    TlsPair(cert, key).close()
    assert Renewal(cert, key)() == (None, CHECK)
    assert chain_in(cert) == after


def test_an_expired_pair_is_renewed(tmp_path: Path) -> None:
    cert, key = write_pair(tmp_path, days(-100))
    Renewal(cert, key)()
    assert chain_in(cert)[0].not_valid_after_utc > NOW + days(VALID_DAYS - 1)


@pytest.mark.parametrize(("left", "waits"), [(days(300), CHECK), (RENEW_BEFORE + datetime.timedelta(minutes=9), 541)])
def test_a_pair_that_is_not_due_stays_and_is_looked_at_in_time(
    tmp_path: Path, left: datetime.timedelta, waits: float
) -> None:
    cert, key = write_pair(tmp_path, left)
    before = cert.read_bytes()
    pair, seconds = Renewal(cert, key)()
    assert (pair, cert.read_bytes()) == (None, before)
    assert waits - 120 < seconds <= waits


def test_a_pair_from_the_future_is_replaced(tmp_path: Path) -> None:
    """It was made while the clock of the host was ahead: no client accepts it, and its end would come years later."""
    cert, key = write_pair(tmp_path, days(VALID_DAYS + 1000))
    Renewal(cert, key)()
    assert all(made.not_valid_before_utc < datetime.datetime.now(datetime.UTC) for made in chain_in(cert))
    with tls_server(cert, key) as port:
        handshake(port, "localhost", cert.read_bytes())


def test_a_clock_that_was_ahead_for_a_while_leaves_the_authority(tmp_path: Path) -> None:
    cert, key = write_pair(tmp_path, days(300))
    private = load_pem_private_key(key.read_bytes(), None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    trusted, authority = cert.read_bytes(), chain_in(cert)[1]
    write_file(cert, pem_of(issue(private, NAMES, NOW + days(500), authority)), 0o644)
    Renewal(cert, key)()
    with tls_server(cert, key) as port:
        handshake(port, "localhost", trusted)


def test_workers_with_a_former_certificate_get_the_one_in_the_file_until_they_serve_it(tmp_path: Path) -> None:
    """Another server on the volume renewed it, or the workers could not be replaced at the last attempt."""
    cert, key = write_pair(tmp_path, days(1))
    former = TlsPair(cert, key)
    renewal = Renewal(cert, key)
    for _ in range(2):
        newer, _ = renewal([former])
        assert newer is not None
        assert newer.certificate == chain_in(cert)[0]
        assert renewal([newer]) == (None, CHECK)
        newer.close()
    former.close()


def test_workers_that_serve_another_pair_keep_it(tmp_path: Path) -> None:
    """An operator removed their files, and has not sent SIGHUP yet."""
    served = [
        TlsPair(*write_pair(tmp_path / "another key", days(1))),
        TlsPair(*write(tmp_path / "foreign", self_signed_with_another_name(KEY), KEY)),
    ]
    assert Renewal(*write_pair(tmp_path / "file", days(300)))(served) == (None, CHECK)
    for pair in served:
        pair.close()


def test_an_authority_that_ends_first_is_replaced_and_the_old_one_still_serves_its_clients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(issuing, "_AUTHORITY_DAYS", VALID_DAYS + 10)
    cert, key = write_pair(tmp_path, RENEW_BEFORE - days(1))
    before = cert.read_bytes()
    Renewal(cert, key)()
    assert chain_in(cert)[1] != x509.load_pem_x509_certificates(before)[1]
    assert chain_in(cert)[1].not_valid_after_utc >= chain_in(cert)[0].not_valid_after_utc
    with tls_server(cert, key) as port:
        handshake(port, "localhost", before)
        handshake(port, "localhost", cert.read_bytes())


def former_version(key: ec.EllipticCurvePrivateKey, subject: x509.Name = SUBJECT) -> x509.Certificate:
    """As versions before the authority made it: self-signed, and soon at its end."""
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - days(390))
        .not_valid_after(NOW + days(7))
        .add_extension(x509.SubjectAlternativeName(NAMES), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )


def test_a_pair_of_a_former_version_is_renewed(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    cert, private = write(tmp_path, former_version(key).public_bytes(Encoding.PEM), key)
    Renewal(cert, private)()
    assert [certificate.subject for certificate in chain_in(cert)] == [SUBJECT, AUTHORITY]
    assert names_of(chain_in(cert)[0]) == NAMES


# Whose pair it is


def of_an_authority_with_our_name(key: ec.EllipticCurvePrivateKey) -> bytes:
    other = ec.generate_private_key(ec.SECP256R1())
    builder = (
        x509.CertificateBuilder()
        .subject_name(SUBJECT)
        .issuer_name(AUTHORITY)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - days(390))
        .not_valid_after(NOW + days(7))
    )
    return builder.sign(other, hashes.SHA256()).public_bytes(Encoding.PEM)


def self_signed_with_another_name(key: ec.EllipticCurvePrivateKey) -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "sigil.example.com")])
    return former_version(key, name).public_bytes(Encoding.PEM)


def with_a_foreign_certificate_behind(key: ec.EllipticCurvePrivateKey) -> bytes:
    return former_version(key).public_bytes(Encoding.PEM) + self_signed_with_another_name(
        ec.generate_private_key(ec.SECP256R1())
    )


def of_another_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    return former_version(ec.generate_private_key(ec.SECP256R1())).public_bytes(Encoding.PEM)


@pytest.mark.parametrize(
    "pem",
    [
        of_an_authority_with_our_name,
        self_signed_with_another_name,
        with_a_foreign_certificate_behind,
        of_another_key,
        lambda key: b"",
        lambda key: b"-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n",
    ],
)
def test_a_pair_that_the_server_did_not_make_is_never_replaced(tmp_path: Path, pem: object) -> None:
    assert callable(pem)
    key = ec.generate_private_key(ec.SECP256R1())
    cert, private = write(tmp_path, pem(key), key)
    before = cert.read_bytes()
    assert Renewal(cert, private)() == (None, DAY)
    assert cert.read_bytes() == before


def test_a_link_is_never_replaced(tmp_path: Path) -> None:
    cert, key = write_pair(tmp_path / "target", days(1))
    for path in (cert, key):
        (tmp_path / path.name).symlink_to(path)
    assert Renewal(tmp_path / "cert.pem", tmp_path / "key.pem")() == (None, DAY)
    assert (tmp_path / "cert.pem").is_symlink()


@pytest.mark.parametrize("missing", ["cert.pem", "key.pem", "both"])
def test_missing_files_are_left_to_the_start(tmp_path: Path, missing: str) -> None:
    for path in write_pair(tmp_path, days(1)):
        if missing in {path.name, "both"}:
            path.unlink()
    assert Renewal(tmp_path / "cert.pem", tmp_path / "key.pem")() == (None, DAY)


# Trust


@contextmanager
def tls_server(cert: Path, key: Path) -> Iterator[int]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                    with context.wrap_socket(connection, server_side=True) as tls:
                        tls.recv(1)
                except ssl.SSLError:
                    continue
                except OSError:
                    return

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


def handshake(port: int, name: str, trusted: bytes, flags: int = 0) -> bytes | None:
    """The certificate of the server, for a client that trusts the certificates of a file."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=trusted.decode())
    context.verify_flags |= flags
    with (
        socket.create_connection(("127.0.0.1", port), 60) as plain,
        context.wrap_socket(plain, server_hostname=name) as tls,
    ):
        return tls.getpeercert(binary_form=True)


@pytest.mark.parametrize("flags", [0, ssl.VERIFY_X509_PARTIAL_CHAIN, ssl.VERIFY_X509_STRICT])
def test_a_client_that_trusts_the_former_file_accepts_the_renewed_certificate(tmp_path: Path, flags: int) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    write_pair(tmp_path, days(1), names=[*NAMES, x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    before = cert.read_bytes()
    Renewal(cert, key)()
    assert cert.read_bytes() != before
    with tls_server(cert, key) as port:
        for name in ("localhost", "sigil", "127.0.0.1"):
            assert handshake(port, name, before, flags) == chain_in(cert)[0].public_bytes(Encoding.DER)


@pytest.mark.parametrize("name", ["bank.example", "bank.sigil"])
def test_the_authority_has_no_power_over_other_names(tmp_path: Path, name: str) -> None:
    """A person may have imported it into a browser. A host may have the name of a top-level domain."""
    cert, key_file = write_pair(tmp_path / "pair", days(300))
    trusted = cert.read_bytes()
    key = load_pem_private_key(key_file.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    forged = issue(key, [x509.DNSName(name)], NOW, chain_in(cert)[1])
    violation = pytest.raises(ssl.SSLCertVerificationError, match=r"(permitted|excluded) subtree violation")
    with tls_server(*write(tmp_path / "forged", pem_of(forged), key)) as port, violation:
        handshake(port, name, trusted)


@pytest.mark.parametrize("purpose", ["sslclient", "smimesign"])
def test_the_authority_has_no_power_over_other_uses(tmp_path: Path, purpose: str) -> None:
    """Constraints on DNS names and addresses do not restrict mail addresses."""
    cert, key_file = write_pair(tmp_path, days(300))
    key = load_pem_private_key(key_file.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    uses = [x509.OID_CLIENT_AUTH, x509.OID_EMAIL_PROTECTION]
    forged = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(AUTHORITY)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW)
        .not_valid_after(NOW + days(1))
        .add_extension(x509.SubjectAlternativeName([x509.RFC822Name("a@bank.example")]), critical=True)
        .add_extension(x509.ExtendedKeyUsage(uses), critical=True)
        .sign(key, hashes.SHA256())
    )
    (tmp_path / "forged.pem").write_bytes(forged.public_bytes(Encoding.PEM))
    command = ["openssl", "verify", "-purpose", purpose, "-CAfile", str(cert), str(tmp_path / "forged.pem")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    # At depth 1 is the authority.
    assert "error 26 at 1 depth lookup: unsuitable certificate purpose" in ended.stderr


def test_the_self_signed_certificate_brings_no_hsts(tmp_path: Path) -> None:
    pair = TlsPair(*write_pair(tmp_path, days(300), names=[x509.DNSName("sigil.example.com")]))
    assert pair.hsts is False
    pair.close()
    assert is_self_made(chain_in(tmp_path / "cert.pem")[0])


# Files


@pytest.mark.parametrize(("umask", "directory"), [(0o022, 0o755), (0o077, 0o700)])
def test_the_umask_closes_the_directory_alone(tmp_path: Path, umask: int, directory: int) -> None:
    """A proxy reads the certificate in a directory of mode 0755; a unit with UMask=0077 wants none to."""
    folder = tmp_path / "tls"
    before = os.umask(umask)
    try:
        assert ensure_pair(folder / "cert.pem", folder / "key.pem", generate=True)
    finally:
        os.umask(before)
    modes = [path.stat().st_mode & 0o777 for path in (folder, folder / "cert.pem", folder / "key.pem")]
    assert modes == [directory, 0o644, 0o600]


def test_a_reader_never_finds_half_a_pair(tmp_path: Path) -> None:
    cert, key = write_pair(tmp_path, days(1))
    faults: list[Exception] = []
    ended = threading.Event()

    def read() -> None:
        while not ended.is_set():
            try:
                TlsPair(cert, key).close()
            except Exception as error:
                faults.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    private = load_pem_private_key(key.read_bytes(), None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    authority = chain_in(cert)[1]
    for _ in range(40):
        Renewal(cert, key)()
        assert chain_in(cert)[0].not_valid_after_utc > NOW + days(VALID_DAYS - 1)
        write_file(cert, pem_of(issue(private, NAMES, NOW - days(VALID_DAYS - 1), authority)), 0o644)
    ended.set()
    reader.join(60)
    assert not faults


@needs_root
def test_a_directory_that_cannot_be_written_is_a_warning() -> None:
    with open_directory() as folder:
        cert, key = write_pair(folder, days(1))
        os.chown(key, UID, UID)
        before = cert.read_bytes()
        shown = as_user(
            "from sigil.serving.tls.renewal import Renewal\n"
            f"renewal = Renewal(Path('{cert}'), Path('{key}'))\nfound = renewal(), renewal()\n"
            "from sigil.serving import logs\nlogs.flush()\nprint(str(found))"
        )
        assert "((None, 86400.0), (None, 86400.0))" in shown
        assert shown.count('"event":"certificate_not_renewed"') == 1
        assert (
            f"permission denied for uid {UID} (directory {folder}: owner 0, mode 0755): sudo chown {UID} {folder}"
            in shown
        )
        assert cert.read_bytes() == before
        assert sorted(folder.iterdir()) == [cert, key]


# A real server


def served(server: LiveServer) -> x509.Certificate:
    return x509.load_pem_x509_certificate(ssl.get_server_certificate(("127.0.0.1", server.port), timeout=60).encode())


def events(server: LiveServer, name: str) -> list[dict[str, object]]:
    return [line for line in server.log() if line["event"] == name]


def own_names() -> list[x509.GeneralName]:
    return [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]


def test_a_server_renews_a_due_pair_at_its_start(tmp_path: Path) -> None:
    server = LiveServer(workers=1)
    folder = server.certificate.parent
    write_pair(folder, days(-2), names=own_names())
    before = server.certificate.read_bytes()
    (tmp_path / "before.pem").write_bytes(before)
    with server:
        (event,) = events(server, "certificate_renewed")
        assert event["path"] == str(server.certificate)
        assert served(server) == chain_in(server.certificate)[0]
        assert served(server).not_valid_after_utc > NOW + days(VALID_DAYS - 1)
        handshake(server.port, "localhost", before)
        other_clients_accept(server, tmp_path / "before.pem")


def other_clients_accept(server: LiveServer, trusted: Path) -> None:
    """curl, and OpenSSL with its strict checks."""
    for host, check in (("localhost", "-verify_hostname"), ("127.0.0.1", "-verify_ip")):
        for command in (
            ["curl", "-sSf", "--ipv4", "--noproxy", "*", "--cacert", str(trusted), f"https://{host}:{server.port}/health"],
            ["openssl", "s_client", "-x509_strict", "-verify_return_error", check, host, "-CAfile", str(trusted),
             "-connect", f"127.0.0.1:{server.port}"],
        ):  # fmt: skip
            ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=120, check=False)
            assert ended.returncode == 0, ended.stderr


def write_due_soon(server: LiveServer) -> None:
    """In the key, the names and under the authority of the file; the server gets SIGHUP."""
    key = load_pem_private_key((server.certificate.parent / "key.pem").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    made = made_for(RENEW_BEFORE + datetime.timedelta(seconds=5))
    chain = issue(key, own_names(), made, chain_in(server.certificate)[1])
    write_file(server.certificate, pem_of(chain), 0o644)
    os.kill(server.pid, signal.SIGHUP)


def test_a_running_server_renews_its_pair_and_reads_no_other_file(tmp_path: Path) -> None:
    """An operator has half written the API keys at that moment: neither are they loaded, nor do they keep the workers
    on a certificate that ends.
    """
    keys = tmp_path / "keys"
    keys.write_text("0123456789abcdef" * 4)
    keys.chmod(0o600)
    server = LiveServer(workers=2, API_KEY_FILE=str(keys))
    write_pair(server.certificate.parent, days(300), names=own_names())
    with server:
        trusted = server.certificate.read_bytes()
        first = served(server)
        write_due_soon(server)
        # The renewal comes before or after this: both lead to the same end.
        wait_until(lambda: events(server, "reload_finished"), "the reload")
        keys.write_text("half")
        wait_until(lambda: events(server, "certificate_renewed"), "the renewal")
        wait_until(lambda: len(events(server, "reload_finished")) == 2, "the new workers")
        renewed = served(server)
        assert renewed == chain_in(server.certificate)[0]
        assert renewed.serial_number != first.serial_number
        assert renewed.not_valid_after_utc > NOW + days(VALID_DAYS - 1)
        handshake(server.port, "localhost", trusted)
        assert len(events(server, "certificate_renewed")) == 1
        assert not events(server, "reload_refused")
        assert not events(server, "upkeep_failed")


def made_for(left: datetime.timedelta) -> datetime.datetime:
    """When a certificate was made that ends `left` from now."""
    return datetime.datetime.now(datetime.UTC) - days(VALID_DAYS) + left


def test_a_server_without_tls_auto_generate_leaves_the_pair_alone() -> None:
    server = LiveServer(workers=1, TLS_AUTO_GENERATE="false")
    write_pair(server.certificate.parent, days(1), names=own_names())
    before = server.certificate.read_bytes()
    with server:
        assert not events(server, "certificate_renewed")
        assert server.certificate.read_bytes() == before
