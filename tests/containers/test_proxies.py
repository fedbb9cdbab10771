"""nginx and Caddy of deploy/ as Compose projects in front of the stack, as an operator starts them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import ssl
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect

from sigil.device import Device
from sigil.protocol.api_key import issue_api_key
from sigil.protocol.identity import DerivedSecrets, generate_mnemonic
from tests.containers.engine import parts
from tests.containers.stack import V1, V2, Host, Stack
from tests.flows.backend import ACTION
from tests.proxies.running import RELAY, SIGIL, write_pair
from tests.relay.devices_of_relay import authenticate, frame, register
from tests.support.live import DEADLINE, wait_until
from tests.support.ports import free_port

SPOOFED = 300
CAPABILITIES = {
    "nginx": ["CAP_CHOWN", "CAP_NET_BIND_SERVICE", "CAP_SETGID", "CAP_SETUID"],
    "caddy": ["CAP_NET_BIND_SERVICE"],
}


class ProxyStack:
    """The project of deploy/nginx or deploy/caddy next to a stack that runs."""

    def __init__(self, name: str, stack: Stack, host: Host) -> None:
        self.name, self.stack, self._host = name, stack, host
        self.folder = stack.folder / "deploy" / name
        self.certificates = self.folder / "certs"
        self.port = free_port()
        prefix = name.upper()
        self.settings = {
            "SIGIL_DOMAIN": SIGIL,
            "RELAY_DOMAIN": RELAY,
            f"{prefix}_HTTPS_PUBLISH": f"127.0.0.1:{self.port}",
            f"{prefix}_HTTP_PUBLISH": f"127.0.0.1:{free_port()}",
            "CADDY_TLS": "/certs/cert.pem /certs/key.pem",
            **{key: stack.settings[key] for key in ("SIGIL_EDGE_NAME", "SIGIL_EDGE_NET", "SIGIL_TLS_VOLUME")},
            "COMPOSE_PROJECT_NAME": f"{stack.project}-{name}",
        }

    def compose(self, *arguments: str, check: bool = True) -> Any:
        program = ["docker", "compose"] if self._host.compose_version == V2 else ["docker-compose"]
        return self._host.run([*program, *arguments], self.folder, check=check)

    def __enter__(self) -> ProxyStack:
        self.certificates.mkdir(exist_ok=True)
        write_pair(self.certificates, SIGIL, RELAY)
        (self.certificates / "key.pem").chmod(0o600)
        lines = [f"{name}='{value}'\n" for name, value in self.settings.items()]
        (self.folder / ".env").write_text("".join(lines))
        self.compose("up", "--detach")
        wait_until(self.answers, f"{self.name} to answer: {self.logs()}")
        return self

    def __exit__(self, *_: object) -> None:
        self.compose("down", "--volumes")

    def logs(self) -> str:
        return self.stack.host.run(["sh", "-c", 'docker logs "$1" 2>&1', "sh", self.container()], self.folder).stdout

    def container(self) -> str:
        found: str = self.compose("ps", "-q").stdout.strip()
        return found

    def tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.certificates / "cert.pem"))

    def client(self, host: str = SIGIL, **options: Any) -> httpx.Client:
        def name(request: httpx.Request) -> None:
            request.extensions["sni_hostname"] = host

        return httpx.Client(
            base_url=f"https://127.0.0.1:{self.port}",
            headers={"Host": host},
            verify=self.tls(),
            trust_env=False,
            timeout=DEADLINE,
            event_hooks={"request": [name]},
            **options,
        )

    def answers(self) -> bool:
        with contextlib.suppress(httpx.HTTPError), self.client() as client:
            return client.get("/health").status_code == 200
        return False


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    made = Stack(
        tmp_path_factory.mktemp("stack"),
        SIGIL_MODE="operational",
        SIGIL_MNEMONIC=generate_mnemonic(),
        SIGIL_PUBLIC_URL=f"https://{SIGIL}",
        RELAY_PUBLIC_URL=f"https://{RELAY}",
        RELAY_WS_PORT="8081",
        SIGIL_WORKERS="1",
        SIGIL_STORE_SIZE="64MiB",
        SIGIL_RATE_LIMIT="60/min",
    )
    made.write_settings(TRUSTED_PROXY_IP=f"{made.subnet}.2")
    with made:
        made.make("up")
        yield made


@pytest.fixture(scope="module", params=[("nginx", V2), ("caddy", V1)], ids=["nginx", "caddy"])
def front(request: Any, stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxyStack]:
    """One after the other, at the same address; Compose 1 joins what Compose 2 made."""
    name, version = request.param
    with ProxyStack(name, stack, Host(tmp_path_factory.mktemp(name), version)) as running:
        yield running


def spoof(client: httpx.Client) -> Counter[int]:
    """Statuses of failed requests that each claim to come from another address."""
    return Counter(
        client.post(
            "/device/pending", json={}, headers={"X-Forwarded-For": f"198.51.{number // 250}.{number % 250}"}
        ).status_code
        for number in range(SPOOFED)
    )


def test_both_services_are_served_and_the_private_ones_are_hidden(front: ProxyStack) -> None:
    with front.client() as client:
        assert client.get("/health").json()["mode"] == "operational"
        assert client.get("/metrics").status_code == 404
    with front.client(RELAY) as client:
        assert client.get("/health").status_code == 200
        assert client.get("/devices/register/challenge").status_code == 200
        assert client.post("/push", json={}).status_code == 404
    assert "[alert]" not in front.compose("logs", "--no-color", front.name).stdout


async def test_a_device_gets_a_push_over_its_websocket(front: ProxyStack) -> None:
    """Registration, the socket and the challenge, all at the public names."""
    device, origin = Device.generate(), f"https://{RELAY}"
    secret = DerivedSecrets.from_mnemonic(front.stack.settings["SIGIL_MNEMONIC"]).api_key
    key = {"Authorization": f"Bearer {issue_api_key(secret, 'sgk_test_', os.urandom(16))}"}
    with front.client(RELAY) as client:
        register(device, client, origin)
    address = {"host": "127.0.0.1", "port": front.port, "ssl": front.tls(), "proxy": None}
    async with connect(f"wss://{RELAY}:{front.port}/ws", **address) as opened:
        assert (await authenticate(device, opened, origin))["type"] == "auth_success"
        with front.client() as client:
            body = {"device_public_key": device.wire_key, "action": ACTION}
            created = await asyncio.to_thread(client.post, "/challenge", json=body, headers=key)
        assert created.json()["challenge_id"] in json.dumps(await frame(opened))


def test_the_container_is_hardened(front: ProxyStack) -> None:
    (found,) = json.loads(front.stack.docker("inspect", front.container()).stdout)
    host = found["HostConfig"]
    assert host["ReadonlyRootfs"] is True
    assert host["CapDrop"] == ["ALL"]
    assert (
        sorted(name if name.startswith("CAP_") else f"CAP_{name}" for name in host["CapAdd"])
        == CAPABILITIES[front.name]
    )
    assert any(option.startswith("no-new-privileges") for option in host["SecurityOpt"])
    assert host["RestartPolicy"]["Name"] == "unless-stopped"
    assert host["LogConfig"] == {"Type": "json-file", "Config": {"max-file": "5", "max-size": "10m"}}
    # The server's certificate is public; its key is the server's alone.
    tls = "/var/lib/sigil/tls"
    front.stack.docker("exec", front.container(), "cat", f"{tls}/cert.pem")
    assert front.stack.docker("exec", front.container(), "cat", f"{tls}/key.pem", check=False).returncode != 0
    networks = found["NetworkSettings"]["Networks"]
    assert [network["IPAddress"] for network in networks.values()] == [f"{front.stack.subnet}.2"]


def test_a_client_of_the_proxy_cannot_claim_another_address(front: ProxyStack, figures: dict[str, float]) -> None:
    with front.client() as client:
        statuses = spoof(client)
    figures[f"{front.name}: of {SPOOFED} spoofed requests passed"] = statuses[400]
    assert statuses[400] < 30
    assert statuses[400] + statuses[429] == SPOOFED


def test_the_proxy_serves_again_after_the_server_was_recreated(front: ProxyStack) -> None:
    """It keeps its address, so nginx needs no reload."""
    front.stack.compose("up", "--detach", "--force-recreate", "sigil")
    front.stack.wait_healthy("sigil")
    wait_until(front.answers, "the proxy to reach the new container")


def test_the_hook_of_certbot_renews_the_certificate_in_the_container(front: ProxyStack, tmp_path: Path) -> None:
    """The hook finds the container by the directory that it mounts, and signals it; the proxy reads the new pair."""
    write_pair(tmp_path, SIGIL, RELAY, cert="fullchain.pem", key="privkey.pem")
    hook = front.stack.folder / "deploy" / "certbot" / "deploy-hook.sh"
    front.stack.host.run(
        ["sh", str(hook), "--owner", "0:0", str(front.certificates)], tmp_path, RENEWED_LINEAGE=str(tmp_path)
    )
    wait_until(front.answers, "a client that trusts the renewed certificate alone")


def test_the_range_of_the_guide_lets_clients_of_the_published_port_claim_any_address(
    stack: Stack, figures: dict[str, float]
) -> None:
    """The network's gateway, as which these clients appear, lies in the range."""
    passed = {}
    for setting, value in (("TRUSTED_PROXY_CIDR", f"{stack.subnet}.0/24"), ("TRUSTED_PROXY_IP", f"{stack.subnet}.2")):
        stack.write_settings(**{"TRUSTED_PROXY_CIDR": "", "TRUSTED_PROXY_IP": "", setting: value})
        stack.compose("up", "--detach", "sigil")
        stack.wait_healthy("sigil")
        with stack.client() as client:
            passed[setting] = spoof(client)[400]
        figures[f"{setting}={value}: of {SPOOFED} spoofed requests passed"] = passed[setting]
    assert passed["TRUSTED_PROXY_CIDR"] == SPOOFED
    assert passed["TRUSTED_PROXY_IP"] < 30


@pytest.mark.parametrize("version", [V1, V2])
@pytest.mark.parametrize("name", ["nginx", "caddy"])
def test_a_missing_name_is_one_line_of_both_versions_of_compose(name: str, version: str, tmp_path: Path) -> None:
    host = Host(tmp_path, version)
    program = ["docker", "compose"] if version == V2 else ["docker-compose"]
    folder = parts.ROOT / "deploy" / name
    names = {"SIGIL_DOMAIN": SIGIL, "RELAY_DOMAIN": RELAY}
    host.run([*program, "config", "--quiet"], folder, **names)
    for missing in names:
        ran = host.run([*program, "config", "--quiet"], folder, check=False, **(names | {missing: ""}))
        assert ran.returncode != 0
        assert f"set {missing} to the public name" in ran.stderr
