"""`sigil webhook`: failed events and replays of a running server, sample events, and a receiver for developers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from sigil.protocol.webhook import signed_headers
from tests.flows.backend import Backend
from tests.flows.test_metrics import scrape
from tests.flows.test_webhooks import SECRET, UNLIMITED, approve_a_challenge
from tests.support import hung_writer
from tests.support.live import LiveServer, wait_until
from tests.support.ports import free_port
from tests.support.webhook_endpoint import WebhookEndpoint, verified_event


def sigil(environ: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sigil", "webhook", *arguments]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture(scope="module")
def endpoint() -> Iterator[WebhookEndpoint]:
    with WebhookEndpoint() as one:
        yield one


@pytest.fixture(scope="module")
def webhook_server(endpoint: WebhookEndpoint) -> Iterator[LiveServer]:
    with LiveServer(workers=1, WEBHOOK_URL=endpoint.url, **UNLIMITED) as running:
        yield running


@pytest.fixture
def failed_events(webhook_server: LiveServer, endpoint: WebhookEndpoint) -> list[str]:
    """Ids of three events that the endpoint rejected. It accepts all later events."""
    endpoint.status_for = lambda number: 404
    with Backend(webhook_server) as backend:
        before = scrape(backend.http)["sigil_webhook_failures", ()]
        ids = [f"evt_{approve_a_challenge(backend)['challenge_id']}" for _ in range(3)]
        wait_until(lambda: scrape(backend.http)["sigil_webhook_failures", ()] == before + 3, "the failures")
    endpoint.status_for = lambda number: 200
    return ids


def wait_until_accepted(endpoint: WebhookEndpoint, event_id: str) -> Any:
    return wait_until(
        lambda: [one for one in endpoint.arrivals_of(event_id) if one.status == 200], f"{event_id} to be accepted"
    )


def test_pending_counts_the_events_that_an_upgrade_waits_for(
    webhook_server: LiveServer, endpoint: WebhookEndpoint
) -> None:
    def pending() -> str:
        counted = sigil(webhook_server.environ, "pending")
        assert counted.returncode == 0, counted.stderr
        return counted.stdout

    assert wait_until(lambda: pending() == "0\n", "an empty outbox")
    endpoint.status_for = lambda number: 503
    with Backend(webhook_server) as backend:
        event = f"evt_{approve_a_challenge(backend)['challenge_id']}"
        assert wait_until(lambda: endpoint.arrivals_of(event), "an attempt")
    assert pending() == "1\n"
    endpoint.status_for = lambda number: 200
    assert wait_until(lambda: pending() == "0\n", "the delivery")


def test_failures_are_listed_and_replayed_one_by_one_or_all(
    webhook_server: LiveServer, endpoint: WebhookEndpoint, failed_events: list[str]
) -> None:
    listed = sigil(webhook_server.environ, "failures")
    assert listed.returncode == 0, listed.stderr
    # Events of the same second come in any order.
    assert sorted(line.split("  ")[1] for line in listed.stdout.splitlines()) == sorted(failed_events)
    assert listed.stdout.splitlines()[0].endswith("challenge.verified  1 try: 404")
    lines = [json.loads(line) for line in sigil(webhook_server.environ, "failures", "--json").stdout.splitlines()]
    assert {(line["event_id"], line["reason"], line["tries"]) for line in lines} == {
        (i, "404", 1) for i in failed_events
    }

    again = sigil(webhook_server.environ, "replay", failed_events[1])
    assert (again.stdout, again.returncode) == ("1 event will be sent again\n", 0)
    (arrival,) = wait_until_accepted(endpoint, failed_events[1])
    assert verified_event(arrival, SECRET).id == failed_events[1]
    assert arrival.body == endpoint.arrivals_of(failed_events[1])[0].body

    twice = sigil(webhook_server.environ, "replay", failed_events[1])
    assert twice.returncode == 1
    assert "no such event" in twice.stderr

    assert sigil(webhook_server.environ, "replay", "--all").stdout == "2 events will be sent again\n"
    for event_id in failed_events:
        wait_until_accepted(endpoint, event_id)
    assert sigil(webhook_server.environ, "failures").stdout == "no event was given up\n"
    assert sigil(webhook_server.environ, "replay", "--all").stdout == "0 events will be sent again\n"


@pytest.mark.parametrize("name", ["evt_", "x", "evt_00000000-0000-4000-8000-000000000000", "../../etc"])
def test_replay_of_an_unknown_event_fails(webhook_server: LiveServer, name: str) -> None:
    ran = sigil(webhook_server.environ, "replay", name)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [(), ("evt_x", "--all")])
def test_replay_needs_either_an_event_or_all(webhook_server: LiveServer, arguments: tuple[str, ...]) -> None:
    assert sigil(webhook_server.environ, "replay", *arguments).returncode == 2


@pytest.mark.parametrize("command", [("failures",), ("replay", "--all")])
def test_without_a_running_server_a_command_prints_one_line(tmp_path: Path, command: tuple[str, ...]) -> None:
    (tmp_path / "stopped").mkdir(0o700)
    (tmp_path / "stopped" / "lock").touch()
    (tmp_path / "a-file").touch()
    for place, message in (("nothing", "no server"), ("stopped", "no server"), ("a-file", "not a directory")):
        ran = sigil({**os.environ, "SIGIL_STATE_DIR": str(tmp_path / place)}, *command)
        assert (ran.returncode, ran.stdout) == (1, "")
        assert message in ran.stderr
        assert ran.stderr.count("\n") == 1
        assert not (tmp_path / "nothing").exists()


def test_replay_changes_nothing_at_a_server_of_another_version(webhook_server: LiveServer) -> None:
    stamp = webhook_server.state / "stamp"
    content = stamp.read_text()
    stamp.write_text(content.replace('"schema":"', '"schema":"later-'))
    try:
        ran = sigil(webhook_server.environ, "replay", "--all")
    finally:
        stamp.write_text(content)
    assert ran.returncode == 1
    assert "another version" in ran.stderr


def test_a_command_keeps_the_store_size_of_the_running_server(webhook_server: LiveServer) -> None:
    before = (webhook_server.state / "data.mdb").stat().st_size
    ran = sigil({**webhook_server.environ, "SIGIL_STORE_SIZE": "1GiB"}, "failures")
    assert ran.returncode == 0
    assert (webhook_server.state / "data.mdb").stat().st_size == before


def test_a_suspended_replay_does_not_keep_the_write_lock(
    webhook_server: LiveServer, endpoint: WebhookEndpoint, failed_events: list[str], tmp_path: Path
) -> None:
    """Ctrl-Z in the middle of a transaction: the command goes on, and so does the server."""
    environ = webhook_server.environ | hung_writer.settings(tmp_path, "SIGTSTP")
    hung_writer.stop_next_writer(tmp_path)
    command = [sys.executable, "-m", "sigil", "webhook", "replay", failed_events[0]]
    with subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL) as replaying:
        try:
            assert replaying.wait(60) == 0
        finally:
            replaying.kill()
    assert list(tmp_path.glob("stopped-*"))
    with Backend(webhook_server) as backend:
        approved = approve_a_challenge(backend)
    for event_id in (failed_events[0], f"evt_{approved['challenge_id']}"):
        wait_until_accepted(endpoint, event_id)


def test_send_test_sends_a_signed_sample_event(endpoint: WebhookEndpoint) -> None:
    environ = {**os.environ, "WEBHOOK_SECRET": SECRET}
    for arguments, more in ((("--url", endpoint.url), {}), ((), {"WEBHOOK_URL": endpoint.url})):
        before = len(endpoint.arrivals)
        ran = sigil(environ | more, "send-test", *arguments)
        assert (ran.returncode, ran.stdout.strip()[-3:]) == (0, "200"), ran.stderr
        assert len(endpoint.arrivals) == before + 1
        event = verified_event(endpoint.arrivals[-1], SECRET)
        assert (event.type, event.action_type, event.approved) == ("challenge.expired", "sigil.webhook_test", False)


def test_send_test_reports_a_rejected_sample(endpoint: WebhookEndpoint) -> None:
    endpoint.status_for = lambda number: 401
    ran = sigil({**os.environ, "WEBHOOK_SECRET": SECRET}, "send-test", "--url", endpoint.url)
    endpoint.status_for = lambda number: 200
    assert ran.returncode == 1
    assert "401" in ran.stdout
    assert "2xx" in ran.stderr


def test_send_test_without_a_receiver_names_the_remedy() -> None:
    environ, port = {**os.environ, "WEBHOOK_SECRET": SECRET}, free_port()
    for origin in (f"http://127.0.0.1:{port}/", f"http://localhost:{port}/"):
        ran = sigil(environ, "send-test", "--url", f"{origin}a-token")
        assert ran.returncode == 1
        assert ran.stderr == f"sigil: nothing listens at {origin}; start `sigil webhook listen`, or check --url\n"
    ran = sigil(environ | {"WEBHOOK_URL": "https://receiver.invalid/a-token"}, "send-test")
    assert ran.stderr == "sigil: the host name receiver.invalid is not known; check WEBHOOK_URL\n"
    assert "Error" not in ran.stdout


@pytest.mark.parametrize(
    ("environ", "arguments", "message"),
    [
        ({}, (), "WEBHOOK_SECRET"),
        ({"WEBHOOK_SECRET": SECRET}, (), "--url"),
        ({"WEBHOOK_SECRET": "short", "WEBHOOK_URL": "https://x.test/"}, (), "32 characters"),
        ({"WEBHOOK_SECRET": SECRET}, ("--url", "http://8.8.8.8/"), "private"),
        ({"WEBHOOK_SECRET": SECRET}, ("--url", "ftp://x"), "https"),
    ],
)
def test_send_test_reports_a_missing_or_wrong_setting_in_one_line(
    environ: dict[str, str], arguments: tuple[str, ...], message: str
) -> None:
    ran = sigil({"PATH": os.environ["PATH"], **environ}, "send-test", *arguments)
    assert ran.returncode == 1
    assert message in ran.stderr
    assert ran.stderr.count("\n") == 1
    assert "short" not in ran.stderr


def test_listen_prints_events_and_whether_they_are_signed() -> None:
    environ = {**os.environ, "WEBHOOK_SECRET": SECRET, "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "sigil", "webhook", "listen", "--port", "0", "--count", "3", "--status", "202"]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) as listening:
        assert listening.stdout is not None
        url = listening.stdout.readline().removeprefix("listening on ").strip()
        assert url.startswith("http://127.0.0.1:")
        ran = sigil(environ, "send-test", "--url", url)
        assert (ran.returncode, ran.stdout.strip()[-3:]) == (0, "202")
        with httpx.Client(trust_env=False) as client:
            forged = signed_headers(["another secret " * 3], "evt_1", int(time.time()), b"{}")
            assert client.post(url, content=b"{}", headers=forged).status_code == 400
            assert client.post(url, content=b"{}").status_code == 400
        output, _ = listening.communicate(timeout=120)
    assert listening.returncode == 0
    lines = output.splitlines()
    assert lines[0].startswith("VERIFIED challenge.expired  evt_")
    assert '"status": "expired"' in output
    refused = [line for line in lines if line.startswith("REFUSED")]
    assert len(refused) == 2
    assert "does not match" in refused[0]
    assert "webhook-id" in refused[1]
    assert SECRET not in output
