"""A real server for flow tests, benchmarks and load runs: `sigil serve` as a subprocess on loopback, over TLS."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import httpx

from sigil.protocol.api_key import issue_api_key
from sigil.protocol.identity import DerivedSecrets, ServerIdentity, generate_mnemonic
from tests.support import openapi
from tests.support.ports import free_port

DEADLINE = 120.0


def wait_until(condition: Callable[[], Any], what: str, seconds: float = DEADLINE) -> Any:
    """The first true value of `condition`, which is polled every 20 ms; AssertionError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {seconds} s for: {what}"
        time.sleep(0.02)
    return value


def with_redirections(command: list[str], redirections: str) -> list[str]:
    return ["sh", "-c", f'exec "$@" {redirections}', "sh", *command] if redirections else command


def _open_files(pid: int) -> set[str]:
    names = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            names.add(str(link.readlink()))
    return names


class LiveServer:
    """`with LiveServer(workers=2) as server: …`; settings are environment variables over the defaults below."""

    def __init__(self, *, workers: int = 2, mnemonic: str | None = None, **settings: str) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="sigil-live-"))
        self.port = free_port()
        self.url = f"https://127.0.0.1:{self.port}"
        self.mnemonic = mnemonic or generate_mnemonic()
        secrets = DerivedSecrets.from_mnemonic(self.mnemonic)
        self.identity = ServerIdentity.from_secrets(secrets)
        self.api_key = issue_api_key(secrets.api_key, "sgk_test_", os.urandom(16))
        self.log_path = self.directory / "log"
        self._async_tls: ssl.SSLContext | None = None
        self.user: int | None = None
        """Whose process the server is; None for this process's user."""
        self.setup = ""
        """Redirections of a shell that starts the server."""
        self._process: subprocess.Popen[bytes] | None = None
        mnemonic_file = self.directory / "mnemonic"
        mnemonic_file.touch(0o600)
        mnemonic_file.write_text(self.mnemonic)
        memory = Path("/dev/shm")
        self.state = (memory if memory.is_dir() else self.directory) / self.directory.name
        self.certificate = self.directory / "tls" / "cert.pem"
        self.environ = {
            "PATH": os.environ.get("PATH", ""),
            "SIGIL_MNEMONIC_PATH": str(mnemonic_file),
            "SIGIL_HOST": "127.0.0.1",
            "SIGIL_PORT": str(self.port),
            "SIGIL_WORKERS": str(workers),
            "SIGIL_STATE_DIR": str(self.state),
            "SIGIL_STATE_DIR_INSECURE": str(not memory.is_dir()).lower(),
            "SIGIL_STORE_SIZE": "128MiB",
            "TLS_CERT_PATH": str(self.certificate),
            "TLS_KEY_PATH": str(self.directory / "tls" / "key.pem"),
            "RELAY_URL": "",
            **settings,
        }

    def __enter__(self) -> LiveServer:
        try:
            return self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise

    def start(self) -> LiveServer:
        """Starts the server, also on the state of an earlier run, and waits until it is healthy."""
        with self.open_log() as log:
            self._process = subprocess.Popen(
                with_redirections([sys.executable, "-m", "sigil", "serve"], self.setup),
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=Path(__file__).parents[2],
                user=self.user,
                group=self.user,
                extra_groups=None if self.user is None else [],
            )
        wait_until(self._is_healthy, "the server to answer /health")
        return self

    def open_log(self) -> IO[bytes]:
        """Where the server's standard output and error go."""
        return self.log_path.open("ab")

    def _is_healthy(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"the server ended: {self.log_path.read_text()}"
        try:
            if not self.certificate.exists():
                return False
            with self.client() as client:
                return client.get("/health").status_code == 200
        except httpx.HTTPError:
            return False

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def workers(self) -> list[int]:
        """Process ids of the workers that are ready."""
        markers = (self.state / "workers").iterdir()
        return sorted(int(marker.name) for marker in markers if Path(f"/proc/{marker.name}").exists())

    def worker_of(self, client_port: int) -> int:
        """Process id of the worker that holds the connection from a port of 127.0.0.1 (Linux)."""
        rows = [line.split() for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]]
        ends = (f"0100007F:{self.port:04X}", f"0100007F:{client_port:04X}")
        inode = next(row[9] for row in rows if (row[1], row[2]) == ends)
        return next(pid for pid in self.workers() if f"socket:[{inode}]" in _open_files(pid))

    def tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.certificate))

    def client(self, **options: Any) -> httpx.Client:
        """Without API key. It trusts the server's certificate, and checks responses against the OpenAPI document."""
        hooks = {"response": [openapi.check]}
        return httpx.Client(
            base_url=self.url, verify=self.tls(), trust_env=False, timeout=DEADLINE, event_hooks=hooks, **options
        )

    def authorised(self, **options: Any) -> httpx.Client:
        return self.client(headers={"Authorization": f"Bearer {self.api_key}"}, **options)

    def async_client(self, **options: Any) -> httpx.AsyncClient:
        """With the API key; one TLS context serves all, since making one takes milliseconds."""
        self._async_tls = self._async_tls or self.tls()
        return httpx.AsyncClient(
            base_url=self.url,
            verify=self._async_tls,
            trust_env=False,
            timeout=2 * DEADLINE,
            headers={"Authorization": f"Bearer {self.api_key}"},
            event_hooks={"response": [openapi.check_async]},
            **options,
        )

    def log(self) -> list[dict[str, Any]]:
        """All lines so far; a line that is not JSON raises an error."""
        lines = self.log_path.read_text().splitlines()
        return [json.loads(line) for line in lines]

    def stop(self) -> int:
        """Sends SIGTERM, and returns the exit code."""
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
        shutil.rmtree(self.state, ignore_errors=True)
        shutil.rmtree(self.directory, ignore_errors=True)
