"""Connections that break in a handshake, a record, a request or a response, closed or reset."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
from types import TracebackType

import pytest

from tests.hostile.raw_client import RawClient, error_code, parse_responses

HEAD = b"POST /respond HTTP/1.1\r\nHost: sigil\r\nConnection: close\r\nContent-Type: application/json\r\n"
reset_or_closed = pytest.mark.parametrize("reset", [True, False], ids=["reset", "closed"])


def end_connection(connection: socket.socket, reset: bool) -> None:
    """With `reset` it sends a TCP reset: unread bytes are dropped on both sides."""
    if reset:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


class ManualTls:
    """A TLS client that gives access to the encrypted bytes."""

    def __init__(self, raw_client: RawClient) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = ssl.create_default_context(cafile=str(raw_client.server.certificate))
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="127.0.0.1")
        self.socket = raw_client.connect()

    def __enter__(self) -> ManualTls:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.socket.close()

    def client_hello(self) -> bytes:
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()
        return self.outgoing.read()

    def handshake(self) -> None:
        self.socket.sendall(self.client_hello())
        while True:
            self.incoming.write(self.socket.recv(1 << 16))
            with contextlib.suppress(ssl.SSLWantReadError):
                self.tls.do_handshake()
                self.socket.sendall(self.outgoing.read())
                return

    def encrypted(self, raw: bytes) -> bytes:
        self.tls.write(raw)
        return self.outgoing.read()

    def read_to_end(self) -> bytes:
        received = bytearray()
        while chunk := self.socket.recv(1 << 16):
            self.incoming.write(chunk)
            with contextlib.suppress(ssl.SSLError):
                while part := self.tls.read(1 << 16):
                    received += part
        return bytes(received)


@reset_or_closed
def test_a_handshake_that_breaks_at_any_byte_does_no_harm(raw_client: RawClient, reset: bool) -> None:
    for kept in (*range(7), *range(16, 600, 16)):
        with ManualTls(raw_client) as client:
            client.socket.sendall(client.client_hello()[:kept])
            end_connection(client.socket, reset)


def test_a_handshake_of_any_bytes_does_no_harm(raw_client: RawClient) -> None:
    starts = (
        b"\x16\x03\x01\xff\xff",
        b"\x16\x03\x01\x00\x05\x01\x00\x00\x01",
        b"\x80\x2e\x01\x03\x01",
        b"\x15\x03\x01",
    )
    for start in starts:
        with raw_client.connect() as connection:
            connection.sendall(start + b"\x00\xff" * 10_000)
    for place in range(0, 500, 7):
        with ManualTls(raw_client) as client:
            client_hello = bytearray(client.client_hello())
            client_hello[place] ^= 0xFF
            client.socket.sendall(client_hello)


@reset_or_closed
def test_a_record_that_breaks_at_any_byte_does_no_harm(raw_client: RawClient, reset: bool) -> None:
    body = b'{"signature":"' + b"A" * 200 + b'"}'
    for kept in range(1, 350, 7):
        with ManualTls(raw_client) as client:
            client.handshake()
            client.socket.sendall(client.encrypted(HEAD + b"Content-Length: %d\r\n\r\n%s" % (len(body), body))[:kept])
            end_connection(client.socket, reset)


def test_a_record_of_any_bytes_does_no_harm(raw_client: RawClient) -> None:
    for place in range(0, 120, 4):
        with ManualTls(raw_client) as client:
            client.handshake()
            record = bytearray(client.encrypted(HEAD + b"Content-Length: 2\r\n\r\n{}"))
            record[place] ^= 0xFF
            client.socket.sendall(record)


def test_half_a_body_before_a_half_closed_connection_is_rejected(raw_client: RawClient) -> None:
    with ManualTls(raw_client) as client:
        client.handshake()
        client.socket.sendall(client.encrypted(HEAD + b'Content-Length: 100\r\n\r\n{"a":'))
        client.socket.shutdown(socket.SHUT_WR)
        for answer in parse_responses(client.read_to_end()):
            assert error_code(answer) == "INVALID_REQUEST"


@reset_or_closed
def test_unread_responses_are_dropped_with_their_connection(raw_client: RawClient, reset: bool) -> None:
    """Sends 2 000 requests for 30 MB of responses, and ends the connection after the first bytes."""
    for _ in range(5):
        with raw_client.connect_tls() as connection:
            connection.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: sigil\r\n\r\n" * 2_000)
            assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200")
            end_connection(connection, reset)
