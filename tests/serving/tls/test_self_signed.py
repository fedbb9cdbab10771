"""A missing certificate is created, and an existing one that cannot be read is never replaced."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography import x509

from sigil.serving.startup_error import StartupError
from sigil.serving.tls.self_signed import check_pair, ensure_pair
from sigil.serving.tls.tls_pair import TlsPair
from tests.conformance.server import run
from tests.support.live import LiveServer

_AS_ANOTHER_USER = """
import os, pathlib, sys
from sigil.serving.startup_error import StartupError
from sigil.serving.tls.self_signed import ensure_pair
if os.geteuid() == 0:
    os.setuid(65534)
folder = pathlib.Path(sys.argv[1])
try:
    print(ensure_pair(folder / "cert.pem", folder / "key.pem", generate=True))
except StartupError as error:
    print(error)
"""


def test_a_pair_is_created_once(tmp_path: Path) -> None:
    cert, key = tmp_path / "tls" / "cert.pem", tmp_path / "tls" / "key.pem"
    assert ensure_pair(cert, key, generate=True)
    made = cert.read_bytes(), key.read_bytes()
    assert not ensure_pair(cert, key, generate=True)
    assert made == (cert.read_bytes(), key.read_bytes())


def test_one_path_for_certificate_and_key_is_an_error_unless_the_file_is_there(tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    for check in (ensure_pair, check_pair):
        with pytest.raises(StartupError, match=r"TLS_CERT_PATH and TLS_KEY_PATH both name it: create it, or name two"):
            check(both, both, generate=True)
    assert not both.exists()
    ensure_pair(tmp_path / "cert.pem", tmp_path / "key.pem", generate=True)
    both.write_bytes((tmp_path / "cert.pem").read_bytes() + (tmp_path / "key.pem").read_bytes())
    assert check_pair(both, both, generate=True)
    TlsPair(both, both).close()


@pytest.mark.parametrize(
    ("host", "named"),
    [
        ("vm-1", ["vm-1"]),
        ("sigil.example.com.", ["sigil.example.com"]),
        ("localhost", []),
        ("", []),
        (".", []),
        ("..", []),
        ("my host", []),
        ("*", []),
        ("h\u00f6st", []),
        ("a" * 64, []),
    ],
)
def test_a_host_name_that_clients_would_reject_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, named: list[str]
) -> None:
    """An empty one would permit the authority in the file every name."""
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    cert = tmp_path / "cert.pem"
    ensure_pair(cert, tmp_path / "key.pem", generate=True)
    leaf, authority = x509.load_pem_x509_certificates(cert.read_bytes())
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", *named]
    constraints = authority.extensions.get_extension_for_class(x509.NameConstraints).value
    assert constraints.permitted_subtrees is not None
    permitted = [name.value for name in constraints.permitted_subtrees if isinstance(name, x509.DNSName)]
    assert permitted == ["localhost", *named]


def test_servers_that_start_on_one_volume_at_once_get_one_pair(tmp_path: Path) -> None:
    cert, key = tmp_path / "tls" / "cert.pem", tmp_path / "tls" / "key.pem"
    for _ in range(20):
        ready = threading.Barrier(4)

        def start(ready: threading.Barrier = ready) -> bool:
            ready.wait(60)
            return ensure_pair(cert, key, generate=True)

        with ThreadPoolExecutor(4) as pool:
            made = [started.result(60) for started in [pool.submit(start) for _ in range(4)]]
        assert made.count(True) == 1
        TlsPair(cert, key).close()
        cert.unlink()
        key.unlink()


def test_dangling_symlinks_are_kept_and_reported(tmp_path: Path) -> None:
    """For example those of certbot, while the volume of their targets is not mounted."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    for path in (cert, key):
        path.symlink_to(tmp_path / "archive" / path.name)
    assert not ensure_pair(cert, key, generate=True)
    with pytest.raises(StartupError, match=r"cannot read .*cert\.pem: it links to .*cert\.pem"):
        TlsPair(cert, key)
    assert cert.is_symlink()
    assert key.is_symlink()


def test_dangling_symlinks_stop_the_start_with_one_line() -> None:
    server = LiveServer(workers=1)
    try:
        server.certificate.parent.mkdir()
        server.certificate.symlink_to("/nowhere/cert.pem")
        Path(server.environ["TLS_KEY_PATH"]).symlink_to("/nowhere/key.pem")
        for command in ("check-config", "serve"):
            finished = run(command, env=server.environ)
            assert finished.returncode == 1
            assert f"cannot read {server.certificate}: it links to /nowhere/cert.pem" in finished.stderr
        assert server.certificate.is_symlink()
    finally:
        server.__exit__(None, None, None)


def test_a_directory_without_permission_is_reported_with_its_path(tmp_path: Path) -> None:
    closed = tmp_path / "live"
    closed.mkdir()
    closed.chmod(0o700 if os.geteuid() == 0 else 0)
    try:
        finished = subprocess.run(
            [sys.executable, "-c", _AS_ANOTHER_USER, str(closed)],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
    finally:
        closed.chmod(0o700)
    denied = f"TLS: cannot read {closed}/cert.pem: permission denied for uid "
    assert finished.stdout.startswith(denied), finished.stderr
