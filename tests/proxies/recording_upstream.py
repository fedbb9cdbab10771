"""A TLS server of HTTP/1.1 that shows what a proxy sends: heads of requests, connections, and who closes them."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from tests.proxies.running import Upstream, write_pair

_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


@dataclass
class Connection:
    heads: list[bytes] = field(default_factory=list)
    closed_after: float | None = None
    """Seconds of idleness after which the proxy closed it."""


class RecordingUpstream:
    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="sigil-upstream-")
        folder = Path(self._folder.name)
        folder.chmod(0o755)
        write_pair(folder, "localhost")
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(folder / "cert.pem", folder / "key.pem")
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.upstream = Upstream(f"127.0.0.1:{self._socket.getsockname()[1]}", folder / "cert.pem")
        self.connections: list[Connection] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> RecordingUpstream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # shutdown() ends an accept() that waits; close() alone would not.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._folder.cleanup()

    def heads(self) -> list[bytes]:
        return [head for connection in self.connections for head in connection.heads]

    def _accept(self) -> None:
        while True:
            try:
                plain, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(plain,), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        with contextlib.suppress(OSError), self._tls.wrap_socket(plain, server_side=True) as connection:
            record = Connection()
            self.connections.append(record)
            received, since = b"", time.monotonic()
            while piece := connection.recv(65_536):
                received += piece
                while b"\r\n\r\n" in received:
                    head, _, received = received.partition(b"\r\n\r\n")
                    record.heads.append(head)
                    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
                    while length and len(received) < int(length[1]):
                        received += connection.recv(65_536) or b"\0" * int(length[1])
                    received = received[int(length[1]) :] if length else received
                    connection.sendall(_ANSWER)
                since = time.monotonic()
            record.closed_after = time.monotonic() - since
