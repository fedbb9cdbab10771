"""The link of `make dev` that turns the browser of this machine into an authenticator.

It leads to a loopback server in the process of `make dev`, which acts as a backend would: each visit begins an
enrolment and redirects to the app with its link. So the printed link works for as long as `make dev` runs, although an
enrolment without a code lives two minutes.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from sigil.sdk import SigilAuth, SigilError

ACCOUNT = "developer"
# A page that reloads for ever must not fill the server's table of enrolments with threads of this process behind them.
MAX_OPEN = 20


class BrowserEnrolments:
    """Serves the link until `close`. `enrolled(device_public_key)` is called, from a thread, for each new device."""

    def __init__(self, sigil: SigilAuth, enrolled: Callable[[str], None]) -> None:
        self._sigil = sigil
        self._enrolled = enrolled
        self._open = threading.BoundedSemaphore(MAX_OPEN)
        # Other users and pages of this machine must not begin enrolments: they would have to guess the path.
        self._path = f"/{secrets.token_urlsafe(12)}"
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://localhost:{self._http.server_port}{self._path}"

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def _begin(self) -> str:
        """The web link of a new enrolment; SigilError."""
        if not self._open.acquire(blocking=False):
            raise SigilError("too many enrolments are open: wait two minutes, and open the link again")
        try:
            enrolment = self._sigil.enrolment.begin(ACCOUNT, confirm="none", expires_in_seconds=120)
        except BaseException:
            self._open.release()
            raise
        threading.Thread(target=self._follow, args=(enrolment.enrolment_id,), daemon=True).start()
        if enrolment.web_uri is None:
            raise SigilError("the server does not serve the app: unset SIGIL_DEVICE_APP and SIGIL_PUBLIC_URL")
        return enrolment.web_uri

    def _follow(self, enrolment_id: str) -> None:
        try:
            status = self._sigil.enrolment.await_result(enrolment_id, timeout=130)
        except SigilError:
            return
        finally:
            self._open.release()
        if status.enrolled and status.device_public_key:
            self._enrolled(status.device_public_key)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        begin, path = self._begin, self._path

        class Handler(BaseHTTPRequestHandler):
            timeout = 10

            def do_GET(self) -> None:
                if not secrets.compare_digest(self.path.encode(), path.encode()):
                    self.send_error(HTTPStatus.NOT_FOUND)
                    return
                try:
                    location = begin()
                except SigilError as error:
                    self.send_error(HTTPStatus.SERVICE_UNAVAILABLE, explain=str(error))
                    return
                self.send_response(HTTPStatus.FOUND)
                self.send_header("Location", location)
                self.send_header("Cache-Control", "no-store")
                # The path is a secret of this process.
                self.send_header("Referrer-Policy", "no-referrer")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Nothing: the path is a secret of this process."""

        return Handler
