"""A TLS server with canned responses, and one user of the scenario that sends its requests to it."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec

from loadtest.locust_run.outcome import Settings
from sigil.serving.tls.self_signed import ensure_pair

ROOT = Path(__file__).resolve().parents[2]

# Locust patches the process that imports it, so it runs in a subprocess. The tests know the key of its device.
_ONE_CHALLENGE = """
import json, sys
from loadtest.locust_run import scenario
from locust.env import Environment
from sigil.device import Device

scenario._PAUSE_SECONDS = 0
scenario.ChallengeUser.host = sys.argv[1]
environment, found = Environment(), []
environment.events.request.add_listener(lambda name, exception, **_: found.append([name, exception and str(exception)]))
user = scenario.ChallengeUser(environment)
user.on_start()
if found == [["connect", None]]:
    user.device = Device.from_secret("ES256", bytes([7] * 32))
    user.challenge()
print(json.dumps(found))
"""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    answers: dict[str, tuple[int, bytes]]

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        status, body = self.answers[self.path]
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def canned_server(folder: Path, answers: dict[str, tuple[int, bytes]], host: str = "127.0.0.1") -> Iterator[str]:
    """Yields its URL. The certificate is folder/cert.pem, for 127.0.0.1."""
    ensure_pair(folder / "cert.pem", folder / "key.pem", generate=True)
    server = ThreadingHTTPServer((host, 0), type("Handler", (_Handler,), {"answers": answers}))
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"https://{host}:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def run_one_challenge(url: str, ca: Path | None) -> list[tuple[str, str | None]]:
    """The requests that Locust recorded: name and failure of each."""
    settings = Settings("ES256", str(ca) if ca else None, 1, "", "")
    environ = {
        "PATH": os.environ["PATH"],
        "SIGIL_LOAD": msgspec.json.encode(settings).decode(),
        "SIGIL_API_KEY": "sgk_test_none",
    }
    command = [sys.executable, "-c", _ONE_CHALLENGE, url]
    finished = subprocess.run(command, env=environ, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert finished.returncode == 0, finished.stderr
    return [(name, failure) for name, failure in json.loads(finished.stdout)]
