"""Requests to the relay that a proxy could read differently, in raw bytes, also on the port for WebSockets."""

from __future__ import annotations

import socket
from collections.abc import Iterator

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
