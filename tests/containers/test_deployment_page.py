"""docs/deployment.md: its commands, run in their order on a host with Compose 1.29.2, as Debian 12 has it."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tests.containers.stack import COMMAND_SECONDS, V1, Stack
from tests.support.live import wait_until
from tests.support.ports import free_port

PAGE = Path(__file__).resolve().parents[2] / "docs" / "deployment.md"
# Steps that need the internet, a terminal, or another host.
_SKIPPED = re.compile(
    r"^(apt-get|git |timedatectl|make logs|docker-compose logs|docker-compose exec sigil sigil webhook).*\n", re.M
)
_BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(heading: str) -> list[str]:
    """The shell sessions below a heading, up to the next one."""
    text = PAGE.read_text(encoding="utf-8")
    _, _, section = text.partition(f"\n## {heading}\n" if f"\n## {heading}\n" in text else f"\n### {heading}\n")
    assert section, heading
    return _BLOCK.findall(re.split(r"^##", section, maxsplit=1, flags=re.MULTILINE)[0])


class Debian:
    """A host as the page describes it: its paths lie below a folder, and the stack has names of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stack = Stack(folder, V1)
        (self.stack.folder / ".env").unlink()
        self.own = {
            **{name: value for name, value in self.stack.settings.items() if name != "RELAY_PUBLIC_URL"},
            "BUILD_NETWORK": "host",
            "SIGIL_STORE_SIZE": "64MiB",
            "SIGIL_MNEMONIC_FILE": f"{folder}/var/lib/sigil/mnemonic.txt",
            "RELAY_WS_PUBLISH": f"127.0.0.1:{free_port()}",
        }
        self.https = free_port()
        self.proxy = {
            "COMPOSE_PROJECT_NAME": f"{self.stack.project}-nginx",
            **{name: self.own[name] for name in ("SIGIL_EDGE_NAME", "SIGIL_EDGE_NET", "SIGIL_TLS_VOLUME")},
            "NGINX_HTTPS_PUBLISH": f"127.0.0.1:{self.https}",
            "NGINX_HTTP_PUBLISH": f"127.0.0.1:{free_port()}",
        }
        (folder / "etc").mkdir()

    def run(self, session: str, own: dict[str, str] | None = None) -> str:
        """What a session of the page prints. `own` are settings that it writes into its .env in addition."""
        session = _SKIPPED.sub("", session)
        # Paths of the host; those of the containers stay.
        session = re.sub(r"(?<!_FILE=')(/etc/sigil)\b", rf"{self.folder}\1", session)
        session = re.sub(r"/var/(lib/sigil\b(?!/tls)|backups)", rf"{self.folder}/var/\1", session)
        session = session.replace("/opt/sigil", str(self.stack.folder)).replace("172.30.53", self.stack.subnet)
        session = session.replace("localhost:8443", f"localhost:{self.stack.port}")
        session = re.sub(r"docker-compose exec (?!-T)", "docker-compose exec -T ", session)
        if own:
            session = session.replace(
                "\nEND\n", "".join(f"\n{name}='{value}'" for name, value in own.items()) + "\nEND\n"
            )
        environ = self.stack.host.environ
        done = subprocess.run(
            ["sh", "-euc", session],
            cwd=self.stack.folder,
            env=environ | {"PATH": f"{environ['PATH']}:/usr/bin:/bin"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{session}\n{done.stdout}{done.stderr}"
        return done.stdout

    def answers(self, name: str) -> bool:
        try:
            return bool(self.through_nginx(name, "/health"))
        except AssertionError:
            return False

    def through_nginx(self, name: str, path: str) -> str:
        """The answer of nginx, whose certificate is verified."""
        certificate = self.stack.folder / "deploy" / "nginx" / "certs" / "cert.pem"
        address = f"{name}:{self.https}"
        return self.run(f"curl -sS --cacert {certificate} --resolve {address}:127.0.0.1 https://{address}{path}")


def without_start(session: str) -> str:
    """A session whose settings the next `make prod` takes."""
    return session.replace("make prod\n", "").replace("make reload", ": make reload")


def write_credentials(folder: Path) -> None:
    """The files that Apple and Google offer for download."""
    key = ec.generate_private_key(ec.SECP256R1())
    (folder / "AuthKey_ABCD1234EF.p8").write_bytes(pem(key))
    account = {
        "type": "service_account",
        "project_id": "example",
        "client_email": "push@example.iam.gserviceaccount.com",
        "private_key_id": "1",
        "private_key": pem(rsa.generate_private_key(65537, 2048)).decode(),
        "token_uri": "https://oauth2.googleapis.com/token",
    }
    (folder / "service-account.json").write_text(json.dumps(account))


def pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


@pytest.fixture
def debian(tmp_path: Path) -> Iterator[Debian]:
    host = Debian(tmp_path)
    with host.stack:
        try:
            yield host
        finally:
            proxy = host.stack.folder / "deploy" / "nginx"
            if (proxy / ".env").exists():
                host.run(f"cd {proxy} && docker-compose down --volumes")


@pytest.mark.skipif(os.geteuid() != 0, reason="the page is for root")
def test_the_commands_of_the_page_lead_to_a_server_behind_nginx_with_backup_and_upgrade(debian: Debian) -> None:
    nginx = blocks("Behind nginx")
    debian.run(blocks("The settings")[0], debian.own)
    debian.run(nginx[0])
    debian.run(blocks("The mnemonic")[0])
    start, look = blocks("The start")
    assert "server_id" in debian.run(start)
    assert '"mode":"operational"' in debian.run(look)
    assert debian.run(blocks("API keys")[0]).startswith("sgk_")
    debian.run(without_start(blocks("API keys")[1]))
    debian.run(without_start(blocks("Webhooks")[0]))
    write_credentials(debian.stack.folder)
    debian.run(blocks("APNs and FCM")[0])
    debian.run("make reload")
    assert re.search(r"webhooks +enabled", debian.run("docker-compose exec sigil sigil check-config"))
    assert debian.stack.events("relay", "relay_starting")[0]["providers"][:2] == ["apns", "fcm"]

    certificates = debian.stack.folder / "deploy" / "nginx" / "certs"
    certificates.mkdir(exist_ok=True)
    names = "subjectAltName=DNS:sigil.example.com,DNS:relay.example.com"
    debian.run(
        f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 9 -subj /CN=sigil.example.com "
        f"-addext {names} -keyout {certificates}/key.pem -out {certificates}/cert.pem 2>&1"
    )
    debian.run(nginx[1], debian.proxy)
    wait_until(lambda: debian.answers("sigil.example.com"), "nginx to reach the server")
    assert '"mode":"operational"' in debian.through_nginx("sigil.example.com", "/health")
    assert '"status":"healthy"' in debian.through_nginx("relay.example.com", "/health")

    debian.run(blocks("Backup")[0])
    (backup,) = (debian.folder / "var" / "backups" / "sigil").iterdir()
    debian.run(re.sub(r"sigil-\d{8}T\d{6}Z", backup.name, blocks("Restore")[0]))
    assert "Upgraded" in debian.run(blocks("Upgrade")[0])
    assert '"mode":"operational"' in debian.through_nginx("sigil.example.com", "/health")
