"""A relay in the test's own process. It accepts only requests that are signed according to the protocol, stores pushes
by their key, and responds as the test sets it up."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from sigil.protocol import signed_bytes
from sigil.protocol.encoding.text import decode_base64
from sigil.protocol.keys import PublicKey

Push = dict[str, Any]


class StandInRelay:
    """`with StandInRelay() as relay: …`

    `status_for(push)` is the status of a new push. `fault` is the HTTP status of every response, or "hang": then no
    request gets a response until `fault` changes. `violations` are requests that a relay would reject. `tls` serves
    https, `ahead` are the seconds of its clock in Date headers, `date` replaces them; a response comes after `delay`.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.ahead = 0.0
        self.date: str | None = None
        self.delay = 0.0
        self.status_for: Callable[[Push], str] = lambda push: "delivered"
        self.fault: int | str | None = None
        self.pushes: list[Push] = []
        self.tries: Counter[str] = Counter()
        self.queried_keys: list[str] = []
        self.requests: Counter[str] = Counter()
        self.outcomes: dict[str, str] = {}
        self.servers: dict[str, PublicKey] = {}
        self.violations: list[str] = []
        self.port = 0
        self._nonces: set[str] = set()
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        self._server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def __enter__(self) -> StandInRelay:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        """Listen; after a stop on the same port."""
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), self._handler())
        self._server.daemon_threads = True
        if self._tls is not None:
            self._server.socket = self._tls.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Stop listening, and close all connections. Servers and pushes are kept."""
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()
        with self._lock:
            for connection in self._connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def forget_servers(self) -> None:
        with self._lock:
            self.servers.clear()

    def accepted_keys(self) -> list[str]:
        """Keys of the accepted pushes, in order."""
        with self._lock:
            return [push["push_key"] for push in self.pushes]

    def answer(self, path: str, headers: Any, body: bytes) -> tuple[int, Any]:
        with self._lock:
            self.requests[path] += 1
        while self.fault == "hang":
            time.sleep(0.01)
        with self._lock:
            if isinstance(self.fault, int):
                return self.fault, {"error": {"code": "OVERLOADED", "message": "for the test"}}
            message = json.loads(body)
            key = self._key(path, message, headers["X-Sigil-Server-Id"])
            if key is None:
                return 401, {"error": {"code": "UNAUTHORIZED", "message": "not known"}}
            self._check(path, headers, body, key)
            return 200, self._handle(path, message)

    def _key(self, path: str, message: Any, server_id: str) -> PublicKey | None:
        if path == "/servers/register":
            key = PublicKey.parse(decode_base64(message["server_public_key"], "server_public_key"))
            if not key.fingerprint == message["server_id"] == server_id:
                self.violations.append("a server_id that is not the fingerprint of its key")
            self.servers[server_id] = key
        return self.servers.get(server_id)

    def _check(self, path: str, headers: Any, body: bytes, key: PublicKey) -> None:
        timestamp, nonce = headers["X-Sigil-Timestamp"], headers["X-Sigil-Nonce"]
        signature = decode_base64(headers["X-Sigil-Request-Signature"], "signature")
        if not key.verify(signed_bytes.relay_request("POST", path, timestamp, nonce, body), signature):
            self.violations.append("a wrong signature")
        if abs(time.time() - int(timestamp)) > 60:
            self.violations.append("a timestamp that is off by over 60 s")
        if len(bytes.fromhex(nonce)) != 16 or nonce in self._nonces:
            self.violations.append("a nonce that is malformed or repeated")
        if headers["Content-Type"] != "application/json":
            self.violations.append("a body of another type")
        self._nonces.add(nonce)

    def _handle(self, path: str, message: Any) -> Any:
        if path == "/servers/register":
            return {"server_id": message["server_id"], "status": "registered"}
        if path == "/push/outcomes":
            self.queried_keys += message["push_keys"]
            return {"results": [self._outcome(key) for key in message["push_keys"]]}
        if not 1 <= len(message["pushes"]) <= 200:
            self.violations.append("too many pushes, or none")
        return {"results": [self._accept(push) for push in message["pushes"]]}

    def _outcome(self, key: str) -> Any:
        if key not in self.outcomes:
            return {"fingerprint": "", "status": "failed", "error": "unknown"}
        return {"fingerprint": "", "status": self.outcomes[key]}

    def _accept(self, push: Push) -> Any:
        key = push["push_key"]
        self.tries[key] += 1
        status = self.outcomes.get(key)
        if status is None:
            status = self.status_for(push)
            if status in {"queued", "delivered"}:
                self.outcomes[key] = status
                self.pushes.append(push)
        return {"fingerprint": push["fingerprint"], "status": status}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        relay = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                with relay._lock:
                    relay._connections.add(self.connection)

            def finish(self) -> None:
                with relay._lock:
                    relay._connections.discard(self.connection)
                with contextlib.suppress(OSError):
                    super().finish()

            def handle(self) -> None:
                with contextlib.suppress(OSError):
                    super().handle()

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                time.sleep(relay.delay)
                status, answer = relay.answer(self.path, self.headers, body)
                data = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def date_time_string(self, timestamp: float | None = None) -> str:
                return relay.date or super().date_time_string((timestamp or time.time()) + relay.ahead)

            def log_message(self, *_: Any) -> None:
                pass

        return Handler
