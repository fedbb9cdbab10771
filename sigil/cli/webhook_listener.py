"""A webhook receiver for developers: it prints each request, and whether its signature is valid."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer

from sigil.sdk import SigilError, webhooks

_MAX_BYTES = 64 * 1024
_TIMEOUT_SECONDS = 10


class Listener:
    """Responds to each POST with `status`, or with 400 when the signature is invalid. One request at a time.

    `write` prints one line.
    """

    def __init__(
        self, address: tuple[str, int], secrets: Sequence[str], status: int, write: Callable[[str], None]
    ) -> None:
        self._server = HTTPServer(address, _handler(secrets, status, write))
        host, port = self._server.server_address[:2]
        self.url = f"http://{host!s}:{port}/"

    def run(self, count: int | None) -> None:
        """Serve `count` connections, or until Ctrl-C."""
        try:
            while count is None or count > 0:
                self._server.handle_request()
                count = None if count is None else count - 1
        except KeyboardInterrupt:
            pass

    def close(self) -> None:
        self._server.server_close()


def _handler(secrets: Sequence[str], status: int, write: Callable[[str], None]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = _TIMEOUT_SECONDS

        def do_POST(self) -> None:
            length = self.headers.get("Content-Length", "")
            body = self.rfile.read(int(length)) if length.isdecimal() and int(length) <= _MAX_BYTES else b""
            try:
                event = webhooks.verify(self.headers.items(), body, secrets)
            except SigilError as error:
                write(f"REFUSED  {error.message}")
                self._respond(400)
            else:
                write(f"VERIFIED {event.type}  {event.id}")
                write(json.dumps(json.loads(body), indent=2, ensure_ascii=True))
                self._respond(status)

        def _respond(self, code: int) -> None:
            self.send_response(code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """`do_POST` prints the requests."""

    return Handler
