"""One keep-alive connection to a real server, by a minimal client."""

from __future__ import annotations

import socket
import ssl
from types import TracebackType

from tests.support.live import LiveServer

_SECONDS = 30
_SUCCESS = (b"HTTP/1.1 200", b"HTTP/1.1 201")


class Connection:
    """HTTP/1.1 over TLS. Every request has the API key, which /respond ignores."""

    def __init__(self, server: LiveServer) -> None:
        tcp = socket.create_connection(("127.0.0.1", server.port), timeout=_SECONDS)
        tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket: ssl.SSLSocket = server.tls().wrap_socket(tcp, server_hostname="127.0.0.1")
        self._headers = (
            f" HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nContent-Type: application/json\r\n"
            f"Authorization: Bearer {server.api_key}\r\nContent-Length: "
        )

    def post(self, path: str, body: bytes) -> bytes:
        return self._request("POST", path, body)

    def get(self, path: str) -> bytes:
        return self._request("GET", path, b"")

    def _request(self, method: str, path: str, body: bytes) -> bytes:
        """The body of the response; RuntimeError unless the status is 200 or 201."""
        self._socket.sendall(f"{method} {path}{self._headers}{len(body)}\r\n\r\n".encode() + body)
        received = b""
        while True:
            chunk = self._socket.recv(65536)
            received += chunk
            head, found, answer = received.partition(b"\r\n\r\n")
            if found and len(answer) >= _length(head):
                break
            if not chunk:
                raise RuntimeError(f"{method} {path}: the server closed the connection")
        if not head.startswith(_SUCCESS):
            raise RuntimeError(f"{method} {path}: {received!r}")
        return answer

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()


def _length(head: bytes) -> int:
    return int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
