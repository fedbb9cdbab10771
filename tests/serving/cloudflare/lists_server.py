"""A real https server on loopback with the two lists; a test scripts its responses."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from sigil.serving.cloudflare.ranges import EMBEDDED
from sigil.serving.tls.self_signed import ensure_pair

EMBEDDED_TEXT = {
    version: "\n".join(str(network) for network in EMBEDDED if network.version == version) for version in (4, 6)
}
Script = Callable[[BaseHTTPRequestHandler], None]


class ListsServer:
    """`lists` are served unless `script` is set, which then writes each response. `paths` are those of the requests."""

    def __init__(self, certificate: Path, port: int) -> None:
        self.certificate = certificate
        self.url = f"https://localhost:{port}"
        self.port = port
        self.lists = {f"/ips-v{version}": text.encode() for version, text in EMBEDDED_TEXT.items()}
        self.script: Script | None = None
        self.paths: list[str] = []
        self.ended = threading.Event()

    def respond(self, handler: BaseHTTPRequestHandler) -> None:
        self.paths.append(handler.path)
        if self.script is not None:
            self.script(handler)
        else:
            send(handler, self.lists[handler.path])


@contextmanager
def lists_server(folder: Path) -> Iterator[ListsServer]:
    """With cert.pem and key.pem of the folder, or a new pair for localhost."""
    certificate, key = folder / "cert.pem", folder / "key.pem"
    ensure_pair(certificate, key, generate=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            server.respond(self)

        def log_message(self, *_: object) -> None:
            """Tests read `paths`."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """A client that rejects the certificate, or hangs up."""

        def finish_request(self, request: object, client_address: object) -> None:
            request.settimeout(60)  # type: ignore[attr-defined]
            wrapped = context.wrap_socket(request, server_side=True)  # type: ignore[arg-type]
            try:
                super().finish_request(wrapped, client_address)  # type: ignore[arg-type]
            finally:
                wrapped.close()

    with Server(("127.0.0.1", 0), Handler) as http:
        server = ListsServer(certificate, http.server_address[1])
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.ended.set()
            http.shutdown()
            thread.join(10)


def send(handler: BaseHTTPRequestHandler, body: bytes, status: int = 200, **headers: str) -> None:
    handler.send_response(status)
    for name, value in {"Content_Length": str(len(body)), **headers}.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


def lists_with(ipv4: str = EMBEDDED_TEXT[4], ipv6: str = EMBEDDED_TEXT[6]) -> Script:
    return lambda handler: send(handler, (ipv4 if handler.path == "/ips-v4" else ipv6).encode())


def redirect(location: str) -> Script:
    return lambda handler: send(handler, b"", 301, Location=location)


def redirect_once(to_path: str) -> Script:
    """As Cloudflare's own address may do: /ips-v4 to /ips-v4/."""

    def respond(handler: BaseHTTPRequestHandler) -> None:
        if handler.path.endswith(to_path):
            send(handler, EMBEDDED_TEXT[4 if "v4" in handler.path else 6].encode())
        else:
            send(handler, b"", 301, Location=handler.path + to_path)

    return respond


def cut_off(handler: BaseHTTPRequestHandler) -> None:
    """The connection ends after half of the announced body."""
    body = EMBEDDED_TEXT[4].encode()
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body[: len(body) // 2])
    handler.close_connection = True


def without_length(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Connection", "close")
    handler.end_headers()
    handler.wfile.write(EMBEDDED_TEXT[4].encode())
    handler.close_connection = True


def chunked(*chunks: bytes, end: bool = True) -> Script:
    def respond(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        body = chunks if handler.path == "/ips-v4" else (EMBEDDED_TEXT[6].encode(),)
        for chunk in body:
            handler.wfile.write(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
        if end:
            handler.wfile.write(b"0\r\n\r\n")
        handler.close_connection = True

    return respond


def slow(ended: threading.Event) -> Script:
    """A byte at a time, so that no time-out of a single read ends it."""

    def respond(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not ended.wait(0.1):
            handler.wfile.write(b"1")

    return respond
