"""A client that sends raw bytes over TLS, and parses the responses by the rules of HTTP and of the protocol."""

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
    403: {"NOT_ELIGIBLE", "ATTESTATION_REQUIRED", "ATTESTATION_INVALID", "WRONG_CODE"},
    404: {"CHALLENGE_NOT_FOUND", "MPA_NOT_FOUND", "ENROLMENT_NOT_FOUND", "NOT_FOUND"},
    405: {"METHOD_NOT_ALLOWED"},
    409: {
        "CHALLENGE_ALREADY_USED",
        "ALREADY_ANSWERED",
        "MPA_CLOSED",
        "IDEMPOTENCY_CONFLICT",
        "REQUEST_ID_CONFLICT",
        "ENROLMENT_CLAIMED",
        "ENROLMENT_CLOSED",
    },
    410: {"CHALLENGE_EXPIRED", "MPA_EXPIRED", "ENROLMENT_EXPIRED"},
    413: {"PAYLOAD_TOO_LARGE"},
    415: {"UNSUPPORTED_MEDIA_TYPE"},
    429: {"TOO_MANY_PENDING", "RATE_LIMITED"},
    503: {"OVERLOADED", "NOT_INITIALIZED"},
}


@dataclass(frozen=True)
class RawResponse:
    status: int
    headers: Mapping[str, str]
    body: bytes


def error_code(answer: RawResponse) -> str:
    """The code of an error response; AssertionError unless it has the form of section 4."""
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


def parse_responses(raw: bytes, methods: Sequence[str] = ()) -> list[RawResponse]:
    """Parses the HTTP/1 responses in a stream. `methods` are those of the requests: a response to HEAD has no body."""
    responses: list[RawResponse] = []
    while raw:
        head, _, raw = raw.partition(b"\r\n\r\n")
        line, *fields = head.decode("latin-1").split("\r\n")
        assert line.startswith(("HTTP/1.0 ", "HTTP/1.1 ")), line
        headers = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
        status = int(line.split(" ")[1])
        if status < 200:
            continue
        head_only = methods[len(responses) : len(responses) + 1] == ["HEAD"]
        size = 0 if head_only else int(headers.get("content-length", "0"))
        assert len(raw) >= size, "the connection ended within a response"
        responses.append(RawResponse(status, headers, raw[:size]))
        raw = raw[size:]
    return responses


@cache
def tls_context(certificate: str, protocol: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=certificate)
    context.set_alpn_protocols([protocol])
    return context


class RawClient:
    """Opens connections from 127.0.0.1; each is used once."""

    def __init__(self, server: LiveServer) -> None:
        self.server = server

    def connect(self) -> socket.socket:
        """A TCP connection without TLS."""
        return socket.create_connection(("127.0.0.1", self.server.port), timeout=DEADLINE)

    def connect_tls(self, protocol: str = "http/1.1") -> ssl.SSLSocket:
        context = tls_context(str(self.server.certificate), protocol)
        return context.wrap_socket(self.connect(), server_hostname="127.0.0.1")

    def exchange(self, raw: bytes, protocol: str = "http/1.1", enough: Callable[[bytes], bool] = bool) -> bytes:
        """Sends and reads at the same time, until the server closes, or all is sent and `enough(received)` is true.

        Bytes that the server no longer reads are dropped: it may have ended the connection on purpose.
        """
        closing = enough is bool
        with self.connect_tls(protocol) as connection:
            connection.setblocking(False)
            unsent, received = memoryview(raw), bytearray()
            while closing or unsent or not enough(received):
                unsent = _send(connection, unsent)
                try:
                    chunk = connection.recv(1 << 16)
                except ssl.SSLWantReadError:
                    ready = select.select([connection], [connection] if unsent else [], [], DEADLINE)
                    assert any(ready), f"neither a response nor an end after {bytes(received[-300:])!r}"
                    continue
                except OSError:
                    break
                if not chunk:
                    break
                received += chunk
            return bytes(received)

    def responses(self, raw: bytes, *methods: str) -> list[RawResponse]:
        """The responses to HTTP/1 requests, of which the last one closes the connection."""
        return parse_responses(self.exchange(raw), list(methods))


def _send(connection: ssl.SSLSocket, unsent: memoryview) -> memoryview:
    try:
        return unsent[connection.send(unsent[: 1 << 14]) :] if unsent else unsent
    except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
        return unsent
    except OSError:
        return memoryview(b"")
