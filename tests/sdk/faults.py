"""A TLS server on loopback that responds by a script, one step for each request, and then forwards to a real server."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from sigil.serving.tls.self_signed import ensure_pair


class Seen(NamedTuple):
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Handler(BaseHTTPRequestHandler):
    """One connection. A step may write any bytes to `wfile`."""

    protocol_version = "HTTP/1.1"
    # Head and body are two writes; the second would wait 40 ms for the acknowledgement of the first.
    disable_nagle_algorithm = True
    server: _Listener
    seen: Seen

    def setup(self) -> None:
        self.request = self.server.owner.tls.wrap_socket(self.request, server_side=True)
        super().setup()

    def finish(self) -> None:
        super().finish()
        self.request.close()

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.seen = Seen(self.command, self.path, headers, body)
        self.server.owner.next_step(self.seen)(self)

    do_GET = do_POST = do_DELETE = _handle  # noqa: N815

    def send(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


Step = Callable[[Handler], None]


def refuse(status: int, code: str = "OVERLOADED", message: str = "Busy.", **headers: str) -> Step:
    body = json.dumps({"error": {"code": code, "message": message}}).encode()
    return lambda handler: handler.send(status, body, **headers)


def answer(status: int, body: bytes = b"", **headers: str) -> Step:
    return lambda handler: handler.send(status, body, **headers)


def cut(handler: Handler) -> None:
    handler.close_connection = True


def processed_and_cut(handler: Handler) -> None:
    """The server processes the request, and its response is lost."""
    handler.server.owner.send_upstream(handler.seen)
    handler.close_connection = True


# How long a server trickles. A client that ends earlier has hung up by itself.
TRICKLE_SECONDS = 60.0


def trickling(start: bytes, drop: bytes, every: float = 0.05, seconds: float = TRICKLE_SECONDS) -> Step:
    """Bytes arrive one after the other until the client hangs up."""

    def step(handler: Handler) -> None:
        handler.close_connection = True
        try:
            handler.wfile.write(start)
            for _ in range(int(seconds / every)):
                handler.wfile.write(drop)
                time.sleep(every)
        except OSError:
            handler.server.owner.hung_up.set()

    return step


def endless(handler: Handler) -> None:
    trickling(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n", b" " * 65536, every=0.001)(handler)


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    owner: FaultServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignored: tests make clients hang up and reject the certificate."""
        request.close()


class FaultServer:
    def __init__(self, directory: Path) -> None:
        self.certificate = directory / "cert.pem"
        ensure_pair(self.certificate, directory / "key.pem", generate=True)
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.load_cert_chain(self.certificate, directory / "key.pem")
        self.pin = x509.load_pem_x509_certificates(self.certificate.read_bytes())[0].fingerprint(hashes.SHA256()).hex()
        self.script: list[Step] = []
        self.seen: list[Seen] = []
        self.upstream: httpx.Client | None = None
        self.hung_up = threading.Event()
        self._listener = _Listener(("127.0.0.1", 0), Handler)
        self._listener.owner = self
        self.url = f"https://localhost:{self._listener.server_port}"
        self._thread = threading.Thread(target=self._listener.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> FaultServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown()
        self._listener.server_close()
        self._thread.join()

    def next_step(self, seen: Seen) -> Step:
        self.seen.append(seen)
        return self.script.pop(0) if self.script else self._forward

    def _forward(self, handler: Handler) -> None:
        if self.upstream is None:
            return refuse(500, "INTERNAL", "The script has ended.")(handler)
        response = self.send_upstream(handler.seen)
        return handler.send(response.status_code, response.content)

    def send_upstream(self, seen: Seen) -> httpx.Response:
        assert self.upstream is not None
        # With the upstream client's own API key.
        names = ("content-type", "idempotency-key")
        headers = {name: seen.headers[name] for name in names if name in seen.headers}
        return self.upstream.request(seen.method, seen.path, content=seen.body, headers=headers)
