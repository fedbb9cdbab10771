"""What takes seconds, through both proxies at once: long polls, slow clients, idle connections, a wrong certificate."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from sigil.device import Device
from tests.flows.backend import ACTION
from tests.proxies.conftest import Stack
from tests.proxies.recording_upstream import RecordingUpstream
from tests.proxies.running import NAMES, SIGIL, Name, Proxy, proxy, raw, read_all, status_of, write_pair
from tests.support.live import wait_until

LONGEST_POLL = 25
DRIPPING = 300
Waits = dict[tuple[Name, str], Future[Any]]


@pytest.fixture(scope="module")
def fronts(stack: Stack) -> Iterator[dict[Name, Proxy]]:
    with contextlib.ExitStack() as exits:
        yield {name: exits.enter_context(proxy(name, stack.upstream())) for name in NAMES}


@pytest.fixture(scope="module")
def waits(stack: Stack, fronts: dict[Name, Proxy], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Waits]:
    """All of them begin together; a test takes the result of its own."""
    # A key pair of the same names as the server's, which the server does not have.
    other = tmp_path_factory.mktemp("other")
    write_pair(other, "localhost")
    with ThreadPoolExecutor() as pool:
        started: Waits = {}
        for name, front in fronts.items():
            started[name, "poll"] = pool.submit(long_poll, front, stack.server.api_key)
            started[name, "headers"] = pool.submit(drip_headers, front)
            started[name, "idle"] = pool.submit(idle_connection, name)
            started[name, "certificate"] = pool.submit(wrong_certificate, name, stack, other / "cert.pem")
        yield started


def long_poll(front: Proxy, key: str) -> tuple[float, httpx.Response, httpx.Response]:
    """The longest poll of a challenge that stays pending, and then a POST over the same connection."""
    with front.client(headers={"Authorization": f"Bearer {key}"}) as client:
        body = {"device_public_key": Device.generate().wire_key, "action": ACTION}
        created = client.post("/challenge", json=body).json()
        began = time.monotonic()
        status = client.get(f"/v1/auth/challenge/{created['challenge_id']}/status", params={"wait": LONGEST_POLL})
        seconds = time.monotonic() - began
        body["device_public_key"] = Device.generate().wire_key
        return seconds, status, client.post("/challenge", json=body)


def drip_headers(front: Proxy) -> tuple[float, bytes]:
    """A client that sends header lines until the proxy closes: after how many seconds, and what the proxy sent."""
    began = time.monotonic()
    with front.connect(source="127.0.4.4") as connection:
        connection.sendall(f"GET /health HTTP/1.1\r\nHost: {SIGIL}\r\n".encode())
        connection.settimeout(0.5)
        received = b""
        with contextlib.suppress(OSError):
            while True:
                connection.sendall(b"X-Slow: 1\r\n")
                with contextlib.suppress(TimeoutError):
                    piece = connection.recv(65_536)
                    if not piece:
                        break
                    received += piece
        return time.monotonic() - began, received


def idle_connection(name: Name) -> float | None:
    """Seconds after which the proxy closes an idle connection to the server."""
    with RecordingUpstream() as upstream, proxy(name, upstream.upstream) as running, running.client() as client:
        assert client.get("/info").status_code == 200
        (connection,) = upstream.connections
        wait_until(lambda: connection.closed_after is not None, "the proxy to close an idle connection")
        return connection.closed_after


def wrong_certificate(name: Name, stack: Stack, trusted: Path) -> tuple[int, bytes]:
    upstream = stack.upstream()
    with (
        proxy(name, type(upstream)(upstream.sigil, trusted, upstream.relay, upstream.sockets)) as running,
        running.connect() as connection,
    ):
        connection.sendall(raw("GET", "/info"))
        response = read_all(connection)
        reasons = ("SSL certificate verify error", "x509: certificate")
        wait_until(lambda: any(reason in running.log() for reason in reasons), "the reason in the proxy's log")
        return status_of(response), response


each = pytest.mark.parametrize("name", NAMES)


@each
def test_slow_bodies_do_not_reach_the_server(waits: Waits, fronts: dict[Name, Proxy], stack: Stack, name: Name) -> None:
    """Each of these would hold a body slot of the server, of which an address has 256."""
    del waits
    front = fronts[name]
    head = raw("POST", "/respond", "Content-Type: application/json").replace(b"Length: 0", b"Length: 1000")
    connections = []
    try:
        for _ in range(DRIPPING):
            connections.append(front.connect(source="127.0.5.5"))
            connections[-1].sendall(head + b"{")
        with front.client(source="127.0.5.5") as client:
            assert client.post("/respond", json={}).status_code == 400
        assert open_connections(stack.server.port) < DRIPPING / 3
    finally:
        for connection in connections:
            connection.close()


def open_connections(port: int) -> int:
    """Connections that the server behind a port of 127.0.0.1 has (Linux)."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]]
    established = "01"
    return sum(row[1] == f"0100007F:{port:04X}" and row[3] == established for row in rows)


@each
def test_the_longest_poll_completes_and_the_next_request_is_served(waits: Waits, name: Name) -> None:
    seconds, status, created = waits[name, "poll"].result()
    assert (status.status_code, status.json()["status"]) == (200, "pending")
    assert seconds > LONGEST_POLL - 1
    # The connection to the server has been idle for longer than the server keeps it.
    assert created.status_code == 201, created.text


@each
def test_slow_headers_end_at_the_proxy(waits: Waits, name: Name) -> None:
    """After 10 s; without the setting, nginx waits for 60 s and Caddy for ever."""
    seconds, received = waits[name, "headers"].result()
    assert seconds < 40
    assert not received or status_of(received) == 408


@each
def test_the_proxy_closes_an_idle_connection_before_the_server_does(waits: Waits, name: Name) -> None:
    """The server closes it after 10 s; without the setting, nginx would keep it for 60 s and Caddy for 120."""
    assert 5 < waits[name, "idle"].result() < 20


@each
def test_a_server_with_another_certificate_gets_no_request(waits: Waits, name: Name) -> None:
    status, response = waits[name, "certificate"].result()
    assert status == 502
    assert b'"OVERLOADED"' in response
    assert b"server_id" not in response
