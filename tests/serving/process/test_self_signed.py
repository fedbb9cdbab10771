"""A certificate is made for who has none, and never in place of one that cannot be seen."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sigil.serving.process.self_signed import ensure_pair
from sigil.serving.process.tls_pair import TlsPair
from sigil.serving.startup_error import StartupError
from tests.conformance.server import run
from tests.support.live import LiveServer

_AS_ANOTHER = """
import os, pathlib, sys
from sigil.serving.startup_error import StartupError
from sigil.serving.process.self_signed import ensure_pair
if os.geteuid() == 0:
    os.setuid(65534)
folder = pathlib.Path(sys.argv[1])
try:
    print(ensure_pair(folder / "cert.pem", folder / "key.pem", generate=True))
except StartupError as refused:
    print(refused)
"""


def test_a_pair_is_made_once(tmp_path: Path) -> None:
    cert, key = tmp_path / "tls" / "cert.pem", tmp_path / "tls" / "key.pem"
    assert ensure_pair(cert, key, generate=True)
    made = cert.read_bytes(), key.read_bytes()
    assert not ensure_pair(cert, key, generate=True)
    assert made == (cert.read_bytes(), key.read_bytes())


def test_links_that_lead_nowhere_are_kept_and_named(tmp_path: Path) -> None:
    """Those of certbot, while the volume with what they lead to is not mounted."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    for path in (cert, key):
        path.symlink_to(tmp_path / "archive" / path.name)
    assert not ensure_pair(cert, key, generate=True)
    with pytest.raises(StartupError, match=r"cannot read .*cert\.pem: No such file"):
        TlsPair(cert, key)
    assert cert.is_symlink()
    assert key.is_symlink()


def test_links_that_lead_nowhere_stop_the_start_in_one_line() -> None:
    server = LiveServer(workers=1)
    try:
        server.certificate.parent.mkdir()
        server.certificate.symlink_to("/nowhere/cert.pem")
        Path(server.environ["TLS_KEY_PATH"]).symlink_to("/nowhere/key.pem")
        for command in ("check-config", "serve"):
            finished = run(command, env=server.environ)
            assert finished.returncode == 1
            assert f"cannot read {server.certificate}: No such file" in finished.stderr.splitlines()[-1]
        assert server.certificate.is_symlink()
    finally:
        server.__exit__(None, None, None)


def test_a_folder_that_only_its_owner_may_enter_is_told_by_the_path(tmp_path: Path) -> None:
    closed = tmp_path / "live"
    closed.mkdir()
    closed.chmod(0o700 if os.geteuid() == 0 else 0)
    try:
        asked = subprocess.run(
            [sys.executable, "-c", _AS_ANOTHER, str(closed)], capture_output=True, text=True, check=False, timeout=120
        )
    finally:
        closed.chmod(0o700)
    assert asked.stdout == f"TLS: cannot look for {closed}/cert.pem: Permission denied\n", asked.stderr
