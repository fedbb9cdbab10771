"""The installation under test, as processes of their own: server, relay, database, providers and webhook receiver."""

from __future__ import annotations

import json
import os
import ssl
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from loadtest.usage import children
from sigil.protocol.api_key import issue_api_key
from sigil.protocol.identity import DerivedSecrets
from tests.support.live import LiveServer, wait_until
from tests.support.live_relay import LiveRelay
from tests.support.ports import free_port
from tests.support.postgres import PostgresServer
from tests.support.providers import Providers
from tests.support.webhook_endpoint import WebhookEndpoint

WORKERS = 2
WEBHOOK_SECRET = "webhook-secret-of-a-soak-run-0123456789"  # noqa: S105
METRICS_TOKEN = "metrics-token-of-a-soak-run"  # noqa: S105
_TOKEN_KEY = "an-encryption-key-for-a-soak-run-only"  # noqa: S105
# Few devices send many answers. The other limits stay: load and floods come from separate addresses.
_SERVER = {
    "SIGIL_DEVICE_RATE": "off",
    "SIGIL_MAX_PENDING_PER_DEVICE": "100",
    "SIGIL_STORE_SIZE": "512MiB",
    # An outage of the receiver must not use up the attempts of an event, and the end of a run must not wait 1800 s.
    "SIGIL_WEBHOOK_SCHEDULE": ",".join(["1", "2", "3", *["5"] * 16]),
    "WEBHOOK_SECRET": WEBHOOK_SECRET,
    "METRICS_TOKEN": METRICS_TOKEN,
    "LOG_LEVEL": "info",
}
_RELAY = {
    "TOKEN_ENCRYPTION_KEY": _TOKEN_KEY,
    "RELAY_PUSH_RATE": "off",
    "RELAY_TRUST_ON_FIRST_USE": "false",
    "METRICS_TOKEN": METRICS_TOKEN,
}
_KEPT_LINES = 2000


class LogReader:
    """Reads the server's standard output, as a log collector does. `stalled` makes it stop reading.

    It counts events by name and keeps the last lines.
    """

    def __init__(self, copy: Path) -> None:
        self.events: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.unreadable = 0
        self.lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._copy = copy
        self._reading = threading.Event()
        self._reading.set()
        source, self._sink = os.pipe()
        self._thread = threading.Thread(target=self._run, args=(source,), daemon=True)
        self._thread.start()

    def open_sink(self) -> IO[bytes]:
        return os.fdopen(os.dup(self._sink), "wb")

    def stall(self) -> None:
        self._reading.clear()

    def resume(self) -> None:
        self._reading.set()

    def close(self) -> None:
        """After the server has ended."""
        os.close(self._sink)
        self.resume()
        self._thread.join(60)

    def _run(self, source: int) -> None:
        with os.fdopen(source, "rb", buffering=0) as pipe, self._copy.open("ab") as copy:
            rest = b""
            while chunk := pipe.read(1 << 16):
                copy.write(chunk)
                copy.flush()
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    self._line(line.decode(errors="replace"))
                self._reading.wait()

    def _line(self, line: str) -> None:
        self.lines.append(line)
        try:
            event = json.loads(line)
            self.events[event["event"]] += 1
            if event["level"] == "error":
                self.errors[event["event"]] += 1
        except (ValueError, KeyError, TypeError):
            self.unreadable += 1


class PipedServer(LiveServer):
    """A server whose standard output is a pipe with a reader."""

    def __init__(self, log: Path, *, workers: int, **settings: str) -> None:
        super().__init__(workers=workers, **settings)
        # LiveServer shows this file when a start fails.
        self.log_path = log
        self.reader = LogReader(log)

    def open_log(self) -> IO[bytes]:
        return self.reader.open_sink()

    def all_ready(self) -> bool:
        return len(self.workers()) == WORKERS and self._is_healthy()


@dataclass(frozen=True)
class Stack:
    server: PipedServer
    relay: LiveRelay
    database: PostgresServer | None
    providers: Providers
    receiver: WebhookEndpoint
    api_keys: list[str]

    @property
    def tls(self) -> ssl.SSLContext:
        return self.server.tls()

    def processes(self) -> dict[str, list[int]]:
        """Process ids by group; a group is empty while its service is down."""
        return {
            "sigil master": [self.server.pid],
            "sigil worker": [pid for pid in self.server.workers() if parent(pid) == self.server.pid],
            "relay master": [self.relay.pid],
            "relay worker": relay_workers(self.relay),
        }


def parent(pid: int) -> int | None:
    """Process id of the parent; None when the process has ended."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])
    except (OSError, IndexError, ValueError):
        return None


def relay_workers(relay: LiveRelay) -> list[int]:
    """Children of the relay's master, without the resource tracker of Python's multiprocessing."""
    found = []
    for pid in children(relay.pid):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if b"spawn_main" in command:
            found.append(pid)
    return found


def issue_keys(server: LiveServer, count: int) -> list[str]:
    secret = DerivedSecrets.from_mnemonic(server.mnemonic).api_key
    return [issue_api_key(secret, "sgk_test_", os.urandom(16)) for _ in range(count)]


@contextmanager
def stack(reports: Path, *, postgres: bool, keys: int) -> Iterator[Stack]:
    """Everything running and ready."""
    with ExitStack() as parts:
        providers = parts.enter_context(Providers())
        receiver = parts.enter_context(WebhookEndpoint())
        database = parts.enter_context(PostgresServer()) if postgres else None
        now = int(time.time())
        relay = LiveRelay(RELAY_WS_PORT=str(free_port()), **_relay_settings(providers, database))
        relay.log_path = reports / f"soak-{now}-relay.log"
        server = PipedServer(
            reports / f"soak-{now}-sigil.log", workers=WORKERS, WEBHOOK_URL=receiver.url, RELAY_URL=relay.url, **_SERVER
        )
        parts.callback(server.reader.close)
        relay.environ["RELAY_TRUSTED_SERVERS"] = server.identity.server_id
        parts.enter_context(relay)
        parts.enter_context(server)
        wait_until(server.all_ready, "all workers of the server")
        yield Stack(server, relay, database, providers, receiver, issue_keys(server, keys))


def _relay_settings(providers: Providers, database: PostgresServer | None) -> dict[str, str]:
    settings = {**_RELAY, **providers.env}
    if database is None:
        return {**settings, "RELAY_WORKERS": "1"}
    return {**settings, "RELAY_WORKERS": str(WORKERS), "DATABASE_URL": database.new_database()}
