"""A real server in a separate process, and clients for it."""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import json
import os
import re
import secrets
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import httpx

from tests.support import openapi
from tests.support.ports import free_port

from .wire import API_KEYS, SIGNATURES, TOKENS, ServerIdentity

START = 90.0
"""Seconds that a start may take: two workers import everything, on a machine that other processes use too."""
SHARED_MEMORY = Path("/dev") / "shm"


@cache
def sigil_command() -> tuple[str, ...]:
    """`python -m sigil` if the package has a `__main__`, else the console script next to this Python."""
    package = importlib.util.find_spec("sigil")
    if package is not None and package.origin and (Path(package.origin).parent / "__main__.py").exists():
        return (sys.executable, "-m", "sigil")
    return (str(Path(sys.executable).parent / "sigil"),)


def minimal_environment(home: Path) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    return {**kept, "HOME": str(home)}


def run(*arguments: str, env: dict[str, str], timeout: float = START) -> subprocess.CompletedProcess[str]:
    """Runs one command of the console script until it ends."""
    return subprocess.run(
        [*sigil_command(), *arguments], env=env, capture_output=True, text=True, timeout=timeout, check=False
    )


def wait_until(condition: Callable[[], Any], seconds: float = 120.0, failure: str = "") -> Any:
    """Polls until the condition is true; returns its value."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, failure or f"not within {seconds} s"
        time.sleep(0.02)
    return value


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Server:
    root: Path
    settings: dict[str, str] = field(default_factory=dict)
    identity: ServerIdentity = field(default_factory=ServerIdentity)
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        self.log = self.root / "output.log"
        name = f"sigil-conformance-{secrets.token_hex(6)}"
        shared = SHARED_MEMORY.is_dir() and os.access(SHARED_MEMORY, os.W_OK)
        self.state = SHARED_MEMORY / name if shared else self.root / name
        self._insecure = {} if shared else {"SIGIL_STATE_DIR_INSECURE": "true"}
        self.mnemonic_file = self.root / "mnemonic"
        self.write_mnemonic(self.identity)
        self.cert, self.key = self.root / "cert.pem", self.root / "key.pem"

    def write_mnemonic(self, identity: ServerIdentity) -> None:
        self.identity = identity
        self.mnemonic_file.unlink(missing_ok=True)
        self.mnemonic_file.touch(mode=0o600)
        self.mnemonic_file.write_text(identity.mnemonic + "\n")

    @property
    def environment(self) -> dict[str, str]:
        return {
            **minimal_environment(self.root),
            "SIGIL_MNEMONIC_PATH": str(self.mnemonic_file),
            "SIGIL_HOST": "127.0.0.1",
            "SIGIL_PORT": str(self.port),
            "SIGIL_WORKERS": "2",
            "SIGIL_STATE_DIR": str(self.state),
            "SIGIL_STORE_SIZE": "64MiB",
            "TLS_CERT_PATH": str(self.cert),
            "TLS_KEY_PATH": str(self.key),
            "SIGIL_RATE_LIMIT": "off",
            "SIGIL_DEVICE_RATE": "off",
            **self._insecure,
            **self.settings,
        }

    def launch(self) -> None:
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [*sigil_command(), "serve"], env=self.environment, stdout=output, stderr=output, cwd=self.root
            )

    def wait_ready(self) -> Server:
        def healthy() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, f"the server ended by itself:\n{self.output()}"
            if not self.cert.exists():
                return False
            with contextlib.suppress(OSError, ssl.SSLError, http.client.HTTPException):
                return self.fetch("GET", "/health").status == 200
            return False

        wait_until(healthy, START, "the server did not become healthy")
        wait_until(lambda: len(self.workers()) == int(self.environment["SIGIL_WORKERS"]), START, "workers are missing")
        return self

    def start(self) -> Server:
        self.launch()
        return self.wait_ready()

    def stop(self) -> int:
        """Sends SIGTERM and returns the exit code. A server that does not end is killed."""
        assert self.process is not None
        self.close_connections()
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(120)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(5)
            raise

    def close_connections(self) -> None:
        """Closes the shared client. The next one reads the certificate again."""
        if (client := self.__dict__.pop("http", None)) is not None:
            client.close()
        self.__dict__.pop("tls", None)

    def discard(self) -> None:
        self.close_connections()
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(5)
        shutil.rmtree(self.state, ignore_errors=True)

    # Output

    def output(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def lines(self) -> list[dict[str, Any]]:
        found = []
        for line in self.output().splitlines():
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
        return [line for line in found if isinstance(line, dict)]

    def events(self, name: str) -> list[dict[str, Any]]:
        return [line for line in self.lines() if line.get("event") == name]

    def secrets_in_output(self) -> list[str]:
        """Secrets and tracebacks in the output, described without repeating the secret."""
        text = self.output()
        found = ["a traceback"] if "Traceback (most recent call last)" in text else []
        found += ["an API key" for key in API_KEYS if key in text or key[-32:] in text]
        mnemonic_words = self.identity.mnemonic.split()
        found += [f"words {i + 1} to {i + 3}" for i in range(22) if " ".join(mnemonic_words[i : i + 3]) in text]
        found += ["a signature" for signature in set(SIGNATURES) if signature in text]
        found += ["an enrolment token" for token in TOKENS if token in text]
        found += ["a match code"] if re.search(r"match_code\W{1,4}\d\d\b", text) else []
        return found

    # Processes

    def workers(self) -> list[int]:
        assert self.process is not None
        return [pid for pid in children(self.process.pid) if "resource_tracker" not in command_line(pid)]

    # Connections

    @cached_property
    def tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.cert))

    def client(self, **options: Any) -> httpx.Client:
        hooks = {"response": [openapi.check]}
        url = f"https://127.0.0.1:{self.port}"
        return httpx.Client(base_url=url, verify=self.tls, trust_env=False, timeout=120, event_hooks=hooks, **options)

    @cached_property
    def http(self) -> httpx.Client:
        return self.client(limits=httpx.Limits(max_connections=100))

    def connect(self, source: str | None = None) -> http.client.HTTPSConnection:
        """Opens a new connection."""
        address = (source, 0) if source else None
        connection = http.client.HTTPSConnection(
            "127.0.0.1", self.port, context=self.tls, timeout=120, source_address=address
        )
        connection.connect()
        return connection

    def fetch(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        key: str | None = None,
        source: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> Reply:
        """One request over a new connection."""
        with contextlib.closing(self.connect(source)) as connection:
            return send(connection, method, path, body, key=key, headers=headers)

    def socket(self, alpn: list[str] | None = None) -> ssl.SSLSocket:
        """A TLS connection without HTTP; with ALPN only if `alpn` is given."""
        context = ssl.create_default_context(cafile=str(self.cert))
        if alpn:
            context.set_alpn_protocols(alpn)
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=120)
        return context.wrap_socket(plain, server_hostname="127.0.0.1")

    def exchange(self, raw: bytes) -> bytes:
        """Sends bytes and reads until the server closes, or sends nothing for three seconds after its first bytes."""
        with self.socket() as connection:
            connection.settimeout(60)
            received = b""
            with contextlib.suppress(OSError):
                connection.sendall(raw)
            with contextlib.suppress(OSError):
                received = connection.recv(65536)
            connection.settimeout(3)
            return received + read_all(connection)


def read_all(connection: ssl.SSLSocket) -> bytes:
    received = b""
    with contextlib.suppress(TimeoutError, OSError):
        while chunk := connection.recv(65536):
            received += chunk
    return received


def send(
    connection: http.client.HTTPSConnection,
    method: str,
    path: str,
    body: Any = None,
    *,
    key: str | None = None,
    headers: dict[str, str] | None = None,
) -> Reply:
    sent = dict(headers or {})
    if key:
        sent["Authorization"] = f"Bearer {key}"
    if body is not None:
        sent.setdefault("Content-Type", "application/json")
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
    connection.request(method, path, body, sent)
    answer = connection.getresponse()
    reply = Reply(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
    content_type = reply.headers.get("content-type", "")
    openapi.check_answer(method, path.partition("?")[0], reply.status, content_type, reply.body)
    return reply


def concurrently(
    server: Server, count: int, request: Callable[[http.client.HTTPSConnection, int], Reply]
) -> list[Reply]:
    """Sends `count` requests concurrently; all connections are open before the first request."""
    barrier = threading.Barrier(count)

    def send_one(index: int) -> Reply:
        with contextlib.closing(server.connect()) as connection:
            barrier.wait(60)
            return request(connection, index)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(send_one, range(count)))


def children(pid: int) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = entry.read_text().rpartition(")")[2].split()
            if int(fields[1]) == pid and fields[0] != "Z":
                found.append(int(entry.parent.name))
    return sorted(found)


def command_line(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    return ""


@contextlib.contextmanager
def in_background(work: Callable[[], Any]) -> Iterator[Callable[[], Any]]:
    """Runs `work` in a thread. The yielded function waits for its result."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(work)
        yield lambda: future.result(120)
