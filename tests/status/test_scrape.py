"""GET /metrics of servers that are hostile, or are none."""

from __future__ import annotations

import socket
import time

import pytest

from sigil.status.scrape import Source, Unreadable
from tests.doctor.peers import Answer, peer

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"


def sends(data: bytes) -> Answer:
    return lambda connection, _request: connection.sendall(data)


def drips(connection: socket.socket, _request: bytes) -> None:
    connection.sendall(HEAD % 100_000)
    while True:
        connection.sendall(b"x")
        time.sleep(0.05)


def floods(connection: socket.socket, _request: bytes) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        connection.sendall(b"sigil_relay_up 1\n" * 10_000)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (drips, "no answer within"),
        (floods, "the answer has no length, or over 4 MiB"),
        (sends(HEAD % (5 << 20) + b"x" * 100), "the answer has no length, or over 4 MiB"),
        (
            sends(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"),
            "the answer has no length",
        ),
        (sends(b"HTTP/1.1 200 OK\r\nContent-Length: \xb2\r\n\r\nx"), "the answer has no length"),
        (sends(HEAD % 100 + b"sigil_relay_up 1\n"), "the answer ended early"),
        (sends(b"\x1b[2J\x00\xff" * 100), "does not speak HTTP"),
        (sends(b""), "closed without an answer"),
        (
            sends(b"HTTP/1.1 302 Found\r\nLocation: http://x.test\r\nContent-Length: 0\r\n\r\n"),
            "redirects are not followed",
        ),
        (sends(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"), "it has no /metrics"),
        (sends(b"HTTP/1.1 500 \x1b[31m\r\nContent-Length: 0\r\n\r\n"), "HTTP 500: no metrics"),
    ],
)
def test_an_answer_that_is_no_exposition_is_one_line(answer: Answer, text: str) -> None:
    with peer(answer) as port, pytest.raises(Unreadable) as caught:
        Source.at(f"http://127.0.0.1:{port}", None, None).read()
    assert text in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("given", "pause"), [("40", 40.0), ("99999999", 300.0), ("-1", 0.0), ("soon", 0.0), ("9" * 50, 0.0)]
)
@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_says_how_long_to_wait_within_limits(status: int, given: str, pause: float) -> None:
    head = f"HTTP/1.1 {status} x\r\nRetry-After: {given}\r\nContent-Length: 0\r\n\r\n".encode()
    with peer(sends(head)) as port, pytest.raises(Unreadable) as caught:
        Source.at(f"http://127.0.0.1:{port}", None, None).read()
    assert caught.value.pause == pause


def test_the_time_is_that_of_the_server() -> None:
    head = b"HTTP/1.1 200 OK\r\nDate: Mon, 02 Mar 2026 14:02:11 GMT\r\nContent-Length: 17\r\n\r\nsigil_relay_up 1\n"
    with peer(sends(head)) as port:
        found = Source.at(f"http://127.0.0.1:{port}", None, None).read()
    assert found == ("sigil_relay_up 1\n", 1_772_460_131.0)
