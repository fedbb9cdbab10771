"""A receiver for developers: it prints what arrives, and whether it is to be believed."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer

from sigil.sdk import SigilError, webhooks

_MOST_BYTES = 64 * 1024
_SECONDS = 10


class Listener:
    """Answers every POST with `status`, or with 400 when it is not to be believed. One request at a time."""

    def __init__(
        self, address: tuple[str, int], secrets: Sequence[str], status: int, tell: Callable[[str], None]
    ) -> None:
        self._server = HTTPServer(address, _handler(secrets, status, tell))
        host, port = self._server.server_address[:2]
        self.url = f"http://{host!s}:{port}/"

    def run(self, count: int | None) -> None:
        """For ever, or for `count` connections; Ctrl-C ends it."""
        try:
            while count is None or count > 0:
                self._server.handle_request()
                count = None if count is None else count - 1
        except KeyboardInterrupt:
            pass

    def close(self) -> None:
        self._server.server_close()


def _handler(secrets: Sequence[str], status: int, tell: Callable[[str], None]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = _SECONDS

        def do_POST(self) -> None:
            length = self.headers.get("Content-Length", "")
            body = self.rfile.read(int(length)) if length.isdecimal() and int(length) <= _MOST_BYTES else b""
            try:
                event = webhooks.verify(self.headers.items(), body, secrets)
            except SigilError as error:
                tell(f"REFUSED  {error.message}")
                self._answer(400)
            else:
                tell(f"VERIFIED {event.type}  {event.id}")
                tell(json.dumps(json.loads(body), indent=2, ensure_ascii=True))
                self._answer(status)

        def _answer(self, code: int) -> None:
            self.send_response(code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """What there is to tell is told above."""

    return Handler
