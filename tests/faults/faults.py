"""The table of faults: how each is made and mended, and where an operator sees it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from sigil.device import Device
from tests.faults.stack import Service, Stack
from tests.flows.backend import ACTION, Backend
from tests.support.live import wait_until

Make = Callable[[Stack], AbstractContextManager[None]]


@dataclass(frozen=True)
class Line:
    """A log line: its event, and members that it has."""

    service: Service
    event: str
    members: dict[str, Any] = field(default_factory=dict)

    def matches(self, line: dict[str, Any]) -> bool:
        return all(value in str(line.get(name, "")) for name, value in self.members.items())


@dataclass(frozen=True)
class Finding:
    """A finding of a doctor: the command, its name, and a part of its text."""

    command: tuple[str, ...]
    name: str
    part: str


@dataclass(frozen=True)
class Fault:
    """`make` makes it when it is entered, and mends it at the end."""

    name: str
    make: Make
    lines: tuple[Line, ...]
    alerts: tuple[str, ...]
    findings: tuple[Finding, ...] = ()
    lines_at_mend: bool = False
    """The log lines come when the fault is mended."""


SIGIL, RELAY = ("sigil", "doctor"), ("sigil-relay", "doctor")
DEVICE = ("sigil", "doctor", "push", "FINGERPRINT")
"""For the device of the traffic."""


@contextmanager
def _traffic_for(stack: Stack, device: Device) -> Iterator[None]:
    stack.traffic.device = device
    try:
        yield
    finally:
        stack.traffic.device = stack.device


@contextmanager
def device_not_registered(stack: Stack) -> Iterator[None]:
    with _traffic_for(stack, Device.generate("Ed25519")):
        yield


def dead_token(platform: str, reason: str) -> Make:
    @contextmanager
    def make(stack: Stack) -> Iterator[None]:
        prefix = "dead" * 4
        device = stack.new_device(platform, prefix)
        stack.providers.script(platform, token=prefix, outcome=reason)
        with _traffic_for(stack, device):
            yield
        stack.providers.clear_rules()

    return make


@contextmanager
def relay_down(stack: Stack) -> Iterator[None]:
    stack.relay.kill()
    yield
    stack.relay.start()


@contextmanager
def relay_without_trust(stack: Stack) -> Iterator[None]:
    stack.trusted.write_text("")
    stack.reload("relay")
    removed = stack.command("sigil-relay", "servers", "remove", stack.server.identity.server_id)
    assert removed.returncode == 0, removed.stderr
    yield
    stack.trusted.write_text(stack.server.identity.server_id)
    stack.reload("relay")


@contextmanager
def wrong_clock(stack: Stack) -> Iterator[None]:
    stack.clock.set(120)
    yield
    stack.clock.set(0)


@contextmanager
def _changed(path: Path, text: str) -> Iterator[None]:
    before = path.read_text()
    path.write_text(text)
    try:
        yield
    finally:
        path.write_text(before)


@contextmanager
def another_key_of_apple(stack: Stack) -> Iterator[None]:
    key = ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with _changed(Path(stack.providers.env["APNS_KEY_PATH"]), key.decode()):
        stack.reload("relay")
        yield
    stack.reload("relay")


@contextmanager
def another_key_of_google(stack: Stack) -> Iterator[None]:
    path = Path(stack.providers.env["FCM_SERVICE_ACCOUNT"])
    key = rsa.generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    account = json.loads(path.read_text()) | {"private_key": key.decode()}
    with _changed(path, json.dumps(account)), _traffic_for(stack, stack.new_device("fcm")):
        stack.reload("relay")
        yield
    stack.reload("relay")


@contextmanager
def receiver_down(stack: Stack) -> Iterator[None]:
    stack.endpoint.stop()
    yield
    stack.endpoint.start()


@contextmanager
def store_nearly_full(stack: Stack) -> Iterator[None]:
    """Challenges without an answer, until the server rejects one. The mend is a larger store."""
    action = ACTION | {"params": {"text": "x" * 1800}}
    with Backend(stack.server) as backend:
        while True:
            body = {"device_public_key": Device.generate("Ed25519").wire_key, "action": action}
            answer = backend.http.post("/challenge", json=body)
            if answer.status_code != 201:
                assert answer.status_code == 503, answer.text
                break
    yield
    assert stack.server.stop() == 0
    stack.server.environ["SIGIL_STORE_SIZE"] = "64MiB"
    stack.server.start()


@contextmanager
def key_at_its_limit(stack: Stack) -> Iterator[None]:
    """One pending challenge is all that the backend's key may have, and this one has it. The store has space."""
    assert stack.server.stop() == 0
    stack.server.environ["SIGIL_MAX_PENDING_PER_KEY"] = "1"
    stack.server.start()
    with stack.traffic.paused(), Backend(stack.server) as backend:
        body = {"device_public_key": Device.generate("Ed25519").wire_key, "action": ACTION}
        # A challenge of the traffic may be pending: it is answered at once, or holds the limit as well as ours.
        ends = time.monotonic() + 5
        while backend.http.post("/challenge", json=body).status_code != 201 and time.monotonic() < ends:
            time.sleep(0.1)
    yield
    assert stack.server.stop() == 0
    del stack.server.environ["SIGIL_MAX_PENDING_PER_KEY"]
    stack.server.start()


@contextmanager
def certificate_about_to_end(stack: Stack) -> Iterator[None]:
    stack.authority.issue(days=9.5)
    stack.reload("sigil")
    yield
    stack.authority.issue(days=90)
    stack.reload("sigil")


@contextmanager
def worker_crash_loop(stack: Stack) -> Iterator[None]:
    """Workers die as soon as they serve, until the fault is mended."""
    mended = threading.Event()

    def kill_workers() -> None:
        # Far from the 60 deaths of one slot in ten minutes after which the server gives up.
        for _ in range(40):
            # The older one alone, so that the other answers Prometheus.
            if len(workers := stack.server.workers()) == 2:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(min(workers), signal.SIGKILL)
            if mended.wait(0.5):
                return

    thread = threading.Thread(target=kill_workers)
    thread.start()
    yield
    mended.set()
    thread.join()
    wait_until(lambda: len(stack.server.workers()) == 2, "both workers")


@contextmanager
def database_down(stack: Stack) -> Iterator[None]:
    assert stack.postgres is not None
    stack.postgres.stop()
    yield
    stack.postgres.start()


@contextmanager
def server_down(stack: Stack) -> Iterator[None]:
    stack.server.kill()
    yield
    stack.server.start()


@contextmanager
def init_mode_forgotten(stack: Stack) -> Iterator[None]:
    """The host restarts, and the identity was in memory alone."""
    operational = dict(stack.server.environ)
    assert stack.server.stop() == 0
    shutil.rmtree(stack.server.state)
    del stack.server.environ["SIGIL_MNEMONIC_PATH"]
    stack.server.environ["SIGIL_MODE"] = "init"
    stack.server.start()
    yield
    assert stack.server.stop() == 0
    shutil.rmtree(stack.server.state)
    stack.server.environ = operational
    stack.server.start()


@contextmanager
def log_reader_stalled(stack: Stack) -> Iterator[None]:
    """Standard output is a pipe, as under a container engine, and its reader reads nothing until the mend."""
    reading, writing = os.pipe()
    assert stack.server.stop() == 0
    stack.server.open_log = lambda: os.fdopen(writing, "wb")  # type: ignore[method-assign]
    stack.server.start()
    del stack.server.open_log
    body = {"device_public_key": Device.generate("Ed25519").wire_key, "action": ACTION}
    with Backend(stack.server) as backend:
        # More lines than the pipe and the queue of each worker take.
        for _ in range(1500):
            created = backend.http.post("/challenge", json=body).json()
            backend.cancel(created)
    yield
    threading.Thread(target=_copy, args=(reading, stack.server.log_path), daemon=True).start()


def _copy(reading: int, path: Path) -> None:
    with open(reading, "rb", buffering=0) as pipe, path.open("ab") as log:
        while part := pipe.read(65536):
            log.write(part)
            log.flush()


def reload_refused(service: Service) -> Make:
    @contextmanager
    def make(stack: Stack) -> Iterator[None]:
        path = stack.authority.key if service == "sigil" else Path(stack.providers.env["APNS_KEY_PATH"])
        with _changed(path, "-----BEGIN PRIVATE KEY-----\nnonsense\n-----END PRIVATE KEY-----\n"):
            stack.reload(service)
            yield
        stack.reload(service)

    return make


FAULTS = {
    "pushes": (
        Fault(
            "device not registered",
            device_not_registered,
            (Line("sigil", "push_failed", {"error": "not_registered", "message": "404 device not found"}),),
            ("SigilPushesNotDelivered",),
            (Finding(DEVICE, "registration", "is not registered at the relay"),),
        ),
        Fault(
            "dead token of APNs",
            dead_token("apns", "Unregistered"),
            (
                Line("sigil", "push_failed", {"error": "token_evicted", "message": "410 push token evicted"}),
                Line("relay", "token_evicted", {"provider": "apns", "reason": "Unregistered"}),
            ),
            ("SigilPushesNotDelivered",),
            (Finding(DEVICE, "registration", "APNs reported that the app was removed"),),
        ),
        Fault(
            "dead token of FCM",
            dead_token("fcm", "UNREGISTERED"),
            (
                Line("sigil", "push_failed", {"error": "token_evicted"}),
                Line("relay", "token_evicted", {"provider": "fcm", "reason": "UNREGISTERED"}),
            ),
            ("SigilPushesNotDelivered",),
            (Finding(DEVICE, "registration", "FCM reported that the app was removed"),),
        ),
        Fault(
            "credentials refused by APNs",
            another_key_of_apple,
            (Line("relay", "provider_credentials_refused", {"provider": "apns"}),),
            ("RelayProviderCredentialsRefused",),
            (
                Finding(RELAY, "provider_apns", "the provider rejects the credentials: InvalidProviderToken"),
                Finding(DEVICE, "push", "the provider rejects the relay's credentials"),
            ),
        ),
        Fault(
            "credentials refused by FCM",
            another_key_of_google,
            (Line("relay", "provider_credentials_refused", {"provider": "fcm"}),),
            ("RelayProviderCredentialsRefused",),
            (Finding(RELAY, "provider_fcm", "the provider rejects the credentials: invalid_grant"),),
        ),
    ),
    "relay": (
        Fault(
            "relay down",
            relay_down,
            (Line("sigil", "relay_unreachable", {"reason": "no connection"}),),
            ("SigilRelayUnreachable", "RelayDown"),
            (
                Finding(SIGIL, "relay", "check that the relay runs"),
                Finding(RELAY, "server", "check that `sigil-relay serve` runs"),
            ),
        ),
        Fault(
            "relay does not trust the server",
            relay_without_trust,
            (
                Line("relay", "server_request_rejected", {"reason": "unknown_server"}),
                Line("sigil", "relay_unreachable", {"reason": "401", "message": "server_request_rejected"}),
            ),
            ("SigilRelayUnreachable", "RelayServerRequestsRejected"),
            (
                Finding(SIGIL, "relay_trust", "run `sigil-relay servers trust"),
                Finding(RELAY, "relay_trust", "unknown_server"),
            ),
        ),
        Fault(
            "wrong clock",
            wrong_clock,
            (
                Line("sigil", "clock_stepped"),
                Line("relay", "server_request_rejected", {"reason": "clock"}),
                Line("sigil", "relay_unreachable", {"reason": "401"}),
            ),
            ("SigilClockOffset", "SigilRelayUnreachable"),
            (
                Finding(SIGIL, "clock", "ahead of the relay: requests are rejected beyond 60 s"),
                Finding(RELAY, "relay_trust", "the clock of a server differs by more than 60 s"),
            ),
        ),
        Fault(
            "reload refused by the relay",
            reload_refused("relay"),
            (Line("relay", "reload_refused"),),
            ("RelayReloadFailed",),
            (Finding(RELAY, "reload", "was refused"),),
        ),
    ),
    "server": (
        Fault(
            "webhook receiver down",
            receiver_down,
            (Line("sigil", "webhook_unreachable", {"reason": ""}),),
            ("SigilWebhookUnreachable",),
            (Finding(SIGIL, "webhook", "its circuit breaker of the receiver is open"),),
        ),
        Fault(
            "certificate about to end",
            certificate_about_to_end,
            (Line("sigil", "setting", {"message": "14 days"}),),
            ("SigilCertificateExpires",),
            (Finding(SIGIL, "certificate", "in less than 14 days"),),
        ),
        Fault(
            "worker crash loop",
            worker_crash_loop,
            (Line("sigil", "worker_died", {"exit": "SIGKILL"}),),
            ("SigilWorkerCrashLoop",),
            (Finding(SIGIL, "workers", "replaced since the start"),),
        ),
        Fault(
            "reload refused",
            reload_refused("sigil"),
            (Line("sigil", "reload_refused"),),
            ("SigilReloadFailed",),
            (Finding(SIGIL, "reload", "was refused"),),
        ),
        Fault(
            "store nearly full",
            store_nearly_full,
            (Line("sigil", "store_full"),),
            ("SigilStoreFull",),
            (Finding(SIGIL, "store", "the server rejects them (503)"),),
        ),
        Fault(
            "API key at its limit",
            key_at_its_limit,
            (),
            ("SigilKeyLimited",),
            (Finding(SIGIL, "store", "got 429, since an API key used its share"),),
        ),
    ),
    "database": (
        Fault(
            "relay's database down",
            database_down,
            (Line("relay", "database_unreachable"),),
            ("RelayDatabaseDown",),
            (
                Finding(RELAY, "registry", "the running relay does not reach its database"),
                Finding(SIGIL, "registry", "the database cannot be reached"),
            ),
        ),
    ),
    "start": (
        Fault(
            "server down",
            server_down,
            (),
            ("SigilDown",),
            (Finding(SIGIL, "server", "does not answer"),),
        ),
        Fault(
            "init mode forgotten",
            init_mode_forgotten,
            (Line("sigil", "init_mode"),),
            ("SigilInitMode",),
            (Finding(SIGIL, "server", "init mode: the server waits for its first boot"),),
        ),
        Fault(
            "log reader stalled",
            log_reader_stalled,
            (Line("sigil", "log_lines_dropped"),),
            ("SigilLogLinesDropped",),
            (Finding(SIGIL, "log_output", "lines were lost since the start"),),
            lines_at_mend=True,
        ),
    ),
}
