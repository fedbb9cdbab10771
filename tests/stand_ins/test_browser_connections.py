"""The connections of browsers to the stand-ins, and what breaks them. No browser runs here."""

from __future__ import annotations

import json
import socket
from typing import Any
from urllib.parse import urlsplit

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from deploy.providers.webpush import protobuf
from tests.support.live import DEADLINE
from tests.support.providers import Providers

CHANNEL = "90795e80-58db-45bb-a828-4a0307f6b9cd"


def firefox(providers: Providers) -> ClientConnection:
    return connect(providers.firefox_preferences["dom.push.serverURL"], proxy=None)


def exchange(connection: ClientConnection, **message: Any) -> dict[str, Any]:
    connection.send(json.dumps(message))
    found: dict[str, Any] = json.loads(connection.recv(DEADLINE))
    return found


def test_a_browser_keeps_its_id_and_its_channel_keeps_its_endpoint(providers: Providers) -> None:
    with firefox(providers) as connection:
        hello = exchange(connection, messageType="hello", use_webpush=True)
        first = exchange(connection, messageType="register", channelID=CHANNEL)
    with firefox(providers) as connection:
        assert exchange(connection, messageType="hello", uaid=hello["uaid"])["uaid"] == hello["uaid"]
        again = exchange(connection, messageType="register", channelID=CHANNEL)
        assert again["pushEndpoint"] == first["pushEndpoint"]
        assert exchange(connection, messageType="unregister", channelID=CHANNEL)["status"] == 200
        later = exchange(connection, messageType="register", channelID=CHANNEL)
        assert later["pushEndpoint"] != first["pushEndpoint"]
        connection.send("{}")
        assert connection.recv(DEADLINE) == "{}"


def test_a_registration_needs_a_hello_and_a_key_of_65_bytes(providers: Providers) -> None:
    with firefox(providers) as connection:
        assert exchange(connection, messageType="register", channelID=CHANNEL)["status"] == 400
        exchange(connection, messageType="hello")
        assert exchange(connection, messageType="register", channelID=CHANNEL, key="AAAA")["status"] == 400


@pytest.mark.parametrize("text", ["x", "[]", '"hello"', "{"])
def test_what_is_no_message_ends_the_connection(providers: Providers, text: str) -> None:
    with firefox(providers) as connection:
        connection.send(text)
        with pytest.raises(ConnectionClosed):
            connection.recv(DEADLINE)


def test_a_malformed_message_of_chromium_ends_the_connection(providers: Providers) -> None:
    options = dict(option.removeprefix("--").split("=", 1) for option in providers.chromium_options)
    at = urlsplit(options["gcm-mcs-endpoint"])
    assert at.hostname is not None
    plain = socket.create_connection((at.hostname, at.port or 443), timeout=DEADLINE)
    with providers.tls().wrap_socket(plain, server_hostname=at.hostname) as connection:
        connection.sendall(bytes([41, 2, 1, 0xFF]))
        received = b""
        while data := _received(connection):
            received += data
        # A reset may overtake the answer to the version.
        assert received in {b"", bytes([41])}


def _received(connection: socket.socket) -> bytes:
    """Empty once the connection has ended, also by a reset."""
    try:
        return connection.recv(1024)
    except ConnectionResetError:
        return b""


@pytest.mark.parametrize("number", [0, 1, 127, 128, 300, 2**63])
def test_numbers_and_texts_are_read_as_they_were_written(number: int) -> None:
    encoded = protobuf.encode((1, number), (2, "Grüße"), (2, b"\0"))
    assert protobuf.decode(encoded) == {1: [number], 2: ["Grüße".encode(), b"\0"]}
    assert protobuf.decode(protobuf.fixed64(7, number)) == {7: [number]}


@pytest.mark.parametrize("data", [b"\x08", b"\x12\x05ab", b"\x0b", b"\x09\0", b"\x08" + b"\xff" * 10])
def test_incomplete_and_unknown_fields_are_malformed(data: bytes) -> None:
    with pytest.raises(protobuf.Malformed):
        protobuf.decode(data)
