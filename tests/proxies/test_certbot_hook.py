"""certbot's deploy hook with a lineage as certbot writes it, and a real server that mounts the directory."""

from __future__ import annotations

import os
import socket
import ssl
import stat
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tests.proxies.running import DEPLOY, write_pair
from tests.support.live import LiveServer, wait_until

OWN = f"{os.getuid()}:{os.getgid()}"
NAME = "sigil.example.com"


class Lineage:
    """certbot's directory: `live` has links into `archive`, whose number grows with each renewal."""

    def __init__(self, root: Path) -> None:
        self.live, self._archive, self._number = root / "live" / NAME, root / "archive" / NAME, 0
        self.live.mkdir(parents=True)
        self._archive.mkdir(parents=True)
        self.renew()

    def renew(self) -> None:
        self._number += 1
        write_pair(self._archive, NAME, cert=f"fullchain{self._number}.pem", key=f"privkey{self._number}.pem")
        for name in ("fullchain", "privkey"):
            link = self.live / f"{name}.pem"
            link.unlink(missing_ok=True)
            link.symlink_to(f"../../archive/{NAME}/{name}{self._number}.pem")

    def hook(
        self, *arguments: str, path: str = "/usr/bin:/bin", domains: str = NAME, **environ: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["/bin/sh", str(DEPLOY / "certbot" / "deploy-hook.sh"), *arguments],
            env={"PATH": path, "RENEWED_LINEAGE": str(self.live), "RENEWED_DOMAINS": domains, **environ},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


@pytest.fixture
def lineage(tmp_path: Path) -> Lineage:
    return Lineage(tmp_path / "letsencrypt")


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "tls"
    folder.mkdir()
    return folder


def certificate_of(port: int) -> bytes | None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", port)) as plain, context.wrap_socket(plain) as connection:
        return connection.getpeercert(binary_form=True)


def test_a_running_server_serves_the_renewed_certificate(lineage: Lineage) -> None:
    with LiveServer(workers=1) as server:
        folder = server.certificate.parent
        for _ in range(2):
            lineage.renew()
            before = len([line for line in server.log() if line["event"] == "reload_finished"])
            ran = lineage.hook("--owner", OWN, "--reload", f"kill -HUP {server.pid}", str(folder))
            assert (ran.returncode, ran.stderr) == (0, "")
            wait_until(
                lambda count=before: len([line for line in server.log() if line["event"] == "reload_finished"]) > count,  # type: ignore[misc]
                "the server to reload",
            )
            expected = x509.load_pem_x509_certificate((lineage.live / "fullchain.pem").read_bytes())
            assert certificate_of(server.port) == expected.public_bytes(Encoding.DER)
        assert not [line for line in server.log() if line["event"] == "reload_refused"]


def test_the_files_are_regular_files_that_the_owner_alone_can_read(lineage: Lineage, target: Path) -> None:
    for _ in range(2):
        assert lineage.hook("--owner", OWN, "--reload", "true", str(target)).returncode == 0
        assert sorted(path.name for path in target.iterdir()) == ["cert.pem", "key.pem"]
        assert (target / "cert.pem").read_bytes() == (lineage.live / "fullchain.pem").read_bytes()
        assert (target / "key.pem").read_bytes() == (lineage.live / "privkey.pem").read_bytes()
        modes = {path.name: stat.S_IMODE(path.lstat().st_mode) for path in target.iterdir()}
        assert modes == {"cert.pem": 0o644, "key.pem": 0o600}
        assert not any(path.is_symlink() for path in target.iterdir())


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files to another user")
def test_the_owner_is_the_user_of_the_containers(lineage: Lineage, target: Path) -> None:
    assert lineage.hook("--reload", "true", str(target)).returncode == 0
    assert {(path.stat().st_uid, path.stat().st_gid) for path in target.iterdir()} == {(10001, 10001)}


def test_a_link_in_the_directory_is_replaced_and_not_followed(lineage: Lineage, target: Path, tmp_path: Path) -> None:
    """The user of the containers may own the directory; the hook runs as root."""
    victim, folder = tmp_path / "victim", tmp_path / "folder"
    victim.write_text("kept")
    folder.mkdir()
    (target / "key.pem").symlink_to(victim)
    (target / "cert.pem").symlink_to(folder)
    assert lineage.hook("--owner", OWN, "--reload", "true", str(target)).returncode == 0
    assert victim.read_text() == "kept"
    assert not list(folder.iterdir())
    assert not (target / "key.pem").is_symlink()
    assert not (target / "cert.pem").is_symlink()


def test_the_renewal_of_another_name_changes_nothing(lineage: Lineage, target: Path) -> None:
    ran = lineage.hook("--domain", NAME, "--owner", OWN, "--reload", "true", str(target), domains="www.example.com")
    assert (ran.returncode, list(target.iterdir())) == (0, [])
    ran = lineage.hook("--domain", NAME, "--owner", OWN, "--reload", "true", str(target), domains=f"a.test {NAME}")
    assert (ran.returncode, len(list(target.iterdir()))) == (0, 2)


@pytest.mark.parametrize(
    ("arguments", "environ", "message"),
    [
        ([], {}, "no directory"),
        (["tls"], {}, "must be an absolute path"),
        (["/nowhere"], {}, "there is no directory /nowhere"),
        (["--owner", OWN], {}, "no directory"),
        (["--what", "x", "/nowhere"], {}, "unknown option --what"),
        (["/nowhere"], {"RENEWED_LINEAGE": ""}, "RENEWED_LINEAGE is not set"),
        (["/nowhere"], {"RENEWED_LINEAGE": "/nowhere"}, "cannot read /nowhere/fullchain.pem"),
    ],
)
def test_an_error_is_one_line_with_the_next_step(
    lineage: Lineage, arguments: list[str], environ: dict[str, str], message: str
) -> None:
    ran = lineage.hook(*arguments, **environ)
    assert ran.returncode == 1
    assert ran.stderr.startswith("deploy-hook.sh: ")
    assert message in ran.stderr.splitlines()[0]


def test_a_failed_reload_is_reported_to_certbot(lineage: Lineage, target: Path) -> None:
    assert lineage.hook("--owner", OWN, "--reload", "false", str(target)).returncode == 1


def test_a_host_without_docker_gets_the_files_and_a_message(lineage: Lineage, target: Path, tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("sh", "mktemp", "cp", "mv", "chown", "chmod", "rm"):
        (programs / name).symlink_to(f"/bin/{name}")
    ran = lineage.hook("--owner", OWN, str(target), path=str(programs))
    assert (ran.returncode, len(list(target.iterdir()))) == (1, 2)
    assert "there is no docker: reload the server, or use --reload" in ran.stderr
