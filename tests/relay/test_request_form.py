"""Requests to the relay that a proxy could read differently, in raw bytes, also on the port for WebSockets."""

from __future__ import annotations

import gzip
import socket
from collections.abc import Iterator

import httpx
import pytest

from tests.support.live import DEADLINE
from tests.support.live_relay import LiveRelay
from tests.support.ports import free_port

UPGRADE = b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"


@pytest.fixture(scope="module")
def relay() -> Iterator[LiveRelay]:
    with LiveRelay(RELAY_WS_PORT=str(free_port())) as running:
        yield running


def head_of(port: int, target: bytes, fields: bytes) -> bytes:
    """Status line and fields of the response, in lower case."""
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as connection:
        connection.sendall(b"GET %s HTTP/1.1\r\n%s\r\n" % (target, fields))
        received = b""
        while b"\r\n\r\n" not in received and (chunk := connection.recv(65536)):
            received += chunk
    return received.partition(b"\r\n\r\n")[0].lower()


def status(relay: LiveRelay, target: bytes, fields: bytes = b"Host: relay\r\n") -> int:
    return int(head_of(relay.port, target, fields + b"Connection: close\r\n").split(b" ")[1])


def test_a_path_of_the_relay_has_one_spelling(relay: LiveRelay) -> None:
    for path in (b"metrics", b"health", b"devices/register/challenge"):
        assert status(relay, b"/" + path) in {200, 401}
        spellings = (b"//" + path, b"/%2f" + path, b"/%%%02x%s" % (path[0], path[1:]), b"/" + path + b"/")
        assert {status(relay, spelling) for spelling in spellings} == {404}


def test_a_request_to_the_relay_has_one_host(relay: LiveRelay) -> None:
    """Without RELAY_PUBLIC_URL a device signs the Host of its request."""
    target = b"/devices/register/challenge"
    assert status(relay, target) == 200
    for hosts in (b"", b"Host: a\r\nHost: b\r\n", b"Host: a\r\nHost: a\r\n", b"Host:\r\n"):
        assert status(relay, target, hosts) == 400


def test_no_response_of_the_relay_names_the_software(relay: LiveRelay) -> None:
    for target in (b"/health", b"/nope", b"/push"):
        head = head_of(relay.port, target, b"Host: relay\r\nConnection: close\r\n")
        assert b"granian" not in head
        assert b"\r\nserver: \r\n" in head


def test_a_socket_has_one_path_and_one_host(relay: LiveRelay) -> None:
    port = int(relay.environ["RELAY_WS_PORT"])
    fields = b"Host: relay\r\nConnection: Upgrade\r\n" + UPGRADE
    opened = head_of(port, b"/ws", fields)
    assert opened.split(b" ")[1] == b"101"
    assert b"server:" not in opened
    for target in (b"//ws", b"/%77s", b"/ws/"):
        assert head_of(port, target, fields).split(b" ")[1] != b"101"
    assert head_of(port, b"/ws", b"Host: other\r\n" + fields).split(b" ")[1] != b"101"


def test_a_plain_request_to_the_socket_path_is_answered_with_the_upgrade_that_it_needs(relay: LiveRelay) -> None:
    """A proxy that drops Upgrade looks like this to the relay (RFC 9110, 15.5.22)."""
    port, fields = int(relay.environ["RELAY_WS_PORT"]), b"Host: relay\r\nConnection: close\r\n"
    for more in (b"", b"Upgrade: h2c\r\n", UPGRADE):
        head = head_of(port, b"/ws", fields + more)
        assert head.startswith(b"http/1.1 426 ")
        assert b"\r\nupgrade: websocket" in head
        assert b"\r\nconnection: upgrade" in head
    answer = httpx.get(f"http://127.0.0.1:{port}/ws")
    assert answer.json()["error"]["code"] == "UPGRADE_REQUIRED"
    for path, code in (("/ws", "METHOD_NOT_ALLOWED"), ("/", "NOT_FOUND")):
        refused = httpx.post(f"http://127.0.0.1:{port}{path}")
        assert refused.json()["error"]["code"] == code
    # On the other port there is no such path.
    assert status(relay, b"/ws") == 404


def test_the_same_holds_where_one_port_serves_both() -> None:
    with LiveRelay() as relay:
        for answer in (httpx.get(f"{relay.url}/ws"), httpx.head(f"{relay.url}/ws")):
            assert (answer.status_code, answer.headers["upgrade"]) == (426, "websocket")
            assert "Upgrade" in answer.headers["connection"]
        assert httpx.get(f"{relay.url}/ws").json()["error"]["code"] == "UPGRADE_REQUIRED"
        refused = httpx.post(f"{relay.url}/ws")
        assert (refused.status_code, refused.json()["error"]["code"]) == (405, "METHOD_NOT_ALLOWED")
        assert {"GET", "HEAD"} <= set(refused.headers["allow"].split(", "))


def test_head_is_answered_like_get(relay: LiveRelay) -> None:
    for path in ("/health", "/metrics", "/devices/register/challenge"):
        get, head = httpx.get(relay.url + path), httpx.head(relay.url + path)
        assert (head.status_code, head.headers["content-type"]) == (200, get.headers["content-type"])
        assert int(head.headers["content-length"]) > 0
        assert head.content == b""


@pytest.mark.parametrize("path", ["/devices/register", "/devices/unregister"])
def test_a_compressed_body_is_named(relay: LiveRelay, path: str) -> None:
    for coding, expected in (("gzip", 415), ("identity, br", 415), ("identity", 400), ("IDENTITY", 400)):
        answer = httpx.post(
            relay.url + path,
            content=gzip.compress(b"{}"),
            headers={"Content-Type": "application/json", "Content-Encoding": coding},
        )
        assert answer.status_code == expected
        if expected == 415:
            assert answer.json()["error"]["code"] == "UNSUPPORTED_MEDIA_TYPE"
            assert answer.headers["accept-encoding"] == "identity"
