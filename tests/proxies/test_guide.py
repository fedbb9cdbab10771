"""nginx as the self-hosting guide configures it: it appends to X-Forwarded-For, and speaks TLS 1.2 to the server."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tests.limits import nginx
from tests.limits.test_behind_nginx import OWNERS_LINES, post
from tests.support.live import LiveServer

REQUESTS = 100
CLIENT = "203.0.113.5"
RANGE = "203.0.113.0/24,127.0.0.1"
LIMIT = {"SIGIL_RATE_LIMIT": "60/min"}


def spoof(port: int, source: str) -> Counter[int]:
    """Statuses of failed requests of one client, each of which claims to come from another address."""
    claimed = [{"X-Forwarded-For": f"198.51.{number // 250}.{number % 250}"} for number in range(REQUESTS)]
    requests = [post("/device/pending", {}, **headers) for headers in claimed]
    return Counter(nginx.status_of(nginx.fetch(port, request, source=source)) for request in requests)


def test_an_appended_header_is_safe_with_the_address_of_the_proxy(tmp_path: Path) -> None:
    """The server reads the header from the right: what the client wrote is left of what nginx appended."""
    with (
        LiveServer(workers=1, TRUSTED_PROXY_IP="127.0.0.1", **LIMIT) as server,
        nginx.running(tmp_path, server.url, OWNERS_LINES, proxy_protocol=True) as port,
    ):
        statuses = spoof(port, CLIENT)
        assert statuses[400] < 30
        assert statuses[400] + statuses[429] == REQUESTS
        assert not [line for line in server.log() if line["event"] in {"untrusted_proxy_header", "trusted_client"}]


def test_an_appended_header_is_a_hole_where_a_trusted_range_holds_clients(tmp_path: Path) -> None:
    """The guide's range is a Docker network. Its gateway, as which clients of published ports appear, lies in it."""
    with (
        LiveServer(workers=1, TRUSTED_PROXY_CIDR=RANGE, **LIMIT) as server,
        nginx.running(tmp_path, server.url, OWNERS_LINES, proxy_protocol=True) as port,
    ):
        statuses = spoof(port, CLIENT)
    assert statuses == {400: REQUESTS}


def test_a_replaced_header_is_safe_in_such_a_range_too(tmp_path: Path) -> None:
    """What deploy/nginx does: of the client's header nothing reaches the server."""
    replaced = "proxy_set_header X-Forwarded-For $remote_addr;"
    with (
        LiveServer(workers=1, TRUSTED_PROXY_CIDR=RANGE, **LIMIT) as server,
        nginx.running(tmp_path, server.url, replaced, proxy_protocol=True) as port,
    ):
        statuses = spoof(port, CLIENT)
        assert statuses[400] < 30
        assert [line for line in server.log() if line["event"] == "trusted_client"]
