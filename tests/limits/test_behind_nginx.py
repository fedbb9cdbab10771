"""A real nginx in front of the server: what a client writes into headers of proxies, and a proxy that sends none."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sigil.protocol.identity import generate_mnemonic
from tests.first_boot.init_mode_server import InitModeServer
from tests.limits import nginx
from tests.support.live import LiveServer
from tests.support.live_relay import LiveRelay

CLOUDFLARE = "173.245.48.9"
OWNERS_LINES = (
    "proxy_set_header X-Real-IP $remote_addr; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; "
    "proxy_set_header X-Forwarded-Proto $scheme;"
)
LIMITED = {"SIGIL_RATE_LIMIT": "60/min", "TRUSTED_PROXY_IP": "127.0.0.1"}
Attempt = Callable[..., int]


def post(path: str, body: object, **headers: str) -> str:
    content = json.dumps(body)
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return (
        f"POST {path} HTTP/1.1\r\nHost: sigil.example.com\r\nConnection: close\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(content)}\r\n{lines}\r\n{content}"
    )


def get(path: str, **headers: str) -> str:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"GET {path} HTTP/1.1\r\nHost: sigil.example.com\r\nConnection: close\r\n{lines}\r\n"


@pytest.fixture
def attempt(tmp_path: Path) -> Iterator[Attempt]:
    """Sends a failing request from an address to the nginx of a server behind Cloudflare; the status."""
    cloudflare = {
        "TRUSTED_PROXY_PROVIDER": "cloudflare",
        "USE_CF_CONNECTING_IP": "true",
        "TRUSTED_PROXY_RANGES_URL": "off",
    }
    with (
        LiveServer(workers=1, **LIMITED, **cloudflare) as server,
        nginx.running(tmp_path, server.url, OWNERS_LINES, proxy_protocol=True) as port,
    ):

        def send(source: str, connecting_ip: str) -> int:
            request = post("/device/pending", {}, **{"CF-Connecting-IP": connecting_ip})
            return nginx.status_of(nginx.fetch(port, request, source=source))

        yield send


def test_a_client_that_reaches_nginx_directly_cannot_escape_its_limit_or_use_up_that_of_others(
    attempt: Attempt,
) -> None:
    statuses = [attempt("198.51.100.7", f"192.0.2.{number}") for number in range(20)]
    assert statuses[0] == 400
    assert statuses[-5:] == [429] * 5
    # The addresses that it named: clients of Cloudflare, and one that reaches nginx directly.
    assert attempt(CLOUDFLARE, "192.0.2.1") == 400
    assert attempt("192.0.2.2", "198.51.100.7") == 400


def test_a_client_of_cloudflare_has_its_own_limit(attempt: Attempt) -> None:
    statuses = [attempt(CLOUDFLARE, "192.0.2.50") for _ in range(20)]
    assert statuses[0] == 400
    assert statuses[-5:] == [429] * 5
    assert attempt(CLOUDFLARE, "192.0.2.51") == 400


def test_metrics_are_closed_to_the_clients_of_a_proxy_on_loopback_that_sends_no_header(tmp_path: Path) -> None:
    """nginx with nothing but `proxy_pass`: its requests come from loopback, with a loopback Host."""
    with LiveServer(workers=1) as server, nginx.running(tmp_path, server.url) as port:
        assert nginx.status_of(nginx.fetch(port, get("/metrics"))) == 401
        with server.client() as client:
            assert client.get("/metrics").status_code == 200


@pytest.mark.parametrize("location", ["", "proxy_http_version 1.1;"])
def test_the_wizard_is_closed_to_the_clients_of_a_proxy_on_loopback_that_sends_no_header(
    tmp_path: Path, location: str
) -> None:
    words = generate_mnemonic()
    with InitModeServer(workers=1) as server, nginx.running(tmp_path, server.url, location) as port:
        for path, body in (("/init/words", {}), ("/init/check", {"words": words}), ("/init/commit", {"words": words})):
            assert nginx.status_of(nginx.fetch(port, post(path, body))) == 401, path
        assert server.get("/info").json()["mode"] == "init"
        assert server.commit(words)["session"]


@pytest.mark.parametrize("location", [nginx.FORWARDING, "proxy_http_version 1.1; proxy_set_header Host $host;"])
def test_metrics_are_closed_to_the_clients_of_a_proxy_on_loopback_and_open_with_the_token(
    tmp_path: Path, location: str
) -> None:
    token = "a-metrics-token-for-this-test"
    with LiveServer(workers=1) as server, nginx.running(tmp_path, server.url, location) as port:
        answer = nginx.fetch(port, get("/metrics"))
        assert nginx.status_of(answer) == 401
        assert "METRICS_TOKEN" in answer
    with LiveServer(workers=1, METRICS_TOKEN=token) as server, nginx.running(tmp_path, server.url, location) as port:
        with server.client() as client:
            assert client.get("/metrics").status_code == 401, "the token is also required on loopback"
        assert nginx.status_of(nginx.fetch(port, get("/metrics", Authorization=f"Bearer {token}"))) == 200
    with (
        LiveServer(workers=1, METRICS_TOKEN="off") as server,
        nginx.running(tmp_path, server.url, location) as port,
    ):
        assert nginx.status_of(nginx.fetch(port, get("/metrics"))) == 200


def test_a_client_in_the_range_of_the_proxies_is_warned_of() -> None:
    """The guide's whole Docker network as the range, and a client in it; or every address."""
    wide = "127.0.0.1,172.18.0.0/16,0.0.0.0/0"
    with LiveServer(workers=1, TRUSTED_PROXY_CIDR=wide) as server, server.client() as client:
        for _ in range(3):
            client.get("/info", headers={"X-Forwarded-For": "172.18.0.5"})
        settings = [line["message"] for line in server.log() if line["event"] == "setting"]
        (warning,) = [line for line in server.log() if line["event"] == "trusted_client"]
    assert any("172.18.0.0/16 trusts 65536 addresses" in message for message in settings)
    assert any("0.0.0.0/0 trusts every address" in message for message in settings)
    assert warning["peer"] == "172.18.0.5"
    assert all("TRUSTED_PROXY_IP" in message for message in [*settings, warning["message"]])


@pytest.fixture(scope="module")
def relay() -> Iterator[LiveRelay]:
    with LiveRelay() as running:
        yield running


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "Via", "X-Real-IP", "CF-Connecting-IP"])
def test_the_metrics_of_the_relay_have_the_same_rule(relay: LiveRelay, header: str) -> None:
    with relay.client() as client:
        assert client.get("/metrics").status_code == 200
        assert client.get("/metrics", headers={header: "192.0.2.7"}).status_code == 401
        assert client.get("/metrics", headers={"Host": "relay.example.com"}).status_code == 401
