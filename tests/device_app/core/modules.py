"""The device's core in a browser: a small server of static files, and a page that imports the modules."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol

from playwright.sync_api import Page

_HERE = Path(__file__).resolve().parent
_DEVICE = _HERE.parents[2] / "sigil" / "pages" / "device"
_ASSETS = "/assets/device/"
# As the app's, except that a test may change what is shown, and runs a relay on any port.
_POLICY = "default-src 'none'; script-src 'self' 'unsafe-eval'; connect-src 'self' http://127.0.0.1:*"
RUN = "async ([name, cases]) => (await import('/judge.js'))[name](cases)"


class Judge(Protocol):
    def __call__(self, kind: str, cases: list[Any]) -> list[Any]:
        """The outcomes of the cases, by the export `kind` of judge.js."""
        ...


class StaticFiles:
    """`with StaticFiles() as files`: the app's modules and judge.js at `files.url`, which browsers take as secure."""

    def __enter__(self) -> StaticFiles:
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self.url = f"http://localhost:{self._http.server_address[1]}"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # A connection that a browser keeps open must not keep the server from ending.
    timeout = 1

    def do_GET(self) -> None:
        found = _file(self.path)
        content, kind = found or (b"", "text/plain")
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Security-Policy", _POLICY)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Silent."""


def _file(path: str) -> tuple[bytes, str] | None:
    if path == "/":
        return b"<!doctype html><meta charset=utf-8><title>core</title>", "text/html; charset=utf-8"
    file = _HERE / "judge.js" if path == "/judge.js" else (_DEVICE / path.removeprefix(_ASSETS)).resolve()
    if file.suffix != ".js" or not file.is_relative_to(_DEVICE if path.startswith(_ASSETS) else _HERE):
        return None
    return (file.read_bytes(), "text/javascript; charset=utf-8") if file.is_file() else None


def judge_of(page: Page) -> Judge:
    def judge(kind: str, cases: list[Any]) -> list[Any]:
        outcomes: list[Any] = page.evaluate(RUN, [kind, cases])
        assert len(outcomes) == len(cases)
        return outcomes

    return judge
