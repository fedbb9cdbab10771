"""A whole installation for the tests of faults: server, relay, stand-ins of APNs and FCM, webhook receiver, Prometheus
with the project's rules, and a backend with a device that approves."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import httpx

from sigil.device import Device
from tests.faults.authority import Authority
from tests.faults.short_rules import LONGEST_FOR, LONGEST_RANGE, write_short_rules
from tests.flows.backend import Backend, approval
from tests.relay.devices_of_relay import register
from tests.support.live import DEADLINE, LiveServer, wait_until
from tests.support.live_relay import LiveRelay
from tests.support.postgres import PostgresServer
from tests.support.prometheus import Prometheus, Target
from tests.support.providers import Providers, apns_token, fcm_token
from tests.support.stepped_clock import SteppedClock
from tests.support.webhook_endpoint import WebhookEndpoint

Service = Literal["sigil", "relay"]
ROOT = Path(__file__).parents[2]
_UNLIMITED = {
    "SIGIL_DEVICE_RATE": "off",
    "SIGIL_RATE_LIMIT": "off",
    "SIGIL_KEY_SHARE": "100",
    "SIGIL_MAX_PENDING_PER_DEVICE": "100",
    # Small, so that a test fills it.
    "SIGIL_STORE_SIZE": "16MiB",
}
_TOKENS = {"apns": apns_token, "fcm": fcm_token}


class Traffic:
    """A backend that creates challenges for `device`, which approves each of them, until it is stopped."""

    def __init__(self, server: LiveServer, device: Device) -> None:
        self.device = device
        self._server = server
        self._stopping = threading.Event()
        self._paused = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Traffic:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(DEADLINE)

    @contextmanager
    def paused(self) -> Iterator[None]:
        self._paused.set()
        yield
        self._paused.clear()

    def _run(self) -> None:
        with Backend(self._server) as backend:
            while not self._stopping.wait(0.1):
                if not self._paused.is_set():
                    # What a fault does to a challenge is for the test to see.
                    with contextlib.suppress(AssertionError, httpx.HTTPError):
                        device = self.device
                        created = backend.create_challenge(device)
                        # An answer before the push is sent withdraws the push.
                        time.sleep(0.1)
                        backend.http.post("/respond", json=approval(device, created))


@dataclass
class Stack:
    server: LiveServer
    relay: LiveRelay
    providers: Providers
    endpoint: WebhookEndpoint
    prometheus: Prometheus
    traffic: Traffic
    clock: SteppedClock
    authority: Authority
    trusted: Path
    """The file of RELAY_TRUSTED_SERVERS_FILE."""
    device: Device
    """It is registered for APNs, and the traffic is for it."""
    postgres: PostgresServer | None = None
    """The relay's database, unless that is SQLite."""

    def new_device(self, platform: str, token_prefix: str = "") -> Device:
        """A device that is registered with the relay for `apns` or `fcm`."""
        device = Device.generate("Ed25519")
        with self.relay.client() as client:
            register(device, client, self.relay.url, platform, _TOKENS[platform](token_prefix))
        return device

    def log_of(self, service: Service) -> list[dict[str, Any]]:
        path = (self.server if service == "sigil" else self.relay).log_path
        lines = []
        for line in path.read_text().splitlines():
            with contextlib.suppress(ValueError):
                lines.append(json.loads(line))
        return lines

    def reload(self, service: Service) -> None:
        """SIGHUP, and waits until the new workers serve."""
        done = self._reloads(service)
        os.kill((self.server if service == "sigil" else self.relay).pid, signal.SIGHUP)
        wait_until(lambda: self._reloads(service) > done, "the reload")

    def _reloads(self, service: Service) -> int:
        return sum(line["event"] in {"reload_finished", "reload_refused"} for line in self.log_of(service))

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`sigil …` or `sigil-relay …` with the settings of the running service."""
        program, *rest = arguments
        rest = [self.traffic.device.fingerprint if word == "FINGERPRINT" else word for word in rest]
        service = self.relay if program == "sigil-relay" else self.server
        return subprocess.run(
            [sys.executable, "-m", "relay" if program == "sigil-relay" else "sigil", *rest],
            env=service.environ,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )

    def findings(self, *arguments: str) -> dict[str, str]:
        """The findings of a doctor that are not ok: name, and text with next step."""
        result = self.command(*arguments, "--json")
        assert result.returncode in {0, 1}, result.stderr
        texts: dict[str, str] = {}
        for finding in json.loads(result.stdout)["findings"]:
            if finding["state"] != "ok":
                text = f"{texts.get(finding['name'], '')} {finding['text']} {finding['next_step'] or ''}"
                texts[finding["name"]] = text.strip()
        return texts

    def wait_for_finding(self, command: Sequence[str], name: str, part: str) -> None:
        """A doctor's finding that is not ok, with this part in its text."""
        wait_until(lambda: part in self.findings(*command).get(name, ""), f"{' '.join(command)} to find {name}: {part}")

    def wait_healthy(self) -> None:
        """Waits until no alert fires."""
        try:
            wait_until(lambda: not self.prometheus.firing(), "no alert to fire")
        except AssertionError:
            raise AssertionError(f"alerts that fire: {self.prometheus.firing()}") from None

    def stays_healthy(self) -> None:
        """No alert fires for as long as a range and a `for` of the rules."""
        end = time.monotonic() + LONGEST_FOR + LONGEST_RANGE
        while time.monotonic() < end:
            assert self.prometheus.firing() == set()
            time.sleep(0.5)

    def wait_for_alert(self, name: str) -> dict[str, Any]:
        def found() -> Any:
            return next(
                (
                    alert
                    for alert in self.prometheus.alerts()
                    if alert["state"] == "firing" and alert["labels"]["alertname"] == name
                ),
                None,
            )

        alert: dict[str, Any] = wait_until(found, f"{name} to fire")
        return alert

    def wait_resolved(self, name: str) -> None:
        wait_until(lambda: name not in self.prometheus.firing(), f"{name} to end")

    def wait_for_line(
        self, service: Service, event: str, after: int, matches: Callable[[dict[str, Any]], bool]
    ) -> dict[str, Any]:
        """The first log line of this event behind the first `after` ones."""

        def found() -> Any:
            lines = self.log_of(service)[after:]
            return next((line for line in lines if line["event"] == event and matches(line)), None)

        line: dict[str, Any] = wait_until(found, f"{event} in the log of {service}")
        return line


@contextmanager
def running_stack(postgres: PostgresServer | None = None) -> Iterator[Stack]:
    """Two workers and all that the two services talk to. The relay has SQLite, or PostgreSQL and two workers."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sigil-faults-")))
        authority = Authority(directory)
        authority.issue(days=90)
        clock_directory = directory / "clock"
        clock_directory.mkdir()
        clock = SteppedClock(clock_directory)
        providers = stack.enter_context(Providers())
        endpoint = stack.enter_context(WebhookEndpoint())
        trusted = directory / "trusted_servers"
        database = {"DATABASE_URL": postgres.new_database(), "RELAY_WORKERS": "2"} if postgres else {}
        relay = LiveRelay(
            **providers.env,
            **database,
            TOKEN_ENCRYPTION_KEY="k" * 40,
            RELAY_PUSH_RATE="off",
            RELAY_TRUST_ON_FIRST_USE="false",
            RELAY_TRUSTED_SERVERS_FILE=str(trusted),
        )
        server = LiveServer(
            workers=2,
            RELAY_URL=relay.url,
            WEBHOOK_URL=endpoint.url,
            WEBHOOK_SECRET="a-secret-of-webhooks-for-the-tests",
            TLS_CERT_PATH=str(authority.certificate),
            TLS_KEY_PATH=str(authority.key),
            **clock.settings,
            **_UNLIMITED,
        )
        server.certificate = authority.certificate
        trusted.write_text(server.identity.server_id)
        stack.enter_context(relay)
        stack.enter_context(server)
        wait_until(lambda: len(server.workers()) == 2, "both workers")
        rules = write_short_rules(directory)
        targets = Target.of(server), Target.of(relay)
        prometheus = stack.enter_context(Prometheus(*targets, rules=rules))
        device = Device.generate("Ed25519")
        traffic = stack.enter_context(Traffic(server, device))
        running = Stack(
            server, relay, providers, endpoint, prometheus, traffic, clock, authority, trusted, device, postgres
        )
        traffic.device = running.device = running.new_device("apns")
        yield running
