"""A real relay for tests and load runs, `sigil-relay serve` as a subprocess on loopback, and a server it trusts."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
import msgspec

from sigil.protocol import signed_bytes
from sigil.protocol.encoding.text import encode_base64
from sigil.protocol.identity import DerivedSecrets, ServerIdentity, generate_mnemonic
from sigil.protocol.messages import relay as messages
from tests.support.live import DEADLINE, wait_until, with_redirections
from tests.support.ports import free_port


class LiveRelay:
    """`with LiveRelay() as relay: …` on SQLite; settings are environment variables over the defaults below."""

    def __init__(self, **settings: str) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="relay-live-"))
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.ws_url = f"ws://127.0.0.1:{settings.get('RELAY_WS_PORT', self.port)}/ws"
        self.log_path = self.directory / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self.setup = ""
        """Redirections of a shell that starts the relay; `log_is_lost`: it is ready when it answers."""
        self.log_is_lost = False
        self.environ = {
            "PATH": os.environ.get("PATH", ""),
            "RELAY_HOST": "127.0.0.1",
            "RELAY_PORT": str(self.port),
            "RELAY_DATA_DIR": str(self.directory / "data"),
            "RELAY_PUBLIC_URL": self.url,
            "RELAY_TRUST_ON_FIRST_USE": "true",
            **settings,
        }

    def __enter__(self) -> LiveRelay:
        try:
            return self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise

    def start(self) -> LiveRelay:
        """Start, or start again on the data of the previous run, and wait until all workers are ready."""
        ready = len(self.events("worker_ready"))
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                with_redirections([sys.executable, "-m", "relay", "serve"], self.setup),
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=Path(__file__).parents[2],
            )
        if self.log_is_lost:
            wait_until(lambda: self._alive() and self._answers(), "the relay's health")
            return self
        workers = int(self.environ.get("RELAY_WORKERS", "1"))
        wait_until(lambda: self._alive() and len(self.events("worker_ready")) >= ready + workers, "the relay's workers")
        return self

    def _alive(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"the relay ended: {self.log_path.read_text()}"
        return True

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return client.get("/health").status_code == 200
        except httpx.HTTPError:
            return False

    @property
    def ended(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def client(self, **options: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url, trust_env=False, timeout=DEADLINE, **options)

    def events(self, name: str) -> list[dict[str, Any]]:
        found = []
        for line in self.log_path.read_text().splitlines() if self.log_path.exists() else []:
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
        return [line for line in found if line["event"] == name]

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(DEADLINE)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait(DEADLINE)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None and self._process.poll() is None:
            self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)


class Server:
    """A server that signs its requests to a relay."""

    def __init__(self, client: httpx.Client, identity: ServerIdentity | None = None) -> None:
        self.identity = identity or ServerIdentity.from_secrets(DerivedSecrets.from_mnemonic(generate_mnemonic()))
        self.client = client

    def headers(self, method: str, target: str, body: bytes, **changed: str) -> dict[str, str]:
        """The four headers; `changed` replaces timestamp or nonce before it is signed."""
        timestamp = changed.get("timestamp", str(int(time.time())))
        nonce = changed.get("nonce", secrets.token_hex(16))
        message = signed_bytes.relay_request(method, target, timestamp, nonce, body)
        return {
            "X-Sigil-Server-Id": self.identity.server_id,
            "X-Sigil-Timestamp": timestamp,
            "X-Sigil-Nonce": nonce,
            "X-Sigil-Request-Signature": encode_base64(self.identity.keys["ES256"].sign(message)),
            "Content-Type": "application/json",
        }

    def post(self, target: str, message: Any, **changed: str) -> httpx.Response:
        body = message if isinstance(message, bytes) else msgspec.json.encode(message)
        return self.client.post(target, content=body, headers=self.headers("POST", target, body, **changed))

    def register(self) -> httpx.Response:
        key = self.identity.server_public_keys["ES256"]
        return self.post("/servers/register", messages.RegisterServer(self.identity.server_id, key, "Test"))

    def push(self, *pushes: dict[str, Any]) -> list[dict[str, Any]]:
        answer = self.post("/push", {"pushes": list(pushes)})
        assert answer.status_code == 200, answer.text
        results: list[dict[str, Any]] = answer.json()["results"]
        return results
