"""The pair in the directory of the defaults: under our names, or those of certbot."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sigil.config import settings
from sigil.serving.tls.file_names import pair_in, warnings_about
from tests.config.test_settings import REQUIRED
from tests.serving.tls.test_hsts import write_pair
from tests.support.ports import free_port

OURS, CERTBOT = ("cert.pem", "key.pem"), ("fullchain.pem", "privkey.pem")


@pytest.mark.parametrize(
    ("files", "chosen"),
    [
        ((), OURS),
        (OURS, OURS),
        (("cert.pem",), OURS),
        (("key.pem",), OURS),
        (CERTBOT, CERTBOT),
        (("privkey.pem",), CERTBOT),
        (("fullchain.pem",), CERTBOT),
        # certbot's live directory: cert.pem lacks the chain.
        (("cert.pem", "chain.pem", *CERTBOT), CERTBOT),
        (("cert.pem", "chain.pem", "privkey.pem"), CERTBOT),
        ((*OURS, *CERTBOT), OURS),
        (("key.pem", *CERTBOT), OURS),
    ],
)
@pytest.mark.parametrize("dangling", [False, True])
def test_the_name_of_the_key_decides(
    tmp_path: Path, files: tuple[str, ...], chosen: tuple[str, str], dangling: bool
) -> None:
    for name in files:
        path = tmp_path / name
        path.symlink_to("../../archive/nowhere") if dangling else path.touch()
    assert pair_in(tmp_path) == (tmp_path / chosen[0], tmp_path / chosen[1])


def test_the_settings_use_it_for_the_defaults_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "TLS_DIRECTORY", tmp_path)
    (tmp_path / "privkey.pem").touch()
    config = settings.load(REQUIRED)
    assert (config.tls_cert, config.tls_key) == (tmp_path / "fullchain.pem", tmp_path / "privkey.pem")
    config = settings.load(REQUIRED | {"TLS_CERT_PATH": "", "TLS_KEY_PATH": " "})
    assert config.tls_key == tmp_path / "privkey.pem"
    config = settings.load(REQUIRED | {"TLS_CERT_PATH": "/own/cert.pem"})
    assert (config.tls_cert, config.tls_key) == (Path("/own/cert.pem"), settings.Config.tls_key)
    config = settings.load(REQUIRED | {"TLS_CERT_PATH": "/own/c.pem", "TLS_KEY_PATH": "/own/k.pem"})
    assert (config.tls_cert, config.tls_key) == (Path("/own/c.pem"), Path("/own/k.pem"))


def test_a_certificate_without_its_chain_is_warned_about(tmp_path: Path) -> None:
    for name in ("cert.pem", "chain.pem", *CERTBOT):
        (tmp_path / name).touch()
    environ = REQUIRED | {
        "TLS_CERT_PATH": str(tmp_path / "cert.pem"),
        "TLS_KEY_PATH": str(tmp_path / "privkey.pem"),
    }
    (warning,) = settings.load(environ).warnings
    assert f"{tmp_path}/cert.pem of certbot lacks the chain" in warning
    assert f"use {tmp_path}/fullchain.pem" in warning
    assert settings.load(environ | {"TLS_CERT_PATH": str(tmp_path / "fullchain.pem")}).warnings == ()
    assert settings.load(environ | {"SIGIL_HTTP_PORT": "8081"}).warnings == ()


def test_a_pair_of_certbot_that_is_not_served_is_warned_about(tmp_path: Path) -> None:
    for name in (*OURS, *CERTBOT):
        (tmp_path / name).touch()
    (warning,) = warnings_about(tmp_path / "cert.pem", tmp_path / "key.pem")
    assert f"{tmp_path}/privkey.pem is not" in warning
    assert warnings_about(tmp_path / "fullchain.pem", tmp_path / "privkey.pem") == []


_ISOLATED = """
set -e
mount -t tmpfs tmpfs /var/lib
mkdir -p /var/lib/sigil/tls
cp -a "$1"/. /var/lib/sigil/tls/
shift
exec "$@"
"""


def check_config(folder: Path) -> subprocess.CompletedProcess[str]:
    """With the content of `folder` in the directory of the defaults, in a mount namespace of its own."""
    command = ["unshare", "--mount", "sh", "-c", _ISOLATED, "sh", str(folder), sys.executable, "-m", "sigil"]
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("SIGIL_", "TLS_"))}
    return subprocess.run(
        [*command, "check-config"],
        env=environ | {"SIGIL_MODE": "init", "TLS_AUTO_GENERATE": "false", "SIGIL_PORT": str(free_port())},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def _can_isolate() -> bool:
    isolated = ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/var/lib"]
    return bool(shutil.which("unshare")) and subprocess.run(isolated, capture_output=True, check=False).returncode == 0


needs_namespace = pytest.mark.skipif(not _can_isolate(), reason="a mount namespace needs root and unshare")


def live_directory(folder: Path) -> Path:
    """As certbot makes it: links to an archive, and in addition a certificate without its chain."""
    live, archive = folder / "live" / "sigil.example.com", folder / "archive" / "sigil.example.com"
    live.mkdir(parents=True)
    cert, key = write_pair(archive, "sigil.example.com")
    cert.rename(archive / "fullchain1.pem")
    key.rename(archive / "privkey1.pem")
    (archive / "cert1.pem").write_text("this one must not be read")
    for name in ("cert", "fullchain", "privkey"):
        (live / f"{name}.pem").symlink_to(f"../../archive/sigil.example.com/{name}1.pem")
    return live


@needs_namespace
def test_a_copy_of_certbots_directory_is_served_from_the_defaults(tmp_path: Path) -> None:
    live = live_directory(tmp_path)
    copied = tmp_path / "copied"
    shutil.copytree(live, copied)
    checked = check_config(copied)
    assert checked.returncode == 0, checked.stderr
    assert "Configuration OK" in checked.stdout


@needs_namespace
def test_links_of_certbot_without_their_archive_name_the_mend(tmp_path: Path) -> None:
    checked = check_config(live_directory(tmp_path))
    assert checked.returncode == 1
    assert (
        "TLS: cannot read /var/lib/sigil/tls/fullchain.pem: it links to "
        "../../archive/sigil.example.com/fullchain1.pem, which does not exist here"
    ) in checked.stderr
    assert (
        "mount all of /etc/letsencrypt, or use certbot's deploy hook (deploy/certbot/deploy-hook.sh)" in checked.stderr
    )


@needs_namespace
def test_half_of_a_pair_of_certbot_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "fullchain.pem").touch()
    checked = check_config(tmp_path)
    assert checked.returncode == 1
    assert "TLS: /var/lib/sigil/tls/privkey.pem is missing, and the other file of the pair exists" in checked.stderr
