"""A client that keeps to nothing: raw bytes over TLS, and what came back, read by the rules of HTTP and of Sigil."""

from __future__ import annotations

import json
import select
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from tests.support.live import DEADLINE, LiveServer

# docs/protocol.md, section 4.
CODES = {
    400: {"INVALID_REQUEST", "INVALID_PUBLIC_KEY", "FINGERPRINT_MISMATCH"},
    401: {"UNAUTHORIZED", "INVALID_SIGNATURE"},
    403: {"NOT_ELIGIBLE", "ATTESTATION_REQUIRED"},
    404: {"CHALLENGE_NOT_FOUND", "MPA_NOT_FOUND", "NOT_FOUND"},
    405: {"METHOD_NOT_ALLOWED"},
    409: {"CHALLENGE_ALREADY_USED", "ALREADY_ANSWERED", "MPA_CLOSED", "IDEMPOTENCY_CONFLICT", "REQUEST_ID_CONFLICT"},
    410: {"CHALLENGE_EXPIRED", "MPA_EXPIRED"},
    413: {"PAYLOAD_TOO_LARGE"},
    415: {"UNSUPPORTED_MEDIA_TYPE"},
    429: {"TOO_MANY_PENDING", "RATE_LIMITED"},
    503: {"OVERLOADED", "NOT_INITIALIZED"},
}


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


def code_of(answer: Answer) -> str:
    """The code of an error of the form that section 4 gives; AssertionError for every other form."""
    assert answer.headers["content-type"] == "application/json", answer
    document = json.loads(answer.body)
    assert set(document) == {"error"}, answer
    error = document["error"]
    assert {"code", "message"} <= set(error) <= {"code", "message", "details"}, answer
    assert error["code"] in CODES[answer.status], answer
    assert "Traceback" not in error["message"]
    assert answer.status not in {429, 503} or int(answer.headers["retry-after"]) > 0, answer
    code: str = error["code"]
    return code


def answers(raw: bytes, methods: Sequence[str] = ()) -> list[Answer]:
    """The replies of HTTP/1 in a stream; `methods` of the requests, since a reply to HEAD has no body."""
    found: list[Answer] = []
    while raw:
        head, _, raw = raw.partition(b"\r\n\r\n")
        line, *fields = head.decode("latin-1").split("\r\n")
        assert line.startswith(("HTTP/1.0 ", "HTTP/1.1 ")), line
        headers = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
        status = int(line.split(" ")[1])
        if status < 200:
            continue
        head_only = methods[len(found) : len(found) + 1] == ["HEAD"]
        size = 0 if head_only else int(headers.get("content-length", "0"))
        assert len(raw) >= size, "the connection ended in the middle of an answer"
        found.append(Answer(status, headers, raw[:size]))
        raw = raw[size:]
    return found


@cache
def tls(certificate: str, protocol: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=certificate)
    context.set_alpn_protocols([protocol])
    return context


class Stranger:
    """Connections from 127.0.0.1, of which each is used once."""

    def __init__(self, server: LiveServer) -> None:
        self.server = server

    def connect(self) -> socket.socket:
        """TCP alone."""
        return socket.create_connection(("127.0.0.1", self.server.port), timeout=DEADLINE)

    def secured(self, protocol: str = "http/1.1") -> ssl.SSLSocket:
        context = tls(str(self.server.certificate), protocol)
        return context.wrap_socket(self.connect(), server_hostname="127.0.0.1")

    def exchange(self, raw: bytes, protocol: str = "http/1.1", enough: Callable[[bytes], bool] = bool) -> bytes:
        """Sends while it reads, and gives what came until the server closed, or `enough` was sent and came.

        Bytes that the server does not take any more are dropped: it may have heard enough.
        """
        closing = enough is bool
        with self.secured(protocol) as connection:
            connection.setblocking(False)
            left, received = memoryview(raw), bytearray()
            while closing or left or not enough(received):
                left = _send(connection, left)
                try:
                    piece = connection.recv(1 << 16)
                except ssl.SSLWantReadError:
                    ready = select.select([connection], [connection] if left else [], [], DEADLINE)
                    assert any(ready), f"neither an answer nor an end after {bytes(received[-300:])!r}"
                    continue
                except OSError:
                    break
                if not piece:
                    break
                received += piece
            return bytes(received)

    def answers(self, raw: bytes, *methods: str) -> list[Answer]:
        """To requests of HTTP/1, of which the last one closes the connection."""
        return answers(self.exchange(raw), list(methods))


def _send(connection: ssl.SSLSocket, left: memoryview) -> memoryview:
    try:
        return left[connection.send(left[: 1 << 14]) :] if left else left
    except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
        return left
    except OSError:
        return memoryview(b"")
