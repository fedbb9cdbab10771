"""`make upgrade` under load: every pending challenge stays answerable, and every webhook event is delivered."""

from __future__ import annotations

import contextlib
import os
import secrets
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from sigil.device import Device
from tests.containers.production import FILES, LIMITED, SERVER_UID, Production, new_version
from tests.containers.stack import V1
from tests.flows.backend import Backend, approval
from tests.support.live import wait_until
from tests.support.webhook_endpoint import WebhookEndpoint, verified_event

WEBHOOK_SECRET = secrets.token_hex(32)


@pytest.fixture(scope="module")
def receiver() -> Iterator[WebhookEndpoint]:
    # Containers reach this host by the gateway of their network.
    with WebhookEndpoint(host="0.0.0.0") as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, receiver: WebhookEndpoint) -> Iterator[Production]:
    folder = tmp_path_factory.mktemp("upgrade")
    config = folder / "config"
    config.mkdir()
    (config / "webhook_secret").write_text(WEBHOOK_SECRET, encoding="ascii")
    (config / "webhook_secret").chmod(0o600)
    for path in (config, config / "webhook_secret"):
        os.chown(path, SERVER_UID, SERVER_UID)
    with Production(
        folder, V1, files=None,
        SIGIL_CONFIG_DIR=str(config),
        WEBHOOK_SECRET_FILE="/etc/sigil/webhook_secret",
        SIGIL_WEBHOOK_SCHEDULE="1,1,1,1,1,1,2,2,2,2,2,2,5,5,5,5,5,5,5,5",
        SIGIL_RATE_LIMIT="60000/min",
        # Tags that no other test builds.
        SIGIL_IMAGE="sigil:upgraded", RELAY_IMAGE="sigil-relay:upgraded",
    ) as one:  # fmt: skip
        one.write_settings(WEBHOOK_URL=f"http://{one.subnet}.1:{receiver.port}/hooks")
        # As the guide's step 4, by hand and without the preflight.
        one.compose("-f", FILES[0], "-f", FILES[1], "up", "-d", "--build")
        one.wait_healthy("sigil", "relay", "postgres")
        one.make_api_key()
        yield one


class Load(threading.Thread):
    """Creates challenges until it is stopped, and approves every second one. What fails is sent again."""

    def __init__(self, stack: Production) -> None:
        super().__init__(daemon=True)
        self.stack = stack
        self.created: list[tuple[Device, dict[str, Any]]] = []
        self.approved: set[str] = set()
        self.longest_gap = 0.0
        self._last = time.monotonic()
        self._stop_requested = threading.Event()

    def run(self) -> None:
        with contextlib.suppress(InterruptedError), Backend(self.stack) as backend:  # type: ignore[arg-type]
            while not self._stop_requested.is_set():
                device = Device.generate("Ed25519")
                created = self._send(lambda device=device: backend.create_challenge(device))  # type: ignore[misc]
                self.created.append((device, created))
                if len(self.created) % 2:
                    body = approval(device, created, created["match_code"])
                    self._send(lambda body=body: approve(backend, body))  # type: ignore[misc]
                    self.approved.add(created["challenge_id"])
                self._stop_requested.wait(0.1)

    def _send(self, request: Any) -> Any:
        while not self._stop_requested.is_set():
            try:
                response = request()
                self.longest_gap = max(self.longest_gap, time.monotonic() - self._last)
                self._last = time.monotonic()
                return response
            except (httpx.HTTPError, ssl.SSLError, AssertionError):
                # A server that stops answers 503, or closes the connection.
                self._stop_requested.wait(0.1)
        raise InterruptedError

    def stop(self) -> None:
        self._stop_requested.set()
        self.join(60)


def approve(backend: Backend, body: dict[str, str]) -> None:
    status = backend.http.post("/respond", json=body).status_code
    # The answer before may have counted, while its response was lost.
    assert status in {200, 409, 410}, status


def test_the_stack_by_hand_has_the_limits_of_production(stack: Production) -> None:
    stack.check_limits()


def test_an_upgrade_under_load_loses_no_challenge_and_no_event(
    stack: Production, receiver: WebhookEndpoint, figures: dict[str, float]
) -> None:
    before = {service: stack.container(service) for service in LIMITED}
    receiver.status_for = lambda number: 503
    load = Load(stack)
    load.start()
    wait_until(lambda: len(load.approved) > 20, "load")
    version = new_version(stack)
    printed = stack.make("upgrade", WAIT="2").stdout
    count = len(load.created)
    wait_until(lambda: len(load.created) > count + 20, "load after the upgrade")
    load.stop()
    figures["challenges during an upgrade"] = len(load.created)
    figures["seconds without an answer in an upgrade"] = load.longest_gap
    receiver.status_for = lambda number: 200

    assert "webhook events are not delivered yet: they stay" in printed
    assert version in printed
    after = {service: stack.container(service) for service in LIMITED}
    assert {service for service in LIMITED if after[service] != before[service]} == {"sigil", "relay"}
    (start,) = stack.events("sigil", "sigil_starting")
    assert start["sessions"] == "adopted"
    assert list((stack.folder / "backups").iterdir()), "an upgrade begins with a backup"

    with Backend(stack) as backend:  # type: ignore[arg-type]
        for device, created in load.created:
            if created["challenge_id"] not in load.approved:
                body = approval(device, created, created["match_code"])
                assert backend.http.post("/respond", json=body).status_code == 200
        states = {created["challenge_id"]: backend.status(created)["status"] for _, created in load.created}
    assert set(states.values()) == {"verified"}

    def delivered() -> set[str]:
        return {arrival.headers["webhook-id"] for arrival in receiver.arrivals if arrival.status == 200}

    expected = {f"evt_{challenge_id}" for challenge_id in states}
    wait_until(lambda: expected <= delivered(), "all events")
    assert verified_event(receiver.arrivals[-1], WEBHOOK_SECRET).type == "challenge.verified"


def test_the_printed_command_goes_back_to_the_version_before(stack: Production) -> None:
    newer = stack.image("sigil")["Id"]
    # Once more, as after an interruption: the version before is still the one that was replaced.
    stack.make("upgrade", WAIT="1")
    previous = stack.docker("image", "inspect", "--format", "{{.Id}}", "sigil:previous").stdout.strip()
    assert newer != previous
    state = stack.container("state")
    stack.compose(
        "-f", FILES[0], "-f", FILES[1], "up", "-d", "--no-build", "--no-deps", "sigil", "relay",
        SIGIL_IMAGE="sigil:previous", RELAY_IMAGE="sigil-relay:previous",
    )  # fmt: skip
    stack.wait_healthy("sigil", "relay")
    assert stack.image("sigil")["Id"] == previous
    assert stack.container("state") == state
    assert [start["sessions"] for start in stack.events("sigil", "sigil_starting")] == ["adopted"]


def test_a_version_with_another_form_of_sessions_needs_a_confirmation(stack: Production) -> None:
    new_version(stack, schema="99")
    before = stack.container("sigil")
    done = stack.make("upgrade", check=False, WAIT="1")
    assert done.returncode != 0
    assert "pending challenges, and 0 webhook events, end with the upgrade" in done.stderr
    assert "FORCE=1" in done.stderr
    assert stack.container("sigil") == before
    assert Path(stack.folder / "backups").exists()


def test_a_reset_deletes_the_volumes_of_production_too(stack: Production) -> None:
    stack.make("reset", YES="1")
    left = stack.docker("volume", "ls", "--quiet", "--filter", f"label=com.docker.compose.project={stack.project}")
    assert left.stdout == ""
