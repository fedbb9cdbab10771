"""Connections that break: in a handshake, a record, a request or an answer, with a farewell or without."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
from types import TracebackType

import pytest

from tests.hostile.stranger import Stranger, answers, code_of

HEAD = b"POST /respond HTTP/1.1\r\nHost: sigil\r\nConnection: close\r\nContent-Type: application/json\r\n"
both_ways = pytest.mark.parametrize("rude", [True, False], ids=["reset", "closed"])


def end(connection: socket.socket, rude: bool) -> None:
    """A rude end is a reset: what was not read yet is thrown away on both sides."""
    if rude:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


class ByHand:
    """TLS whose bytes go through our hands."""

    def __init__(self, stranger: Stranger) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = ssl.create_default_context(cafile=str(stranger.server.certificate))
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="127.0.0.1")
        self.socket = stranger.connect()

    def __enter__(self) -> ByHand:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.socket.close()

    def hello(self) -> bytes:
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()
        return self.outgoing.read()

    def shake_hands(self) -> None:
        self.socket.sendall(self.hello())
        while True:
            self.incoming.write(self.socket.recv(1 << 16))
            with contextlib.suppress(ssl.SSLWantReadError):
                self.tls.do_handshake()
                self.socket.sendall(self.outgoing.read())
                return

    def encrypted(self, raw: bytes) -> bytes:
        self.tls.write(raw)
        return self.outgoing.read()

    def all_that_comes(self) -> bytes:
        heard = bytearray()
        while piece := self.socket.recv(1 << 16):
            self.incoming.write(piece)
            with contextlib.suppress(ssl.SSLError):
                while part := self.tls.read(1 << 16):
                    heard += part
        return bytes(heard)


@both_ways
def test_a_handshake_may_break_at_any_byte(stranger: Stranger, rude: bool) -> None:
    for kept in (*range(7), *range(16, 600, 16)):
        with ByHand(stranger) as hand:
            hand.socket.sendall(hand.hello()[:kept])
            end(hand.socket, rude)


def test_a_handshake_may_be_of_any_bytes(stranger: Stranger) -> None:
    starts = (
        b"\x16\x03\x01\xff\xff",
        b"\x16\x03\x01\x00\x05\x01\x00\x00\x01",
        b"\x80\x2e\x01\x03\x01",
        b"\x15\x03\x01",
    )
    for start in starts:
        with stranger.connect() as connection:
            connection.sendall(start + b"\x00\xff" * 10_000)
    for place in range(0, 500, 7):
        with ByHand(stranger) as hand:
            hello = bytearray(hand.hello())
            hello[place] ^= 0xFF
            hand.socket.sendall(hello)


@both_ways
def test_a_record_may_break_at_any_byte(stranger: Stranger, rude: bool) -> None:
    body = b'{"signature":"' + b"A" * 200 + b'"}'
    for kept in range(1, 350, 7):
        with ByHand(stranger) as hand:
            hand.shake_hands()
            hand.socket.sendall(hand.encrypted(HEAD + b"Content-Length: %d\r\n\r\n%s" % (len(body), body))[:kept])
            end(hand.socket, rude)


def test_a_record_may_be_of_any_bytes(stranger: Stranger) -> None:
    for place in range(0, 120, 4):
        with ByHand(stranger) as hand:
            hand.shake_hands()
            record = bytearray(hand.encrypted(HEAD + b"Content-Length: 2\r\n\r\n{}"))
            record[place] ^= 0xFF
            hand.socket.sendall(record)


def test_half_a_body_of_a_client_that_then_only_listens_is_refused_or_the_end(stranger: Stranger) -> None:
    with ByHand(stranger) as hand:
        hand.shake_hands()
        hand.socket.sendall(hand.encrypted(HEAD + b'Content-Length: 100\r\n\r\n{"a":'))
        hand.socket.shutdown(socket.SHUT_WR)
        for answer in answers(hand.all_that_comes()):
            assert code_of(answer) == "INVALID_REQUEST"


@both_ways
def test_answers_that_nobody_reads_are_forgotten(stranger: Stranger, rude: bool) -> None:
    """2 000 requests, 30 MB of answers, and an end after the first of them."""
    for _ in range(5):
        with stranger.secured() as connection:
            connection.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: sigil\r\n\r\n" * 2_000)
            assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200")
            end(connection, rude)
